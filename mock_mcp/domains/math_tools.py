"""The tools of the `math` domain: exact calculation, conversion, dates and number theory.

Numbers in results are whole where the value is whole; otherwise they are rounded half away from
zero, money to 2 decimals and everything else to 4 (see `arithmetic.rounded`).
"""

from __future__ import annotations

import math
import statistics as numeric
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date as Date
from datetime import timedelta
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

from pydantic import Field

from mock_mcp.arithmetic import evaluate, exact, rounded, square_root
from mock_mcp.equations import solve
from mock_mcp.errors import did_you_mean
from mock_mcp.toolspec import ToolFailure, ToolSpec
from mock_mcp.units import convert

if TYPE_CHECKING:
    from mock_mcp.world import World

MAX_NUMBERS = 1000
MAX_INTEGER = 10**10
"""Largest number that is factorized: 100,000 trial divisions, a few milliseconds."""

MAX_DAYS = 100_000

Measure = Literal["mean", "median", "mode", "range", "stdev", "variance"]
Day = Annotated[str, Field(description="YYYY-MM-DD")]


class Result(TypedDict):
    """What an expression comes to."""

    result: float


class Statistic(TypedDict):
    """A measure of some numbers."""

    measure: str
    value: float


class Quantity(TypedDict):
    """A value and its unit."""

    value: float
    unit: str


class Money(TypedDict):
    """An amount and its currency."""

    amount: float
    currency: str


class Rate(TypedDict):
    """How much of one currency buys one unit of another."""

    rate: float


class CalendarDay(TypedDict):
    """A date."""

    date: str


class Days(TypedDict):
    """A number of days."""

    days: int


class Weekday(TypedDict):
    """The weekday of a date."""

    date: str
    weekday: str


class Solutions(TypedDict):
    """The real solutions of an equation."""

    variable: str
    solutions: list[float]


class Factors(TypedDict):
    """The prime factors of a number."""

    number: int
    factors: list[int]


class Divisors(TypedDict):
    """Greatest common divisor and least common multiple."""

    gcd: int
    lcm: int


class Primality(TypedDict):
    """Whether a number is prime."""

    number: int
    prime: bool


class Percent(TypedDict):
    """A share in percent."""

    percent: float


def calculate(
    world: World, expression: Annotated[str, Field(description="e.g. (2 + 3) * 4")]
) -> Result:
    """Calculate an arithmetic expression exactly."""
    return {"result": rounded(evaluate(expression))}


def statistics(world: World, numbers: list[float], measure: Measure) -> Statistic:
    """Compute one statistic of a list of numbers."""
    if not 1 <= len(numbers) <= MAX_NUMBERS:
        raise ToolFailure(f"Give 1 to {MAX_NUMBERS} numbers, not {len(numbers)}.")
    values = [exact(number) for number in numbers]
    return {"measure": measure, "value": rounded(_MEASURES[measure](values))}


def convert_units(world: World, value: float, from_unit: str, to_unit: str) -> Quantity:
    """Convert a value from one unit to another."""
    converted, unit = convert(exact(value, "value"), from_unit, to_unit)
    return {"value": rounded(converted), "unit": unit.name}


def convert_currency(world: World, amount: float, from_currency: str, to_currency: str) -> Money:
    """Convert an amount of money into another currency."""
    rate = _rate(world, from_currency, to_currency)
    return {
        "amount": rounded(exact(amount, "amount") * rate, 2),
        "currency": _currency(world, to_currency),
    }


def get_exchange_rate(world: World, from_currency: str, to_currency: str) -> Rate:
    """Get the exchange rate between two currencies."""
    return {"rate": rounded(_rate(world, from_currency, to_currency))}


def today(world: World) -> CalendarDay:
    """Get the current date."""
    return {"date": world.math.today.isoformat()}


def add_days(world: World, date: Day, days: int) -> CalendarDay:
    """Add a number of days to a date."""
    if abs(days) > MAX_DAYS:
        raise ToolFailure(f"{days} days are too many. Use at most {MAX_DAYS}.")
    try:
        return {"date": (_date(date) + timedelta(days=days)).isoformat()}
    except OverflowError as error:
        raise ToolFailure("The date would leave the years 1 to 9999. Use fewer days.") from error


