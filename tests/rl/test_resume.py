from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_run import ROOT, arguments, script

from agents.cli import parse_all_flags
from rl.preflight.changes import COMMANDS
from rl.start import steps_done
from rl.step_log import rewind
from sft.recipe import read_recipe

pytestmark = pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")

LIMIT_S = 240.0
STEPS = 3
MOMENTS = [
    ("grpo", "rollout"),
    ("grpo", "update"),
    ("grpo", "optimizer"),
    ("grpo", "state"),
    ("ppo", "rollout"),
    ("ppo", "value head"),
]


def run_here(kind: str, place: Path, run_dir: Path, **options: Any) -> None:
    program, dataclasses = COMMANDS[kind]
    given = arguments(place, run_dir, max_steps=STEPS, **options)
    importlib.import_module(program).main(*parse_all_flags(dataclasses, program, "", given))


@pytest.fixture(scope="module")
def whole(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of a run that nothing interrupted."""
    done: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in done:
            done[kind] = tmp_path_factory.mktemp(kind)
            run_here(kind, place, done[kind])
        return done[kind]

    return folder


def lines(path: Path, *names: str) -> list[list[Any]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [[row[name] for name in names] for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "moment"), MOMENTS)
def test_a_run_that_was_killed_and_resumed_ends_like_one_that_was_not(
    kind: str, moment: str, place: Path, tmp_path: Path, whole: Callable[[str], Path]
) -> None:
    output = tmp_path / "out"
    given = arguments(place, tmp_path, max_steps=STEPS)
    command = [*script("killed.py", moment, str(output), COMMANDS[kind][0]), *given]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(command, timeout=LIMIT_S, env=environment, cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (output / "checkpoint-1" / "trainer_state.json").is_file()
    assert not (output / "adapter_model.safetensors").exists()

    run_here(kind, place, tmp_path, resume_from_checkpoint="true")
    expected = whole(kind)
    files = ["adapter_model.safetensors", *(["value_head.safetensors"] if kind == "ppo" else [])]
    for file in files:
        one, other = (load_file(folder / "out" / file) for folder in (expected, tmp_path))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    names = {"metrics.jsonl": ("step", "loss", "success"), "rollouts.jsonl": ("step", "turns")}
    for file, columns in names.items():
        one, other = (lines(folder / "out" / file, *columns) for folder in (expected, tmp_path))
        assert one == other
    summaries = [(folder / "summary.json").read_bytes() for folder in (expected, tmp_path)]
    assert summaries[0] == summaries[1]
    recipes = [read_recipe(folder / "out") for folder in (expected, tmp_path)]
    assert {recipe.program for recipe in recipes} == {COMMANDS[kind][0]}
    flags = [{**recipe.flags, "output_dir": "", "run_dir": ""} for recipe in recipes]
    assert flags[0] == flags[1]


# --- logs -----------------------------------------------------------------------------------------


def test_logs_go_back_to_the_checkpoint_and_lose_what_was_half_written(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n')
    episodes = '{"step": 0, "text": "\u2028"}\n{"step": 1}\n{"step": 2}\n{"st'
    (tmp_path / "rollouts.jsonl").write_text(episodes, encoding="utf-8")
    rewind(tmp_path, 2)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'
    kept = (tmp_path / "rollouts.jsonl").read_text(encoding="utf-8")
    assert kept == '{"step": 0, "text": "\u2028"}\n{"step": 1}\n'
    rewind(tmp_path, 0)
    assert (tmp_path / "rollouts.jsonl").read_text() == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "rollouts.jsonl"]


def test_a_checkpoint_knows_after_how_many_steps_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_text('{"global_step": 7}')
    assert steps_done(str(tmp_path)) == 7
