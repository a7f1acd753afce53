"""What a trainer needs so that several processes train one policy."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from accelerate.utils import gather_object
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from sft.interrupt import StopOnInterrupt


def as_forward(wrapped: Any, model: Any, compute: Callable[[], Any]) -> Any:
    """Run a computation as the forward pass of a wrapped model.

    A wrapper for several processes (DDP, FSDP) averages the gradients of what went through its own
    `forward`, and silently those of nothing else. Our computations call parts of the model.

    Args:
        wrapped: The model as the trainer wrapped it, or the model itself.
        model: The model inside.
        compute: What to compute with the model; gives a tensor or a tuple of tensors.

    Returns:
        What `compute` returned.
    """
    if wrapped is model and not isinstance(model, FSDPModule):
        return compute()
    usual = vars(model).get("forward")

    def restore() -> None:
        vars(model).pop("forward", None)
        if usual is not None:
            model.forward = usual

    def once() -> Any:
        restore()  # the computation may call the model itself
        return compute()

    model.forward = once
    try:
        return wrapped()
    finally:
        restore()


def with_whole_model(model: Any, compute: Callable[[], Any]) -> Any:
    """Run a computation that goes through a model another number of times in each process.

    Where FSDP divides the parameters, all of them are gathered before, and kept.

    Args:
        model: The model, not wrapped; every process comes here with it.
        compute: What to compute; gives no tensors that need gradients.

    Returns:
        What `compute` returned.
    """

    def gathered() -> Any:
        parts = [part for part in model.modules() if isinstance(part, FSDPModule)]
        for part in parts:
            part.unshard()
        try:
            return compute()
        finally:
            for part in parts:
                part.reshard()

    return as_forward(model, model, gathered)


def whole_adapter(model: Any) -> dict[str, torch.Tensor] | None:
    """Return the parameters of the adapters, put together; None where FSDP divides nothing."""
    divided = isinstance(model, FSDPModule)
    if not divided:
        return None
    return {
        name: value.full_tensor() if isinstance(value, DTensor) else value
        for name, value in model.state_dict().items()
        if "lora_" in name
    }


def check_launcher(stage: str, tokens_per_forward: int) -> None:
    """Refuse what the engines of accelerate cannot do, before anything is loaded.

    Args:
        stage: grpo or ppo.
        tokens_per_forward: The flag of that name.

    Raises:
        SystemExit: If `accelerate launch` started this process for such a thing.
    """
    used = [
        name
        for name in ("FSDP", "DEEPSPEED")
        if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true"
    ]
    if used and stage == "ppo":
        raise SystemExit(
            f"error: rl.ppo makes optimizer steps of its own and has a value head, which {used[0]} "
            "would divide; start it with torchrun --nproc_per_node N -m rl.ppo"
        )
    if "DEEPSPEED" in used and tokens_per_forward:
        raise SystemExit(
            "error: DeepSpeed would make an optimizer step of every piece of an update; use "
            "--tokens_per_forward 0"
        )


class StopTogether(StopOnInterrupt):
    """`StopOnInterrupt` in several processes: Ctrl-C in one of them stops all after the same step.

    A signal reaches processes at different moments. One that stopped a step before the others would
    leave them waiting for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pressed = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for a checkpoint and an end if Ctrl-C was pressed anywhere."""
        if args.world_size > 1:
            self.interrupted = any(gather_object([self._pressed]))
        super().on_step_end(args, state, control, **kwargs)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # Only a second Ctrl-C of this process ends it at once, not the first after another's.
        self.interrupted = self._pressed
        super()._note(number, frame)
        self._pressed = True
