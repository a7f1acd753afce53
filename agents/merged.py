"""Folding an adapter into the base weights while a policy plays.

A LoRA layer computes `W x + s B (A x)`. When many tokens are sampled between two updates it is
cheaper to form `W + s B A` once: one product per layer and token is left of three.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer


@contextmanager
def merged_adapter(model: Any) -> Iterator[None]:
    """Fold the active LoRA adapter into the base weights, and put these back bit by bit.

    Nothing is done where it would not be exact to rounding: for weights that are not float32
    (half precision, 4 bits). It costs a second copy of the adapted weights while it lasts.

    Args:
        model: A model, with or without a peft adapter, in eval mode (no adapter dropout).
    """
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    weights = [layer.get_base_layer().weight for layer in layers]
    if not layers or any(weight.dtype != torch.float32 for weight in weights):
        yield
        return
    originals = [weight.detach().clone() for weight in weights]
    try:
        model.merge_adapter()
        yield
    finally:
        model.unmerge_adapter()
        with torch.no_grad():
            # Subtracting what was added leaves rounding behind; training must not drift by it.
            for weight, original in zip(weights, originals, strict=True):
                weight.copy_(original)
