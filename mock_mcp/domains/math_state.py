"""The read-only state of the `math` domain: the world's date and its exchange rates."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any, ClassVar, Self

FIRST_DAY = date(2026, 1, 1)
DAYS = 365

# Units of the currency that one US dollar buys, about; every world draws its own around these.
_TYPICAL_RATES: Mapping[str, float] = MappingProxyType(
    {
        "AUD": 1.5,
        "BRL": 5.3,
        "CAD": 1.4,
        "CHF": 0.85,
        "CNY": 7.2,
        "DKK": 6.8,
        "EUR": 0.92,
        "GBP": 0.78,
        "INR": 84.0,
        "JPY": 148.0,
        "MXN": 18.5,
        "NOK": 10.6,
        "NZD": 1.65,
        "PLN": 3.9,
        "SEK": 10.4,
        "SGD": 1.34,
        "TRY": 34.0,
        "ZAR": 18.2,
    }
)


@dataclass(frozen=True)
class MathState:
    """What the `math` tools read.

    Attributes:
        today: The world's date.
        rates: Currency code -> units of it that one US dollar buys (2 decimals; USD is 1).
    """

    today: date
    rates: Mapping[str, Decimal]

    writes: ClassVar[int] = 0

    @classmethod
    def build(cls, rng: random.Random) -> Self:
        """Draw a date and rates, each within 20 % of a typical one."""
        today = FIRST_DAY + timedelta(days=rng.randrange(DAYS))
        rates = {"USD": Decimal(1)}
        for code, typical in _TYPICAL_RATES.items():
            cents = round(typical * 100)
            rates[code] = Decimal(rng.randint(cents * 4 // 5, cents * 6 // 5)) / 100
        return cls(today, MappingProxyType(dict(sorted(rates.items()))))

    def copy(self) -> Self:
        """Return the state itself: nothing in it changes."""
        return self

    def snapshot(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return the date and the rates, so that they are part of the world's digest."""
        return {
            "calendar": {"today": {"date": self.today.isoformat()}},
            "rates": {code: {"per_usd": str(rate)} for code, rate in self.rates.items()},
        }
