"""What a trainer needs so that several processes train one policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


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
    if wrapped is model:
        return compute()
    model.forward = compute
    try:
        return wrapped()
    finally:
        del model.forward
