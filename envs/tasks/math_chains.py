"""Kinds of the `math` domain with several calls: chains, several calls in a turn, an error."""

from __future__ import annotations

import random
from datetime import timedelta

from envs.tasks.drafting import answered, call, steps
from envs.tasks.kinds import Draft, Kind
from envs.tasks.math_slots import (
    MONEY_TOLERANCE,
    currencies,
    money,
    number,
    weekday_answered,
    whole_numbers,
)
from mock_mcp.domains import math_tools as tools
from mock_mcp.world import World
from rewards.episode import ToolCall
from rewards.goals import ReturnedData

_SAME_KIND_UNITS = (
    ("miles", "kilometers"),
    ("feet", "meters"),
    ("pounds", "kilograms"),
    ("gallons", "liters"),
    ("hours", "minutes"),
    ("inches", "centimeters"),
)


def _date_after_today(world: World, rng: random.Random) -> Draft:
    days = rng.randint(5, 300)
    day = world.math.today.isoformat()
    end = (world.math.today + timedelta(days=days)).isoformat()
    return answered(
        {"days": str(days)}, "date", end, call("today"), call("add_days", date=day, days=days)
    )


def _days_until(world: World, rng: random.Random) -> Draft:
    days = rng.randint(5, 700)
    start = world.math.today.isoformat()
    end = (world.math.today + timedelta(days=days)).isoformat()
    return answered(
        {"date": end},
        "number of days",
        days,
        call("today"),
        call("days_between", start=start, end=end),
    )


def _weekday_from_today(world: World, rng: random.Random) -> Draft:
    days = rng.randint(8, 300)
    start = world.math.today.isoformat()
    end = (world.math.today + timedelta(days=days)).isoformat()
    return weekday_answered(
        world,
        {"days": str(days)},
        end,
        call("today"),
        call("add_days", date=start, days=days),
        call("weekday", date=end),
    )


def _divisor_factors(world: World, rng: random.Random) -> Draft:
    shared = rng.randint(12, 90)
    a, b = (shared * factor for factor in rng.sample(range(2, 20), 2))
    gcd = tools.gcd_lcm(world, a, b)["gcd"]
    # The whole result, number included: no other number's factors count.
    goal = ReturnedData("factorize", "", dict(tools.factorize(world, gcd)))
    return Draft(
        {"a": str(a), "b": str(b)},
        goal,
        steps(call("gcd_lcm", a=a, b=b), call("factorize", number=gcd)),
    )


def _mean_in_units(world: World, rng: random.Random) -> Draft:
    source, target = rng.choice(_SAME_KIND_UNITS)
    numbers = whole_numbers(rng)
    mean = tools.statistics(world, [*numbers], "mean")["value"]
    value = tools.convert_units(world, mean, source, target)["value"]
    return answered(
        {"numbers": ", ".join(map(str, numbers)), "source": source, "target": target},
        "mean",
        value,
        call("statistics", numbers=numbers, measure="mean"),
        call("convert_units", value=mean, from_unit=source, to_unit=target),
    )


def _busy_conversion(world: World, rng: random.Random) -> Draft:
    slots, arguments = money(world, rng)
    amount = tools.convert_currency(world, **arguments)["amount"]
    same = call("convert_currency", **arguments)
    faults = {"transient": {"convert_currency": 1}}
    return answered(slots, "amount", amount, same, same, faults=faults, tolerance=MONEY_TOLERANCE)


def _conversions(
    world: World, rng: random.Random, count: int
) -> tuple[dict[str, str], tuple[ToolCall, ...], str, int | float]:
    """Draw sums of money in several currencies.

    Returns:
        Slots, the conversions into one currency, the expression of their total, and the total.
    """
    target, *sources = currencies(world, rng, count + 1)
    amounts = [number(rng, 5, 95) for _ in sources]
    slots = {"target": target}
    calls = []
    converted = []
    for place, (amount, source) in enumerate(zip(amounts, sources, strict=True), start=1):
        slots |= {f"amount{place}": str(amount), f"source{place}": source}
        arguments = {"amount": amount, "from_currency": source, "to_currency": target}
        calls.append(call("convert_currency", **arguments))
        converted.append(tools.convert_currency(world, amount, source, target)["amount"])
    expression = " + ".join(map(str, converted))
    return slots, tuple(calls), expression, tools.calculate(world, expression)["result"]


