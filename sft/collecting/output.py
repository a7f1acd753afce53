"""The file of a collection: canonical rows, added as they finish, so that it can be resumed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewards.errors import FormatError
from rewards.serialise import to_line
from rewards.strict_json import parse_json


@dataclass(frozen=True)
class Earlier:
    """What a file held before.

    Attributes:
        ids: Ids of its rows.
        discarded: A half-written last line was cut off.
    """

    ids: frozenset[str] = frozenset()
    discarded: bool = False


def resume(path: Path, model: str) -> Earlier:
    """Read what an earlier collection wrote, and cut off a line that it could not finish.

    Args:
        path: The file, which need not exist.
        model: The model whose rows it must hold.

    Raises:
        FormatError: A line is not a row of `model`; the message starts with `file:line`. Nothing
            is changed then.
    """
    if not path.is_file():
        return Earlier()
    ids: set[str] = set()
    size = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                ids.add(_row_id(line, model))
            except FormatError as error:
                if line.endswith(b"\n"):
                    raise FormatError(f"{path}:{number}: {error}") from error
                os.truncate(path, size)
                return Earlier(frozenset(ids), discarded=True)
            size += len(line)
    if ids and not line.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")
    return Earlier(frozenset(ids))


def _row_id(line: bytes, model: str) -> str:
    try:
        row = parse_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise FormatError(f"not UTF-8 text: {error.reason}") from error
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        raise FormatError("not a row with an id; give another --output")
    if row.get("model") != model:
        raise FormatError(f"a row of the model {row.get('model')!r}; give another --output")
    return str(row["id"])


class RowWriter:
    """Adds rows to a file, each whole and at once.

    Args:
        path: The file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", newline="\n")

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row.

        Raises:
            OSError: The disk is full, for example; the rows before this one are safe.
        """
        self._file.write(to_line(row))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
