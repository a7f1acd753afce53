from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from trl import GRPOConfig, SFTConfig

from rl.flags import RolloutArguments
from rl.grpo import GroupArguments
from sft.flags import CONFIGS, PolicyArguments, TaskArguments, read_flags
from sft.train import WarmStartArguments

SFT = (PolicyArguments, TaskArguments, WarmStartArguments, SFTConfig)
GRPO = (PolicyArguments, TaskArguments, RolloutArguments, GroupArguments, GRPOConfig)


ON_A_CPU = "use_cpu: true\nbf16: false\nactivation_checkpointing: false\n"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    def with_arguments(*arguments: str, grpo: bool = False) -> tuple[Any, ...]:
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        if grpo:
            return read_flags(GRPO, "starter-grpo.yaml", "rl.grpo", "Reinforce.")
        return read_flags(SFT, "starter-sft.yaml", "sft.train", "Warm start.")

    return with_arguments


def mistake(read: Any, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as exit_info:
        read(*arguments)
    assert exit_info.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error.splitlines()[-1]


# --- where values come from ---------------------------------------------------------------------


def test_without_a_config_the_shipped_recipe_is_used(read: Any) -> None:
    policy, play, warm, config = read()
    assert (policy.model_name_or_path, play.tasks) == ("embedded", "starter")
    assert warm.num_traces == recipe("starter-sft.yaml")["num_traces"]
    assert config.learning_rate == recipe("starter-sft.yaml")["learning_rate"]
    assert config.output_dir == "runs/sft"


def recipe(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CONFIGS / name).read_text(encoding="utf-8"))
    return values


def test_the_recipe_of_grpo_scales_returns_by_a_constant_and_keeps_near_the_warm_start(
    read: Any,
) -> None:
    _policy, _play, reinforce, _groups, config = read(grpo=True)
    assert (reinforce.adapter, reinforce.return_scale) == ("runs/sft", 0.1)
    assert config.scale_rewards == "none"
    assert config.shuffle_dataset is False  # the order of the dataset is the balance of the kinds
    assert config.per_device_train_batch_size % config.num_generations == 0


def test_flags_on_the_command_line_win_over_the_config(read: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("num_traces: 7\nlearning_rate: 0.5\n" + ON_A_CPU)
    for given in (["--config", str(path)], [f"--config={path}"]):
        _, _, warm, config = read(*given, "--learning_rate", "0.25")
        assert (warm.num_traces, config.learning_rate) == (7, 0.25)
        assert warm.eval_base == WarmStartArguments.eval_base


def test_a_flag_alone_changes_only_its_own_value_of_the_recipe(read: Any) -> None:
    _, _, warm, config = read("--num_traces=3", "--eval_base", "false")
    assert (warm.num_traces, warm.eval_base) == (3, False)
    assert config.learning_rate == recipe("starter-sft.yaml")["learning_rate"]


def test_every_flag_of_trl_works(read: Any) -> None:
    config = read("--weight_decay", "0.125", "--max_grad_norm", "3")[3]
    assert (config.weight_decay, config.max_grad_norm) == (0.125, 3.0)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_first_line_of_a_recipe_is_the_command_that_runs_it(path: Path) -> None:
    command = path.read_text(encoding="utf-8").splitlines()[0]
    assert command.startswith("# python -m ")
    assert f"--config configs/{path.name}" in command


# --- mistakes -----------------------------------------------------------------------------------


def test_an_unknown_flag_is_named_with_the_nearest_one(
    read: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    line = mistake(read, capsys, "--num_trace", "5")
    assert 'unknown flag --num_trace; did you mean "--num_traces"?' in line


def test_an_unknown_key_of_a_config_is_named_with_the_nearest_one(
    read: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("num_trace: 7\n")
    line = mistake(read, capsys, "--config", str(path))
    assert f'{path}: unknown key num_trace; did you mean "num_traces"?' in line


def test_a_missing_config_is_named_with_those_there_are(
    read: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    line = mistake(read, capsys, "--config", "configs/starter-stf.yaml")
    assert "configs/starter-stf.yaml" in line
    assert "No such file" in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n- b\n", "must contain a YAML mapping"),
        (b"a: [1\n", "not YAML"),
        (b"\xff\xfe\x00a", "not YAML"),
        (b"", "must contain a YAML mapping"),
    ],
)
def test_a_config_that_is_not_a_mapping_is_a_clear_line(
    read: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    line = mistake(read, capsys, "--config", str(path))
    assert message in line
    assert str(path) in line


def test_config_without_a_path_is_a_clear_line(
    read: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--config needs the path" in mistake(read, capsys, "--config")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num_traces", "0"], "--num_traces must be at least 1, not 0"),
        (["--views", "-1"], "--views must be at least 1, not -1"),
        (["--mistakes", "2"], "--mistakes is a share from 0 to 1, not 2.0"),
        (["--num_traces", "many"], "invalid int value: 'many'"),
        (["--precision", "fp16"], "invalid choice: 'fp16'"),
        (["--learning_rate", "fast"], "invalid float value: 'fast'"),
        (["oops"], "oops"),
    ],
)
def test_a_wrong_value_is_a_clear_line(
    read: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert message in mistake(read, capsys, *arguments)


def test_numbers_that_trl_refuses_are_a_clear_line(
    read: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def grpo(*arguments: str) -> Any:
        return read(*arguments, grpo=True)

    line = mistake(grpo, capsys, "--num_generations", "7")
    assert "num_generations" in line


def test_help_says_what_each_flag_is_for(read: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        read("--help")
    assert exit_info.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "python -m sft.train" in text
    for dataclass in SFT[:3]:
        for field in fields(dataclass):
            assert f"--{field.name}" in text
            assert " ".join(field.metadata["help"].split()) in text
