"""JSON as the standard has it: no repeated keys, no NaN, and one kind of error."""

from __future__ import annotations

import json
from typing import Any

from rewards.errors import FormatError


def parse_json(text: str) -> Any:
    """Return the value that a JSON text stands for.

    Raises:
        FormatError: If the text is not JSON, repeats a key of an object, or is nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise FormatError(f"not valid JSON at {line}column {error.colno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not valid JSON: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise FormatError(f'the key "{repeated}" occurs twice in one object')
    return data


def _constant(name: str) -> Any:
    raise FormatError(f"{name} is not JSON")
