"""Prompts and their completions packed into one row: no token is padded, no prompt repeated.

    [prompt 1, prompt 2, ..., completions of prompt 1, completions of prompt 2, ...]

Each prompt sees itself; each completion sees its prompt and itself. Everything but attention works
on the row as it is. Attention goes over grids: tokens are gathered into padded rows, and what they
read is gathered back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch

from agents.attention_parts import Sight, merge, read, read_gradients
from agents.grids import Grid, similar


@dataclass(frozen=True)
class Look:
    """Some tokens look at others."""

    asking: Grid
    asked: Grid
    sight: Sight

    def read(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the asking tokens read, and the logarithm of the sum of their weights."""
        found = read(
            self.asking.gather(query), self.asked.gather(key), self.asked.gather(value), self.sight
        )
        return self.asking.of_members(found[0]), self.asking.of_members(found[1])

    def add_gradients(
        self, grad: torch.Tensor, inputs: Sequence[torch.Tensor], into: Sequence[torch.Tensor]
    ) -> None:
        """Add this look's share of the gradients of queries, keys and values.

        Args:
            grad: Gradient of what all tokens have read.
            inputs: Queries, keys, values, what was read, logarithm of the sums: of all tokens.
            into: Gradients of queries, keys and values of all tokens.
        """
        query, key, value, out, log_sum = inputs
        # Padding must not give any. It stands for the row's first token, whose weights at keys that
        # it does not see have no bound: in float16 they overflow. Of an infinite sum all are 0.
        sums = self.asking.gather(log_sum).masked_fill(~self.asking.real[:, None], torch.inf)
        gradients = read_gradients(
            self.asking.gather(grad),
            self.asking.gather(query),
            self.asked.gather(key),
            self.asked.gather(value),
            self.asking.gather(out),
            sums,
            self.sight,
        )
        grids = (self.asking, self.asked, self.asked)
        for grid, gradient, all_tokens in zip(grids, gradients, into, strict=True):
            all_tokens.index_add_(0, grid.members, grid.of_members(gradient))


class PackedLayout:
    """Which token sees which, in a packed row.

    Args:
        prompts: Length of each prompt.
        completions: Length of each completion, those of the first prompt first.
        owners: For each completion the number of its prompt, in ascending order.
        device: Where the model is.

    Attributes:
        positions: The position of each token in its conversation (tokens,).
        prompts: The tokens of each prompt.
        completions: The tokens of each completion.
    """

    def __init__(
        self,
        prompts: Sequence[int],
        completions: Sequence[int],
        owners: Sequence[int],
        device: torch.device,
    ) -> None:
        bounds = [0, *accumulate((*prompts, *completions))]
        rows = [range(*pair) for pair in pairwise(bounds)]
        self.prompts, self.completions = rows[: len(prompts)], rows[len(prompts) :]
        begins = [0] * len(prompts) + [prompts[owner] for owner in owners]
        self.positions = torch.cat(
            [torch.arange(first, first + len(row)) for first, row in zip(begins, rows, strict=True)]
        ).to(device)
        self.themselves = [
            Look(grid, grid, Sight(causal=True))
            for group in (self.prompts, self.completions)
            for chosen in similar([len(row) for row in group])
            for grid in [Grid.of([group[i] for i in chosen], device)]
        ]
        # One by one: nothing is padded, so nothing needs a mask.
        self.at_prompts = [
            Look(Grid.of([asking], device), Grid.of([prompt], device), Sight())
            for asking, prompt in zip(self._asking(owners), self.prompts, strict=True)
        ]

    def _asking(self, owners: Sequence[int]) -> list[range]:
        """Return the tokens of all completions of each prompt: they follow one another."""
        bounds: dict[int, list[int]] = {}
        for owner, row in zip(owners, self.completions, strict=True):
            bounds.setdefault(owner, [row.start])[1:] = [row.stop]
        return [range(*bounds[number]) for number in range(len(self.prompts))]

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        """See `agents.attention.Layout`; the batch is one packed row."""
        repeats = query.shape[1] // key.shape[1]
        key, value = (part.repeat_interleave(repeats, dim=1) for part in (key, value))
        tokens = (part[0].transpose(0, 1) for part in (query, key, value))
        out: torch.Tensor = _PackedAttention.apply(*tokens, self)  # type: ignore[no-untyped-call]
        return out[None]


class _PackedAttention(torch.autograd.Function):
    """Attention of a packed row: (tokens, heads, size) in, the same out."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        layout: PackedLayout,
    ) -> torch.Tensor:
        tokens = (query, key, value)
        sums = torch.float64 if query.dtype == torch.float64 else torch.float32
        out = query.new_empty(query.shape)
        log_sum = query.new_empty(query.shape[:2], dtype=sums)
        for look in layout.themselves:
            out[look.asking.members], log_sum[look.asking.members] = look.read(*tokens)
        for look in layout.at_prompts:
            members = look.asking.members
            both = merge((out[members], log_sum[members]), look.read(*tokens))
            out[members], log_sum[members] = both
        ctx.save_for_backward(*tokens, out, log_sum)
        ctx.layout = layout
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs = ctx.saved_tensors
        found = [torch.zeros_like(part) for part in inputs[:3]]
        for look in (*ctx.layout.themselves, *ctx.layout.at_prompts):
            look.add_gradients(grads[0], inputs, found)
        return (*found, None)
