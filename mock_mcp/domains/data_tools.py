"""The tools of the `data` domain: look at tables, compute with them, and store new ones.

What produces a table shows its first rows and, given `save_as`, stores all of it under a new name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from mock_mcp import tables
from mock_mcp.domains.data_state import MAX_TABLES, as_json
from mock_mcp.errors import did_you_mean
from mock_mcp.tables import Table
from mock_mcp.toolspec import ToolFailure, ToolSpec

if TYPE_CHECKING:
    from mock_mcp.world import World

MAX_SHOWN = 10
PREVIEW_ROWS = 3
MAX_EXPORT = 1_800
"""Characters, so that an export fits into a prompt."""

Function = Literal["sum", "mean", "median", "min", "max", "count"]
SaveAs = Annotated[str, Field(description="Name of a new table.")]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,29}", re.ASCII)


class DataTables(TypedDict):
    """The names of the tables."""

    tables: list[str]


class Preview(TypedDict):
    """The beginning of a table."""

    table: str
    row_count: int
    columns: list[str]
    rows: list[list[Any]]


class Rows(TypedDict):
    """A table that an operation made, its first rows, and the name it was saved as."""

    saved_as: str
    row_count: int
    columns: list[str]
    rows: list[list[Any]]


class Aggregate(TypedDict):
    """One number."""

    value: float


class Export(TypedDict):
    """A table as text."""

    format: str
    text: str


def list_data_tables(world: World) -> DataTables:
    """List the names of the data tables."""
    return {"tables": list(world.data.tables)}


def preview_table(world: World, table: str) -> Preview:
    """Show the columns and first rows of a data table."""
    found = _table(world, table)
    return {
        "table": table,
        "row_count": len(found.rows),
        "columns": list(found.columns),
        "rows": [list(row) for row in found.rows[:PREVIEW_ROWS]],
    }


def filter_table(
    world: World,
    table: str,
    column: str,
    operator: Literal["=", "!=", "<", "<=", ">", ">="],
    value: str | float,
    save_as: SaveAs = "",
) -> Rows:
    """Keep the rows of a data table that match a condition."""
    return _made(world, tables.filtered(_table(world, table), column, operator, value), save_as)


def sort_table(
    world: World,
    table: str,
    column: str,
    order: Literal["ascending", "descending"] = "ascending",
    save_as: SaveAs = "",
) -> Rows:
    """Sort the rows of a data table."""
    descending = order == "descending"
    result = tables.ordered(_table(world, table), column, descending=descending)
    return _made(world, result, save_as)


def group_table(
    world: World, table: str, by: str, column: str, function: Function, save_as: SaveAs = ""
) -> Rows:
    """Aggregate a column of a data table per group."""
    return _made(world, tables.grouped(_table(world, table), by, column, function), save_as)


def aggregate_table(world: World, table: str, column: str, function: Function) -> Aggregate:
    """Compute one number from a column of a data table."""
    return {"value": tables.aggregated(_table(world, table), column, function)}


def join_tables(
    world: World,
    left: str,
    right: str,
    on: Annotated[str, Field(description="Column that both have.")],
    save_as: SaveAs = "",
) -> Rows:
    """Join two data tables on a common column."""
    return _made(world, tables.joined(_table(world, left), _table(world, right), on), save_as)


def pivot_table(
    world: World,
    table: str,
    rows: str,
    columns: str,
    values: str,
    function: Function,
    save_as: SaveAs = "",
) -> Rows:
    """Make a pivot table: aggregate values by two columns."""
    result = tables.pivoted(_table(world, table), rows, columns, values, function)
    return _made(world, result, save_as)


def export_table(world: World, table: str, format: Literal["csv", "json"]) -> Export:
    """Export a data table as CSV or JSON text."""
    found = _table(world, table)
    text = tables.to_csv(found) if format == "csv" else tables.to_json(found)
    if len(text) > MAX_EXPORT:
        raise ToolFailure(f"The text has {len(text)} characters. Filter the table first.")
    return {"format": format, "text": text}


def load_csv(
    world: World,
    csv: Annotated[str, Field(description="Lines; the first names the columns.")],
    save_as: SaveAs,
) -> Rows:
    """Store CSV text as a new data table."""
    loaded = tables.from_csv(csv)
    if not save_as:
        raise ToolFailure("save_as is empty. Give the new table a name.")
    return _made(world, loaded, save_as)


def _table(world: World, name: str) -> Table:
    found = world.data.tables
    if name not in found:
        hint = did_you_mean(name, found) or " Use list_data_tables to see the tables."
        raise ToolFailure(f"There is no data table {name[:40]}.{hint}")
    return found[name]


def _made(world: World, table: Table, save_as: str) -> Rows:
    if save_as:
        _check_name(world, save_as)
        world.data.add(save_as, table)
    shown = as_json(Table(table.columns, table.rows[:MAX_SHOWN]))
    return {
        "saved_as": save_as,
        "row_count": len(table.rows),
        "columns": shown["columns"],
        "rows": shown["rows"],
    }


def _check_name(world: World, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ToolFailure(f"{name[:40]} is no table name. Use small letters, digits and _.")
    if name in world.data.tables:
        raise ToolFailure(f"There is a data table {name} already. Choose another name.")
    if len(world.data.tables) >= MAX_TABLES:
        raise ToolFailure("There are too many data tables. Nothing was saved.")


TOOLS = (
    ToolSpec(list_data_tables),
    ToolSpec(preview_table),
    ToolSpec(filter_table, read_only=False),
    ToolSpec(sort_table, read_only=False),
    ToolSpec(group_table, read_only=False),
    ToolSpec(aggregate_table),
    ToolSpec(join_tables, read_only=False),
    ToolSpec(pivot_table, read_only=False),
    ToolSpec(export_table),
    ToolSpec(load_csv, read_only=False),
)
"""The tools of the domain."""
