"""The keys and values of a batch of ragged conversations that go on from shared prompts.

A prompt is kept once, however many conversations go on from it. What a conversation said and heard
since is its own: all rows append at the same slot; where a row has nothing to append, its slot is
a hole that no query ever sees. Positions are counted per row, so holes do not shift them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from agents.attention import by_kv_head, by_token
from agents.attention_parts import HIDDEN, Sight, merge, read
from agents.grids import Grid

GROWTH = 64
"""Slots by which a full buffer grows (a copy each time, so not too few)."""

KeysValues = tuple[torch.Tensor, torch.Tensor]
"""Keys and values, both (batch, key-value heads, slots, size)."""


class Prompts:
    """Prompts, padded on the right, each seeing itself; as a layout it fills itself.

    Args:
        lengths: Tokens of each prompt.
        device: Where the model is.
    """

    def __init__(self, lengths: torch.Tensor, device: torch.device) -> None:
        columns = torch.arange(max(1, int(lengths.max())), device=device)
        hidden = torch.where(columns < lengths[:, None], 0.0, HIDDEN)
        self.bias = hidden[:, None, None]
        self.layers: list[KeysValues] = []

    def __len__(self) -> int:
        return len(self.bias)

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        """See `agents.attention.Layout`."""
        self.layers.append((key, value))
        repeats = query.shape[1] // key.shape[1]
        key, value = (part.repeat_interleave(repeats, dim=1) for part in (key, value))
        return read(query, key, value, Sight(causal=True))[0].transpose(1, 2)

    def chosen(self, numbers: torch.Tensor) -> Prompts:
        """Return some of the prompts."""
        some = object.__new__(Prompts)
        some.bias = self.bias[numbers]
        some.layers = [(keys[numbers], values[numbers]) for keys, values in self.layers]
        return some


class OwnSlots:
    """One layer's own keys and values in buffers with room to grow."""

    def __init__(self) -> None:
        self.used = 0
        self.buffers: list[torch.Tensor] = []

    def append(self, *chunk: torch.Tensor) -> list[torch.Tensor]:
        """Write new slots (keys and values); return views of all of them."""
        end = self.used + chunk[0].shape[-2]
        if not self.buffers:
            self.buffers = [part.new_zeros(*part.shape[:2], 0, part.shape[3]) for part in chunk]
        self.reserve(end)
        for buffer, part in zip(self.buffers, chunk, strict=True):
            buffer[:, :, self.used : end] = part
        self.used = end
        return [buffer[:, :, :end] for buffer in self.buffers]

    def write(self, slot: torch.Tensor, *chunk: torch.Tensor) -> list[torch.Tensor]:
        """Write a slot of a number that only the device knows; return whole buffers.

        Args:
            slot: Its number (1,); there must be room for it (`reserve`).
            *chunk: Keys and values of one slot.
        """
        for buffer, part in zip(self.buffers, chunk, strict=True):
            buffer.index_copy_(2, slot, part)
        return self.buffers

    def reserve(self, slots: int) -> None:
        """Make room for so many slots in all."""
        if slots <= self.buffers[0].shape[-2]:
            return
        grown = []
        for old in self.buffers:
            batch, heads, _, size = old.shape
            new = old.new_zeros(batch, heads, slots + GROWTH, size)
            new[:, :, : self.used] = old[:, :, : self.used]
            grown.append(new)
        self.buffers = grown

    def chosen(self, rows: torch.Tensor) -> OwnSlots:
        """Return a copy of some rows."""
        some = OwnSlots()
        some.used = self.used
        some.buffers = [buffer.index_select(0, rows) for buffer in self.buffers]
        return some

    def take_over(self, part: OwnSlots, rows: torch.Tensor) -> None:
        """Take over the slots that `part`, a copy of `rows`, was given since it was made."""
        start, end = self.used, part.used
        self.reserve(end)
        for mine, theirs in zip(self.buffers, part.buffers, strict=True):
            mine[rows, :, start:end] = theirs[:, :, start:end]
        self.used = end


