"""Converting single rows in this process."""

from __future__ import annotations

import json
from typing import Any

from sft.data.conversion import Converted, Refused, Settings, convert_line
from sft.data.formats import FORMATS
from sft.data.jsonl import parse_line
from sft.data.raw_lines import RawLine


def outcomes(name: str, row: Any, number: int = 1) -> list[Converted | Refused]:
    """Convert a row as line `number` of a file `rows.jsonl`."""
    known = FORMATS[name]
    settings = Settings(name, False, known.origin or "rows", "rows", known.licence, "")
    line = parse_line(RawLine(number, json.dumps(row).encode()))
    found = []
    for outcome in convert_line(line, settings):
        assert isinstance(outcome, Converted | Refused)
        found.append(outcome)
    return found


def accepted(name: str, row: Any) -> dict[str, Any]:
    """Return the canonical row that a row becomes."""
    (outcome,) = outcomes(name, row)
    value: dict[str, Any] = json.loads(outcome.line)
    assert isinstance(outcome, Converted), value
    return value


def reason(name: str, row: Any) -> str:
    """Return why a row is rejected."""
    (outcome,) = outcomes(name, row)
    assert isinstance(outcome, Refused), outcome.line
    return str(outcome.reason)
