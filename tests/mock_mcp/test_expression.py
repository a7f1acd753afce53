from __future__ import annotations

import contextlib
import math
import operator
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mock_mcp.arithmetic import evaluate, exact, rounded, square_root
from mock_mcp.expression import FUNCTION_NAMES, MAX_DEPTH, parse
from mock_mcp.toolspec import ToolFailure

_OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("17 * 23", 391),
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("10 - 4 - 3", 3),
        ("100 / 10 / 2", 5),
        ("2 ** 3 ** 2", 512),
        ("2^10", 1024),
        ("-2 ** 2", -4),
        ("2 ** -2", Fraction(1, 4)),
        ("7 // 2", 3),
        ("-7 // 2", -4),
        ("-7 % 3", 2),
        ("0.1 + 0.2", Fraction(3, 10)),
        ("1.5e3 + .5", Fraction(3001, 2)),
        ("2(3 + 4)", 14),
        ("\u2212" + "6 \u00d7 2 \u00f7 4", -3),
        ("9 ** 0.5", 3),
        ("sqrt(0.25) + abs(-3)", Fraction(7, 2)),
        ("max(1, 9, 4) - min(2, 8)", 7),
        ("sum(1, 2, 3)", 6),
        ("round(2.675, 2)", Fraction(268, 100)),
        ("round(-2.5)", -3),
        ("floor(-1.5) + ceil(1.2)", 0),
        ("factorial(20)", math.factorial(20)),
    ],
)
def test_an_expression_has_its_exact_value(text: str, value: Fraction | int) -> None:
    assert evaluate(text) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("3 +", "ends too early"),
        ("(1 + 2", "ends too early"),
        ("1 2", "Unexpected '2' at character 3"),
        ("3 $ 4", r"Unexpected '\$'"),
        ("1 / 0", "Division by zero"),
        ("1 // 0", "Division by zero"),
        ("5 % 0", "Division by zero"),
        ("0 ** -1", "Division by zero"),
        ("sin(3)", "Known functions: abs, ceil"),
        ("x + 1", "'x' has no value"),
        ("sqrt(-4)", "negative"),
        ("abs 3", "parentheses"),
        ("abs(1, 2)", "does not take 2"),
        ("round(1, 2.5)", "0 to 10 decimals"),
        ("factorial(171)", "0 to 170"),
        ("factorial(1.5)", "0 to 170"),
        ("2 ** 1001", "-1000 to 1000"),
        ("2 ** 0.3", "whole number"),
        ("9 ** 999", "too large"),
        ("10 ** 600 * 10 ** 600", "too large"),
        ("1e9999", "too long"),
        ("1" * 101, "too long"),
        ("1+" * 200 + "1", "longer than 300"),
        ("(" * 99 + "1" + ")" * 99, "nested deeper"),
        ("-" * 99 + "1", "nested deeper"),
        ("2" + "**1" * 60, "nested deeper"),
        ("__import__(1)", "Unknown function '__import__'"),
        ("print('a')", 'Unexpected "\'"'),
        ("\u0663 + 1", "Unexpected"),
        ("2\x00", "Unexpected"),
    ],
)
def test_what_cannot_be_calculated_says_why(text: str, said: str) -> None:
    with pytest.raises(ToolFailure, match=said):
        evaluate(text)


def test_nesting_up_to_the_cap_is_read() -> None:
    assert evaluate("(" * MAX_DEPTH + "7" + ")" * MAX_DEPTH) == 7


def test_every_named_function_can_be_called() -> None:
    assert [evaluate(f"{name}(1)") for name in FUNCTION_NAMES] == [1] * len(FUNCTION_NAMES)


_numbers = st.integers(0, 999)
_trees = st.recursive(
    _numbers.map(lambda n: (str(n), Fraction(n))),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(
        lambda t: (
            f"({t[0][0]} {t[1]} {t[2][0]})",
            None
            if None in (t[0][1], t[2][1]) or (t[1] == "/" and t[2][1] == 0)
            else _OPERATORS[t[1]](t[0][1], t[2][1]),
        )
    ),
    max_leaves=12,
)


@given(_trees)
def test_random_arithmetic_agrees_with_fractions(tree: tuple[str, Fraction | None]) -> None:
    text, value = tree
    if value is None:
        with pytest.raises(ToolFailure, match="Division by zero"):
            evaluate(text)
    else:
        assert evaluate(text) == value


@settings(max_examples=300)
@given(st.text(alphabet="0123456789.eE+-*/%^(), xabsqrtminmax\u00d7\u00e9\n", max_size=60))
def test_any_text_gives_a_number_or_a_tool_failure(text: str) -> None:
    with contextlib.suppress(ToolFailure):
        value = rounded(evaluate(text))
        assert isinstance(value, int) or math.isfinite(value)


@pytest.mark.parametrize(
    ("value", "places", "shown"),
    [
        (Fraction(6, 3), 4, 2),
        (Fraction(1, 3), 4, 0.3333),
        (Fraction(5, 2), 0, 3),
        (Fraction(-5, 2), 0, -3),
        (Fraction(1005, 1000), 2, 1.01),
        (Fraction(99999, 100000), 2, 1),
        (Fraction(1, 30000), 4, 3.333e-05),
        (Fraction(99996, 10**7), 4, 0.01),
        (Fraction(1, 10**13), 4, 0),
        (Fraction(10**12, 7), 4, 142857142857),
        (Fraction(2**2000), 4, 2**2000),
        (Fraction(0), 4, 0),
    ],
)
def test_a_value_is_rounded_as_documented(value: Fraction, places: int, shown: float) -> None:
    number = rounded(value, places)
    assert number == shown
    assert type(number) is type(shown)


def test_a_square_root_is_exact_where_it_is_rational_and_close_elsewhere() -> None:
    assert square_root(Fraction(9, 16)) == Fraction(3, 4)
    assert abs(square_root(Fraction(2)) ** 2 - 2) < Fraction(1, 10**29)


@pytest.mark.parametrize("number", [math.inf, math.nan, 1e15, -1e300])
def test_a_number_that_is_no_quantity_is_refused(number: float) -> None:
    with pytest.raises(ToolFailure, match="too large"):
        exact(number)


def test_a_decimal_is_taken_as_written() -> None:
    assert exact(0.1) == Fraction(1, 10)


def test_variables_are_single_letters() -> None:
    with pytest.raises(ToolFailure, match="Unknown function 'xy'"):
        parse("xy + 1")