class RaggedCache:
    """What a batch of conversations remembers; the layout of its next chunk (see `append`).

    Args:
        prompts: The prompts, filled.
        owners: For each row, the number of its prompt (rows,).
        lengths: Tokens of each row so far, its next position (rows,).

    Attributes:
        lengths: See above.
    """

    def __init__(self, prompts: Prompts, owners: torch.Tensor, lengths: torch.Tensor) -> None:
        self.lengths = lengths
        self._visible = torch.zeros(len(owners), 0, dtype=torch.bool, device=owners.device)
        self._own = [OwnSlots() for _ in prompts.layers]
        self._sight = Sight()
        self._seat(prompts, owners)

    def _seat(self, prompts: Prompts, owners: torch.Tensor) -> None:
        """Give each row a seat at its prompt; prompts of nobody are forgotten."""
        still, owners = owners.unique(return_inverse=True)
        self._prompts = prompts if len(still) == len(prompts) else prompts.chosen(still)
        self._owners = owners
        rows: list[list[int]] = [[] for _ in still]
        for row, owner in enumerate(owners.tolist()):
            rows[owner].append(row)
        self._seats = Grid.of(rows, owners.device)
        self._seat_of = self._seats.places[self._seats.members.argsort()]

    def append(self, real: torch.Tensor, repeats: int) -> torch.Tensor:
        """Make room for a chunk; the next forward must be that of this chunk.

        Args:
            real: Which tokens of the chunk are real (rows, chunk).
            repeats: Heads per key-value head of the model.

        Returns:
            Position ids (rows, chunk).
        """
        chunk, before = real.shape[1], self._visible.shape[1]
        self._visible = torch.cat([self._visible, real], dim=1)
        positions = (self.lengths[:, None] + real.long().cumsum(1) - 1).clamp(min=0)
        self.lengths = self.lengths + real.sum(1)
        seen = self._visible[:, None, None, :]
        if chunk > 1:
            slots = torch.arange(before + chunk, device=real.device)
            seen = seen & (slots[None, :] <= slots[before:, None]).repeat_interleave(repeats, 0)
        self._sight = Sight(bias=torch.where(seen, 0.0, HIDDEN))
        return positions

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        """See `agents.attention.Layout`."""
        return self._read(layer, query, self._own[layer].append(key, value), self._sight)

    def _read(
        self, layer: int, query: torch.Tensor, slots: Sequence[torch.Tensor], sight: Sight
    ) -> torch.Tensor:
        """Read a row's own keys and values, in `slots`, and its prompt."""
        own_keys, own_values = slots
        chunk, kv_heads = query.shape[2], own_keys.shape[1]
        asking = by_kv_head(query.transpose(1, 2), kv_heads)
        own = read(asking, own_keys, own_values, sight)
        at_prompts = self._seats.gather(asking).flatten(2, 3)
        keys, values = self._prompts.layers[layer]
        found = read(at_prompts, keys, values, Sight(bias=self._prompts.bias))
        shared = (self._leave_seats(found[0]), self._leave_seats(found[1]))
        return by_token(merge(own, shared)[0], chunk)

    def _leave_seats(self, placed: torch.Tensor) -> torch.Tensor:
        """Return (prompts, heads, seats * queries, ...) as (rows, heads, queries, ...)."""
        seats = placed.unflatten(2, (self._seats.numbers.shape[1], -1))
        left: torch.Tensor = seats.transpose(1, 2).flatten(0, 1)
        return left.index_select(0, self._seat_of)

    def select(self, rows: torch.Tensor) -> None:
        """Keep some rows of the batch."""
        self.__dict__.update(self.chosen(rows).__dict__)

    def chosen(self, rows: torch.Tensor) -> RaggedCache:
        """Return a copy of some rows, to go on with while the others rest."""
        some = object.__new__(RaggedCache)
        some.lengths = self.lengths.index_select(0, rows)
        some._visible = self._visible.index_select(0, rows)
        some._own = [slots.chosen(rows) for slots in self._own]
        some._sight = Sight()
        some._seat(self._prompts, self._owners.index_select(0, rows))
        return some

    def take_over(self, part: RaggedCache, rows: torch.Tensor) -> None:
        """Take over what `part`, a copy of `rows`, was given; the other rows get holes."""
        for mine, theirs in zip(self._own, part._own, strict=True):
            mine.take_over(theirs, rows)
        holes = part._visible.shape[1] - self._visible.shape[1]
        self._visible = torch.nn.functional.pad(self._visible, (0, holes))
        self._visible[rows] = part._visible
        self.lengths[rows] = part.lengths


class SteadyCache:
    """A `RaggedCache` whose next chunks, of one token each, all have the same shapes.

    It has room for all of them from the start, and slots ahead are holes until they are written.
    What changes is in tensors that stay where they are, so that a device can repeat what it did
    for one token for the next one. The cache below must not be used until `settle`.

    Args:
        cache: The cache.
        steps: Tokens of each row there shall be room for.
    """

    def __init__(self, cache: RaggedCache, steps: int) -> None:
        self._cache = cache
        self._before = cache._visible.shape[1]
        for own in cache._own:
            own.reserve(self._before + steps)
        room = cache._own[0].buffers[0].shape[-2] - self._before
        self._visible = torch.nn.functional.pad(cache._visible, (0, room))
        self._lengths = cache.lengths.clone()
        self._slot = torch.full((1,), self._before - 1, device=cache.lengths.device)
        self._sight = Sight()

    def append(self, real: torch.Tensor) -> torch.Tensor:
        """Go on to the next token; `real` (rows, 1) and position ids as in `RaggedCache`."""
        self._slot += 1
        self._visible.index_copy_(1, self._slot, real)
        self._lengths += real[:, 0]
        self._sight = Sight(bias=torch.where(self._visible[:, None, None], 0.0, HIDDEN))
        return (self._lengths[:, None] - 1).clamp(min=0)

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        """See `agents.attention.Layout`."""
        slots = self._cache._own[layer].write(self._slot, key, value)
        return self._cache._read(layer, query, slots, self._sight)

    def settle(self, steps: int) -> None:
        """Let the cache go on; `steps` is how many chunks there were."""
        used = self._before + steps
        self._cache._visible = self._visible[:, :used]
        self._cache.lengths = self._lengths
        for own in self._cache._own:
            own.used = used
