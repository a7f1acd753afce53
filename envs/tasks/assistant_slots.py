"""What the kinds of the `assistant` domain are put together from: draws and goals."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from mock_mcp.domains.assistant_state import Row
from mock_mcp.names import WORDS
from mock_mcp.world import World
from rewards.goals import FinalState

_MESSAGES = ("Bring the", "Look for the", "Wait for the", "Paint the", "Thanks for the")


def contact(world: World, rng: random.Random) -> Row:
    """Draw a contact."""
    return pick(rng, world.assistant.contacts)


def pick(rng: random.Random, rows: Mapping[str, Row]) -> Row:
    """Draw a row of a table."""
    return rows[rng.choice(sorted(rows))]


def message(rng: random.Random) -> str:
    """Draw a short text to send or write down."""
    return f"{rng.choice(_MESSAGES)} {rng.choice(WORDS)}"


def coming_day(world: World, rng: random.Random) -> str:
    """Draw a date of the world's next months."""
    return (world.math.today + timedelta(days=rng.randint(1, 200))).isoformat()


def new_rows(table: str, *rows: Mapping[str, Any]) -> FinalState:
    """Return the goal that exactly these rows were added to a table, and nothing else changed."""
    added = {f"+{number}": row for number, row in enumerate(rows, start=1)}
    return FinalState({f"assistant.{table}": added})
