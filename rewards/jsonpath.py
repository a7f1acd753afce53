"""Dotted JSON paths such as `rows[0].city`: the one way a goal points into a result.

A path is keys joined by dots, each followed by any number of `[index]`; a path may start with an
index (`[0].name`), and the empty path is the whole value. A negative index counts from the end.
Keys that hold a dot or a bracket are written `["a.b"]`. There are no wildcards, so that a path
always points at one value.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

from rewards.errors import GoalError, PathNotFound

_STEP = re.compile(
    r"""\.?(?P<key>[^.\[\]"]+)"""
    r"""|\[(?P<index>-?\d{1,9})\]"""
    r"""|\[(?P<quoted>"(?:[^"\\]|\\.)*")\]"""
)


@lru_cache(maxsize=4096)
def parse_path(path: str) -> tuple[str | int, ...]:
    """Return the steps of a path: keys as strings, indices as integers.

    Args:
        path: The path.

    Returns:
        Its steps.

    Raises:
        GoalError: If the path is malformed; the message names the position.
    """
    steps: list[str | int] = []
    position = 0
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None or (path[position] == ".") != (position > 0 and match["key"] is not None):
            raise GoalError(
                f'path "{path}" is malformed at character {position + 1}; '
                "write keys joined by dots and indices in brackets, such as rows[0].city"
            )
        steps.append(_step(match))
        position = match.end()
    return tuple(steps)


def _step(match: re.Match[str]) -> str | int:
    if match["index"] is not None:
        return int(match["index"])
    if match["quoted"] is not None:
        return str(json.loads(match["quoted"]))
    return match["key"]


def look_up(value: Any, path: str) -> Any:
    """Return what `value` holds at `path`.

    Args:
        value: A JSON value.
        path: The path; "" for the whole value.

    Returns:
        The value there.

    Raises:
        GoalError: If the path is malformed.
        PathNotFound: If there is nothing at the path.
    """
    for step in parse_path(path):
        value = _take(value, step)
    return value


def _take(value: Any, step: str | int) -> Any:
    if isinstance(step, int):
        if not isinstance(value, (list, tuple)):
            raise PathNotFound(f"[{step}] needs a list")
        if not -len(value) <= step < len(value):
            raise PathNotFound(f"[{step}] is outside of a list of {len(value)}")
        return value[step]
    if not isinstance(value, dict):
        raise PathNotFound(f'"{step}" needs an object')
    if step not in value:
        raise PathNotFound(f'there is no "{step}"')
    return value[step]
