"""Which rows were seen before, at 16 bytes a row (and room to grow)."""

from __future__ import annotations

DIGEST_BYTES = 16
_FIRST_SLOTS = 1 << 12
_EMPTY = bytes(DIGEST_BYTES)


class SeenDigests:
    """A set of digests in one block of memory, by open addressing.

    A Python set of a million digests takes 100 MB; this takes at most 64.
    """

    def __init__(self) -> None:
        self._slots = _FIRST_SLOTS
        self._table = bytearray(self._slots * DIGEST_BYTES)
        self._count = 0

    def add(self, digest: bytes) -> bool:
        """Add a digest; return whether it is new.

        Args:
            digest: `DIGEST_BYTES` evenly distributed bytes.
        """
        place = self._find(digest)
        if self._table[place : place + DIGEST_BYTES] == digest:
            return False
        self._table[place : place + DIGEST_BYTES] = digest
        self._count += 1
        if self._count * 2 > self._slots:
            self._grow()
        return True

    def _find(self, digest: bytes) -> int:
        """Return where a digest stands, or where it would."""
        table = self._table
        place = int.from_bytes(digest[:8], "little") % self._slots * DIGEST_BYTES
        while (found := table[place : place + DIGEST_BYTES]) != digest and found != _EMPTY:
            place = (place + DIGEST_BYTES) % len(table)
        return place

    def _grow(self) -> None:
        old = self._table
        self._slots *= 2
        self._table = bytearray(self._slots * DIGEST_BYTES)
        for start in range(0, len(old), DIGEST_BYTES):
            digest = bytes(old[start : start + DIGEST_BYTES])
            if digest != _EMPTY:
                place = self._find(digest)
                self._table[place : place + DIGEST_BYTES] = digest
