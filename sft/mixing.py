"""Canonical rows of files as sets to train on, and how sets are mixed.

A set is the rows of one file. Its weight is how often an epoch shows each of its rows:

    weight 1      every row once
    weight 2      every row twice
    weight 2.5    every row twice, and half of the rows, drawn by the seed, a third time
    weight 0.5    half of the rows, drawn by the seed, once: the others are left out of the run

What is drawn is drawn once for a run, so that every epoch shows the same rows; the trainer orders
them anew. A set in which a row has a problem (`sft/data/check.py`) is refused.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sft.data.check import problems
from sft.data.errors import DataFileError
from sft.data.jsonl import read_lines
from sft.data.rows import Row, read_rows


@dataclass(frozen=True)
class DataSet:
    """The rows of a file.

    Attributes:
        name: The file, as it was given.
        rows: At least one canonical row, in the order of the file.
        weight: How often an epoch shows each of them, above 0.
    """

    name: str
    rows: Sequence[Row]
    weight: float = 1.0

    def shown(self, seed: int) -> list[Row]:
        """Return what an epoch shows: rows in the order of the file, again for every time."""
        whole = math.floor(self.weight)
        count = round((self.weight - whole) * len(self.rows))
        rng = random.Random(f"mixing/{seed}/{self.name}")
        some = sorted(rng.sample(range(len(self.rows)), count))
        return [*self.rows] * whole + [self.rows[place] for place in some]

    def report(self, seed: int) -> str:
        """Return one line: the rows, and how many an epoch shows."""
        shown = len(self.shown(seed))
        left_out = max(0, len(self.rows) - shown)
        rest = f", {left_out} rows are left out" if left_out else ""
        return f"{self.name}: {len(self.rows)} rows, weight {self.weight:g}: {shown} shown{rest}"


def read_sets(
    paths: Sequence[str], weights: Sequence[float], *, check: bool = True
) -> list[DataSet]:
    """Read files of canonical rows.

    Args:
        paths: JSONL, JSON or Parquet files.
        weights: One for each file, or none: then each has weight 1.
        check: Refuse rows that have a problem. Without it only what is no row at all is refused.

    Raises:
        DataFileError: If a file cannot be read or is empty, or a row is refused; the message names
            the file, the line and the reason.
    """
    sets = []
    for path, weight in zip(paths, weights or [1.0] * len(paths), strict=True):
        rows = _good_rows(Path(path)) if check else (one.row for one in read_rows([Path(path)]))
        sets.append(DataSet(path, list(rows), weight))
    return sets


def mixed(sets: Sequence[DataSet], seed: int) -> list[Row]:
    """Return what an epoch shows of sets, one set after the other.

    Args:
        sets: The sets.
        seed: Seed of what is drawn where a weight is no whole number.
    """
    return [row for one in sets for row in one.shown(seed)]


def _good_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a file in which every row is good."""
    first, refused, count = "", 0, 0
    for line in read_lines(path):
        count += 1
        wrong = line.error
        if line.value is not None:
            found = problems(line.value)
            wrong = f"{found[0].message} ({found[0].code})" if found else ""
        if wrong:
            refused += 1
            first = first or f"{path}:{line.number}: {wrong}"
        elif not refused and line.value is not None:
            yield line.value
    if refused:
        more = f" and {refused - 1} more of {count} rows" if refused > 1 else ""
        raise DataFileError(
            f"{first}{more}; all of them: python -m sft.data validate {path}   (rows of other "
            "formats are converted, and broken ones left out, by: python -m sft.data convert)"
        )
    if not count:
        raise DataFileError(f"{path} holds no row")
