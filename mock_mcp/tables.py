"""Tables of records and what can be done with them. Tables never change: every operation makes one.

Cells are text or numbers (None only where a pivot found nothing). Numbers are computed exactly and
rounded to `DECIMALS` places, so that results do not depend on the order of rows or the platform.
"""

from __future__ import annotations

import csv
import io
import json
import operator
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from mock_mcp.arithmetic import exact, rounded
from mock_mcp.errors import did_you_mean
from mock_mcp.toolspec import ToolFailure

Cell = str | int | float | None

DECIMALS = 2
MAX_ROWS = 500
MAX_COLUMNS = 20
MAX_TEXT = 5_000

_NUMBER = re.compile(r"-?\d{1,12}(\.\d{1,6})?", re.ASCII)
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = MappingProxyType(
    {
        "=": operator.eq,
        "!=": operator.ne,
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
    }
)
_FUNCTIONS: Mapping[str, Callable[[list[Fraction]], Fraction]] = MappingProxyType(
    {
        "sum": lambda values: sum(values, Fraction(0)),
        "mean": lambda values: sum(values, Fraction(0)) / len(values),
        "median": lambda values: Fraction(statistics.median(values)),
        "min": min,
        "max": max,
    }
)


@dataclass(frozen=True)
class Table:
    """A table: names of columns, and rows with a cell for each."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def index(self, column: str) -> int:
        """Return the position of a column.

        Raises:
            ToolFailure: If there is none; the message says what was perhaps meant.
        """
        if column in self.columns:
            return self.columns.index(column)
        hint = did_you_mean(column, self.columns) or f" Columns: {', '.join(self.columns)}."
        raise ToolFailure(f"There is no column {column[:40]}.{hint}")

    def cells(self, column: str) -> list[Cell]:
        """Return the cells of a column."""
        index = self.index(column)
        return [row[index] for row in self.rows]


def filtered(table: Table, column: str, comparison: str, value: Cell) -> Table:
    """Return the rows whose cell compares to `value` as wanted."""
    cells = table.cells(column)
    if any(isinstance(cell, str) != isinstance(value, str) for cell in cells):
        wanted = "numbers" if isinstance(value, str) else "text"
        raise ToolFailure(f"Column {column} holds {wanted}. Compare it with {wanted}.")
    compare = _COMPARE[comparison]
    rows = zip(table.rows, cells, strict=True)
    return Table(table.columns, tuple(row for row, cell in rows if compare(cell, value)))


def ordered(table: Table, column: str, *, descending: bool) -> Table:
    """Return the rows in the order of a column; equal ones stay in their order."""
    index = table.index(column)

    def key(row: tuple[Cell, ...]) -> tuple[bool, Any]:
        return isinstance(row[index], str), row[index]

    rows = [row for row in table.rows if row[index] is not None]
    empty = [row for row in table.rows if row[index] is None]
    return Table(table.columns, (*sorted(rows, key=key, reverse=descending), *empty))


def aggregated(table: Table, column: str, function: str) -> int | float:
    """Return the sum, mean, median, min, max or count of a column."""
    return _apply(function, table.cells(column), column)


def grouped(table: Table, by: str, column: str, function: str) -> Table:
    """Return one row per value of `by`, in sorted order, with the aggregate of `column`."""
    groups: dict[Cell, list[Cell]] = {}
    for key, cell in zip(table.cells(by), table.cells(column), strict=True):
        groups.setdefault(key, []).append(cell)
    rows = tuple((key, _apply(function, groups[key], column)) for key in _sorted(groups))
    return Table((by, f"{function}_{column}"), rows)


def pivoted(table: Table, rows: str, columns: str, values: str, function: str) -> Table:
    """Return a row per value of `rows` and a column per value of `columns`."""
    groups: dict[tuple[Cell, Cell], list[Cell]] = {}
    keys = zip(table.cells(rows), table.cells(columns), strict=True)
    for pair, cell in zip(keys, table.cells(values), strict=True):
        groups.setdefault(pair, []).append(cell)
    across, down = _sorted({pair[1] for pair in groups}), _sorted({pair[0] for pair in groups})
    if len(across) >= MAX_COLUMNS:
        raise ToolFailure(f"Column {columns} has {len(across)} values. Choose one with fewer.")

    def cell_of(pair: tuple[Cell, Cell]) -> Cell:
        return _apply(function, groups[pair], values) if pair in groups else None

    header = _distinct((rows, *map(str, across)))
    return Table(header, tuple((key, *(cell_of((key, other)) for other in across)) for key in down))


def joined(left: Table, right: Table, on: str) -> Table:
    """Return every pair of rows that agree in the column `on` (an inner join)."""
    left_index, right_index = left.index(on), right.index(on)
    partners: dict[Cell, list[tuple[Cell, ...]]] = {}
    for row in right.rows:
        rest = row[:right_index] + row[right_index + 1 :]
        partners.setdefault(row[right_index], []).append(rest)
    count = sum(len(partners.get(row[left_index], ())) for row in left.rows)
    others = right.columns[:right_index] + right.columns[right_index + 1 :]
    _check_size(count, len(left.columns) + len(others))
    rows = tuple((*row, *rest) for row in left.rows for rest in partners.get(row[left_index], ()))
    return Table(_distinct((*left.columns, *others)), rows)


def to_csv(table: Table) -> str:
    """Return the table as CSV with a header line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return text.getvalue().rstrip("\n")


