"""The state of the `database` domain: a seeded company on SQLite, in memory.

`database_company.py` draws the company.

A copy shares its original's database until one of the two writes (copy on first write), so that
an episode which only reads costs nothing.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import weakref
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

from mock_mcp.domains.database_company import LETTERS, Row, draw_company

MAX_TABLE_ROWS = 1_000

_TYPES = MappingProxyType({str: "TEXT", int: "INTEGER"})


class DatabaseState:
    """What the `database` tools see and change.

    Attributes:
        columns: Table -> its columns; the first is the key.
        writes: Number of mutations since the build.
    """

    def __init__(
        self, store: _Store, columns: Mapping[str, tuple[str, ...]], writes: int, shared: bool
    ) -> None:
        """Hold a database that is `shared` with other states, or one's own."""
        self.columns = columns
        self.writes = writes
        self._store = store
        self._shared = shared

    @classmethod
    def build(cls, rng: random.Random) -> Self:
        """Build the state from a random generator."""
        tables = draw_company(rng)
        columns = {name: tuple(rows[0]) for name, rows in tables.items()}
        store = _Store()
        for name, rows in tables.items():
            store.create(name, rows)
        return cls(store, MappingProxyType(columns), writes=0, shared=False)

    def copy(self) -> Self:
        """Return an independent copy."""
        self._shared = True
        return type(self)(self._store, self.columns, self.writes, shared=True)

    def snapshot(self) -> dict[str, dict[str, Row]]:
        """Return every table as row key -> row."""
        return {name: self.table(name) for name in self.columns}

    def table(self, name: str) -> dict[str, Row]:
        """Return one table as row key -> row."""
        return {key: dict(row) for key, row in self._store.table(name).items()}

    def row(self, table: str, key: str) -> Row | None:
        """Return the row with a key, or None."""
        rows = self.select(f"SELECT * FROM {table} WHERE {self._key(table)} = ?", key)
        return rows[0] if rows else None

    def select(self, sql: str, *values: Any) -> list[Row]:
        """Return the rows that a statement of ours selects."""
        return self._store.run(sql, values)

    def write(self, table: str, key: str, sql: str, *values: Any) -> None:
        """Run a statement of ours that adds, changes or removes the row of a key."""
        before = self._store.table(table)
        if self._shared:
            self._store, self._shared = self._store.copy(), False
        self._store.run(sql, values)
        # The remembered table is corrected, which is far cheaper than reading all of it again.
        row = self.row(table, key)
        others = {other: kept for other, kept in before.items() if other != key}
        self._store.remember(table, others if row is None else {**before, key: row})
        self.writes += 1

    def new_key(self, table: str) -> str:
        """Return a key one above the highest of a table."""
        key = self._key(table)
        sql = f"SELECT MAX(CAST(SUBSTR({key}, 2) AS INTEGER)) AS last FROM {table}"
        return f"{LETTERS[table]}{self.select(sql)[0]['last'] + 1}"

    def throwaway(self) -> sqlite3.Connection:
        """Return a copy of the database, to be closed by the caller."""
        return self._store.copied_connection()

    def _key(self, table: str) -> str:
        return self.columns[table][0]


class _Store:
    """A SQLite database in memory that any thread may use."""

    def __init__(
        self,
        connection: sqlite3.Connection | None = None,
        tables: Mapping[str, Mapping[str, Row]] | None = None,
    ) -> None:
        self._connection = connection or _connect()
        self._lock = threading.Lock()
        self._tables = dict(tables or {})
        # Python 3.13 warns about a connection that is collected without having been closed.
        weakref.finalize(self, self._connection.close)

    def create(self, name: str, rows: Sequence[Row]) -> None:
        """Create a table and fill it."""
        key, *others = rows[0]
        columns = [f"{key} TEXT PRIMARY KEY"]
        columns += [f"{column} {_TYPES[type(rows[0][column])]} NOT NULL" for column in others]
        self._connection.execute(f"CREATE TABLE {name} ({', '.join(columns)})")
        marks = ", ".join("?" * len(rows[0]))
        self._connection.execute("BEGIN")
        self._connection.executemany(
            f"INSERT INTO {name} VALUES ({marks})", (tuple(row.values()) for row in rows)
        )
        self._connection.execute("COMMIT")

    def run(self, sql: str, values: Sequence[Any]) -> list[Row]:
        """Run one statement and return its rows."""
        with self._lock:
            cursor = self._connection.execute(sql, values)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def table(self, name: str) -> Mapping[str, Row]:
        """Return a table as row key -> row; it is remembered and must not be changed."""
        if name not in self._tables:
            rows = self.run(f"SELECT * FROM {name} ORDER BY rowid", ())
            self._tables[name] = {next(iter(row.values())): row for row in rows}
        return self._tables[name]

    def remember(self, name: str, rows: Mapping[str, Row]) -> None:
        """Replace what is remembered of a table."""
        self._tables[name] = rows

    def copied_connection(self) -> sqlite3.Connection:
        """Return a connection to a copy of the database."""
        connection = _connect()
        with self._lock:
            self._connection.backup(connection)
        return connection

    def copy(self) -> _Store:
        """Return an independent copy."""
        return _Store(self.copied_connection(), self._tables)


def _connect() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
