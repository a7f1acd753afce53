"""What a tool returned, and whether it is what a goal wants: one way for every goal."""

from __future__ import annotations

import json
from typing import Any

from rewards.episode import Status, ToolResult
from rewards.errors import PathNotFound
from rewards.findings import Finding, same_json, show
from rewards.goals import Probe, ReturnedData
from rewards.jsonpath import look_up


def is_clean(result: ToolResult) -> bool:
    """Return whether a call ran without an error."""
    return result.status is Status.OK and not result.is_error


def check_result(goal: ReturnedData | Probe, result: ToolResult) -> Finding:
    """Return whether a clean result has at `goal.path` the value that `goal` wants.

    Raises:
        GoalError: If the path is malformed.
    """
    field = f"{goal.tool} returned at {goal.path or 'its top'}"
    try:
        value = look_up(_content(result), goal.path)
    except PathNotFound as error:
        return Finding(False, f"{field} nothing: {error}")
    if isinstance(goal, Probe) and goal.compare == "contains":
        if _contains(value, goal.value):
            return Finding(True, f"{field} {show(value)}, which contains {show(goal.value)}")
        return Finding(False, f"{field} {show(value)}, which does not contain {show(goal.value)}")
    if same_json(value, goal.value):
        return Finding(True, f"{field} {show(value)}")
    return Finding(False, f"{field} {show(value)}, the goal wants {show(goal.value)}")


def _content(result: ToolResult) -> Any:
    """Return the structured content; a server without any may have written JSON as text."""
    if result.structured is not None:
        return result.structured
    try:
        return json.loads(result.text)
    except (ValueError, RecursionError):
        return result.text


def _contains(value: Any, part: Any) -> bool:
    if isinstance(value, str):
        return isinstance(part, str) and part in value
    return isinstance(value, list | tuple) and any(same_json(item, part) for item in value)
