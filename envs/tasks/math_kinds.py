"""Families of tasks for the `math` domain: here those with one call, then all of them.

What a reference returns is computed with the domain's own tools; the tests compute it by other
means. Values in requests are written exactly as the calls need them.
"""

from __future__ import annotations

import random
from datetime import date, timedelta

from envs.tasks.drafting import answered, call, steps
from envs.tasks.kinds import Draft, Kind, Missing
from envs.tasks.math_chains import CHAINS
from envs.tasks.math_slots import (
    MONEY_TOLERANCE,
    any_date,
    money,
    number,
    weekday_answered,
    whole_numbers,
)
from mock_mcp.domains import math_tools as tools
from mock_mcp.world import World
from rewards.goals import ReturnedData

_UNITS = (
    ("miles", "kilometers"),
    ("kilometers", "miles"),
    ("feet", "meters"),
    ("inches", "centimeters"),
    ("kilograms", "pounds"),
    ("pounds", "kilograms"),
    ("gallons", "liters"),
    ("hours", "minutes"),
    ("weeks", "hours"),
    ("celsius", "fahrenheit"),
    ("km/h", "mph"),
    ("ounces", "grams"),
)
_MEASURES: tuple[tools.Measure, ...] = ("mean", "median", "range", "variance")


def _calculate(world: World, rng: random.Random) -> Draft:
    a, b, c = (rng.randint(2, 60) for _ in range(3))
    form = rng.choice(
        ("{a} * {b}", "{a} + {b}", "{a} - {b}", "{a} * {b} - {c}", "({a} + {b}) * {c}", "{d} * {b}")
    )
    expression = form.format(a=a, b=b, c=c, d=f"{a}.5")
    result = tools.calculate(world, expression)["result"]
    return answered(
        {"expression": expression}, "result", result, call("calculate", expression=expression)
    )


def _convert_amount(world: World, rng: random.Random) -> Draft:
    slots, arguments = money(world, rng)
    amount = tools.convert_currency(world, **arguments)["amount"]
    return answered(
        slots, "amount", amount, call("convert_currency", **arguments), tolerance=MONEY_TOLERANCE
    )


def _unit_conversion(world: World, rng: random.Random) -> Draft:
    source, target = rng.choice(_UNITS)
    value = number(rng, 5, 90)
    arguments = {"value": value, "from_unit": source, "to_unit": target}
    result = tools.convert_units(world, value, source, target)["value"]
    slots = {"value": str(value), "source": source, "target": target}
    return answered(slots, "value", result, call("convert_units", **arguments))


def _statistic(world: World, rng: random.Random) -> Draft:
    measure = rng.choice(_MEASURES)
    numbers = whole_numbers(rng)
    value = tools.statistics(world, [*numbers], measure)["value"]
    slots = {"measure": measure, "numbers": ", ".join(map(str, numbers))}
    return answered(slots, measure, value, call("statistics", numbers=numbers, measure=measure))


def _equation(world: World, rng: random.Random) -> Draft:
    first, second = rng.sample(range(-9, 10), 2)
    if rng.random() < 0.5:
        factor, shift = rng.randint(2, 9), rng.randint(1, 30)
        equation = f"{factor}x + {shift} = {factor * first + shift}"
        solutions = [first]
    else:
        equation = f"x^2{_signed(-first - second, 'x')}{_signed(first * second)} = 0"
        solutions = sorted((first, second))
    goal = ReturnedData("solve_equation", "solutions", solutions)
    return Draft({"equation": equation}, goal, steps(call("solve_equation", equation=equation)))


def _signed(value: int, unit: str = "") -> str:
    if value == 0:
        return ""
    size = unit if unit and abs(value) == 1 else f"{abs(value)}{unit}"
    return f" {'+' if value > 0 else '-'} {size}"


def _prime_factors(world: World, rng: random.Random) -> Draft:
    value = rng.randint(60, 9_999)
    goal = ReturnedData("factorize", "factors", tools.factorize(world, value)["factors"])
    return Draft({"number": str(value)}, goal, steps(call("factorize", number=value)))


def _prime_check(world: World, rng: random.Random) -> Draft:
    value = rng.randrange(101, 9_999, 2)
    # The whole result, so that only a call with this number counts.
    goal = ReturnedData("is_prime", "", dict(tools.is_prime(world, value)))
    return Draft({"number": str(value)}, goal, steps(call("is_prime", number=value)))


def _divisor(world: World, rng: random.Random) -> Draft:
    shared = rng.randint(2, 30)
    a, b = (shared * factor for factor in rng.sample(range(2, 25), 2))
    divisors = tools.gcd_lcm(world, a, b)
    field, value = rng.choice(
        (
            ("greatest common divisor", divisors["gcd"]),
            ("least common multiple", divisors["lcm"]),
        )
    )
    slots = {"field": field, "a": str(a), "b": str(b)}
    return answered(slots, field, value, call("gcd_lcm", a=a, b=b))


