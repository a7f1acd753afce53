"""Whether something holds, and why: what every check of this package returns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

MAX_SHOWN = 80
"""Longest value, in characters, that an explanation quotes."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        holds: Whether what was checked holds.
        why: One clause that says why: which value, which field, which rule.
    """

    holds: bool
    why: str


def shorten(text: str) -> str:
    """Return `text` on one line, cut to `MAX_SHOWN` characters with a visible mark."""
    line = " ".join(text[: 4 * MAX_SHOWN].split())
    return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 1] + "…"


def show(value: Any) -> str:
    """Return a JSON value for an explanation."""
    try:
        return shorten(json.dumps(value, ensure_ascii=False, default=repr))
    except RecursionError:
        return "a value nested too deeply to be shown"


def same_json(left: Any, right: Any) -> bool:
    """Return whether two JSON values are equal: 1 equals 1.0, but True does not equal 1.

    Args:
        left: A JSON value; tuples count as lists.
        right: Another.

    Returns:
        Whether they are the same value.
    """
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_json(left[k], right[k]) for k in left)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(same_json, left, right))
    return bool(left == right)
