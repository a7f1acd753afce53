"""Dividing a batch into pieces that fit into memory, by tokens and not by rows.

A distinct prompt is computed once in a piece, so rows with the same prompt stay together where they
can. The gradients of the pieces add up to that of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

Batch = dict[str, Any]


def packed_tokens(batch: Mapping[str, Any], *, shared: bool = True) -> int:
    """Return how many tokens go through the model for a batch: each distinct prompt once.

    Args:
        batch: As in `divided`.
        shared: False where every row has its own copy of its prompt.
    """
    if not shared:
        return int(batch["completion_mask"].sum() + batch["prompt_mask"].sum())
    prompts = dict(zip(_prompts(batch), batch["prompt_mask"].sum(1).tolist(), strict=True))
    return int(batch["completion_mask"].sum() + sum(prompts.values()))


def divided(batch: Mapping[str, Any], count: int) -> list[torch.Tensor]:
    """Return the rows of a batch in pieces of about as many completion tokens each.

    Args:
        batch: Has `prompt_ids`, `prompt_mask` and `completion_mask`, one row for each episode.
        count: Wanted number of pieces, at most the number of rows.

    Returns:
        Row numbers of exactly `count` pieces, none of them empty.
    """
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(_prompts(batch)))}
    owners = torch.tensor([numbers[prompt] for prompt in _prompts(batch)])
    order = owners.argsort(stable=True)
    tokens = batch["completion_mask"].sum(1).cpu()[order]
    middles = (tokens.cumsum(0) - tokens / 2) / tokens.sum()
    chosen = (middles * count).long().clamp(max=count - 1)
    pieces = [order[chosen == number] for number in range(count)]
    if not all(len(piece) for piece in pieces):  # one row has the tokens of several pieces
        pieces = list(order.tensor_split(count))
    return pieces


def rows_of(batch: Mapping[str, Any], rows: torch.Tensor) -> Batch:
    """Return some rows of a batch; what is not one value for each row stays as it is."""
    count = len(batch["prompt_ids"])
    return {
        name: value[rows.to(value.device)]
        if isinstance(value, torch.Tensor) and value.ndim and len(value) == count
        else value
        for name, value in batch.items()
    }


def loss_share(loss_type: str, piece: Batch, batch: Batch) -> float:
    """Return by what TRL's loss of a piece is multiplied so that those of all pieces add up.

    Its losses are means over rows, means over tokens, or sums that it divides by the tokens of the
    whole generation.

    Raises:
        ValueError: If it is not known how the loss divides.
    """
    if piece is batch or loss_type in ("dapo", "cispo", "vespo"):
        return 1.0
    if loss_type in ("grpo", "dr_grpo", "sapo", "luspo"):
        return len(piece["prompt_ids"]) / len(batch["prompt_ids"])
    if loss_type == "bnpo":
        said = [(one["completion_mask"] * one.get("tool_mask", 1)).sum() for one in (piece, batch)]
        return float(said[0] / said[1].clamp(min=1))
    raise ValueError(f"--loss_type {loss_type} cannot be divided; leave --tokens_per_forward at 0")


def _prompts(batch: Mapping[str, Any]) -> list[bytes]:
    """Return something that is equal where two rows have the same prompt."""
    return [row.numpy().tobytes() for row in batch["prompt_ids"].cpu()]