def _share(world: World, rng: random.Random) -> Draft:
    whole = rng.randint(20, 900)
    part = rng.randint(3, whole - 1)
    percent = tools.percentage(world, part, whole)["percent"]
    slots = {"part": str(part), "whole": str(whole)}
    return answered(slots, "percentage", percent, call("percentage", part=part, whole=whole))


def _weekday(world: World, rng: random.Random) -> Draft:
    day = any_date(rng).isoformat()
    return weekday_answered(world, {"date": day}, day, call("weekday", date=day))


def _exchange_rate(world: World, rng: random.Random) -> Draft:
    slots, arguments = money(world, rng)
    del slots["amount"], arguments["amount"]
    rate = tools.get_exchange_rate(world, **arguments)["rate"]
    return answered(
        slots, "exchange rate", rate, call("get_exchange_rate", **arguments), tolerance=0.0005
    )


def _date_after(world: World, rng: random.Random) -> Draft:
    start, days = any_date(rng), rng.randint(5, 400)
    end = (start + timedelta(days=days)).isoformat()
    slots = {"date": start.isoformat(), "days": str(days)}
    return answered(slots, "date", end, call("add_days", date=start.isoformat(), days=days))


def _days_between(world: World, rng: random.Random) -> Draft:
    start, end = any_date(rng), any_date(rng)
    if start > end:
        start, end = end, start
    slots = {"start": date.isoformat(start), "end": date.isoformat(end)}
    return answered(slots, "number of days", (end - start).days, call("days_between", **slots))


