"""Units of measurement and exact conversion between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from mock_mcp.errors import did_you_mean
from mock_mcp.toolspec import ToolFailure


@dataclass(frozen=True)
class Unit:
    """A unit: `base value = value * factor + offset`.

    Attributes:
        name: What it is called in results.
        dimension: What it measures.
        factor: Size in the dimension's base unit.
        offset: Base value at zero (temperatures).
    """

    name: str
    dimension: str
    factor: Fraction
    offset: Fraction = Fraction(0)


# name: (other spellings, size in the base unit, which is the first of its dimension)
_SIZES: Mapping[str, Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "length": {
            "meter": ("m metre meters metres", "1"),
            "millimeter": ("mm millimetre millimeters millimetres", "0.001"),
            "centimeter": ("cm centimetre centimeters centimetres", "0.01"),
            "kilometer": ("km kilometre kilometers kilometres", "1000"),
            "inch": ("in inches", "0.0254"),
            "foot": ("ft feet", "0.3048"),
            "yard": ("yd yards", "0.9144"),
            "mile": ("mi miles", "1609.344"),
        },
        "mass": {
            "gram": ("g grams", "1"),
            "milligram": ("mg milligrams", "0.001"),
            "kilogram": ("kg kilograms", "1000"),
            "tonne": ("t tonnes", "1000000"),
            "ounce": ("oz ounces", "28.349523125"),
            "pound": ("lb lbs pounds", "453.59237"),
        },
        "volume": {
            "liter": ("l litre liters litres", "1"),
            "milliliter": ("ml millilitre milliliters millilitres", "0.001"),
            "pint": ("pt pints", "0.473176473"),
            "gallon": ("gal gallons", "3.785411784"),
        },
        "time": {
            "second": ("s sec seconds", "1"),
            "minute": ("min minutes", "60"),
            "hour": ("h hours", "3600"),
            "day": ("d days", "86400"),
            "week": ("wk weeks", "604800"),
        },
        "speed": {
            "m/s": ("mps", "1"),
            "km/h": ("kmh kph", "5/18"),
            "mph": ("", "0.44704"),
        },
        "data": {
            "byte": ("b bytes", "1"),
            "kilobyte": ("kb kilobytes", "1000"),
            "megabyte": ("mb megabytes", "1000000"),
            "gigabyte": ("gb gigabytes", "1000000000"),
        },
    }
)
_TEMPERATURES = (
    (Unit("kelvin", "temperature", Fraction(1)), "k"),
    (Unit("celsius", "temperature", Fraction(1), Fraction("273.15")), "c"),
    (Unit("fahrenheit", "temperature", Fraction(5, 9), Fraction("459.67") * 5 / 9), "f"),
)


def _table() -> Mapping[str, Unit]:
    table: dict[str, Unit] = {}
    for dimension, sizes in _SIZES.items():
        for name, (others, size) in sizes.items():
            unit = Unit(name, dimension, Fraction(size))
            table |= dict.fromkeys([name, *others.split()], unit)
    for unit, symbol in _TEMPERATURES:
        table |= dict.fromkeys([unit.name, symbol], unit)
    return MappingProxyType(table)


UNITS = _table()
"""Every spelling of every unit, in lower case."""


def convert(value: Fraction, source: str, target: str) -> tuple[Fraction, Unit]:
    """Convert a value exactly.

    Returns:
        The value in the target unit, and that unit.

    Raises:
        ToolFailure: If a unit is unknown, or the two do not measure the same thing.
    """
    from_unit, to_unit = _unit(source), _unit(target)
    if from_unit.dimension != to_unit.dimension:
        raise ToolFailure(
            f"{source} is a unit of {from_unit.dimension}, {target} one of {to_unit.dimension}. "
            f"Use two units of the same kind."
        )
    base = value * from_unit.factor + from_unit.offset
    return (base - to_unit.offset) / to_unit.factor, to_unit


def _unit(name: str) -> Unit:
    unit = UNITS.get(name.strip().lower())
    if unit is None:
        known = sorted({unit.name for unit in UNITS.values()})
        hint = did_you_mean(name.strip().lower(), UNITS) or f" Known units: {', '.join(known)}."
        raise ToolFailure(f"Unknown unit {name[:40]!r}.{hint}")
    return unit
