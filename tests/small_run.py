"""A run of a training command that takes seconds: a tiny base, its warm start, a few tasks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tiny_models import save_adapter, save_base
from tiny_tasks import sum_task

from rewards.serialise import write_tasks

ROOT = Path(__file__).parents[1]
KINDS = ("sum", "total", "addition")
TRAIN = [sum_task(number, kind=kind) for kind in KINDS for number in range(5)]
TEST = [sum_task(number, "test", kind) for kind in KINDS for number in (20, 21)]
ON_A_CPU: dict[str, Any] = {
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "activation_checkpointing": False,
    "dataloader_pin_memory": False,
}
SHORT: dict[str, Any] = {
    **ON_A_CPU,
    "save_steps": 1,
    "per_device_train_batch_size": 8,
    "num_generations": 4,
    "learning_rate": 0.01,
    "beta": 0.01,
    "scale_rewards": "none",
    "loss_type": "bnpo",
    "shuffle_dataset": False,
    "logging_steps": 1,
}
"""Settings of `GRPOConfig`, all but the number of steps."""


def make_place(folder: Path) -> Path:
    """Fill a folder with a base model, the adapter of a warm start, and tasks."""
    base = save_base(folder / "base")
    save_adapter(folder / "sft", base)
    write_tasks(folder / "tasks.jsonl", [*TRAIN, *TEST])
    return folder


def arguments(place: Path, run_dir: Path, **options: Any) -> list[str]:
    """Return the command line of a short run, without the program; the config is written."""
    values: dict[str, Any] = {
        **SHORT,
        "model_name_or_path": place / "base",
        "adapter": place / "sft",
        "tasks": place / "tasks.jsonl",
        "output_dir": run_dir / "out",
        "run_dir": run_dir,
        "max_turn_tokens": 10,
        "max_turns": 3,
        "threads": 1,
        "max_steps": 4,
        **options,
    }
    run_dir.mkdir(parents=True, exist_ok=True)
    config = run_dir / "config.yaml"
    lines = [
        f"{name}: {str(value).lower() if isinstance(value, bool) else value}\n"
        for name, value in values.items()
    ]
    config.write_text("".join(lines), encoding="utf-8")
    return ["--config", str(config)]


def script(name: str, *before: str) -> list[str]:
    """Return the beginning of a command that runs a script of tests/rl."""
    return [sys.executable, str(ROOT / "tests/rl" / name), *before]
