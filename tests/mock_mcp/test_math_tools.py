from __future__ import annotations

import calendar
import math
import random
import statistics
from datetime import date, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_mcp.domains import math_tools as tools
from mock_mcp.domains.math_state import MathState
from mock_mcp.equations import solve
from mock_mcp.toolspec import ToolFailure
from mock_mcp.units import UNITS


@pytest.fixture
def world() -> Any:
    rates = {"EUR": Decimal("0.9"), "GBP": Decimal("0.75"), "USD": Decimal(1)}
    return SimpleNamespace(math=MathState(date(2026, 2, 27), rates))


def test_a_result_is_whole_where_it_is_and_has_four_decimals_elsewhere(world: Any) -> None:
    assert tools.calculate(world, "17 * 23") == {"result": 391}
    assert type(tools.calculate(world, "17 * 23")["result"]) is int
    assert tools.calculate(world, "1 / 3") == {"result": 0.3333}


@pytest.mark.parametrize(
    ("measure", "reference"),
    [
        ("mean", statistics.mean),
        ("median", statistics.median),
        ("stdev", statistics.stdev),
        ("variance", statistics.variance),
        ("range", lambda values: max(values) - min(values)),
        ("mode", lambda values: min(statistics.multimode(values))),
    ],
)
@given(numbers=st.lists(st.integers(-500, 500), min_size=2, max_size=12))
def test_statistics_agree_with_the_standard_library(
    measure: tools.Measure, reference: Any, numbers: list[int]
) -> None:
    value = tools.statistics(None, numbers, measure)  # type: ignore[arg-type]
    assert value["measure"] == measure
    assert value["value"] == pytest.approx(reference(numbers), abs=0.00006)


def test_statistics_refuse_too_few_and_too_many_numbers(world: Any) -> None:
    with pytest.raises(ToolFailure, match="1 to 1000 numbers, not 0"):
        tools.statistics(world, [], "mean")
    with pytest.raises(ToolFailure, match="not 1001"):
        tools.statistics(world, [1.0] * 1001, "mean")
    with pytest.raises(ToolFailure, match="at least 2"):
        tools.statistics(world, [1.0], "stdev")


@pytest.mark.parametrize(
    ("value", "source", "target", "expected", "unit"),
    [
        (5, "miles", "km", 8.0467, "kilometer"),
        (1, "foot", "inches", 12, "inch"),
        (100, "celsius", "Fahrenheit", 212, "fahrenheit"),
        (-40, "f", "c", -40, "celsius"),
        (0, "kelvin", "celsius", -273.15, "celsius"),
        (90, "km/h", "m/s", 25, "m/s"),
        (2, "weeks", "hours", 336, "hour"),
        (1.5, "GB", "mb", 1500, "megabyte"),
        (3, "lb", "g", 1360.7771, "gram"),
    ],
)
def test_units_convert(
    world: Any, value: float, source: str, target: str, expected: float, unit: str
) -> None:
    assert tools.convert_units(world, value, source, target) == {"value": expected, "unit": unit}


def test_every_unit_converts_to_its_own_kind_and_back() -> None:
    for name, unit in UNITS.items():
        assert tools.convert_units(None, 12, name, unit.name)["value"] == 12  # type: ignore[arg-type]


def test_units_that_do_not_fit_say_what_to_do(world: Any) -> None:
    with pytest.raises(ToolFailure, match="miles is a unit of length, kg one of mass"):
        tools.convert_units(world, 1, "miles", "kg")
    with pytest.raises(ToolFailure, match="Did you mean"):
        tools.convert_units(world, 1, "mille", "km")
    with pytest.raises(ToolFailure, match="Known units: byte, celsius"):
        tools.convert_units(world, 1, "zzzzzzz", "km")


def test_currency_goes_by_the_worlds_rates(world: Any) -> None:
    assert tools.convert_currency(world, 30, "GBP", "eur") == {"amount": 36, "currency": "EUR"}
    assert tools.convert_currency(world, 10, "EUR", "USD") == {"amount": 11.11, "currency": "USD"}
    assert tools.get_exchange_rate(world, "USD", "GBP") == {"rate": 0.75}


def test_an_unknown_currency_is_told_with_the_closest_one(world: Any) -> None:
    with pytest.raises(ToolFailure, match=r"Unknown currency 'EURO'\. Did you mean EUR\?"):
        tools.convert_currency(world, 30, "EURO", "USD")
    with pytest.raises(ToolFailure, match="Known currencies: EUR, GBP, USD"):
        tools.get_exchange_rate(world, "USD", "???")


def test_dates_are_counted_over_month_and_year_ends(world: Any) -> None:
    assert tools.today(world) == {"date": "2026-02-27"}
    assert tools.add_days(world, "2026-02-27", 2) == {"date": "2026-03-01"}
    assert tools.add_days(world, "2024-03-01", -1) == {"date": "2024-02-29"}
    assert tools.days_between(world, "2025-12-31", "2026-01-01") == {"days": 1}
    assert tools.days_between(world, "2026-01-01", "2025-12-31") == {"days": -1}


