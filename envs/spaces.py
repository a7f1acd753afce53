"""The space of texts: any string up to a length (gymnasium's `Text` rejects braces and accents)."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import Space

ALPHABET = "abcdefghijklmnopqrstuvwxyz ABCXYZ0123456789 {}[]\":,.<>/_-?!'\n\u00e9\u4e16"
TAGS = ("<tool_call>", "</tool_call>", '{"name": "', '", "arguments": {', "}}", "<think>", "")


class TextSpace(Space[str]):
    """Every string of at most `max_length` characters.

    Args:
        max_length: Longest text.
        seed: Seed of `sample`.
    """

    def __init__(self, max_length: int = 2_000_000, seed: int | None = None) -> None:
        self.max_length = max_length
        super().__init__(shape=None, dtype=None, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """Texts cannot be flattened into an array."""
        return False

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> str:
        """Return a short random text, sometimes with the tags of a tool call."""
        pieces = []
        for _ in range(int(self.np_random.integers(1, 6))):
            pieces.append(TAGS[int(self.np_random.integers(len(TAGS)))])
            letters = self.np_random.integers(len(ALPHABET), size=int(self.np_random.integers(12)))
            pieces.append("".join(ALPHABET[int(i)] for i in np.atleast_1d(letters)))
        return "".join(pieces)[: self.max_length]

    def contains(self, x: Any) -> bool:
        """Return whether `x` is a text that is not too long."""
        return isinstance(x, str) and len(x) <= self.max_length

    def __eq__(self, other: object) -> bool:
        """Return whether the other space holds the same texts."""
        return isinstance(other, TextSpace) and other.max_length == self.max_length

    def __hash__(self) -> int:
        """Return a hash that goes with equality."""
        return hash((TextSpace, self.max_length))

    def __repr__(self) -> str:
        """Return how to write the space."""
        return f"TextSpace({self.max_length})"
