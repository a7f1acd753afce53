from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_run import KINDS, ON_A_CPU, SHORT, TEST
from transformers import TrainerCallback
from trl import GRPOConfig

import rl.flags
import rl.grpo
import rl.start
from agents.cli import run
from agents.errors import ModelNotFoundError
from agents.models import (
    EMBEDDED_FOLDER,
    add_adapter,
    base_of_adapter,
    load_model,
    load_tokenizer,
)
from rewards.episode import Task
from rewards.serialise import read_episodes
from rl.curriculum import Curriculum
from rl.flags import RolloutArguments
from rl.grpo import GroupArguments, main
from rl.start import places, starting_model
from sft.flags import PolicyArguments, TaskArguments
from sft.recipe import read_recipe

pytestmark = pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")


def flags(
    place: Path, run_dir: Path, **options: Any
) -> tuple[PolicyArguments, TaskArguments, RolloutArguments, GroupArguments, GRPOConfig]:
    config: dict[str, Any] = {
        **SHORT,
        "output_dir": str(run_dir / "grpo"),
        "max_steps": 2,
        "disable_tqdm": True,
        **options,
    }
    return (
        PolicyArguments(model_name_or_path=str(place / "base"), max_turn_tokens=10, threads=1),
        TaskArguments(tasks=str(place / "tasks.jsonl"), max_turns=3, run_dir=str(run_dir)),
        RolloutArguments(adapter=str(place / "sft")),
        GroupArguments(),
        GRPOConfig(**config),
    )


