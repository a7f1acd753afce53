"""Errors of `sft.data`.

DataError
├── DataFileError       a file cannot be read or written
├── FormatNameError     no such format, or the rows are of no known format
└── WorkerError         a worker process died

What is wrong with a single row is never one of these: it is a `Problem`, or a rejected line.
"""

from __future__ import annotations


class DataError(Exception):
    """Base of every error raised by `sft.data`."""


class DataFileError(DataError):
    """A file cannot be read or written; the message names it."""


class FormatNameError(DataError):
    """There is no such format, or the rows of a file are of no known format, or of two."""


class WorkerError(DataError):
    """A worker process died."""
