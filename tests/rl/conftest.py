from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from preflight_models import loader
from small_run import make_place
from tiny_models import shipped_tokenizer
from trl import GRPOConfig
from watched_trainer import (
    TASKS,
    Build,
    Watched,
    by_length,
    policy,
)

import rl.rollouts
from agents.engine import SamplingConfig
from agents.rollout import Trajectory, rollout
from rewards.episode import Outcome, Status
from rl.curriculum import Curriculum
from rl.faults import StopOnFaults


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return shipped_tokenizer()


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base model, the adapter of a warm start, and tasks."""
    return make_place(tmp_path_factory.mktemp("place"))


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Loads a model as a plan says; attention on this CPU is then computed as on a GPU."""
    return loader(tmp_path, monkeypatch)


@pytest.fixture
def build(tmp_path: Path, tokenizer: Any) -> Build:
    def make(
        folder: str = "grpo",
        *,
        model: Any = None,
        reward: Any = by_length,
        gate_groups: bool = False,
        turn_credit: float | None = None,
        guided: int = 0,
        faults: StopOnFaults | None = None,
        max_turns: int = 3,
        workers: int = 1,
        steps: int = 2,
        seed: int = 5,
        make_trainer: Callable[..., Any] = Watched,
        **options: Any,
    ) -> Any:
        config: dict[str, Any] = {
            "output_dir": str(tmp_path / folder),
            "max_steps": steps,
            "per_device_train_batch_size": 4,
            "num_generations": 2,
            "learning_rate": 0.05,
            "beta": 0.1,
            "scale_rewards": "none",
            "loss_type": "bnpo",
            "shuffle_dataset": False,
            "temperature": 1.0,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "bf16": False,
            "activation_checkpointing": False,
            "dataloader_pin_memory": False,
            "disable_tqdm": True,
            **options,
        }
        rows = [{"prompt": [{"role": "user", "content": f"group {i}"}]} for i in range(8)]
        return make_trainer(
            curriculum=Curriculum(TASKS, seed=0, learnability=0.0),
            reward=reward,
            sampling=SamplingConfig(max_turn_tokens=8, max_length=2000, seed=seed),
            max_turns=max_turns,
            **({"gate_groups": True} if gate_groups else {}),
            **({} if turn_credit is None else {"turn_credit": turn_credit}),
            guided=guided,
            faults=faults,
            workers=workers,
            log_dir=tmp_path / folder,
            model=policy(tokenizer) if model is None else model,
            args=GRPOConfig(**config),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )

    return make


def with_return(trajectory: Trajectory, reward: float, status: Status = Status.OK) -> Trajectory:
    """The trajectory with another verdict; its tokens stay."""
    turns = trajectory.episode.turns
    outcome = Outcome.SUCCESS if reward > 0 else Outcome.STRUCTURAL_FAIL
    turns = (
        *(replace(turn, reward=0.0) for turn in turns[:-1]),
        replace(turns[-1], reward=reward, outcome=outcome),
    )
    return replace(trajectory, episode=replace(trajectory.episode, turns=turns, status=status))


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the rollouts of the trainer come out as told."""

    def arrange(*verdicts: tuple[float, Status]) -> None:
        def play(*args: Any, **kwargs: Any) -> list[Trajectory]:
            played = rollout(*args, **kwargs)
            return [with_return(t, *v) for t, v in zip(played, verdicts, strict=True)]

        monkeypatch.setattr(rl.rollouts, "rollout", play)

    return arrange
