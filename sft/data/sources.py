"""What has to be known about where a row comes from: its licence, and the benchmarks it spoils.

This list is the one place. A row is flagged by its `source`, by the `contaminates` that the
converter wrote into it, and by its `licence`; a flag is no defect of the row, it says what must
not be done with a model that was trained on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SPOILS = {
    "when2call": "BFCL",  # its test set is made from BFCL live
    "bfcl": "BFCL",
    "berkeley-function-calling": "BFCL",
    "gorilla": "BFCL",
    "apigen-mt": "tau-bench",  # the same two domains, policies and tools
    "tau-bench": "tau-bench",
    "tau2-bench": "tau-bench",
}
"""Part of a source's name -> the benchmark that must not be reported after training on it."""

NO_LICENCE = "licence unknown"
NON_COMMERCIAL = "licence forbids commercial use"

_SEPARATORS = re.compile(r"[\s_.]+")
_NON_COMMERCIAL = re.compile(r"\bnc\b|non-?commercial", re.IGNORECASE)


def flags(row: Mapping[str, Any]) -> list[str]:
    """Return what has to be known about the origin of a row, each at most once."""
    found = [f"spoils {name}" for name in spoiled_benchmarks(row)]
    licence = licence_of(row)
    if not licence:
        found.append(NO_LICENCE)
    elif _NON_COMMERCIAL.search(_SEPARATORS.sub("-", licence)):
        found.append(NON_COMMERCIAL)
    return found


def spoiled_benchmarks(row: Mapping[str, Any]) -> list[str]:
    """Return the benchmarks that must not be reported after training on a row."""
    source = _SEPARATORS.sub("-", str(row.get("source", "")).lower())
    found = {benchmark for part, benchmark in SPOILS.items() if part in source}
    return sorted(found.union(row.get("contaminates", ())))


def licence_of(row: Mapping[str, Any]) -> str:
    """Return the licence that travels with a row, or ""."""
    licence = row.get("licence")
    return licence if isinstance(licence, str) else ""
