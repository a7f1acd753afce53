"""Draws that the kinds of the `data` domain share."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from mock_mcp.domains.data_state import SUBJECTS, as_json, lookup_name
from mock_mcp.names import WORDS
from mock_mcp.tables import Table
from mock_mcp.world import World
from rewards.goals import FinalState

FUNCTIONS = ("sum", "mean", "min", "max")


@dataclass(frozen=True)
class Subject:
    """One of the world's tables of records.

    Attributes:
        name: Its name.
        table: The table.
        label: Column that names a record.
        category: Column with few different values; a lookup table may be joined on it.
        other_category: Another one.
        numbers: The columns with numbers.
    """

    name: str
    table: Table
    label: str
    category: str
    other_category: str
    numbers: tuple[str, str]

    @property
    def lookup(self) -> str:
        """Name of the table that can be joined on `category`."""
        return lookup_name(self.category)


def subject(
    world: World, rng: random.Random, *, joinable: bool = False, most: int = 100
) -> Subject:
    """Draw a table of records.

    Args:
        world: The world.
        rng: Source of the draw.
        joinable: There must be a table to join on its category.
        most: Largest number of rows.
    """
    names = []
    for name in world.data.tables:
        if name in SUBJECTS and len(world.data.tables[name].rows) <= most:
            lookup = lookup_name(SUBJECTS[name][1])
            names += [name] if not joinable or lookup in world.data.tables else []
    name = rng.choice(names)
    label, category, other, small, large = SUBJECTS[name]
    return Subject(name, world.data.tables[name], label, category, other, (small, large))


def new_names(rng: random.Random, count: int) -> list[str]:
    """Draw names for tables that do not exist yet."""
    return rng.sample(WORDS, count)


def some_value(table: Table, column: str, rng: random.Random) -> str:
    """Draw a value that occurs in a column of text."""
    return str(rng.choice(table.cells(column)))


def saved(tables: Mapping[str, Table]) -> FinalState:
    """Return the goal that exactly these tables were added."""
    return FinalState({"data.tables": {name: as_json(table) for name, table in tables.items()}})
