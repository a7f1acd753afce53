"""The learning benchmark: its commands are read by the programs that they call."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from trl import GRPOConfig, SFTConfig

from agents.cli import parse_all_flags
from agents.summary import record_stage, write_stage_summary
from envs.tasks.load import load_tasks
from rewards.episode import Episode, Outcome, Turn
from rl.flags import RolloutArguments
from rl.grpo import GroupArguments
from rl.ppo import PPOArguments
from sft.flags import CONFIGS, PolicyArguments, TaskArguments
from sft.train import WarmStartArguments

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "learning.py"
CLASSES = {
    "sft.train": ((WarmStartArguments,), SFTConfig, "starter-sft.yaml"),
    "rl.grpo": ((RolloutArguments, GroupArguments), GRPOConfig, "starter-grpo.yaml"),
    "rl.ppo": ((RolloutArguments, PPOArguments), GRPOConfig, "starter-ppo.yaml"),
}


@pytest.fixture(scope="module")
def learning() -> ModuleType:
    spec = importlib.util.spec_from_file_location("learning", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_of_every_recipe_is_read_by_the_program_it_calls(
    learning: ModuleType, tmp_path: Path
) -> None:
    for recipe in learning.RECIPES:
        for command in learning.commands(recipe, 1, tmp_path, 2):
            assert command[:2] == [sys.executable, "-m"]
            own, trainer, config = CLASSES[command[2]]
            _, task_flags, own_flags, *_, trainer_flags = parse_all_flags(
                (PolicyArguments, TaskArguments, *own, trainer),
                command[2],
                "",
                command[3:],
                default_config=CONFIGS / config,
            )
            assert task_flags.run_dir == str(tmp_path / recipe / "seed1")
            assert trainer_flags.seed == 1
            if recipe == "no-warm-start":
                assert own_flags.adapter == "none"
            elif RolloutArguments in own:
                assert own_flags.adapter == str(tmp_path / "recipe" / "seed1" / "sft")


def test_the_alternatives_differ_from_the_recipe_in_what_their_names_say(
    learning: ModuleType, tmp_path: Path
) -> None:
    flags = {name: learning.commands(name, 0, tmp_path, 2) for name in learning.RECIPES}
    assert [command[2] for command in flags["no-warm-start"]] == ["rl.grpo"]
    assert [command[2] for command in flags["sft-long"]] == ["sft.train"]
    assert [command[2] for command in flags["sft-600"]] == ["sft.train"]
    assert [command[2] for command in flags["ppo"]] == ["rl.ppo"]
    for name, differs in {
        "episode-credit": "",
        "group-scaled": " --scale_rewards group",
        "ungated": " --gate_groups false",
        "scaled-ungated": " --gate_groups false --scale_rewards group",
        "outcome-only": " --reward outcome",
        "unshared": " --share_prompts false",
    }.items():
        recipe = " ".join(flags["recipe"][1])
        for flag in ("--output_dir", "--run_dir"):
            recipe = recipe.replace(f"{flag} {tmp_path}/recipe", f"{flag} {tmp_path}/{name}")
        assert " ".join(flags[name][0]) == f"{recipe} --credit episode{differs}"


@pytest.mark.slow
def test_finished_runs_are_read_and_not_run_again(
    learning: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    task = next(task for task in load_tasks("starter", "test") if task.kind == "calculate")
    done = Episode(task, (Turn(raw="x", text="x", outcome=Outcome.SUCCESS),), terminated=True)
    for recipe, stages in {"recipe": ("base", "sft", "grpo"), "sft-long": ("base", "sft")}.items():
        folder = tmp_path / recipe / "seed0"
        for stage in stages:
            record_stage(folder, stage, [done])
        write_stage_summary(folder)
        (folder / "finished").touch()
    steps = tmp_path / "recipe" / "seed0" / "grpo" / "metrics.jsonl"
    steps.parent.mkdir()
    steps.write_text('{"step": 1, "success": 0.5}\n{"step": 2, "success": 1.0}\n', encoding="utf-8")
    flags = ["--recipes", "recipe", "sft-long", "--seeds", "0", "--run_dir", str(tmp_path)]
    flags += ["--plot", str(tmp_path / "curves.png")]
    learning.main([*flags, "--json", str(tmp_path / "figures.json")])
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    rows = [line for line in capfd.readouterr().out.splitlines() if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["recipe/seed0", "sft-long/seed0"]
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert set(figures["recipe/seed0"]["stages"]) == {"base", "sft", "grpo"}
    assert set(figures["sft-long/seed0"]["stages"]) == {"base", "sft"}
