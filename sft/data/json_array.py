"""The members of a JSON array or object in constant memory, without parsing them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

CHUNK_BYTES = 1 << 20

_OUTSIDE = re.compile(rb'["{}\[\],]')
_IN_STRING = re.compile(rb'["\\]')


def members(file: BinaryIO, limit_bytes: int, kept: int) -> Iterator[tuple[bytes, int, int]]:
    """Cut the one array or object of a file at the commas between its members.

    Nothing is checked: a member may be no JSON, and what follows the end counts as a member.

    Args:
        file: A file that is at the beginning of the array or object.
        limit_bytes: Of a longer member only the beginning is kept.
        kept: How many bytes that beginning has.

    Yields:
        The bytes of a member (`"key": value` in an object), where it ends in the file in bytes,
        and its length in bytes where it is above the limit, else 0.
    """
    cutter = _Cutter(limit_bytes, kept)
    offset = file.tell()
    while chunk := file.read(CHUNK_BYTES):
        for end in cutter.ends(chunk):
            member = cutter.take()
            if member[0].strip():
                yield member[0], offset + end, member[1]
        offset += len(chunk)
    rest = cutter.take()
    if rest[0].strip():
        yield rest[0], offset, rest[1]


class _Cutter:
    """Finds the ends of members over the borders of chunks."""

    def __init__(self, limit_bytes: int, kept: int) -> None:
        self._limit = limit_bytes
        self._kept = kept
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._member = bytearray()
        self._dropped = 0

    def ends(self, chunk: bytes) -> Iterator[int]:
        """Yield where members end in a chunk; `take` each before the next one is asked for."""
        begin = 0
        place = int(self._escaped)
        self._escaped = False
        while found := (_IN_STRING if self._in_string else _OUTSIDE).search(chunk, place):
            mark, place = found[0], found.end()
            if mark == b"\\":
                self._escaped = place == len(chunk)
                place += 1
            elif mark == b'"':
                self._in_string = not self._in_string
            elif mark in b"[{":
                self._depth += 1
                begin = place if self._depth == 1 else begin
            elif self._ends_member(mark):
                self._add(chunk[begin : found.start()])
                begin = place
                yield place
        self._add(chunk[begin:])

    def take(self) -> tuple[bytes, int]:
        """Return the member that ended, and its length where that is above the limit, else 0."""
        member = bytes(self._member)
        too_long = self._dropped and self._dropped + len(member)
        self._member.clear()
        self._dropped = 0
        return member, too_long

    def _ends_member(self, mark: bytes) -> bool:
        if mark == b",":
            return self._depth == 1
        self._depth = max(self._depth - 1, 0)
        return self._depth == 0

    def _add(self, part: bytes) -> None:
        self._member += part
        if self._dropped or len(self._member) > self._limit:
            self._dropped += max(len(self._member) - self._kept, 0)
            del self._member[self._kept :]
