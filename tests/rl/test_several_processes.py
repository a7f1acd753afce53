from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import save_adapter, save_base
from tiny_tasks import sum_task

from rewards.serialise import write_tasks
from rl.distributed import as_forward

ROOT = Path(__file__).parents[2]
LIMIT_S = 240.0


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([2.0]))

    def forward(self) -> torch.Tensor:
        raise AssertionError("the model's own forward was called")


class Wrapper(torch.nn.Module):
    """Counts what goes through it, as DDP sees it."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.module = model
        self.calls = 0

    def forward(self) -> Any:
        self.calls += 1
        return self.module()


def test_a_computation_goes_through_the_wrapper_of_the_model() -> None:
    model = Model()
    wrapped = Wrapper(model)
    assert as_forward(wrapped, model, lambda: 3 * model.weight).item() == 6
    assert wrapped.calls == 1
    with pytest.raises(AssertionError, match="own forward"):
        wrapped()


def test_a_model_without_a_wrapper_is_computed_with_directly() -> None:
    model = Model()
    assert as_forward(model, model, lambda: 3 * model.weight).item() == 6


def test_a_computation_that_fails_leaves_the_model_as_it_was() -> None:
    model = Model()
    wrapped = Wrapper(model)

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        as_forward(wrapped, model, fail)
    with pytest.raises(AssertionError, match="own forward"):
        wrapped()


@pytest.mark.slow
@pytest.mark.parametrize("program", ["rl.grpo", "rl.ppo"])
def test_two_processes_play_other_tasks_and_end_with_one_policy(
    program: str, tmp_path: Path
) -> None:
    base = save_base(tmp_path / "base")
    save_adapter(tmp_path / "sft", base)
    tasks = [sum_task(number, split) for split in ("train", "test") for number in range(12)]
    write_tasks(tmp_path / "tasks.jsonl", tasks)
    flags: dict[str, Any] = {
        "model_name_or_path": base,
        "adapter": tmp_path / "sft",
        "tasks": tmp_path / "tasks.jsonl",
        "output_dir": tmp_path / "out",
        "run_dir": tmp_path / "runs",
        "max_turn_tokens": 10,
        "max_turns": 2,
        "rollout_turns": 2,
        "threads": 1,
        "max_steps": 2,
        "warmup_steps": 0,
        "learning_rate": 0.01,
        "lr_scheduler_type": "constant",
        "lr_scheduler_kwargs": "{}",
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "beta": 0.01,
        "logging_steps": 1,
        "save_strategy": "no",
        **({"gate_groups": False} if program == "rl.grpo" else {"tokens_per_forward": 500}),
    }
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = [str(Path(__file__).with_name("each_rank.py")), str(tmp_path), program]
    given = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [*torchrun, "--nproc_per_node", "2", *script, *given],
        check=True,
        timeout=LIMIT_S,
        env=environment,
        cwd=ROOT,
    )
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    assert first["world"] == second["world"] == 2
    assert set(first["played"]).isdisjoint(second["played"])
    assert first["trained"].keys() == second["trained"].keys()
    for name, parameter in first["trained"].items():
        assert torch.equal(parameter, second["trained"][name]), name
    assert any(p.any() for n, p in first["trained"].items() if "lora_B" in n)
    # The first process alone writes down what all have played.
    lines = (tmp_path / "out" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    assert (tmp_path / "runs" / "summary.json").is_file()