def _money_total(world: World, rng: random.Random) -> Draft:
    slots, conversions, expression, total = _conversions(world, rng, 2)
    return answered(
        slots,
        "total",
        total,
        conversions,
        call("calculate", expression=expression),
        tolerance=MONEY_TOLERANCE,
    )


def _money_share(count: int, world: World, rng: random.Random) -> Draft:
    slots, conversions, expression, total = _conversions(world, rng, count)
    whole = 100 * rng.randint(5, 40)
    return answered(
        slots | {"whole": str(whole)},
        "percentage",
        tools.percentage(world, total, whole)["percent"],
        conversions,
        call("calculate", expression=expression),
        call("percentage", part=total, whole=whole),
        tolerance=MONEY_TOLERANCE,
    )


def _share_of_two(world: World, rng: random.Random) -> Draft:
    return _money_share(2, world, rng)


def _share_of_three(world: World, rng: random.Random) -> Draft:
    return _money_share(3, world, rng)


CHAINS: tuple[Kind, ...] = (
    Kind(
        "date_from_today",
        "math",
        ("today", "add_days"),
        2,
        (
            "What is the date {days} days from today?",
            "Which date will it be in {days} days?",
            "Tell me the date {days} days after today.",
            "A delivery arrives in {days} days. On which date is that?",
            "Give me the date in {days} days, counted from today.",
            "Counting from today, what is the date after {days} days?",
        ),
        ("In {days} days a lease ends: state the date.", "Today plus {days} days is which date?"),
        _date_after_today,
    ),
    Kind(
        "days_until",
        "math",
        ("today", "days_between"),
        2,
        (
            "How many days are there from today until {date}?",
            "How many days are left until {date}?",
            "Count the days from today to {date}.",
            "My holiday starts on {date}. How many days from today is that?",
            "Tell me the number of days until {date}.",
            "What is the number of days from today to {date}?",
        ),
        ("{date} is how many days away?", "A contract ends on {date}. State the days left today."),
        _days_until,
    ),
    Kind(
        "weekday_from_today",
        "math",
        ("today", "add_days", "weekday"),
        3,
        (
            "What weekday is it {days} days from today?",
            "Tell me the weekday {days} days after today.",
            "In {days} days I have an exam. On which weekday is that?",
            "Which weekday will it be in {days} days?",
            "Give me the weekday of the day {days} days from today.",
            "Counting {days} days from today, what is the weekday?",
        ),
        (
            "Today plus {days} days falls on which weekday?",
            "A visa ends in {days} days: state the weekday.",
        ),
        _weekday_from_today,
    ),
    Kind(
        "divisor_factors",
        "math",
        ("gcd_lcm", "factorize"),
        2,
        (
            "Find the prime factors of the greatest common divisor of {a} and {b}.",
            "Factorize the greatest common divisor of {a} and {b}.",
            "Which primes make up the greatest common divisor of {a} and {b}?",
            "Take the greatest common divisor of {a} and {b} and factorize it.",
            "Show the prime factors of the greatest common divisor of {a} and {b}.",
            "What are the prime factors of the greatest common divisor of {a} and {b}?",
        ),
        (
            "Decompose the greatest common divisor of {a} and {b} into primes.",
            "Compute the greatest common divisor of {a} and {b}; factorize what you get.",
        ),
        _divisor_factors,
    ),
    Kind(
        "mean_in_units",
        "math",
        ("statistics", "convert_units"),
        2,
        (
            "What is the mean of {numbers} {source}, in {target}?",
            "Compute the mean of {numbers} {source} and convert it to {target}.",
            "I measured {numbers} {source}. Tell me the mean in {target}.",
            "Give me the mean of {numbers} (all {source}) in {target}.",
            "Find the mean in {target} of these {source}: {numbers}.",
            "Take the mean of {numbers} {source}. What is it in {target}?",
        ),
        (
            "The readings in {source} are {numbers}. State their mean in {target}.",
            "Which mean, in {target}, do {numbers} {source} have?",
        ),
        _mean_in_units,
    ),
    Kind(
        "busy_conversion",
        "math",
        ("convert_currency",),
        2,
        (
            "Find the amount of {amount} {source} in {target}; try again if the service is busy.",
            "Convert {amount} {source} to {target}. What amount do I get?",
            "I owe {amount} {source}. Which amount is that in {target}?",
            "A ticket costs {amount} {source}. Tell me the amount in {target}.",
            "Please look up the amount in {target} for {amount} {source}.",
            "Which amount in {target} equals {amount} {source}?",
        ),
        (
            "A bill says {amount} {source}. State the amount in {target}.",
            "For {amount} {source}, what amount in {target} is due?",
        ),
        _busy_conversion,
    ),
    Kind(
        "money_total",
        "math",
        ("convert_currency", "calculate"),
        3,
        (
            "What is the total of {amount1} {source1} and {amount2} {source2} in {target}?",
            "Add {amount1} {source1} and {amount2} {source2}. What is the total in {target}?",
            "I have {amount1} {source1} and {amount2} {source2}. Tell me the total in {target}.",
            "Give me the total in {target} of {amount1} {source1} and {amount2} {source2}.",
            "I paid {amount1} {source1} and {amount2} {source2}. What total is that in {target}?",
            "Find the total of {amount1} {source1} plus {amount2} {source2} in {target}.",
        ),
        (
            "Sum up {amount1} {source1} and {amount2} {source2}: which total in {target}?",
            "Two bills, {amount1} {source1} and {amount2} {source2}: state the total in {target}.",
        ),
        _money_total,
    ),
    Kind(
        "money_share",
        "math",
        ("convert_currency", "calculate", "percentage"),
        4,
        (
            "What percentage of {whole} {target} are {amount1} {source1} and {amount2} {source2} "
            "together?",
            "My budget is {whole} {target}. I spent {amount1} {source1} and {amount2} {source2}. "
            "What percentage is that?",
            "Of {whole} {target}, which percentage do {amount1} {source1} plus {amount2} "
            "{source2} make up?",
            "Tell me the percentage of {whole} {target} that {amount1} {source1} and {amount2} "
            "{source2} make.",
            "I saved {amount1} {source1} and {amount2} {source2}. What percentage of {whole} "
            "{target} is that?",
            "Express {amount1} {source1} plus {amount2} {source2} as a percentage of {whole} "
            "{target}.",
        ),
        (
            "Costs are {amount1} {source1} and {amount2} {source2}; state the percentage of a "
            "{whole} {target} budget.",
            "How many percent of {whole} {target} do {amount1} {source1} and {amount2} {source2} "
            "reach?",
        ),
        _share_of_two,
    ),
    Kind(
        "money_share_of_three",
        "math",
        ("convert_currency", "calculate", "percentage"),
        5,
        (
            "What percentage of {whole} {target} are {amount1} {source1}, {amount2} {source2} and "
            "{amount3} {source3} together?",
            "My budget is {whole} {target}. I spent {amount1} {source1}, {amount2} {source2} and "
            "{amount3} {source3}. What percentage is that?",
            "Tell me the percentage of {whole} {target} that {amount1} {source1}, {amount2} "
            "{source2} and {amount3} {source3} make.",
            "I saved {amount1} {source1}, {amount2} {source2} and {amount3} {source3}. What "
            "percentage of {whole} {target} is that?",
            "Express {amount1} {source1} plus {amount2} {source2} plus {amount3} {source3} as a "
            "percentage of {whole} {target}.",
            "Of {whole} {target}, which percentage do {amount1} {source1}, {amount2} {source2} "
            "and {amount3} {source3} make up?",
        ),
        (
            "Costs are {amount1} {source1}, {amount2} {source2} and {amount3} {source3}; state "
            "the percentage of a {whole} {target} budget.",
            "How many percent of {whole} {target} do {amount1} {source1}, {amount2} {source2} "
            "and {amount3} {source3} reach?",
        ),
        _share_of_three,
        heldout=True,
    ),
)
"""The kinds with several calls."""
