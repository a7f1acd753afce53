"""Rows of JSONL files: each line an object or what is wrong with it, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.data.raw_lines import MAX_LINE_BYTES, RawLine, raw_lines
from sft.data.reasons import Reason
from sft.data.strict import NotJSON, parse_json


@dataclass(frozen=True)
class Line:
    """A line of a file.

    Attributes:
        number: Its number in the file, from 1; of rows that are no lines the number of the row.
        value: The object that it holds, or None where `error` is set.
        error: What is wrong with it, or "".
        raw: Its bytes without the line break; only their beginning where it is too long.
        reason: The code of the error, or None.
    """

    number: int
    value: dict[str, Any] | None
    error: str = ""
    raw: bytes = b""
    reason: Reason | None = None


def read_lines(path: Path, limit_bytes: int = MAX_LINE_BYTES) -> Iterator[Line]:
    """Read the rows of a file; a line that is no row says why, and the reading goes on.

    Args:
        path: A JSONL file, a `.json` file that is one array or one object, or a `.parquet` file.
        limit_bytes: Longer lines are passed over without being loaded.

    Yields:
        The lines in order; blank ones are no rows.

    Raises:
        DataFileError: If the file cannot be read, is empty, or is UTF-16.
    """
    return map(parse_line, raw_lines(path, limit_bytes))


def parse_line(line: RawLine) -> Line:
    """Return the object of a line, or what is wrong with it."""
    if line.too_long:
        error = f"the line is {line.too_long:,} bytes long, above the limit"
        return _refused(line, error, Reason.TOO_LONG)
    try:
        value = parse_json(line.raw.decode())
    except UnicodeDecodeError as problem:
        return _refused(line, f"not UTF-8 at byte {problem.start + 1}", Reason.NOT_UTF8)
    except NotJSON as problem:
        return _refused(line, str(problem), problem.reason)
    if not isinstance(value, dict):
        return _refused(line, "JSON, but not an object", Reason.NOT_AN_OBJECT)
    return Line(line.number, value, raw=line.raw)


def _refused(line: RawLine, error: str, reason: Reason) -> Line:
    return Line(line.number, None, error, line.raw, reason)