def test_the_weekday_agrees_with_the_calendar(world: Any) -> None:
    day = date(2026, 1, 1)
    for number in range(14):
        text = (day + timedelta(days=number)).isoformat()
        name = calendar.day_name[(day + timedelta(days=number)).weekday()]
        assert tools.weekday(world, text) == {"date": text, "weekday": name}


@pytest.mark.parametrize(
    "text", ["27.02.2026", "2026-02-30", "tomorrow", "", "2026-1-1", "20260227", "2026-W09-5"]
)
def test_what_is_no_date_is_told_the_format(world: Any, text: str) -> None:
    with pytest.raises(ToolFailure, match="YYYY-MM-DD"):
        tools.weekday(world, text)


def test_days_out_of_the_calendar_are_refused(world: Any) -> None:
    with pytest.raises(ToolFailure, match="too many"):
        tools.add_days(world, "2026-01-01", 10**9)
    with pytest.raises(ToolFailure, match="1 to 9999"):
        tools.add_days(world, "9999-12-31", 1)


@pytest.mark.parametrize(
    ("equation", "solutions"),
    [
        ("2x + 3 = 11", [4]),
        ("x^2 = 5x - 6", [2, 3]),
        ("(x - 1)(x + 3) = 0", [-3, 1]),
        ("y / 4 = 1", [4]),
        ("x^2 + 1 = 0", []),
        ("x^2 = 2", [-1.4142, 1.4142]),
        ("x^2 - 4x + 4 = 0", [2]),
        ("x = x + 1", []),
        ("0.1x = 0.3", [3]),
    ],
)
def test_equations_are_solved(world: Any, equation: str, solutions: list[float]) -> None:
    assert tools.solve_equation(world, equation)["solutions"] == solutions


@pytest.mark.parametrize(
    ("equation", "said"),
    [
        ("2x + 3", "one '='"),
        ("1 = x = 2", "one '='"),
        ("1 = 2", "found: none"),
        ("x + y = 2", "found: x, y"),
        ("x = x", "true for every value"),
        ("x^3 = 8", "neither linear nor quadratic"),
        ("abs(x) = 2", "neither linear nor quadratic"),
        ("floor(x) = 2", "neither linear nor quadratic"),
        ("x % 2 = 1", "neither linear nor quadratic"),
        ("1 / x = 2", "Division by zero"),
        ("sqrt(x) = 3", "Cannot solve"),
        ("= 3", "empty"),
    ],
)
def test_other_equations_are_refused(world: Any, equation: str, said: str) -> None:
    with pytest.raises(ToolFailure, match=said):
        tools.solve_equation(world, equation)


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(1, 9))
def test_an_equation_made_from_its_roots_gives_them_back(p: int, q: int, a: int) -> None:
    assert solve(f"{a} * (z - ({p})) * (z - ({q})) = 0") == ("z", sorted({p, q}))


@given(st.integers(2, 10**6))
def test_prime_factors_are_prime_sorted_and_multiply_to_the_number(number: int) -> None:
    factors = tools.factorize(None, number)["factors"]  # type: ignore[arg-type]
    assert math.prod(factors) == number
    assert factors == sorted(factors)
    for factor in factors:
        assert all(factor % divisor for divisor in range(2, math.isqrt(factor) + 1))
    assert tools.is_prime(None, number)["prime"] == (factors == [number])  # type: ignore[arg-type]


def test_numbers_out_of_range_are_refused(world: Any) -> None:
    for call in (tools.factorize, tools.is_prime):
        for number in (1, 0, -7, 10**10 + 1):
            with pytest.raises(ToolFailure, match="from 2 to"):
                call(world, number)
    with pytest.raises(ToolFailure, match="from 1 to"):
        tools.gcd_lcm(world, 0, 4)


def test_divisors_and_percentages(world: Any) -> None:
    assert tools.gcd_lcm(world, 84, 126) == {"gcd": 42, "lcm": 252}
    assert tools.percentage(world, 30, 120) == {"percent": 25}
    assert tools.percentage(world, 1, 3) == {"percent": 33.3333}
    with pytest.raises(ToolFailure, match="whole is 0"):
        tools.percentage(world, 3, 0)


def test_worlds_differ_and_the_same_seed_gives_the_same_rates() -> None:
    first, again, other = (MathState.build(random.Random(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first.rates != other.rates
    assert all(rate == round(rate, 2) > 0 for rate in first.rates.values())
    assert first.rates["USD"] == 1


def test_no_tool_changes_anything_and_descriptions_are_short() -> None:
    assert len(tools.TOOLS) == 14
    for spec in tools.TOOLS:
        assert spec.read_only
        assert not spec.destructive
        assert 3 <= len((spec.function.__doc__ or "").split()) <= 12