def days_between(world: World, start: Day, end: Day) -> Days:
    """Count the days from one date to another."""
    return {"days": (_date(end) - _date(start)).days}


def weekday(world: World, date: Day) -> Weekday:
    """Get the weekday of a date."""
    day = _date(date)
    return {"date": day.isoformat(), "weekday": _WEEKDAYS[day.weekday()]}


def solve_equation(
    world: World, equation: Annotated[str, Field(description="e.g. 2x + 3 = 11")]
) -> Solutions:
    """Solve a linear or quadratic equation in one variable."""
    variable, solutions = solve(equation)
    return {"variable": variable, "solutions": [rounded(value) for value in solutions]}


def factorize(world: World, number: int) -> Factors:
    """Find the prime factors of a whole number."""
    return {"number": number, "factors": _factors(_between(number, 2))}


def gcd_lcm(world: World, a: int, b: int) -> Divisors:
    """Get the greatest common divisor and least common multiple."""
    first, second = _between(a, 1), _between(b, 1)
    return {"gcd": math.gcd(first, second), "lcm": math.lcm(first, second)}


def is_prime(world: World, number: int) -> Primality:
    """Check whether a whole number is prime."""
    return {"number": number, "prime": len(_factors(_between(number, 2))) == 1}


def percentage(world: World, part: float, whole: float) -> Percent:
    """Compute what percentage of the whole a part is."""
    if whole == 0:
        raise ToolFailure("The whole is 0. Give a whole other than 0.")
    return {"percent": rounded(100 * exact(part, "part") / exact(whole, "whole"))}


def _mode(values: list[Fraction]) -> Fraction:
    return min(numeric.multimode(values))


def _variance(values: list[Fraction]) -> Fraction:
    if len(values) < 2:
        raise ToolFailure("Give at least 2 numbers for a variance or standard deviation.")
    mean = sum(values, Fraction(0)) / len(values)
    return sum(((value - mean) ** 2 for value in values), Fraction(0)) / (len(values) - 1)


# Variance and standard deviation are those of a sample (divided by n - 1).
_MEASURES: Mapping[str, Callable[[list[Fraction]], Fraction]] = MappingProxyType(
    {
        "mean": lambda values: sum(values, Fraction(0)) / len(values),
        "median": lambda values: Fraction(numeric.median(values)),
        "mode": _mode,
        "range": lambda values: max(values) - min(values),
        "stdev": lambda values: square_root(_variance(values)),
        "variance": _variance,
    }
)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _currency(world: World, code: str) -> str:
    known = world.math.rates
    name = code.strip().upper()
    if name not in known:
        hint = did_you_mean(name, known) or f" Known currencies: {', '.join(known)}."
        raise ToolFailure(f"Unknown currency {code[:40]!r}.{hint}")
    return name


def _rate(world: World, source: str, target: str) -> Fraction:
    rates = world.math.rates
    bought, paid = rates[_currency(world, target)], rates[_currency(world, source)]
    return Fraction(bought) / Fraction(paid)


def _date(text: str) -> Date:
    with suppress(ValueError):
        day = Date.fromisoformat(text)
        if day.isoformat() == text:  # ISO week dates and the like are read, too
            return day
    raise ToolFailure(f"{text[:40]!r} is not a date. Write it as YYYY-MM-DD.")


def _between(number: int, least: int) -> int:
    if not least <= number <= MAX_INTEGER:
        raise ToolFailure(f"{number} is out of range. Use a whole number from {least} to 10^10.")
    return number


def _factors(number: int) -> list[int]:
    factors: list[int] = []
    divisor = 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1 if divisor == 2 else 2
    return [*factors, number] if number > 1 else factors


TOOLS = tuple(
    ToolSpec(function)
    for function in (
        calculate,
        statistics,
        convert_units,
        convert_currency,
        get_exchange_rate,
        today,
        add_days,
        days_between,
        weekday,
        solve_equation,
        factorize,
        gcd_lcm,
        is_prime,
        percentage,
    )
)
"""The tools of the domain."""
