"""The commands on a GPU, as the recipes for a T4 have them: NF4, float16, 8-bit optimizer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_run import ROOT, TEST, arguments

from rewards.serialise import read_episodes

AS_ON_A_T4: dict[str, Any] = {
    "load_in_4bit": True,
    "precision": "float16",
    "fp16": True,
    "use_cpu": False,
    "activation_checkpointing": True,
    "optim": "paged_adamw_8bit",
}
KINDS: dict[str, dict[str, Any]] = {
    "nf4 float16": AS_ON_A_T4,
    "bfloat16": {"precision": "bfloat16", "bf16": True, "use_cpu": False},
    "float32": {"use_cpu": False},
}


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", ["grpo", "ppo"])
def test_a_policy_is_trained(command: str, kind: str, place: Path, tmp_path: Path) -> None:
    options = {
        **KINDS[kind],
        "max_steps": 3,
        "num_generations": 8,
        "per_device_train_batch_size": 16,
    }
    if command == "ppo":
        options |= {"beta": 0.05, "loss_type": "grpo"}
    said = run(f"rl.{command}", *arguments(place, tmp_path, **options))
    assert "goes on without" not in said
    lines = (tmp_path / "out/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line) for line in lines]
    assert [step["step"] for step in steps] == [1, 2, 3]
    trained = load_file(tmp_path / "out/adapter_model.safetensors")
    before = load_file(place / "sft/adapter_model.safetensors")
    assert trained.keys() == before.keys()
    assert all(torch.isfinite(part).all() for part in trained.values())
    assert any(not torch.equal(part.float(), before[name]) for name, part in trained.items())


def test_a_warm_start_is_trained_evaluated_and_exported(place: Path, tmp_path: Path) -> None:
    config = tmp_path / "sft.yaml"
    values = {
        **AS_ON_A_T4,
        "model_name_or_path": place / "base",
        "tasks": place / "tasks.jsonl",
        "output_dir": tmp_path / "sft",
        "run_dir": tmp_path,
        "max_turn_tokens": 10,
        "max_turns": 3,
        "max_steps": 3,
        "per_device_train_batch_size": 4,
        "save_strategy": "'no'",
        "report_to": "none",
        "logging_steps": 1,
        "max_length": 2048,
    }
    lines = [
        f"{name}: {str(value).lower() if isinstance(value, bool) else value}\n"
        for name, value in values.items()
    ]
    config.write_text("".join(lines), encoding="utf-8")
    run("sft.train", "--config", str(config))
    adapter, tasks = str(tmp_path / "sft"), str(place / "tasks.jsonl")
    run(
        *("agents.evaluate", "--policies", adapter, "--suite", tasks, "--max_turns", "3"),
        *("--max_turn_tokens", "24", "--load_in_4bit", "true", "--precision", "float16"),
        *("--output_dir", str(tmp_path / "evaluation")),
    )
    (played,) = (tmp_path / "evaluation/episodes").glob("*.jsonl")
    assert len(list(read_episodes(played))) == len(TEST)
    run(
        *("sft.export", "--adapter", adapter, "--output_dir", str(tmp_path / "export")),
        *("--prompts", "4", "--tasks", tasks),
    )
    merged = load_file(tmp_path / "export/model.safetensors")
    assert not any("lora" in name for name in merged)
    assert all(torch.isfinite(part).all() for part in merged.values())