def to_json(table: Table) -> str:
    """Return the table as a JSON list of objects."""
    records = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    return json.dumps(records, ensure_ascii=False)


def from_csv(text: str) -> Table:
    """Read a table from CSV with a header line.

    Raises:
        ToolFailure: Naming the line that is wrong.
    """
    if len(text) > MAX_TEXT:
        raise ToolFailure(f"The CSV is longer than {MAX_TEXT} characters. Load less.")
    try:
        lines = [line for line in csv.reader(io.StringIO(text.strip()), strict=True) if line]
    except csv.Error as error:
        raise ToolFailure(f"The CSV cannot be read: {error}. Correct it.") from error
    if len(lines) < 2:
        raise ToolFailure("The CSV needs a header line and at least one row.")
    header = tuple(name.strip() for name in lines[0])
    if not all(header) or len(set(header)) < len(header):
        raise ToolFailure("Every column needs a name of its own in the header line.")
    _check_size(len(lines) - 1, len(header))
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise ToolFailure(f"Line {number} has {len(line)} cells, the header {len(header)}.")
    return Table(header, tuple(tuple(map(_read_cell, line)) for line in lines[1:]))


def _read_cell(text: str) -> Cell:
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return text
    return float(text) if "." in text else int(text)


def _apply(function: str, cells: Sequence[Cell], column: str) -> int | float:
    if function == "count":
        return len(cells)
    numbers = [cell for cell in cells if isinstance(cell, int | float)]
    if len(numbers) < len(cells):
        raise ToolFailure(f"Column {column} does not hold numbers only. Use count or another one.")
    if not numbers:
        raise ToolFailure("The table has no rows. Choose another table.")
    return rounded(_FUNCTIONS[function]([exact(number) for number in numbers]), DECIMALS)


def _sorted(cells: Mapping[Cell, Any] | set[Cell]) -> list[Cell]:
    return sorted(cells, key=lambda cell: (cell is None, isinstance(cell, str), cell or 0))


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names with `_2`, `_3` ... behind those that occur again."""
    found: list[str] = []
    for name in names:
        number, unique = 2, name
        while unique in found:
            unique = f"{name}_{number}"
            number += 1
        found.append(unique)
    return tuple(found)


def _check_size(rows: int, columns: int) -> None:
    if rows > MAX_ROWS or columns > MAX_COLUMNS:
        raise ToolFailure(
            f"The table would have {rows} rows and {columns} columns. "
            f"At most {MAX_ROWS} rows and {MAX_COLUMNS} columns are possible."
        )