@pytest.fixture(scope="module")
def finished(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The folder and the output of one whole run."""
    run_dir = tmp_path_factory.mktemp("runs")
    written: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.stdout, "write", written.append)
        main(*flags(place, run_dir))
    return run_dir, "".join(written)


@pytest.mark.parametrize("wanted", [True, False])
def test_rollouts_are_recorded_on_a_gpu_unless_a_flag_says_no(
    place: Path, tmp_path: Path, wanted: bool
) -> None:
    policy, _, _, _, config = flags(place, tmp_path)
    sampled = rl.flags.sampling(replace(policy, cuda_graphs=wanted), config)
    assert sampled.cuda_graphs is wanted


# --- the whole command --------------------------------------------------------------------------


def test_the_adapter_is_trained_from_that_of_the_warm_start(
    finished: tuple[Path, str], place: Path
) -> None:
    folder = finished[0] / "grpo"
    started = load_file(place / "sft" / "adapter_model.safetensors")
    trained = load_file(folder / "adapter_model.safetensors")
    assert started.keys() == trained.keys()
    moved = [name for name in started if not torch.equal(started[name], trained[name])]
    assert len(moved) == len(started)
    assert max((started[name] - trained[name]).abs().max() for name in started) < 0.1
    assert base_of_adapter(folder) == str(place / "base")


def test_the_reference_adapter_is_not_among_the_results(finished: tuple[Path, str]) -> None:
    assert not (finished[0] / "grpo" / "ref").exists()
    model = load_model(str(finished[0] / "grpo"))
    assert list(model.peft_config) == ["default"]


def test_the_saved_tokenizer_has_the_original_template(finished: tuple[Path, str]) -> None:
    saved = (finished[0] / "grpo" / "chat_template.jinja").read_text(encoding="utf-8")
    assert saved == (EMBEDDED_FOLDER / "chat_template.jinja").read_text(encoding="utf-8")


def test_the_recipe_is_kept_beside_the_adapter(finished: tuple[Path, str], place: Path) -> None:
    recipe = read_recipe(finished[0] / "grpo")
    assert recipe.program == "rl.grpo"
    assert recipe.flags["adapter"] == str(place / "sft")
    assert recipe.flags["max_turns"] == 3
    assert recipe.flags["learning_rate"] == 0.01


def test_every_test_task_is_played_and_summed_up(finished: tuple[Path, str]) -> None:
    run_dir = finished[0]
    episodes = list(read_episodes(run_dir / "episodes" / "grpo.jsonl"))
    assert [episode.task.id for episode in episodes] == [task.id for task in TEST]
    summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    assert summary["stages"]["grpo"]["success"]["n"] == len(TEST)
    assert set(summary["stages"]["grpo"]["kinds"]) == set(KINDS)


def test_the_logs_hold_every_step(finished: tuple[Path, str]) -> None:
    lines = (finished[0] / "grpo" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line) for line in lines]
    assert [step["step"] for step in steps] == [1, 2]
    assert steps[0]["kl"] == 0.0
    assert any(step["groups_without_signal"] < 1 for step in steps)


def test_the_command_ends_by_naming_its_files_and_the_next_command(
    finished: tuple[Path, str],
) -> None:
    run_dir, text = finished
    assert f"wrote {run_dir / 'grpo'} (adapter, metrics.jsonl, rollouts.jsonl)" in text
    assert text.strip().splitlines()[-1] == f"next: python -m rl.report --run_dir {run_dir}"


def test_a_new_run_replaces_the_logs_of_an_old_one_and_a_resumed_one_continues_them(
    finished: tuple[Path, str], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rl.start, "measure", lambda *arguments: None)
    shutil.copytree(finished[0], tmp_path / "runs")
    path = tmp_path / "runs" / "grpo" / "metrics.jsonl"
    main(*flags(place, tmp_path / "runs", max_steps=3, resume_from_checkpoint="true"))
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]
    main(*flags(place, tmp_path / "runs", max_steps=1))
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1]


def test_after_ctrl_c_there_is_a_checkpoint_and_nothing_is_measured(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Press(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    trainer = rl.grpo.ToolUseGRPOTrainer
    monkeypatch.setattr(
        rl.grpo,
        "ToolUseGRPOTrainer",
        lambda callbacks, **options: trainer(callbacks=[*callbacks, Press()], **options),
    )
    main(*flags(place, tmp_path, save_strategy="no"))
    assert (tmp_path / "grpo" / "checkpoint-1" / "trainer_state.json").is_file()
    assert not (tmp_path / "episodes").exists()
    assert "--resume_from_checkpoint true" in capsys.readouterr().out


# --- where it starts ----------------------------------------------------------------------------


def test_the_warm_start_is_loaded_for_training(place: Path, tmp_path: Path) -> None:
    policy, _, rollouts, _, config = flags(place, tmp_path)
    model = starting_model(policy, rollouts, config)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 7 * 2
    assert all("lora_" in name for name in trained)


def test_without_a_warm_start_the_policy_is_the_base(place: Path, tmp_path: Path) -> None:
    policy, _, _, _, config = flags(place, tmp_path)
    model = starting_model(policy, RolloutArguments(adapter="none"), config)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        mine, base = (m.eval()(ids).logits for m in (model, load_model(str(place / "base"))))
    assert torch.equal(mine, base)
    assert any(p.requires_grad for p in model.parameters())
    again = starting_model(policy, RolloutArguments(adapter="none"), config)
    pairs = zip(model.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_missing_warm_start_names_the_command_that_makes_it(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, play, _, groups, config = flags(place, tmp_path)
    rollouts = RolloutArguments(adapter=str(tmp_path / "sft"))
    with pytest.raises(ModelNotFoundError, match=r"python -m sft\.train"):
        main(policy, play, rollouts, groups, config)
    assert run(main, (policy, play, rollouts, groups, config)) == 2
    error = capsys.readouterr().err
    assert error == (
        f"error: no adapter folder {tmp_path / 'sft'}; make one with: "
        f"python -m sft.train --output_dir {tmp_path / 'sft'}\n"
    )


# --- the groups ---------------------------------------------------------------------------------


def config_of(groups: int, steps: int) -> GRPOConfig:
    return GRPOConfig(
        output_dir="unused",
        per_device_train_batch_size=2 * groups,
        num_generations=2,
        max_steps=steps,
        **ON_A_CPU,
    )


def test_trl_gets_a_row_for_each_group_of_the_run() -> None:
    assert len(places(config_of(groups=6, steps=4), tasks=15)) == 24


def test_without_a_number_of_steps_an_epoch_has_a_group_for_each_task() -> None:
    assert len(places(config_of(groups=6, steps=-1), tasks=15)) == 12


def test_a_learnability_that_is_no_share_is_refused() -> None:
    with pytest.raises(ValueError, match="--learnability is a share from 0 to 1, not 2"):
        RolloutArguments(learnability=2.0)


def test_a_share_of_no_call_tasks_above_one_is_refused() -> None:
    with pytest.raises(ValueError, match="--no_call_share is a share up to 1"):
        RolloutArguments(no_call_share=1.5)


def test_a_negative_turn_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="--rollout_turns must not be negative: -1"):
        RolloutArguments(rollout_turns=-1)


@pytest.mark.parametrize(("rollout_turns", "limit"), [(0, 3), (2, 2)])
def test_training_episodes_have_a_turn_limit_of_their_own_if_one_is_given(
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rollout_turns: int,
    limit: int,
) -> None:
    given: list[int] = []

    class Stop(Exception):
        pass

    def trainer(max_turns: int, **options: Any) -> None:
        given.append(max_turns)
        raise Stop

    monkeypatch.setattr(rl.grpo, "ToolUseGRPOTrainer", trainer)
    policy, play, _, groups, config = flags(place, tmp_path)
    rollouts = RolloutArguments(adapter=str(place / "sft"), rollout_turns=rollout_turns)
    with pytest.raises(Stop):
        main(policy, play, rollouts, groups, config)
    assert given == [limit]


def test_a_resumed_run_deals_on_from_the_checkpoint(
    finished: tuple[Path, str], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dealt: list[int] = []
    original = Curriculum.deal

    def deal(self: Curriculum, groups: int) -> list[Task]:
        dealt.append(self.state()["attributes"]["dealt"])
        return original(self, groups)

    monkeypatch.setattr(Curriculum, "deal", deal)
    monkeypatch.setattr(rl.start, "measure", lambda *arguments: None)
    shutil.copytree(finished[0], tmp_path / "runs")
    main(*flags(place, tmp_path / "runs", max_steps=3, resume_from_checkpoint="true"))
    assert dealt == [2]


# --- saving -------------------------------------------------------------------------------------


def test_saving_an_adapter_of_the_embedded_policy_asks_no_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        "peft.utils.save_and_load.check_file_exists_on_hf_hub",
        lambda name, *rest, **options: asked.append(name),
    )
    model = add_adapter(load_model("embedded"), rank=4, alpha=8, seed=0)
    rl.start.save_adapter(model, load_tokenizer("embedded"), tmp_path)
    assert asked == []
    assert base_of_adapter(tmp_path) == "embedded"


# --- vLLM ---------------------------------------------------------------------------------------


def test_vllm_that_is_not_installed_is_named_before_anything_is_loaded(
    place: Path, tmp_path: Path
) -> None:
    policy, play, rollouts, groups, config = flags(place, tmp_path, use_vllm=True)
    missing = replace(rollouts, adapter=str(tmp_path / "nothing"))
    with pytest.raises(SystemExit, match=r"--use_vllm needs vLLM.*trl\[vllm\]"):
        main(policy, play, missing, groups, config)


def test_vllm_is_not_asked_to_guide(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rl.flags, "is_vllm_available", lambda: True)
    policy, play, rollouts, groups, config = flags(place, tmp_path, use_vllm=True)
    with pytest.raises(SystemExit, match="--guided 0"):
        main(policy, play, replace(rollouts, guided=1), groups, config)


@pytest.mark.parametrize("option", [{"min_p": 0.1}, {"repetition_penalty": 1.1}])
def test_sampling_that_rollouts_do_not_do_is_refused(
    place: Path, tmp_path: Path, option: dict[str, float]
) -> None:
    with pytest.raises(SystemExit, match=f"--{next(iter(option))} is not applied to rollouts"):
        main(*flags(place, tmp_path, **option))


# --- the measurement at the end -------------------------------------------------------------------


def test_as_many_test_tasks_are_played_side_by_side_as_the_flag_says(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    monkeypatch.setattr(rl.start, "measure", lambda *arguments: told.append(arguments[-1]))
    main(*flags(place, tmp_path, max_steps=1, save_strategy="no", per_device_eval_batch_size=3))
    assert told == [3]
