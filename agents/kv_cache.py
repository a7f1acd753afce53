"""A key-value cache that grows in place and holds a batch of ragged conversations.

All rows append at the same slot; where a row has nothing to append, its slot is a hole that no
query ever sees. Positions are counted per row, so holes do not shift them.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

GROWTH = 128
"""Slots by which a full layer grows (a copy each time, so not too few)."""


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values in a buffer with room to grow.

    `DynamicCache` concatenates, which copies the whole layer for every token; here a token is
    written into its slot.
    """

    is_compileable = False

    def __init__(self) -> None:
        super().__init__()
        self.used = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate the first buffer."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys = self._grown(None, key_states, key_states.shape[-2])
        self.values = self._grown(None, value_states, value_states.shape[-2])
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new slots and return views of all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        end = self.used + key_states.shape[-2]
        if end > self.keys.shape[-2]:
            self.keys = self._grown(self.keys, key_states, end)
            self.values = self._grown(self.values, value_states, end)
        self.keys[:, :, self.used : end] = key_states
        self.values[:, :, self.used : end] = value_states
        self.used = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def _grown(self, old: torch.Tensor | None, like: torch.Tensor, slots: int) -> torch.Tensor:
        batch, heads, _, size = like.shape
        new = like.new_zeros(batch, heads, slots + GROWTH, size)
        if old is not None:
            new[:, :, : self.used] = old[:, :, : self.used]
        return new

    def select(self, rows: torch.Tensor) -> None:
        """Keep (or repeat) rows of the batch."""
        if self.keys is not None and self.values is not None:
            self.keys = self.keys.index_select(0, rows)
            self.values = self.values.index_select(0, rows)

    def part(self, rows: torch.Tensor) -> SlotLayer:
        """Return a copy of some rows."""
        layer = SlotLayer()
        layer.__dict__.update(self.__dict__)
        layer.select(rows)
        return layer

    def merge(self, part: SlotLayer, rows: torch.Tensor) -> None:
        """Take over the slots that `part`, a copy of `rows`, was given since it was made."""
        assert self.keys is not None
        assert self.values is not None
        assert part.keys is not None
        assert part.values is not None
        start, end = self.used, part.used
        if end > self.keys.shape[-2]:
            self.keys = self._grown(self.keys, self.keys, end)
            self.values = self._grown(self.values, self.values, end)
        self.keys[rows, :, start:end] = part.keys[:, :, start:end]
        self.values[rows, :, start:end] = part.values[:, :, start:end]
        self.used = end

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the length and offset that a mask must cover."""
        return self.used + query_length, 0

    def get_seq_length(self) -> int:
        """Return the number of used slots."""
        return self.used

    def get_max_length(self) -> int:
        """Return -1: no limit."""
        return -1


class RaggedCache:
    """The caches of all layers with the bookkeeping of holes and positions.

    Attributes:
        cache: What the model is given as `past_key_values`.
        visible: Bool tensor (batch, slots): which slots hold a real token.
        lengths: Long tensor (batch,): real tokens of each row, its next position.
    """

    def __init__(self, layers: int, batch: int, device: torch.device) -> None:
        self.cache = Cache(layers=[SlotLayer() for _ in range(layers)])
        self.visible = torch.zeros(batch, 0, dtype=torch.bool, device=device)
        self.lengths = torch.zeros(batch, dtype=torch.long, device=device)

    def append(self, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Make room for a chunk.

        Args:
            real: Bool tensor (batch, chunk): which tokens of the chunk are real.

        Returns:
            The attention mask (batch, 1, chunk, slots) and position ids (batch, chunk).
        """
        chunk, before = real.shape[1], self.visible.shape[1]
        self.visible = torch.cat([self.visible, real], dim=1)
        positions = (self.lengths[:, None] + real.long().cumsum(1) - 1).clamp(min=0)
        self.lengths = self.lengths + real.sum(1)
        mask = self.visible[:, None, None, :].expand(-1, 1, chunk, -1)
        if chunk > 1:
            slots = torch.arange(before + chunk, device=real.device)
            mask = mask & (slots[None, :] <= slots[before:, None])
        return mask, positions

    def select(self, rows: torch.Tensor) -> None:
        """Keep (or repeat) rows of the batch."""
        for layer in self._layers():
            layer.select(rows)
        self.visible = self.visible.index_select(0, rows)
        self.lengths = self.lengths.index_select(0, rows)

    def part(self, rows: torch.Tensor) -> RaggedCache:
        """Return a copy of some rows, to go on with while the others rest."""
        part = RaggedCache(0, len(rows), rows.device)
        part.cache = Cache(layers=[layer.part(rows) for layer in self._layers()])
        part.visible = self.visible.index_select(0, rows)
        part.lengths = self.lengths.index_select(0, rows)
        return part

    def merge(self, part: RaggedCache, rows: torch.Tensor) -> None:
        """Take over what `part`, a copy of `rows`, was given; the other rows get holes."""
        for layer, other in zip(self._layers(), part._layers(), strict=True):
            layer.merge(other, rows)
        holes = part.visible.shape[1] - self.visible.shape[1]
        self.visible = torch.nn.functional.pad(self.visible, (0, holes))
        self.visible[rows] = part.visible
        self.lengths[rows] = part.lengths

    def _layers(self) -> list[SlotLayer]:
        return [layer for layer in self.cache.layers if isinstance(layer, SlotLayer)]
