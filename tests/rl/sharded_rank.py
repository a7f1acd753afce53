"""A training command whose model FSDP divides, on a CPU, as configs/accelerate/fsdp.yaml says.

torchrun --nproc_per_node 2 tests/rl/sharded_rank.py FOLDER rl.grpo --config ...
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Any

from accelerate.commands.launch import (
    _validate_launch_command,
    launch_command_parser,
    prepare_multi_gpu_env,
)
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from small_run import ROOT
from torch.distributed.tensor import DTensor
from transformers import Trainer

from rl.trainer import ToolUseGRPOTrainer

CONFIG = ROOT / "configs" / "accelerate" / "fsdp.yaml"


def main(folder: str, program: str) -> None:
    given = launch_command_parser().parse_args(["--config_file", str(CONFIG), "program.py"])
    launched = prepare_multi_gpu_env(_validate_launch_command(given)[0])
    names = [name for name in launched if name.startswith("FSDP_")]
    os.environ.update({name: launched[name] for name in (*names, "ACCELERATE_USE_FSDP")})
    make, close = Trainer.create_accelerator_and_postprocess, ToolUseGRPOTrainer.close

    def as_on_gpus(trainer: Any) -> None:
        """Accelerate divides no models on CPUs; torch does."""
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        make(trainer)

    def write_down(trainer: ToolUseGRPOTrainer) -> None:
        divided = [isinstance(p, DTensor) for p in trainer.model.parameters()]
        (Path(folder) / f"rank{os.environ['RANK']}").write_text(f"{all(divided)}")
        close(trainer)

    Trainer.create_accelerator_and_postprocess = as_on_gpus
    ToolUseGRPOTrainer.close = write_down  # type: ignore[method-assign, assignment]
    runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv.pop(1), sys.argv.pop(1))
