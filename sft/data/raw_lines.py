"""The lines of a file as bytes, in constant memory: JSONL, one JSON array or object, Parquet."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import date, time
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow
import pyarrow.parquet

from sft.data.errors import DataFileError
from sft.data.json_array import members
from sft.data.strict import NotJSON, parse_json

MAX_LINE_BYTES = 16 * 1024 * 1024
KEPT_OF_LONG_LINE = 1000
"""Bytes that are kept of a line above the limit, to know it by."""

SKIP_BYTES = 1 << 20
PARQUET_BATCH = 128

_BOM = b"\xef\xbb\xbf"
_OTHER_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass(frozen=True)
class RawLine:
    """A line that was not parsed yet.

    Attributes:
        number: Its number in the file, from 1; of rows that are no lines the number of the row.
        raw: Its bytes without the line break; only their beginning where it is too long.
        end: Where it ends in the file, in bytes.
        too_long: Its length in bytes where that is above the limit, else 0.
    """

    number: int
    raw: bytes
    end: int = 0
    too_long: int = 0


def raw_lines(path: Path, limit_bytes: int = MAX_LINE_BYTES) -> Generator[RawLine, None, None]:
    """Read the lines of a file; blank ones, and a byte order mark at the beginning, are left out.

    Args:
        path: A JSONL file, a `.json` file that is one array or one object, or a `.parquet` file.
        limit_bytes: Longer lines are passed over without being loaded.

    Yields:
        The lines in order.

    Raises:
        DataFileError: If the file cannot be read, is empty, or is UTF-16.
    """
    try:
        if path.suffix == ".parquet":
            yield from _parquet_rows(path)
            return
        with path.open("rb") as file:
            _check_start(path, file)
            if path.suffix == ".json" and (opening := _opening(file, limit_bytes)):
                yield from _members(file, opening, limit_bytes)
            else:
                yield from _lines(file, limit_bytes)
    except (OSError, pyarrow.ArrowException) as error:
        problem = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataFileError(f"cannot read {path}: {problem}") from error


def _check_start(path: Path, file: BufferedReader) -> None:
    """Check that a file holds something readable, and go behind a byte order mark."""
    start = file.peek(3)[:3]  # and not `seek`, which a pipe does not have
    if not start:
        raise DataFileError(f"{path} is empty")
    if kind := _OTHER_BOMS.get(start[:2]):
        raise DataFileError(f"{path} is {kind}, not UTF-8; convert it first (iconv -t UTF-8)")
    if start == _BOM:
        file.read(3)


def _lines(file: BinaryIO, limit_bytes: int) -> Iterator[RawLine]:
    number = end = 0
    while line := file.readline(limit_bytes + 1):
        number += 1
        end += len(line)
        too_long = 0
        if len(line) > limit_bytes and not line.endswith(b"\n"):
            too_long = len(line) + _skip_line(file)
            end += too_long - len(line)
            line = line[:KEPT_OF_LONG_LINE]
        line = line.rstrip(b"\r\n")
        if line.strip():
            yield RawLine(number, line, end, too_long)


def _skip_line(file: BinaryIO) -> int:
    """Go behind the end of the line; return how many bytes that were."""
    skipped = 0
    while part := file.readline(SKIP_BYTES):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def _opening(file: BinaryIO, limit_bytes: int) -> bytes:
    """Return the bracket with which the one array or object of a file begins, or b"" for JSONL."""
    start = file.tell()
    first = b"\n"
    while first.endswith(b"\n") and not first.strip():
        first = file.readline(limit_bytes + 1)
    file.seek(start)
    opening = first.strip()[:1]
    if opening == b"{":
        try:
            parse_json(first.decode())
        except (NotJSON, UnicodeDecodeError):
            return opening
    return opening if opening == b"[" else b""


def _members(file: BinaryIO, opening: bytes, limit_bytes: int) -> Iterator[RawLine]:
    """Read the members of an array or object as rows; one of an object becomes `{key: value}`."""
    cut = members(file, limit_bytes, KEPT_OF_LONG_LINE)
    for number, (member, end, too_long) in enumerate(cut, start=1):
        row = b"{" + member.strip() + b"}" if opening == b"{" else member.strip()
        yield RawLine(number, row, end, too_long)


def _parquet_rows(path: Path) -> Iterator[RawLine]:
    with pyarrow.parquet.ParquetFile(path) as file:
        size, rows = path.stat().st_size, file.metadata.num_rows
        if not rows:
            raise DataFileError(f"{path} is empty")
        batches = file.iter_batches(PARQUET_BATCH)
        values = (value for batch in batches for value in batch.to_pylist())
        for number, value in enumerate(values, start=1):
            yield RawLine(number, row_bytes(value), size * number // rows)


def row_bytes(value: Any) -> bytes:
    """Return a row of a table as JSON; dates and times become ISO texts.

    Raises:
        DataFileError: If a column holds what JSON has no form for.
    """
    return json.dumps(value, ensure_ascii=False, default=_iso).encode()


def _iso(value: Any) -> str:
    if isinstance(value, date | time):
        return value.isoformat()
    raise DataFileError(f"a column holds {type(value).__name__}; only text and numbers are read")
