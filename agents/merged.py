"""Folding an adapter into the base weights while a policy plays.

A LoRA layer computes `W x + s B (A x)`. When many tokens are sampled between two updates it is
cheaper to form `W + s B A` once: one product per layer and token is left of three.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch.nn.functional import linear


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


@contextmanager
def folded_adapter(model: Any) -> Iterator[None]:
    """Compute with `W + s B A` as one matrix, gradients of A and B included.

    A LoRA layer in training makes five small products and four passes over its activations beside
    the product with `W`. For a small model these cost more than the one product of full size (the
    gradient of `W + s B A`) that they save. Exact to rounding; nothing is done for weights that
    are not float32, with adapter dropout, or where a layer is more than a plain LoRA layer.
    """
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    if not all(_can_fold(layer) for layer in layers):
        yield
        return
    for layer in layers:
        base = layer.get_base_layer()
        name = layer.active_adapters[0]
        product = layer.lora_B[name].weight @ layer.lora_A[name].weight
        weight = torch.add(base.weight, product, alpha=layer.scaling[name])
        layer.forward = partial(linear, weight=weight, bias=base.bias)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _can_fold(layer: Any) -> bool:
    base = layer.get_base_layer()
    names = layer.active_adapters
    return (
        type(base) is torch.nn.Linear
        and base.weight.dtype == torch.float32
        and len(names) == 1
        and not layer.merged
        and isinstance(layer.lora_dropout[names[0]], torch.nn.Identity)
    )
