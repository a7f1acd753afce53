"""Which formats a row may be in, told by its fields alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sft.data.errors import FormatNameError
from sft.data.formats.draft import Row

LOOKED_AT = 200
"""Rows at the beginning of a file by which its format is told."""

_SHAREGPT_ROLES = {"system", "human", "gpt", "function_call", "observation"}
_HERMES_ROLES = {"system", "human", "gpt", "tool"}
_TOOLACE_ROLES = {"user", "assistant", "tool"}
_TOUCAN_ROLES = {"tool_call", "tool_response"}


def candidates(row: Row) -> list[str]:
    """Return the formats that a row may be in, the likeliest first.

    A row that uses little of a format may be in several: a conversation without calls, for one.
    """
    return [name for name, is_it in _MAY_BE.items() if is_it(row)]


def detect(rows: Iterable[tuple[int, Row]]) -> str:
    """Return the one format that rows are in.

    Args:
        rows: Numbers and values of the first rows of a file, as a message names them.

    Raises:
        FormatNameError: If a row is of no known format, or two rows are of different ones.
    """
    common: list[str] = []
    for number, row in rows:
        found = candidates(row)
        if not found:
            fields = ", ".join(f'"{key[:30]}"' for key in list(row)[:8]) or "no fields"
            raise FormatNameError(
                f"line {number} is of no known format: it has {fields}; "
                "name the format with --format"
            )
        left = [name for name in common or found if name in found]
        if not left:
            raise FormatNameError(two_formats(number, found, common[0]))
        common = left
    if not common:
        raise FormatNameError("no line holds a row to tell the format by; see `validate`")
    return common[0]


def two_formats(number: int, found: list[str], before: str) -> str:
    """Return the message for a row that is in another format than those before it."""
    return (
        f"line {number} is {found[0]}, and the lines before it are {before}; "
        "split the file, or name the format with --format to reject the others"
    )


def _turns(row: Row, roles: set[str]) -> bool:
    """Return whether a row's `conversations` have these roles only."""
    turns = row.get("conversations")
    return (
        isinstance(turns, list)
        and bool(turns)
        and all(isinstance(turn, dict) and str(turn.get("from")) in roles for turn in turns)
    )


def _message_roles(row: Row) -> set[str]:
    messages = row.get("messages")
    if not isinstance(messages, list):
        return set()
    return {str(message.get("role")) for message in messages if isinstance(message, dict)}


def _has_calls(row: Row) -> bool:
    messages = row.get("messages")
    return isinstance(messages, list) and any(
        isinstance(message, dict) and "tool_calls" in message for message in messages
    )


def _is_when2call(row: Row) -> bool:
    if "chosen_response" in row or {"correct_answer", "answers"} <= row.keys():
        return True
    tools = row.get("tools")
    return (
        bool(_message_roles(row))
        and isinstance(tools, list)
        and all(isinstance(tool, str) for tool in tools)
    )


def _is_toucan(row: Row) -> bool:
    if "messages" not in row:
        return False
    if "available_tools" in row or _message_roles(row) & _TOUCAN_ROLES:
        return True
    return isinstance(row["messages"], str) and "tools" in row


def _is_trl(row: Row) -> bool:
    roles = _message_roles(row)
    return bool(roles) and not roles & _TOUCAN_ROLES and ("tools" in row or _has_calls(row))


def _is_tinyagent(row: Row) -> bool:
    return bool(row) and all(
        isinstance(sample, dict) and isinstance(sample.get("output"), list)
        for sample in row.values()
    )


def _is_sharegpt(row: Row) -> bool:
    return "tools" in row and _turns(row, _SHAREGPT_ROLES)


_MAY_BE: Mapping[str, Callable[[Row], Any]] = {
    "glaive": lambda row: {"system", "chat"} <= row.keys(),
    "glaive-v1": lambda row: "sample" in row,
    "togethercomputer": lambda row: "function_description" in row,
    "xlam": lambda row: {"query", "tools", "answers"} <= row.keys(),
    "toolace": lambda row: "system" in row and "tools" not in row and _turns(row, _TOOLACE_ROLES),
    "apigen-mt": lambda row: bool(row.get("system")) and _is_sharegpt(row),
    "glaive-sharegpt": _is_sharegpt,
    "hermes": lambda row: _turns(row, _HERMES_ROLES),
    "toucan": _is_toucan,
    "when2call": _is_when2call,
    "trl": _is_trl,
    "messages": lambda row: (
        bool(_message_roles(row)) and "tools" not in row and not _has_calls(row)
    ),
    "tinyagent": _is_tinyagent,
}
"""Format -> whether a row may be in it; what is more special comes first."""
