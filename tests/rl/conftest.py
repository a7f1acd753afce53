from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from tiny_models import shipped_tokenizer
from trl import GRPOConfig
from watched_trainer import (
    TASKS,
    Build,
    Watched,
    by_length,
    policy,
)

from agents.engine import SamplingConfig
from rl.curriculum import Curriculum
from rl.faults import StopOnFaults


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return shipped_tokenizer()


@pytest.fixture
def build(tmp_path: Path, tokenizer: Any) -> Build:
    def make(
        folder: str = "grpo",
        *,
        model: Any = None,
        reward: Any = by_length,
        gate_groups: bool = False,
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
