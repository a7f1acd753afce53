"""A training command that is killed (SIGKILL) in the middle of something after its first step.

python tests/rl/killed.py MOMENT OUTPUT_DIR rl.grpo --config ...
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerState

from envs.vector_env import MCPVectorEnv
from rl.ppo_trainer import ToolUsePPOTrainer
from rl.trainer import ToolUseGRPOTrainer

MOMENTS: dict[str, tuple[Any, str, str]] = {
    "rollout": (MCPVectorEnv, "step", ""),
    "update": (ToolUseGRPOTrainer, "_try_pieces", ""),
    "value head": (ToolUsePPOTrainer, "_save", "value_head.safetensors"),
    "optimizer": (Trainer, "_save_optimizer_and_scheduler", "optimizer.pt"),
    "state": (TrainerState, "save_to_json", "trainer_state.json"),
}
"""What is cut short: the function, and the file of `checkpoint-2` that is left half written."""


def main(moment: str, folder: str, program: str) -> None:
    owner, name, file = MOMENTS[moment]
    whole = getattr(owner, name)

    def cut_short(*arguments: Any, **options: Any) -> Any:
        found = whole(*arguments, **options)
        path = Path(folder) / "checkpoint-2" / file
        if path.exists():
            if file:
                os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, name, cut_short)
    runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv.pop(1), sys.argv.pop(1), sys.argv.pop(1))
