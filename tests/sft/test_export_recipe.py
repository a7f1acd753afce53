from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from trl import SFTConfig

from agents.cli import parse_all_flags
from agents.errors import ModelFileError
from sft.flags import PolicyArguments, TaskArguments
from sft.recipe import FILE, Recipe, read_recipe, write_recipe
from sft.train import WarmStartArguments

POLICY = PolicyArguments(model_name_or_path="some/model", load_in_4bit=True, precision="float16")
PLAY = TaskArguments(tasks="mine.jsonl")
WARM = WarmStartArguments(num_traces=5)


def config(folder: Path, **options: Any) -> SFTConfig:
    return SFTConfig(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        report_to="none",
        activation_checkpointing=False,
        **options,
    )


def test_a_recipe_is_a_config_file_that_gives_the_same_flags_again(tmp_path: Path) -> None:
    given = (POLICY, PLAY, WARM, config(tmp_path, learning_rate=0.25, save_strategy="no"))
    path = write_recipe(tmp_path, "sft.train", given)
    kinds = [type(one) for one in given]
    again = parse_all_flags(kinds, "sft.train", "", ["--config", str(path)])
    assert again[:3] == given[:3]
    assert again[3].to_dict() == given[3].to_dict()


def test_a_recipe_names_its_command_and_leaves_defaults_out(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "sft.train", (POLICY, PLAY))
    assert path.read_text(encoding="utf-8").startswith(f"# python -m sft.train --config {FILE}\n")
    assert read_recipe(tmp_path) == Recipe(
        "sft.train",
        {
            "model_name_or_path": "some/model",
            "load_in_4bit": True,
            "precision": "float16",
            "tasks": "mine.jsonl",
        },
    )


def test_a_recipe_holds_no_token_of_the_hub(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "sft.train", (config(tmp_path, hub_token="hf_secret"),))
    assert "secret" not in path.read_text(encoding="utf-8")
    assert "hub_token" not in yaml.safe_load(path.read_text(encoding="utf-8"))


def test_a_run_with_defaults_alone_has_a_recipe_too(tmp_path: Path) -> None:
    write_recipe(tmp_path, "rl.grpo", (PolicyArguments(), replace(PLAY, tasks="starter")))
    assert read_recipe(tmp_path) == Recipe("rl.grpo", {})


def test_without_a_file_the_recipe_is_empty(tmp_path: Path) -> None:
    assert read_recipe(tmp_path) == Recipe()


def test_a_config_without_a_command_is_read_as_well(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("load_in_4bit: true\n", encoding="utf-8")
    assert read_recipe(tmp_path) == Recipe("", {"load_in_4bit": True})


@pytest.mark.parametrize("content", [b"- 1\n", b"a: [", b"\xff\xfe\x00"])
def test_a_damaged_recipe_is_an_error_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ModelFileError, match=str(tmp_path / FILE)):
        read_recipe(tmp_path)
