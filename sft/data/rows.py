"""Canonical rows as the commands read them, and what a row holds.

A command that changes or counts rows stops at the first line that is none; only `validate` goes
on, because to find such lines is its work.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewards.errors import did_you_mean
from sft.data.errors import DataFileError
from sft.data.jsonl import read_lines

Row = dict[str, Any]

CONVERSATION = "unrolled_from"
"""Key of a shorter row: the id of the whole conversation that it was cut from."""

MOST_COMPARED = 10_000
"""Ids that one which does not exist is compared with."""

CONVERT = "other formats become rows by: python -m sft.data convert"


@dataclass(frozen=True)
class Located:
    """A row and where it stands.

    Attributes:
        path: Its file.
        number: Its line, from 1.
        row: The row.
    """

    path: Path
    number: int
    row: Row

    @property
    def place(self) -> str:
        """`file:line`, as messages begin."""
        return f"{self.path}:{self.number}"


def read_rows(paths: Sequence[Path]) -> Iterator[Located]:
    """Read the rows of files one by one, in order.

    Raises:
        DataFileError: If a file cannot be read or is empty, or a line is no canonical row; the
            message starts with `file:line`.
    """
    for path in paths:
        line = None
        for line in read_lines(path):
            if line.value is None:
                raise DataFileError(f"{path}:{line.number}: {line.error}")
            missing = misshapen(line.value)
            if missing:
                raise DataFileError(f"{path}:{line.number}: no canonical row: {missing}; {CONVERT}")
            yield Located(path, line.number, line.value)
        if line is None:
            raise DataFileError(f"{path} holds no row")


def find_row(path: Path, name: str) -> Located:
    """Return the row of a file with an id.

    Raises:
        DataFileError: If there is none, or what `read_rows` raises.
    """
    count = 0
    some: list[str] = []
    for located in read_rows([path]):
        count += 1
        if located.row["id"] == name:
            return located
        if count <= MOST_COMPARED:
            some.append(located.row["id"])
    raise DataFileError(
        f'{path}: none of the {count:,} rows has the id "{name}"{did_you_mean(name, some)}'
    )


def misshapen(row: Mapping[str, Any]) -> str:
    """Say what keeps the functions of this file from looking into a row, or return ""."""
    if not isinstance(row.get("id"), str):
        return "`id` is no text"
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        return "`messages` is no list with messages"
    if not isinstance(row.get("tools"), list):
        return "`tools` is no list"
    for number, message in enumerate(messages, start=1):
        wrong = _wrong_message(message)
        if wrong:
            return f"message {number}: {wrong}"
    return ""


def _wrong_message(message: Any) -> str:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        return "no object with a `role`"
    if not isinstance(message.get("content", ""), str | None):
        return "`content` is no text"
    calls = message.get("tool_calls", [])
    if not isinstance(calls, list):
        return "`tool_calls` is no list"
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("arguments"), dict):
            return "a call has no `function` with an `arguments` object"
    return ""


def conversation(row: Mapping[str, Any]) -> str:
    """Return the id of the conversation that a row is, or was cut from."""
    return str(row.get(CONVERSATION, row["id"]))


def assistant_turns(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the messages of the assistant."""
    return [message for message in row["messages"] if message["role"] == "assistant"]


def calls(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the `function` of every call, in order."""
    return [
        call["function"]
        for message in assistant_turns(row)
        for call in message.get("tool_calls") or ()
    ]


def user_text(row: Mapping[str, Any]) -> str:
    """Return all that the user says."""
    said = (message.get("content") for message in row["messages"] if message["role"] == "user")
    return "\n".join(text for text in said if text)


def full_text(row: Mapping[str, Any]) -> str:
    """Return all that is said and called, without the tools that are offered."""
    parts = []
    for message in row["messages"]:
        parts += [message.get("reasoning_content") or "", message.get("content") or ""]
        parts += [_as_text(call["function"]) for call in message.get("tool_calls") or ()]
    return "\n".join(part for part in parts if part)


def content_key(row: Mapping[str, Any]) -> str:
    """Return a text that two rows share exactly if they show the same messages and tools."""
    return _as_text([row["messages"], row["tools"]])


def _as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
