"""Files that are whole or not there: what is not complete has another name."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from sft.data.errors import DataFileError
from sft.data.strict import dump_json

PARTIAL = ".partial"

_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}


class WholeFile:
    """A file that is written to `PATH.partial` and gets its name when it is complete.

    A context manager: leaving it without an exception completes the file; with one, the partial
    file is removed, and what stood under the name before stays. Only a process that was killed
    leaves a partial file behind; the next one begins it anew, and `found` says so.

    Args:
        path: The file's name.

    Attributes:
        path: The file's name.
        found: The partial file that an interrupted run left, or None.

    Raises:
        DataFileError: If the file cannot be written, or the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = path.with_name(path.name + PARTIAL)
        self.found = self._partial if self._partial.exists() else None
        if path.is_dir():
            raise DataFileError(f"cannot write {path}: it is a folder")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._partial.open("wb")
        except OSError as error:
            self._fail(error)

    def write(self, row: Mapping[str, Any]) -> None:
        """Write a row as a line of JSON."""
        self.write_line(dump_json(row).encode())

    def write_line(self, line: bytes) -> None:
        """Write a line that has no line break."""
        try:
            self._file.write(line + b"\n")
        except OSError as error:
            self._fail(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._complete()
        finally:
            self._discard()

    def _complete(self) -> None:
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._partial.replace(self.path)
        except OSError as error:
            self._fail(error)

    def _discard(self) -> None:
        """Close the partial file if it is still open, and remove it."""
        with contextlib.suppress(OSError):  # what could not be written is given up
            self._file.close()
        self._partial.unlink(missing_ok=True)

    def _fail(self, error: OSError) -> NoReturn:
        problem = _FULL.get(error.errno or 0) or error.strerror or str(error)
        raise DataFileError(f"cannot write {self.path}: {problem}") from error
