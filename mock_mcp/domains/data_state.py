"""The state of the `data` domain: named tables of records.

A world draws `TABLE_COUNT` of the tables of `SUBJECTS`, each with a label, two categories and two
numbers; for `LOOKUP_COUNT` of them there is a second table to join, with a row per category.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

from mock_mcp.names import CITIES, FIRST_NAMES, WORDS
from mock_mcp.tables import Cell, Table

TABLE_COUNT = 4
LOOKUP_COUNT = 2
MAX_TABLES = 50

SUBJECTS: Mapping[str, tuple[str, str, str, str, str]] = MappingProxyType(
    {
        "books": ("title", "genre", "format", "pages", "copies"),
        "flights": ("flight", "airline", "class", "seats", "fare"),
        "players": ("player", "team", "position", "points", "games"),
        "recipes": ("dish", "cuisine", "course", "minutes", "calories"),
        "rentals": ("bike", "station", "colour", "days", "cost"),
        "sales": ("item", "region", "season", "units", "price"),
        "songs": ("song", "label", "mood", "seconds", "plays"),
        "trees": ("tree", "park", "species", "height", "age"),
        "weather": ("city", "zone", "month", "temperature", "rain"),
    }
)
"""Table -> its label, its two categories and its two numbers."""

CATEGORIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "genre": ("crime", "fantasy", "poetry", "travel"),
        "format": ("audio", "hardcover", "paperback"),
        "airline": ("aero", "nimbus", "skyline", "zephyr"),
        "class": ("business", "economy", "first"),
        "team": ("bears", "hawks", "lions", "wolves"),
        "position": ("attack", "defence", "goal"),
        "cuisine": ("french", "greek", "indian", "thai"),
        "course": ("dessert", "main", "starter"),
        "station": ("bridge", "harbor", "market", "tower"),
        "colour": ("blue", "green", "red"),
        "region": ("east", "north", "south", "west"),
        "season": ("autumn", "spring", "summer"),
        "label": ("echo", "mono", "pulse", "vinyl"),
        "mood": ("calm", "happy", "sad"),
        "park": ("abbey", "castle", "lake", "mill"),
        "species": ("birch", "maple", "oak"),
        "zone": ("coast", "desert", "hills", "plains"),
        "month": ("april", "july", "october"),
    }
)
_LABELS: Mapping[str, tuple[str, ...]] = MappingProxyType({"city": CITIES, "player": FIRST_NAMES})
_SIZES = (10, 20, 25)  # a mean of so many whole numbers has at most 2 decimals


@dataclass
class DataState:
    """What the `data` tools see and change.

    Attributes:
        tables: The tables by name. Tables are never changed, only added.
        writes: Number of mutations since the build.
    """

    tables: dict[str, Table] = field(default_factory=dict)
    writes: int = 0

    @classmethod
    def build(cls, rng: random.Random) -> Self:
        """Build the state from a random generator."""
        names = rng.sample(sorted(SUBJECTS), TABLE_COUNT)
        tables = {name: _records(rng, name) for name in names}
        for name in names[:LOOKUP_COUNT]:
            category = SUBJECTS[name][1]
            tables[lookup_name(category)] = _lookup(rng, category)
        return cls({name: tables[name] for name in sorted(tables)})

    def copy(self) -> Self:
        """Return an independent copy; the tables themselves are shared, as they never change."""
        return type(self)(dict(self.tables), self.writes)

    def snapshot(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return all tables as JSON."""
        return {"tables": {name: as_json(table) for name, table in self.tables.items()}}

    def add(self, name: str, table: Table) -> None:
        """Store a new table."""
        self.tables[name] = table
        self.writes += 1


def lookup_name(category: str) -> str:
    """Return the name of the table with a row for each value of a category."""
    return f"{category}_info"


def as_json(table: Table) -> dict[str, Any]:
    """Return a table as JSON: its columns, and its rows as lists."""
    return {"columns": list(table.columns), "rows": [list(row) for row in table.rows]}


def _records(rng: random.Random, name: str) -> Table:
    columns = SUBJECTS[name]
    count = rng.choice(_SIZES)
    label, first, second = columns[:3]
    cells: tuple[list[Cell], ...] = (
        list(rng.sample(_LABELS.get(label, WORDS), count)),
        list(rng.choices(CATEGORIES[first], k=count)),
        list(rng.choices(CATEGORIES[second], k=count)),
        list(rng.sample(range(2, 100), count)),
        list(rng.sample(range(100, 1000), count)),
    )
    return Table(columns, tuple(zip(*cells, strict=True)))


def _lookup(rng: random.Random, category: str) -> Table:
    values = CATEGORIES[category]
    leaders = rng.sample(FIRST_NAMES, len(values))
    goals = rng.sample(range(10, 100), len(values))
    return Table((category, "leader", "goal"), tuple(zip(values, leaders, goals, strict=True)))
