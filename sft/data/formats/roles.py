"""Conversations as a list of who speaks and what is said, whatever the names of the roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sft.data.formats.draft import Draft, decoded
from sft.data.reasons import Reason
from sft.data.rejected import Rejected

SYSTEM, USER, ASSISTANT, CALL, RESULT = "system", "user", "assistant", "call", "result"

ROLES: Mapping[str, str] = {
    "system": SYSTEM,
    "user": USER,
    "human": USER,
    "assistant": ASSISTANT,
    "gpt": ASSISTANT,
    "function_call": CALL,
    "function-call": CALL,
    "tool_call": CALL,
    "tool": RESULT,
    "function": RESULT,
    "observation": RESULT,
    "function_response": RESULT,
    "function-response": RESULT,
    "tool_response": RESULT,
}


def spoken(turn: Any, roles: Mapping[str, str]) -> tuple[str, str]:
    """Return the role and the text of a turn.

    Args:
        turn: An object with `from` and `value`, or `role` and `content`.
        roles: The names of roles in the format -> the roles of this file.

    Raises:
        Rejected: If it is none, or the format has no such role.
    """
    if not isinstance(turn, dict):
        raise Rejected(Reason.BAD_FIELD, "a turn is not an object")
    name = turn.get("from", turn.get("role"))
    text = turn.get("value", turn.get("content"))
    if not isinstance(name, str) or name not in roles:
        raise Rejected(Reason.BAD_FIELD, f'the format has no role "{str(name)[:40]}"')
    if not isinstance(text, str):
        raise Rejected(Reason.BAD_FIELD, f"what {name} says is not a text")
    return roles[name], text


def add_turns(draft: Draft, turns: Sequence[Any], roles: Mapping[str, str] = ROLES) -> None:
    """Add turns to a draft; calls have turns of their own, as JSON.

    Raises:
        Rejected: If a turn is none of the format's, or a call is none.
    """
    for turn in turns:
        role, text = spoken(turn, roles)
        if role == SYSTEM:
            draft.system(text)
        elif role == CALL:
            add_calls(draft, decoded(text, "a call"))
        elif role == RESULT:
            draft.result(text)
        else:
            draft.add(role, text)


def add_calls(draft: Draft, value: Any) -> None:
    """Add the call that a JSON value is, or the calls if it is a list.

    Raises:
        Rejected: If one is no object with `name` and `arguments`.
    """
    for call in value if isinstance(value, list) else [value]:
        if not isinstance(call, dict) or not {"name", "arguments"} <= call.keys():
            raise Rejected(Reason.BROKEN_CALL, "a call without a name or arguments")
        draft.call(call["name"], call["arguments"])
