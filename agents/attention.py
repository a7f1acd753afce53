"""Attention in parts: what rows share is read once, what is their own is added exactly.

A softmax over two sets of keys can be computed set by set and merged by the logarithm of the sum
of each set's weights (the identity behind FlashAttention, Dao et al. 2022, arXiv:2205.14135). So
the keys of a prompt that eight rows have in common need neither be copied eight times nor be
masked for each of them. Gradients go the same way: with the merged output and the merged sum, each
part's backward gives exactly its share.

After `use_layouts(model)` a forward may be told to attend by a layout: `model(..., layout=layout)`.
The layout says which queries see which keys:

    agents/packed.py      training: prompts and completions in one row without padding
    agents/kv_cache.py    rollouts: conversations that go on from shared prompts

What computes a part: `agents/attention_parts.py`.

Without a layout it is transformers' `sdpa`, on every device.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from agents.errors import UnsupportedModelError

NAME = "mcp_gym_layout"
SPECIAL = ("sliding_window", "softcap", "s_aux", "position_bias")
"""What attention of transformers may be told that changes it: windows, caps, sinks, biases."""


class Layout(Protocol):
    """Says which queries see which keys."""

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        """Return what each query has read.

        Args:
            layer: Index of the layer.
            query: Scaled queries (batch, heads, tokens, size).
            key: Keys (batch, key-value heads, slots, size).
            value: Values, of the same shape.

        Returns:
            (batch, tokens, heads, size).
        """


def by_kv_head(tokens: torch.Tensor, kv_heads: int) -> torch.Tensor:
    """Put queries that share a key-value head side by side, so that no key is repeated for them.

    Args:
        tokens: (batch, tokens, heads, ...).
        kv_heads: Number of key-value heads.

    Returns:
        (batch, key-value heads, tokens * heads per key-value head, ...).
    """
    batch, count, heads, *rest = tokens.shape
    grouped = tokens.view(batch, count, kv_heads, heads // kv_heads, *rest)
    return grouped.transpose(1, 2).reshape(batch, kv_heads, -1, *rest)


def by_token(grouped: torch.Tensor, count: int) -> torch.Tensor:
    """Undo `by_kv_head`: return (batch, tokens, heads, ...)."""
    batch, kv_heads, _, *rest = grouped.shape
    return grouped.reshape(batch, kv_heads, count, -1, *rest).transpose(1, 2).flatten(2, 3)


def _by_layout(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    layout: Layout | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as the layout says; without one, as transformers' `sdpa` does."""
    if layout is None:
        found: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return found
    special = [name for name in SPECIAL if options.get(name) is not None]
    if special:
        raise UnsupportedModelError(
            f"{type(module).__name__} attends with {', '.join(special)}, which no layout knows; "
            "only models with plain attention can play here, such as Qwen3"
        )
    # Under autocast the values come in half precision, the rotated queries and keys do not.
    query, key = (query * scaling).to(value.dtype), key.to(value.dtype)
    return layout.attend(module.layer_idx, query, key, value), None


AttentionInterface.register(NAME, _by_layout)
AttentionMaskInterface.register(NAME, sdpa_mask)


def use_layouts(model: Any) -> None:
    """Let the forward of a model take a `layout`; without one it stays what it was with `sdpa`.

    Args:
        model: A model of transformers whose layers all see the whole context.

    Raises:
        UnsupportedModelError: If a layer sees a window only.
    """
    config = model.config
    others = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    if others:
        raise UnsupportedModelError(
            f"{config.model_type} has layers of the kind {', '.join(sorted(others))}; "
            "only models whose layers all see the whole context can play here, such as Qwen3"
        )
    config._attn_implementation = NAME


def no_mask(device: torch.device) -> torch.Tensor:
    """Return a mask that a model passes on as it is; layouts do not look at it."""
    return torch.zeros(1, 1, 1, 1, device=device)
