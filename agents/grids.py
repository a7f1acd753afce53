"""Grids: ragged rows of tokens, padded on the right, and the way there and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

WASTE = 0.25
"""Share of a grid that may be padding before another grid is begun."""


@dataclass(frozen=True)
class Grid:
    """Ragged rows of things that are numbered (tokens of a packed row, rows of a batch).

    Attributes:
        numbers: Which of them stands in each place (rows, width); 0 for padding.
        real: Whether anything stands there (rows, width).
        members: All that stand in the grid, in the order of their places.
        places: Their places in the flattened grid.
    """

    numbers: torch.Tensor
    real: torch.Tensor
    members: torch.Tensor
    places: torch.Tensor

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], device: torch.device) -> Grid:
        """Return the grid of some rows."""
        width = max(len(row) for row in rows)
        numbers = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
        real = torch.arange(width) < torch.tensor([[len(row)] for row in rows])
        parts = (numbers, real, numbers[real], real.flatten().nonzero()[:, 0])
        return cls(*(part.to(device) for part in parts))

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """Return values (all, heads, ...) in their places: (rows, heads, width, ...)."""
        chosen = values.index_select(0, self.numbers.flatten())
        return chosen.view(*self.numbers.shape, *values.shape[1:]).transpose(1, 2)

    def of_members(self, placed: torch.Tensor) -> torch.Tensor:
        """Return what stands in the places (rows, heads, width, ...) as (members, heads, ...)."""
        return placed.transpose(1, 2).flatten(0, 1).index_select(0, self.places)


def similar(lengths: Sequence[int]) -> list[list[int]]:
    """Return row numbers in groups of similar length, the longest first."""
    groups: list[list[int]] = []
    real = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        size = lengths[row]
        if groups:
            padded = (len(groups[-1]) + 1) * lengths[groups[-1][0]]
            if real + size >= (1 - WASTE) * padded:
                groups[-1].append(row)
                real += size
                continue
        groups.append([row])
        real = size
    return groups
