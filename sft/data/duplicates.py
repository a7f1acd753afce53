"""Rows that say the same: exactly, or nearly (MinHash and locality-sensitive hashing, by rensa).

Two rows are near-duplicates if the sets of their word triples overlap by at least a given share
(Jaccard similarity), as estimated from `HASHES` minima: the standard error is at most
0.5 / sqrt(HASHES), that is 0.044. Broder, "On the resemblance and containment of documents", 1997.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rensa import RMinHash, RMinHashDeduplicator

from sft.data.rows import content_key, full_text

SIMILARITY = 0.85
"""From which share on two rows are near-duplicates, if nothing else is said."""

HASHES = 128
RECALL = 0.99
"""Probability at least that a near-duplicate as unlike as is allowed becomes a candidate."""

SEED = 42
WORDS = 3

# A word is a run of letters and digits; in a script without spaces, one character.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


@dataclass(frozen=True)
class Twin:
    """An earlier row that says the same.

    Attributes:
        number: The number that it was given.
        exact: It has the same messages and tools.
    """

    number: int
    exact: bool


class Twins:
    """Finds for each row an earlier one that says the same.

    Args:
        similarity: From which Jaccard similarity on rows are near-duplicates (above 0 to 1); 0
            looks for exact copies only, and remembers some 130 bytes of a row instead of 2 kB.
    """

    def __init__(self, similarity: float = SIMILARITY) -> None:
        self._exact: dict[int, int] = {}
        self._near = (
            RMinHashDeduplicator(
                threshold=similarity,
                num_perm=HASHES,
                use_lsh=True,
                num_bands=bands(similarity),
                seed=SEED,
            )
            if similarity
            else None
        )

    def find(self, row: Mapping[str, Any], number: int) -> Twin | None:
        """Return the earlier twin of a row, or remember the row under its number."""
        copy = self._exact.setdefault(digest64(content_key(row)), number)
        if copy != number:
            return Twin(copy, exact=True)
        if self._near is None:
            return None
        sketch = RMinHash(num_perm=HASHES, seed=SEED)
        sketch.update(shingles(full_text(row)))
        if self._near.add(str(number), sketch):
            return None
        return Twin(min(map(int, self._near.get_duplicates(sketch))), exact=False)


def bands(similarity: float) -> int:
    """Return the least number of bands of `HASHES` minima with `RECALL`; more cost time and memory.

    Two sketches are candidates if all r minima of one of b bands agree: 1 - (1 - s^r)^b.
    """
    powers = [1 << exponent for exponent in range(HASHES.bit_length())]
    return next((b for b in powers if 1 - (1 - similarity ** (HASHES // b)) ** b >= RECALL), HASHES)


def digest64(text: str) -> int:
    """Return 64 bits that stand for a text; among a million, two are the same once in 10^7 runs."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def shingles(text: str) -> list[str]:
    """Return every three words in a row; all words of a shorter text together."""
    words = _WORD.findall(text.lower())
    ends = range(WORDS, max(len(words), WORDS) + 1)
    return [" ".join(words[end - WORDS : end]) for end in ends]
