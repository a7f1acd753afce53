"""Changes of one row by hand. Each returns a new row that records the change in `edited`.

A turn is a message of the assistant with the tool results that follow it; turns count from 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sft.data.errors import DataError
from sft.data.rows import Row

EDITED = "edited"


@dataclass(frozen=True)
class Span:
    """Where a turn stands among the messages of a row: from `start` to before `end`."""

    start: int
    end: int


def turn_spans(row: Row) -> list[Span]:
    """Return where each turn of the assistant stands."""
    roles = [message["role"] for message in row["messages"]]
    spans = []
    for start, role in enumerate(roles):
        if role == "assistant":
            end = start + 1
            while end < len(roles) and roles[end] == "tool":
                end += 1
            spans.append(Span(start, end))
    return spans


def drop_turn(row: Row, number: int) -> Row:
    """Take one turn out, with its tool results.

    Raises:
        DataError: If the row has no such turn.
    """
    (span,) = _find(row, number, number)
    messages = row["messages"]
    left = [*messages[: span.start], *messages[span.end :]]
    return _recorded({**row, "messages": left}, {"drop_turn": number})


def merge_turns(row: Row, first: int, last: int) -> Row:
    """Make the turns `first` to `last` one: their texts, then all calls, then all results.

    Raises:
        DataError: If the row has no such turns, something else than tool results stands between
            them, or a turn that answers would be merged with the calls whose results it had seen.
    """
    if first >= last:
        raise DataError(f"nothing to merge from turn {first} to {last}; name the earlier one first")
    spans = _find(row, first, last)
    messages = row["messages"]
    for number, (span, following) in enumerate(pairwise(spans), start=first):
        if span.end != following.start:
            raise DataError(f"turns {number} and {number + 1} cannot be merged: between them the "
                            f"{messages[span.end]['role']} speaks")  # fmt: skip
        if span.end > span.start + 1 and not messages[following.start].get("tool_calls"):
            raise DataError(
                f"turns {number} and {number + 1} cannot be merged: turn {number + 1} calls "
                "nothing, it answers from results that would stand behind it"
            )
    said = [messages[span.start] for span in spans]
    results = [result for span in spans for result in messages[span.start + 1 : span.end]]
    merged = [*messages[: spans[0].start], _joined(said), *results, *messages[spans[-1].end :]]
    return _recorded({**row, "messages": merged}, {"merge_turns": [first, last]})


def replace_text(row: Row, old: str, new: str) -> Row:
    """Replace a text wherever the assistant says it, thinks it, or passes it in an argument.

    Raises:
        DataError: If the assistant nowhere says it.
    """
    if not old:
        raise DataError("the text to replace is empty")
    times = 0
    messages = []
    for message in row["messages"]:
        if message["role"] == "assistant":
            times += _occurrences(message, old)
            message = _replaced(message, old, new)
        messages.append(message)
    if not times:
        raise DataError(f'the assistant nowhere says "{old}", in text or in arguments')
    change = {"replace": [old, new], "times": times}
    return _recorded({**row, "messages": messages}, change)


def _find(row: Row, first: int, last: int) -> list[Span]:
    spans = turn_spans(row)
    if first < 1 or last > len(spans):
        wrong = first if first < 1 else last
        raise DataError(f"no turn {wrong}: the row has {len(spans)} turns, counted from 1")
    return spans[first - 1 : last]


def _recorded(row: Row, change: dict[str, Any]) -> Row:
    return {**row, EDITED: [*row.get(EDITED, ()), change]}


def _joined(said: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One message of several; a key such as `weight` is kept from the first that has it."""
    joined = {key: value for message in reversed(said) for key, value in message.items()}
    joined["content"] = "\n".join(filter(None, (m.get("content") for m in said)))
    thoughts = "\n".join(filter(None, (m.get("reasoning_content") for m in said)))
    if thoughts:
        joined["reasoning_content"] = thoughts
    made = [call for message in said for call in message.get("tool_calls") or ()]
    if made:
        joined["tool_calls"] = made
    return joined


def _texts(message: dict[str, Any]) -> list[Any]:
    """What may be replaced in a message: content, reasoning, the arguments of its calls."""
    parts = [message.get("content"), message.get("reasoning_content")]
    return parts + [c["function"]["arguments"] for c in message.get("tool_calls") or ()]


def _occurrences(message: dict[str, Any], old: str) -> int:
    def count(value: Any) -> int:
        if isinstance(value, str):
            return value.count(old)
        children = value.values() if isinstance(value, dict) else value
        return sum(map(count, children)) if isinstance(value, dict | list) else 0

    return sum(map(count, _texts(message)))


def _replaced(message: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    def swap(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace(old, new)
        if isinstance(value, dict):
            return {key: swap(child) for key, child in value.items()}
        return [swap(child) for child in value] if isinstance(value, list) else value

    message = {
        key: swap(value) if key in ("content", "reasoning_content") else value
        for key, value in message.items()
    }
    if message.get("tool_calls"):
        message["tool_calls"] = [
            {
                **call,
                "function": {
                    **call["function"],
                    "arguments": swap(call["function"]["arguments"]),
                },
            }
            for call in message["tool_calls"]
        ]
    return message
