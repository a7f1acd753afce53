from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import save_adapter, save_base
from tiny_tasks import sum_task

import rl.distributed
from rewards.serialise import write_tasks
from rl.distributed import StopTogether, as_forward
from sft.checkpoints import last_checkpoint

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


def torchrun(folder: Path, program: str, **options: Any) -> list[str]:
    """Return the command that trains with two processes, which write down what they have."""
    base = save_base(folder / "base")
    save_adapter(folder / "sft", base)
    tasks = [sum_task(number, split) for split in ("train", "test") for number in range(12)]
    write_tasks(folder / "tasks.jsonl", tasks)
    flags: dict[str, Any] = {
        "model_name_or_path": base,
        "adapter": folder / "sft",
        "tasks": folder / "tasks.jsonl",
        "output_dir": folder / "out",
        "run_dir": folder / "runs",
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
        **options,
    }
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
        *(str(Path(__file__).with_name("each_rank.py")), str(folder), program),
        *(part for name, value in flags.items() for part in (f"--{name}", str(value))),
    ]


WHERE: dict[str, Any] = {
    "env": {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
    "cwd": ROOT,
}


@pytest.mark.slow
@pytest.mark.parametrize("program", ["rl.grpo", "rl.ppo"])
def test_two_processes_play_other_tasks_and_end_with_one_policy(
    program: str, tmp_path: Path
) -> None:
    subprocess.run(torchrun(tmp_path, program), check=True, timeout=LIMIT_S, **WHERE)
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


# --- Ctrl-C ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("program", ["rl.grpo", "rl.ppo"])
def test_ctrl_c_ends_every_process_after_the_same_step_with_a_checkpoint(
    program: str, tmp_path: Path
) -> None:
    command = torchrun(tmp_path, program, max_steps=500)
    said, pressed = "", False
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **WHERE,
    ) as running:
        late = threading.Timer(LIMIT_S, os.killpg, (running.pid, signal.SIGKILL))
        late.start()
        for line in running.stdout or ():
            said += line
            if "'loss'" in line and not pressed:
                pressed = True
                os.killpg(running.pid, signal.SIGINT)  # as a terminal does
        assert running.wait() not in (0, -signal.SIGKILL)
        late.cancel()
    ranks = [int((tmp_path / f"pid{rank}").read_text()) for rank in (0, 1)]
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)
    steps = set(re.findall(r"stopped at step (\d+); checkpoint in", said))
    assert len(steps) == 1
    (checkpoint,) = (tmp_path / "out").glob("checkpoint-*")
    assert checkpoint.name == f"checkpoint-{steps.pop()}"
    assert last_checkpoint(tmp_path / "out", "true") == str(checkpoint)
    assert len(list(checkpoint.glob("rng_state_*.pth"))) == 2
    assert not (tmp_path / "runs" / "summary.json").exists()


def control() -> Any:
    return SimpleNamespace(should_save=False, should_training_stop=False)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_ctrl_c_in_any_process_ends_all_of_them(
    elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[bool]] = []

    def gather(mine: list[bool]) -> list[bool]:
        asked.append(mine)
        return [*mine, elsewhere]

    monkeypatch.setattr(rl.distributed, "gather_object", gather)
    stop, arguments, found = StopTogether(), SimpleNamespace(world_size=2), control()
    stop.on_step_end(arguments, None, found)
    assert asked == [[False]]
    assert found.should_training_stop is found.should_save is stop.interrupted is elsewhere
    stop._note(signal.SIGINT, None)  # the first of this process, whatever the others were told
    stop.on_step_end(arguments, None, found)
    assert asked[1:] == [[True]]
    assert found.should_training_stop
    with pytest.raises(KeyboardInterrupt):
        stop._note(signal.SIGINT, None)


def test_one_process_asks_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(rl.distributed, "gather_object")
    stop, found = StopTogether(), control()
    stop._note(signal.SIGINT, None)
    stop.on_step_end(SimpleNamespace(world_size=1), None, found)
    assert found.should_training_stop
