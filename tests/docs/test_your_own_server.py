"""The commands of `docs/your-own-server.md`, run as they stand, in an empty folder."""

from __future__ import annotations

import faulthandler
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rewards.serialise import read_episodes
from tests.examples.peers import python_of

ROOT = Path(__file__).parents[2]

FEWER = {"views": 8, "episodes": 60, "epochs": 2, "tasks": 24}
"""What is set at the top of the tutorial, for a test of minutes: the path, not what is learned."""


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tutorial", ROOT / "benchmarks" / "tutorial.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def outcomes(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Return what was said and what came of it, turn by turn, by the id of the task."""
    return {
        episode.task.id: [(turn.raw.strip(), str(turn.outcome)) for turn in episode.turns]
        for episode in read_episodes(path)
    }


@pytest.mark.slow
def test_the_tutorial_leads_from_an_empty_folder_to_an_export_that_plays_as_in_process(
    tmp_path: Path, benchmark: Any
) -> None:
    # It takes longer than the time after which pytest takes a test for hanging; every wait here
    # has a deadline of its own.
    faulthandler.cancel_dump_traceback_later()
    folder = tmp_path / "empty"
    folder.mkdir()
    reader = benchmark.Reader(folder, Path(python_of("serving")), FEWER)
    reader.follow()
    assert len(reader.spent) == len(benchmark.blocks("bash")) - 1
    assert lines(folder / "traces.jsonl") == FEWER["episodes"]
    assert 0 < lines(folder / "curated.jsonl") <= lines(folder / "solved.jsonl")
    evaluated = json.loads((folder / "runs/evaluation/summary.json").read_text(encoding="utf-8"))
    policies = evaluated["suites"]["tasks"]["policies"]
    assert [one["success"]["n"] for one in policies.values()] == [FEWER["tasks"]] * 2
    assert policies["runs/own/sft"]["success"]["successes"] > 0
    here, there = sorted((folder / "runs/served/episodes").iterdir(), key=lambda path: path.name)
    assert (here.name, "@" in there.name) == ("shipped.jsonl", True)
    assert len(outcomes(here)) == FEWER["tasks"]
    assert outcomes(there) == outcomes(here)


def test_the_splits_of_the_example_share_no_statue_museum_keeper_or_order(tmp_path: Path) -> None:
    program = [sys.executable, str(ROOT / "examples" / "own-server" / "make_tasks.py")]
    subprocess.run([*program, "tasks.jsonl"], cwd=tmp_path, check=True, timeout=120)
    named: dict[str, set[str]] = {}
    for line in (tmp_path / "tasks.jsonl").read_text(encoding="utf-8").splitlines():
        task = json.loads(line)
        key = re.search(r"(?:statue|museum|order|keeper) ([A-Z]\w+(?: [A-Z]\w+)?)", task["prompt"])
        assert key is not None
        named.setdefault(task["split"], set()).add(key[1])
    assert named.keys() == {"train", "validation", "test"}
    assert not named["train"] & (named["test"] | named["validation"])
    assert not named["validation"] & named["test"]
