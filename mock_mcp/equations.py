"""Linear and quadratic equations in one variable, solved exactly."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from mock_mcp.arithmetic import square_root, walk
from mock_mcp.expression import Node, names_in, parse
from mock_mcp.toolspec import ToolFailure

_Polynomial = tuple[Fraction, Fraction, Fraction]

# Where a function must agree with the parabola through three of its points to be taken for it.
# Fractions are among them, because floor, abs and the like agree at whole numbers.
_PROBES = (*map(Fraction, (-1000, -7, -2, 3, 11, 999)), Fraction(22, 7), Fraction(-355, 113))


def solve(equation: str) -> tuple[str, list[Fraction]]:
    """Solve an equation such as `2x + 3 = 11` or `x^2 = 5x - 6`.

    Returns:
        The variable, and the real solutions in ascending order (none if there are none).

    Raises:
        ToolFailure: If it is no linear or quadratic equation in one variable, or always true.
    """
    sides = equation.split("=")
    if len(sides) != 2:
        raise ToolFailure("Write one equation with one '=', such as 2x + 3 = 11.")
    left, right = (parse(side) for side in sides)
    variable = _variable(left, right)

    def difference(x: Fraction) -> Fraction:
        return walk(left, {variable: x}) - walk(right, {variable: x})

    return variable, _roots(_polynomial(difference))


def _variable(left: Node, right: Node) -> str:
    names = names_in(left) | names_in(right)
    if len(names) != 1:
        found = ", ".join(sorted(names)) or "none"
        raise ToolFailure(f"The equation needs exactly one variable, found: {found}.")
    return names.pop()


def _polynomial(function: Callable[[Fraction], Fraction]) -> _Polynomial:
    """Return the coefficients (ascending) of a function that is a parabola or simpler.

    Three points give the only candidate; it must agree at every probe.
    """
    try:
        constant = function(Fraction(0))
        plus, minus = function(Fraction(1)), function(Fraction(-1))
        found = (constant, (plus - minus) / 2, (plus + minus) / 2 - constant)
        fits = all(function(x) == found[0] + found[1] * x + found[2] * x * x for x in _PROBES)
    except ToolFailure as failure:
        raise ToolFailure(f"Cannot solve this as linear or quadratic: {failure}") from failure
    if not fits:
        raise ToolFailure("The equation is neither linear nor quadratic. Simplify it first.")
    return found


def _roots(polynomial: _Polynomial) -> list[Fraction]:
    constant, linear, square = polynomial
    if square == 0 and linear == 0:
        if constant == 0:
            raise ToolFailure("The equation is true for every value: nothing to solve.")
        return []
    if square == 0:
        return [-constant / linear]
    discriminant = linear**2 - 4 * square * constant
    if discriminant < 0:
        return []
    root = square_root(discriminant)
    return sorted({(-linear - root) / (2 * square), (-linear + root) / (2 * square)})