SIMPLE = (
    Kind(
        "calculate",
        "math",
        ("calculate",),
        1,
        (
            "What is the result of {expression}?",
            "Calculate the result of {expression}.",
            "Tell me the result of {expression}.",
            "Give me the result of {expression}.",
            "I need the result of {expression}.",
            "Please work out {expression} and tell me the result.",
            "Compute {expression}. What is the result?",
        ),
        (
            "Which result does {expression} have?",
            "Could you find the result of {expression} for me?",
        ),
        _calculate,
        starter=True,
    ),
    Kind(
        "convert_amount",
        "math",
        ("convert_currency",),
        1,
        (
            "What is the amount of {amount} {source} in {target}?",
            "Convert {amount} {source} to {target} and tell me the amount.",
            "Tell me the amount of {amount} {source} in {target}.",
            "I have {amount} {source}. What is the amount in {target}?",
            "Give me the amount in {target} for {amount} {source}.",
            "Please convert {amount} {source} to {target}. What is the amount?",
            "I need the amount of {amount} {source} in {target}.",
        ),
        (
            "Change {amount} {source} into {target}: which amount is that?",
            "How large is the amount of {amount} {source} in {target}?",
        ),
        _convert_amount,
        starter=True,
    ),
    Kind(
        "unit_conversion",
        "math",
        ("convert_units",),
        1,
        (
            "Convert {value} {source} to {target}. What is the value?",
            "What is the value of {value} {source} in {target}?",
            "How much is {value} {source} in {target}?",
            "Tell me the value of {value} {source} in {target}.",
            "Please express {value} {source} in {target}.",
            "I measured {value} {source}. Give me the value in {target}.",
        ),
        (
            "{value} {source}: which value is that in {target}?",
            "Rewrite {value} {source} as {target} and state the value.",
        ),
        _unit_conversion,
        missing=Missing(
            (
                "Convert {value} {source} to the other unit.",
                "What is the value of {value} {source} in the unit I use?",
                "Please express {value} {source} in another unit.",
                "I measured {value} {source}. Give me the value in my unit.",
            ),
            (
                "{value} {source}: which value is that in the new unit?",
                "Rewrite {value} {source} in a different unit.",
            ),
            ("unit", "units"),
            "Which unit do you want it in?",
        ),
    ),
    Kind(
        "statistic",
        "math",
        ("statistics",),
        1,
        (
            "What is the {measure} of {numbers}?",
            "Compute the {measure} of {numbers}.",
            "Tell me the {measure} of these numbers: {numbers}.",
            "My values are {numbers}. What is their {measure}?",
            "Give me the {measure} of the values {numbers}.",
            "Find the {measure} for {numbers}, please.",
        ),
        (
            "The readings were {numbers}. State the {measure}.",
            "Which {measure} do the numbers {numbers} have?",
        ),
        _statistic,
        missing=Missing(
            (
                "What is the {measure} of my numbers?",
                "Compute the {measure} of the list.",
                "Tell me the {measure} of these numbers.",
                "Give me the {measure} of the values.",
            ),
            ("State the {measure} of the readings.", "Which {measure} do the numbers have?"),
            ("numbers", "values"),
            "Which numbers do you mean?",
        ),
    ),
    Kind(
        "equation_solutions",
        "math",
        ("solve_equation",),
        1,
        (
            "Solve {equation}.",
            "Solve the equation {equation} for x.",
            "Find all solutions of {equation}.",
            "For which x does {equation} hold?",
            "Please solve {equation} and show every solution.",
            "I need the solutions of the equation {equation}.",
        ),
        ("Which values of x satisfy {equation}?", "Determine x from {equation}."),
        _equation,
        missing=Missing(
            (
                "Solve the equation for x.",
                "Find all solutions of my equation.",
                "Please solve it for x.",
                "I need the solutions of the equation.",
            ),
            ("Which values of x satisfy the equation?", "Determine x from the equation."),
            ("equation",),
            "Which equation should I solve?",
        ),
    ),
    Kind(
        "prime_factors",
        "math",
        ("factorize",),
        1,
        (
            "Find the prime factors of {number}.",
            "Factorize {number}.",
            "Break {number} down into prime factors.",
            "Show the prime factors of the number {number}.",
            "What are the prime factors of {number}?",
            "Write {number} as a product of primes.",
        ),
        ("Decompose {number} into primes.", "List every prime factor of {number}."),
        _prime_factors,
    ),
    Kind(
        "prime_check",
        "math",
        ("is_prime",),
        1,
        (
            "Check whether {number} is a prime number.",
            "Is {number} prime?",
            "Find out if {number} is prime.",
            "Test the number {number} for primality.",
            "Tell me whether {number} is a prime.",
            "Look up whether {number} is a prime number.",
        ),
        ("Does {number} count as a prime?", "Verify if the number {number} is prime."),
        _prime_check,
    ),
    Kind(
        "common_divisor",
        "math",
        ("gcd_lcm",),
        1,
        (
            "What is the {field} of {a} and {b}?",
            "Find the {field} of {a} and {b}.",
            "Tell me the {field} of the numbers {a} and {b}.",
            "Compute the {field} for {a} and {b}.",
            "I need the {field} of {a} and {b}.",
            "Given {a} and {b}, what is their {field}?",
        ),
        ("Which number is the {field} of {a} and {b}?", "State the {field} shared by {a} and {b}."),
        _divisor,
    ),
    Kind(
        "share_in_percent",
        "math",
        ("percentage",),
        1,
        (
            "What percentage of {whole} is {part}?",
            "Express {part} as a percentage of {whole}.",
            "Tell me the percentage that {part} is of {whole}.",
            "{part} out of {whole} people came. What percentage is that?",
            "Which percentage of {whole} does {part} make up?",
            "I used {part} of {whole} sheets. Give me the percentage.",
        ),
        (
            "How many percent of {whole} are {part}?",
            "Of {whole} seats, {part} are taken: state the percentage.",
        ),
        _share,
    ),
    Kind(
        "weekday_of_date",
        "math",
        ("weekday",),
        1,
        (
            "What is the weekday of {date}?",
            "On which weekday does {date} fall?",
            "Tell me the weekday of {date}.",
            "My party is on {date}. What weekday is that?",
            "Find the weekday for the date {date}.",
            "Give me the weekday of {date}, please.",
        ),
        ("{date} is which weekday?", "Look up the weekday that belongs to {date}."),
        _weekday,
        missing=Missing(
            (
                "What is the weekday of the date?",
                "On which weekday does that day fall?",
                "My party is soon. What weekday is that?",
                "Give me the weekday, please.",
            ),
            ("The day is which weekday?", "Look up the weekday that belongs to it."),
            ("date", "day"),
            "Which date do you mean?",
        ),
    ),
    Kind(
        "exchange_rate",
        "math",
        ("get_exchange_rate",),
        1,
        (
            "What is the exchange rate from {source} to {target}?",
            "Tell me the exchange rate of {source} to {target}.",
            "Look up the exchange rate from {source} to {target}.",
            "I want to change {source} into {target}. What is the exchange rate?",
            "Give me the current exchange rate from {source} to {target}.",
            "At which exchange rate is {source} changed to {target}?",
        ),
        (
            "How many {target} does one {source} buy? State the exchange rate.",
            "Find today's exchange rate for {source} to {target}.",
        ),
        _exchange_rate,
    ),
    Kind(
        "date_after",
        "math",
        ("add_days",),
        1,
        (
            "What is the date {days} days after {date}?",
            "Add {days} days to {date} and tell me the date.",
            "Which date is {days} days later than {date}?",
            "Starting on {date}, what is the date after {days} days?",
            "A trip starts on {date} and ends {days} days later. On which date?",
            "Give me the date that comes {days} days after {date}.",
        ),
        (
            "Count {days} days on from {date}: which date is it?",
            "From {date}, go {days} days ahead.",
        ),
        _date_after,
    ),
    Kind(
        "days_apart",
        "math",
        ("days_between",),
        1,
        (
            "How many days are there from {start} to {end}?",
            "Count the days between {start} and {end}.",
            "Tell me the number of days from {start} to {end}.",
            "A project runs from {start} to {end}. How many days is that?",
            "What is the number of days between {start} and {end}?",
            "Give me the distance in days from {start} to {end}.",
        ),
        (
            "From {start} until {end}: how many days pass?",
            "How many days lie between the dates {start} and {end}?",
        ),
        _days_between,
    ),
)

KINDS: tuple[Kind, ...] = (*SIMPLE, *CHAINS)
"""All kinds of the domain."""
