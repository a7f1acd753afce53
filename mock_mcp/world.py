"""One seeded world: everything the mock server's tools can see and change.

A world is built from a seed, copied in well under a millisecond (episodes reset by copying),
digested (same seed, same digest, on any machine) and compared. Each domain keeps its own state
class; this file only puts them together.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from typing import Any, Protocol, Self

from mock_mcp.domains.assistant_state import AssistantState
from mock_mcp.domains.data_state import DataState
from mock_mcp.domains.database_state import DatabaseState
from mock_mcp.domains.math_state import MathState
from mock_mcp.domains.search_state import SearchState

DOMAINS = ("math", "search", "database", "data", "assistant")

Snapshot = dict[str, dict[str, dict[str, Any]]]
"""Table -> row id -> row, all of it JSON."""

Changes = dict[str, dict[str, dict[str, Any] | None]]
"""Table -> row id -> the row as it is now, or None where the row was removed."""


class DomainState(Protocol):
    """What each domain's state offers."""

    @property
    def writes(self) -> int:
        """Number of mutations since the build; copies keep it. Lets readers skip what is equal."""

    @classmethod
    def build(cls, rng: random.Random) -> Self:
        """Build the state from a random generator."""

    def copy(self) -> Self:
        """Return an independent copy (read-only parts may be shared)."""

    def snapshot(self) -> Snapshot:
        """Return the state as JSON; what never changes may be told by a fingerprint."""


@dataclass
class World:
    """The state of all domains.

    Attributes:
        seed: What the world was built from.
        math: Exchange rates and the world's date (read-only).
        search: The web of pages (read-only).
        database: The company on SQLite.
        data: The named tables of records.
        assistant: Contacts, e-mail, calendar, notes, files and so on.
    """

    seed: int
    math: MathState
    search: SearchState
    database: DatabaseState
    data: DataState
    assistant: AssistantState

    @classmethod
    def build(cls, seed: int) -> Self:
        """Build the world of `seed`; every domain draws from a generator of its own."""

        def rng(domain: str) -> random.Random:
            return random.Random(f"{seed}/{domain}")

        return cls(
            seed=seed,
            math=MathState.build(rng("math")),
            search=SearchState.build(rng("search")),
            database=DatabaseState.build(rng("database")),
            data=DataState.build(rng("data")),
            assistant=AssistantState.build(rng("assistant")),
        )

    def states(self) -> dict[str, DomainState]:
        """Return the state of each domain by its name."""
        return {domain: getattr(self, domain) for domain in DOMAINS}

    @property
    def writes(self) -> int:
        """Number of mutations since the build."""
        return sum(state.writes for state in self.states().values())

    def copy(self) -> World:
        """Return an independent copy."""
        return World(
            seed=self.seed,
            math=self.math.copy(),
            search=self.search.copy(),
            database=self.database.copy(),
            data=self.data.copy(),
            assistant=self.assistant.copy(),
        )

    def snapshot(self) -> Snapshot:
        """Return the whole state as JSON, tables named `domain.table`."""
        return {
            f"{domain}.{table}": rows
            for domain, state in self.states().items()
            for table, rows in state.snapshot().items()
        }

    def digest(self) -> str:
        """Return the SHA-256 of the snapshot."""
        text = json.dumps(self.snapshot(), sort_keys=True, ensure_ascii=False, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def changes_since(self, before: World) -> Changes:
        """Return every row that differs from `before`, the world that this one was copied from.

        Returns:
            Table (`domain.table`) -> row id -> the row now. Domains with as many writes as
            before are taken to be equal, so that a turn that only reads costs nothing.
        """
        changes: Changes = {}
        old_states = before.states()
        for domain, state in self.states().items():
            if state.writes == old_states[domain].writes:
                continue
            changes |= _differences(domain, old_states[domain].snapshot(), state.snapshot())
        return changes


def _differences(domain: str, before: Snapshot, after: Snapshot) -> Changes:
    changes: Changes = {}
    for table in sorted(before.keys() | after.keys()):
        old, new = before.get(table, {}), after.get(table, {})
        rows: dict[str, dict[str, Any] | None] = {
            key: new.get(key)
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
        }
        if rows:
            changes[f"{domain}.{table}"] = rows
    return changes
