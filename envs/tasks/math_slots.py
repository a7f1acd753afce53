"""Draws that several kinds of the `math` domain share."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from envs.tasks.drafting import Step, answered
from envs.tasks.kinds import Draft
from mock_mcp.domains import math_tools as tools
from mock_mcp.world import World
from rewards.goals import AllOf, ReturnedData

SMALL_RATE = 12
"""Currencies of which a dollar buys more are left out, so that amounts stay short."""

MONEY_TOLERANCE = 0.02
"""Other ways to the same amount (by the exchange rate) round at other places."""


def number(rng: random.Random, low: int, high: int) -> int | float:
    """Draw a whole number, or one that ends in a half."""
    whole = rng.randint(low, high)
    return whole + 0.5 if rng.random() < 0.3 else whole


def whole_numbers(rng: random.Random) -> list[int]:
    """Draw a short list of numbers."""
    return [rng.randint(2, 99) for _ in range(rng.randint(4, 7))]


def currencies(world: World, rng: random.Random, count: int) -> list[str]:
    """Draw different currencies with handy rates."""
    handy = [code for code, rate in world.math.rates.items() if rate < SMALL_RATE]
    return rng.sample(handy, count)


def money(world: World, rng: random.Random) -> tuple[dict[str, str], dict[str, Any]]:
    """Draw a conversion of money: slots for the request, arguments for the call."""
    source, target = currencies(world, rng, 2)
    amount = number(rng, 5, 95)
    slots = {"amount": str(amount), "source": source, "target": target}
    return slots, {"amount": amount, "from_currency": source, "to_currency": target}


def any_date(rng: random.Random) -> date:
    """Draw a date of the years 1990 to 2039."""
    return date(1990, 1, 1) + timedelta(days=rng.randrange(50 * 365))


def weekday_answered(world: World, slots: Mapping[str, str], day: str, *turns: Step) -> Draft:
    """Return a task that asks for the weekday of `day`.

    One guess in seven is right, so the weekday must have been looked up as well.
    """
    looked_up = tools.weekday(world, day)
    draft = answered(slots, "weekday", looked_up["weekday"], *turns)
    returned = ReturnedData("weekday", "", dict(looked_up))
    return replace(draft, goal=AllOf((returned, draft.goal)))
