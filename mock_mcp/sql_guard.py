"""Runs a SELECT that a model wrote, so that whatever it says is harmless, finite and repeatable.

    text        length cap, one statement, no WITH
    names       an authorizer allows reading the known tables and the functions of `FUNCTIONS`
    size        caps on every value, column count, join width and pattern
    work        a budget of virtual machine steps (never wall time, so that results repeat)
    result      caps on rows and characters

The caller passes a throw-away copy of the database: should something slip through all of this, it
changes nothing that anybody reads again.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

from mock_mcp.errors import did_you_mean
from mock_mcp.toolspec import ToolFailure

MAX_SQL = 2_000
MAX_STEPS = 200_000
MAX_ROWS = 50
MAX_RESULT = 1_600
"""Characters of all rows as JSON, so that a result fits into a prompt."""

_AGGREGATES = ("avg", "count", "group_concat", "max", "min", "sum", "total")
_SCALARS = ("abs", "coalesce", "ifnull", "iif", "length", "like", "lower", "nullif", "round")
FUNCTIONS = frozenset((*_AGGREGATES, *_SCALARS, "substr", "substring", "upper"))
"""What a query may call. Left out: whatever is random, reads the clock, or builds or searches long
strings (one call of `instr` or `trim` can cost as much as thousands of steps)."""

_STEPS_PER_CHECK = 1_000
_SELECT = re.compile(r"\s*select\b", re.IGNORECASE | re.ASCII)
# SQLite expands common table expressions while it prepares a statement, doubling at each level,
# and before 3.41 nothing can interrupt that. The word is refused wherever it stands.
_WITH = re.compile(r"\bwith\b", re.IGNORECASE | re.ASCII)
_NO_SUCH = re.compile(r"no such (?:table|column): (?:\w+\.)?(\w+)")

_LIMITS: Mapping[int, int] = MappingProxyType(
    {
        sqlite3.SQLITE_LIMIT_LENGTH: 1_000,
        sqlite3.SQLITE_LIMIT_SQL_LENGTH: MAX_SQL,
        sqlite3.SQLITE_LIMIT_COLUMN: 64,
        sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 60,
        sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 8,
        sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 8,
        sqlite3.SQLITE_LIMIT_ATTACHED: 0,
        sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 50,
        sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 0,
        sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
        sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
    }
)


def guarded_select(
    connection: sqlite3.Connection, sql: str, columns: Mapping[str, Collection[str]]
) -> tuple[list[dict[str, Any]], bool]:
    """Run one SELECT.

    Args:
        connection: A database of its own, closed by the caller afterwards.
        sql: What the model wrote.
        columns: The tables that may be read, with their columns.

    Returns:
        The rows, and whether there were more than fit.

    Raises:
        ToolFailure: If the statement is refused, wrong, or too much work.
    """
    _check_text(sql)
    _confine(connection, columns)
    try:
        cursor = connection.execute(sql)
        found = cursor.fetchmany(MAX_ROWS + 1)
    except (sqlite3.Error, sqlite3.Warning, MemoryError) as error:
        # The message may quote what the query said, broken characters included.
        message = str(error).encode("ascii", "replace").decode()[:200].rstrip(".")
        raise ToolFailure(_explained(message, columns)) from error
    names = _distinct([column[0] for column in cursor.description])
    rows = [dict(zip(names, map(_json_value, row), strict=True)) for row in found]
    return _fitting(rows)


def _check_text(sql: str) -> None:
    if len(sql) > MAX_SQL:
        raise ToolFailure(f"The query is longer than {MAX_SQL} characters. Shorten it.")
    if not sql.isascii() or "\0" in sql:
        raise ToolFailure("The query has characters that are not ASCII. Leave them out.")
    if not _SELECT.match(sql):
        raise ToolFailure("Only a SELECT is allowed. Start the query with SELECT.")
    if _WITH.search(sql):
        raise ToolFailure("WITH is not allowed. Write a subquery instead.")


def _confine(connection: sqlite3.Connection, tables: Collection[str]) -> None:
    # Large sorts stay in memory (the budget of steps bounds them) instead of going to a file.
    connection.execute("PRAGMA temp_store = MEMORY")
    for limit, value in _LIMITS.items():
        connection.setlimit(limit, value)
    connection.set_authorizer(_authorizer(tables))
    connection.set_progress_handler(_step_counter(), _STEPS_PER_CHECK)


def _authorizer(tables: Collection[str]) -> Callable[..., int]:
    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        allowed = (
            action == sqlite3.SQLITE_SELECT
            or (action == sqlite3.SQLITE_READ and first in tables)
            or (action == sqlite3.SQLITE_FUNCTION and str(second).lower() in FUNCTIONS)
        )
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    return authorize


def _step_counter() -> Callable[[], bool]:
    steps = 0

    def over_budget() -> bool:
        nonlocal steps
        steps += _STEPS_PER_CHECK
        return steps > MAX_STEPS

    return over_budget


def _explained(message: str, columns: Mapping[str, Collection[str]]) -> str:
    if message == "interrupted":
        return "The query takes too many steps. Read fewer rows or join on ids."
    if any(word in message for word in ("not authorized", "prohibited", "vtable")):
        return f"The query is not allowed: {message}. Read the tables of list_tables only."
    unknown = _NO_SUCH.search(message)
    if unknown is None:
        return f"The query failed: {message or 'it needs too much memory'}. Correct it."
    known = [*columns, *(name for table in columns.values() for name in table)]
    hint = did_you_mean(unknown[1], known) or " Use describe_table to see the columns."
    return f"The query failed: {message}.{hint}"


def _distinct(names: list[str]) -> list[str]:
    """Return the names with `_2`, `_3` ... behind those that occur again."""
    found: list[str] = []
    for name in names:
        number, unique = 2, name
        while unique in found:
            unique = f"{name}_{number}"
            number += 1
        found.append(unique)
    return found


def _json_value(value: Any) -> Any:
    if isinstance(value, bytes):
        raise ToolFailure("The query returns binary data. Select text or numbers.")
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        raise ToolFailure("The query returns an infinite number. Change the expression.")
    # Versions of SQLite differ in the last digits of a mean.
    return round(value, 4)


def _fitting(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], bool]:
    room = MAX_RESULT
    for number, row in enumerate(rows[:MAX_ROWS]):
        room -= len(json.dumps(row)) + 2
        if room < 0:
            if number == 0:
                raise ToolFailure("One row is too long to show. Select fewer columns.")
            return rows[:number], True
    return rows[:MAX_ROWS], len(rows) > MAX_ROWS
