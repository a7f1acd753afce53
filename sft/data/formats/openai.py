"""`trl`, and every other format with OpenAI's messages: `tool_calls`, `tool_call_id`, `tools`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sft.data.formats.draft import Draft, Row, list_field, objects
from sft.data.formats.tool_lists import function_schemas
from sft.data.formats.turn_text import Said, bare_turn, tagged_turn
from sft.data.reasons import Normalisation, Reason
from sft.data.rejected import Rejected

KEPT = ("id", "source", "model", "timestamp", "truncated", "outcome", "licence")
"""Fields of the canonical row that a row may have already."""


def parse(row: Row) -> Draft:
    """Read a row."""
    draft = Draft(tools=function_schemas(row.get("tools") or []))
    draft.fields |= {key: row[key] for key in KEPT if row.get(key) is not None}
    for message in objects(list_field(row, "messages"), "message"):
        add_message(draft, message)
    return draft


def add_message(draft: Draft, message: Mapping[str, Any]) -> None:
    """Add one of OpenAI's messages to a draft.

    Raises:
        Rejected: If it is none.
    """
    role, content = message.get("role"), message.get("content")
    content = "" if content is None else content
    if not isinstance(content, str):
        raise Rejected(Reason.BAD_FIELD, "the content of a message is not a text")
    if role == "assistant":
        _add_turn(draft, message, content)
    elif role in ("tool", "function"):
        draft.result(content, message.get("tool_call_id"), message.get("name"))
    elif role in ("system", "developer"):
        draft.system(content)
    elif role == "user":
        draft.add("user", content)
    else:
        raise Rejected(Reason.BAD_FIELD, f'there is no role "{str(role)[:40]}"')


def _add_turn(draft: Draft, message: Mapping[str, Any], content: str) -> None:
    draft.add("assistant", content)
    turn = draft.messages[-1]
    for key in ("reasoning_content", "weight"):
        if message.get(key) not in (None, ""):
            turn[key] = message[key]
    calls = message.get("tool_calls")
    if calls is None and isinstance(message.get("function_call"), dict):
        calls = [{"function": message["function_call"]}]
    if calls == []:
        draft.normalised.add(Normalisation.EMPTY_TOOL_CALLS)
    for call in _calls(calls):
        function = call["function"]
        draft.call(function.get("name"), function.get("arguments"), call.get("id"))
    if turn.get("weight") != 0:
        _clean_content(draft, turn)


def _calls(calls: Any) -> list[dict[str, Any]]:
    if calls is None:
        return []
    if not isinstance(calls, list):
        raise Rejected(Reason.BAD_FIELD, "`tool_calls` is not a list")
    for call in calls:
        if not isinstance(call, dict) or not isinstance(call.get("function"), dict):
            raise Rejected(Reason.BROKEN_CALL, "a call without a function")
    return calls


def _clean_content(draft: Draft, turn: dict[str, Any]) -> None:
    """Take out of the content what stands in its own place: a thought, and a repeated call."""
    calls = [(call["function"]["name"], call["function"]["arguments"]) for call in _made(turn)]
    said = _read(turn["content"])
    if said.thought and "reasoning_content" not in turn:
        turn["reasoning_content"] = said.thought
        draft.normalised.add(Normalisation.THOUGHT_SEPARATED)
        turn["content"] = said.text if not said.calls else turn["content"]
    if calls and list(said.calls) == calls:
        turn["content"] = said.text
        draft.normalised.add(Normalisation.REPEATED_CALL_TEXT)


def _made(turn: Mapping[str, Any]) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = turn.get("tool_calls", [])
    return calls


def _read(content: str) -> Said:
    """Read the text of a turn; text that is broken stays, for the checks to name what is wrong."""
    try:
        said = tagged_turn(content)
        return said if said.calls or said.thought else bare_turn(content)
    except Rejected:
        return Said(content)
