"""JSON of untrusted data: everything that could not be written again just as it was is refused."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from sft.data.reasons import Reason

MAX_DEPTH = 64
"""Most levels of objects and lists in a row, those of JSON inside of strings apart."""

MAX_INTEGER_DIGITS = 300
"""More are no number that a tool takes, and Python's conversion takes quadratic time."""


class NotJSON(ValueError):
    """A text is not acceptable as JSON.

    Attributes:
        reason: `BROKEN_JSON` or `TOO_DEEP`.
    """

    def __init__(self, message: str, reason: Reason = Reason.BROKEN_JSON) -> None:
        super().__init__(message)
        self.reason = reason


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        NotJSON: If it is not JSON, or has a repeated key, NaN, a number that overflows, an
            unpaired surrogate, or more than `MAX_DEPTH` levels.
    """
    value, end = decode_at(text, after_space(text, 0))
    if after_space(text, end) < len(text):
        raise NotJSON(f"not JSON: more text behind the value, at character {end + 1}")
    return value


def decode_at(text: str, start: int) -> tuple[Any, int]:
    """Return the JSON value that begins at a place of a text, and where it ends.

    Raises:
        NotJSON: As `parse_json`.
    """
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno} of the text, " if error.lineno > 1 else ""
        raise NotJSON(f"not JSON at {line}column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise _too_deep() from error
    # A text with few brackets need not be looked through.
    brackets = text.count("{", start, end) + text.count("[", start, end)
    if brackets > MAX_DEPTH and is_deeper(value, MAX_DEPTH):
        raise _too_deep()
    if text.find("\\u", start, end) >= 0:
        _check_unicode(dump_json(value))
    elif not text.isascii():
        _check_unicode(text[start:end])
    return value, end


def after_space(text: str, start: int) -> int:
    """Return where the white space of JSON ends that begins at a place of a text."""
    space = _SPACE.match(text, start)
    return space.end() if space else start


def is_deeper(value: Any, levels: int) -> bool:
    """Return whether a JSON value has more levels of objects and lists than that."""
    containers = [value] if isinstance(value, dict | list) else []
    for _ in range(levels):
        containers = [
            child
            for container in containers
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, dict | list)
        ]
        if not containers:
            return False
    return True


def dump_json(value: Any) -> str:
    """Return the one way in which values are written here."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _too_deep() -> NotJSON:
    return NotJSON(f"nested deeper than {MAX_DEPTH} levels", Reason.TOO_DEEP)


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise NotJSON("a text has an unpaired surrogate") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise NotJSON(f'the key "{twice[:40]}" occurs twice in one object')
    return value


def _constant(name: str) -> Any:
    raise NotJSON(f"{name} is not JSON")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise NotJSON("a number is too large")
    return number


def _integer(text: str) -> int:
    if len(text) > MAX_INTEGER_DIGITS:
        raise NotJSON("a number has too many digits")
    return int(text)


_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_integer
)
