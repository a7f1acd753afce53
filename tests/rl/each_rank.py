"""A training command that ends with each process writing down the parameters it has.

torchrun --nproc_per_node 2 tests/rl/each_rank.py FOLDER rl.ppo --config ...
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import torch
from trl import GRPOConfig

from rl.flags import RolloutArguments
from rl.grpo import GroupArguments
from rl.ppo import PPOArguments
from rl.trainer import ToolUseGRPOTrainer
from sft.flags import PolicyArguments, TaskArguments, read_flags

OWN: dict[str, Any] = {"rl.grpo": GroupArguments, "rl.ppo": PPOArguments}


def main(folder: str, program: str) -> None:
    (Path(folder) / f"pid{os.environ['RANK']}").write_text(str(os.getpid()))
    close = ToolUseGRPOTrainer.close

    def write_down(trainer: ToolUseGRPOTrainer) -> None:
        trained = {n: p.detach() for n, p in trainer.model.named_parameters() if p.requires_grad}
        seen = [one.task.id for one in trainer.seen]
        kept = {"world": trainer.accelerator.num_processes, "trained": trained, "played": seen}
        torch.save(kept, Path(folder) / f"rank{os.environ['RANK']}.pt")
        close(trainer)

    original = ToolUseGRPOTrainer._everywhere

    def note(trainer: ToolUseGRPOTrainer, mine: Any) -> Any:
        trainer.seen = mine
        return original(trainer, mine)

    ToolUseGRPOTrainer.close = write_down  # type: ignore[method-assign, assignment]
    ToolUseGRPOTrainer._everywhere = note  # type: ignore[method-assign, assignment]
    ToolUseGRPOTrainer.seen = ()
    classes = (PolicyArguments, TaskArguments, RolloutArguments, OWN[program], GRPOConfig)
    given = read_flags(classes, f"starter-{program[3:]}.yaml", program, "")
    importlib.import_module(program).main(*given)


if __name__ == "__main__":
    main(sys.argv.pop(1), sys.argv.pop(1))
