"""Folding an adapter into the weights: `W + s B A` as one matrix.

A LoRA layer computes `W x + s B (A x)`: three products and several passes over the activations for
each token, in training as many again. For a small model these, and the calls that make them, cost
more than forming `W + s B A` once.
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
def folded_adapter(model: Any) -> Iterator[None]:
    """Compute with `W + s B A` as one matrix while this lasts, gradients of A and B included.

    No weight is changed. Exact to rounding; nothing is done for weights that are not float32, where
    adapter dropout is on, or where a layer is more than a plain LoRA layer.

    Args:
        model: A model, with or without a peft adapter; its weights must not change meanwhile.
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
        and (not layer.training or isinstance(layer.lora_dropout[names[0]], torch.nn.Identity))
    )
