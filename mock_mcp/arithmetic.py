"""Exact arithmetic: the value of an expression tree, and numbers as a tool shows them.

Values are fractions, so `0.1 + 0.2` is exactly `0.3`; only the square root of a non-square is cut
(30 decimals). Caps on exponents and on the bits of every value keep an evaluation under a few
milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from mock_mcp.expression import MAX_LENGTH, Binary, Name, Negative, Node, Number, parse
from mock_mcp.toolspec import ToolFailure

MAX_EXPONENT = 1000
MAX_BITS = 2048
MAX_FACTORIAL = 170
SQRT_DECIMALS = 30
TINY = Fraction(1, 10**12)


def evaluate(text: str) -> Fraction:
    """Return the exact value of an arithmetic expression.

    Raises:
        ToolFailure: Saying what is wrong with the expression and what to write instead.
    """
    return walk(parse(text))


def rounded(value: Fraction, places: int = 4) -> int | float:
    """Return a value as a plain number: an int where it is whole, else few decimals.

    Rounds half away from zero to `places` decimals. Values below 0.01 keep 4 significant digits
    (below 10^-12 they become 0); values of 10^11 and more become whole, since a float carries
    only about 16 digits.
    """
    if abs(value) >= 10**11:
        places = 0
    elif TINY <= abs(value) < Fraction(1, 100):
        places = max(places, 3 - math.floor(math.log10(float(abs(value)))))
    shifted = abs(value) * 10**places
    whole = math.floor(shifted + Fraction(1, 2))
    number = Fraction(whole if value >= 0 else -whole, 10**places)
    return number.numerator if number.denominator == 1 else float(number)


def exact(number: float, what: str = "number") -> Fraction:
    """Return the fraction that `number` was written as (0.1 is one tenth).

    Raises:
        ToolFailure: If it is not finite, or 10^15 or more.
    """
    if not math.isfinite(number) or abs(number) >= 10**15:
        raise ToolFailure(f"The {what} {number} is too large. Use one below 10^15.")
    return Fraction(str(number))


def walk(node: Node, variables: Mapping[str, Fraction] | None = None) -> Fraction:
    """Return the value of a tree.

    Args:
        node: The tree.
        variables: Values of the names in it.

    Raises:
        ToolFailure: If it has no value (division by zero, an unknown name) or one over the caps.
    """
    known = variables or {}
    if isinstance(node, Number):
        return _capped(node.value)
    if isinstance(node, Name):
        if node.name not in known:
            raise ToolFailure(f"{node.name!r} has no value. Write numbers only.")
        return known[node.name]
    if isinstance(node, Negative):
        return -walk(node.operand, known)
    if isinstance(node, Binary):
        operate = _OPERATORS[node.operator]
        return _capped(operate(walk(node.left, known), walk(node.right, known)))
    return _capped(_call(node.function, [walk(item, known) for item in node.arguments]))


def square_root(value: Fraction) -> Fraction:
    """Return the square root: exact where it is rational, else cut after 30 decimals.

    Raises:
        ToolFailure: If the value is negative.
    """
    if value < 0:
        raise ToolFailure("The square root of a negative number is not real.")
    top, bottom = math.isqrt(value.numerator), math.isqrt(value.denominator)
    if top * top == value.numerator and bottom * bottom == value.denominator:
        return Fraction(top, bottom)
    scale = 10**SQRT_DECIMALS
    return Fraction(math.isqrt(value.numerator * scale**2 // value.denominator), scale)


def _capped(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise ToolFailure("A value in the expression is too large. Use smaller numbers.")
    return value


def _divide(left: Fraction, right: Fraction) -> Fraction:
    return left / _not_zero(right)


def _floor_divide(left: Fraction, right: Fraction) -> Fraction:
    return Fraction(left // _not_zero(right))


def _remainder(left: Fraction, right: Fraction) -> Fraction:
    return left % _not_zero(right)


def _not_zero(value: Fraction) -> Fraction:
    if value == 0:
        raise ToolFailure("Division by zero. Change the divisor.")
    return value


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent == Fraction(1, 2):
        return square_root(base)
    if exponent.denominator != 1 or abs(exponent) > MAX_EXPONENT:
        raise ToolFailure(
            f"An exponent must be a whole number from -{MAX_EXPONENT} to {MAX_EXPONENT}."
        )
    power = abs(exponent.numerator)
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(base) != 1 and bits * power > MAX_BITS + power:
        raise ToolFailure("A power in the expression is too large. Use smaller numbers.")
    return base**power if exponent >= 0 else 1 / _not_zero(base) ** power


_OPERATORS: Mapping[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": _divide,
    "//": _floor_divide,
    "%": _remainder,
    "**": _power,
}


def _round(value: Fraction, places: Fraction = Fraction(0)) -> Fraction:
    if places.denominator != 1 or not 0 <= places <= 10:
        raise ToolFailure("round takes a value and 0 to 10 decimals: round(2.675, 2).")
    scale = 10**places.numerator
    half_up = Fraction(math.floor(abs(value) * scale + Fraction(1, 2)), scale)
    return half_up if value >= 0 else -half_up


def _factorial(value: Fraction) -> Fraction:
    if value.denominator != 1 or not 0 <= value <= MAX_FACTORIAL:
        raise ToolFailure(f"factorial takes a whole number from 0 to {MAX_FACTORIAL}.")
    return Fraction(math.factorial(value.numerator))


@dataclass(frozen=True)
class _Function:
    """A function and how many arguments it takes."""

    run: Callable[..., Fraction]
    least: int = 1
    most: int = 1


FUNCTIONS: Mapping[str, _Function] = {
    "abs": _Function(abs),
    "ceil": _Function(lambda value: Fraction(math.ceil(value))),
    "factorial": _Function(_factorial),
    "floor": _Function(lambda value: Fraction(math.floor(value))),
    "max": _Function(lambda *values: max(values), most=MAX_LENGTH),
    "min": _Function(lambda *values: min(values), most=MAX_LENGTH),
    "round": _Function(_round, most=2),
    "sqrt": _Function(square_root),
    "sum": _Function(lambda *values: sum(values, Fraction(0)), most=MAX_LENGTH),
}
"""The functions that an expression may use."""


def _call(name: str, arguments: list[Fraction]) -> Fraction:
    function = FUNCTIONS[name]
    if not function.least <= len(arguments) <= function.most:
        raise ToolFailure(f"{name} does not take {len(arguments)} arguments.")
    return function.run(*arguments)
