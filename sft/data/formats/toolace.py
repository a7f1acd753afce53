"""`toolace`: tools in the system text, calls as `[fn(a="x"), g()]`.

A bracket in prose is not a call: a turn calls if all of it is a list of calls with named arguments.
The system text says how to call, which a chat template does by itself, so it is left out with the
tools, unless it is of another kind.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from sft.data.formats.draft import Draft, Row, list_field, text_field
from sft.data.formats.literals import json_value, python_expression
from sft.data.formats.roles import ASSISTANT, RESULT, USER, spoken
from sft.data.formats.tool_lists import tools_in_text
from sft.data.reasons import Reason
from sft.data.rejected import Rejected

ROLES = {"user": USER, "assistant": ASSISTANT, "tool": RESULT}

_LEAD = "You are an expert in composing functions"
_NAME = re.compile(r"\s*([^\s()\[\]{},=\"'][^()\[\]{},=\"']*?)\s*\(")


def parse(row: Row) -> Draft:
    """Read a row."""
    system, tools = tools_in_text(text_field(row, "system"))
    draft = Draft(tools=tools)
    draft.system("" if system.lstrip().startswith(_LEAD) else system)
    names = [tool["function"]["name"] for tool in tools]
    for turn in list_field(row, "conversations"):
        role, text = spoken(turn, ROLES)
        if role == RESULT:
            draft.result(text)
        elif role == USER:
            draft.add("user", text)
        else:
            _add_turn(draft, text.strip(), names)
    return draft


def _add_turn(draft: Draft, text: str, names: list[str]) -> None:
    try:
        calls = list(_calls(text)) if text.startswith("[") else []
    except Rejected:
        if any(text[1:].lstrip().startswith(f"{name}(") for name in names):
            raise
        calls = []
    if not calls and any(f"[{name}(" in text for name in names):
        raise Rejected(Reason.CALL_TEXT, "a call stands in the middle of the text")
    draft.add("assistant", "" if calls else text)
    for name, arguments in calls:
        draft.call(name, arguments)


def _calls(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and arguments of the calls in `[...]`.

    Raises:
        Rejected: If it is no list of calls.
    """
    place = 1
    while name := _NAME.match(text, place):
        end = _closing(text, name.end())
        yield name[1], _arguments(text[name.end() : end])
        rest = text[end + 1 :].lstrip()
        place = len(text) - len(rest) + 1
        if not rest.startswith(","):
            break
    if text[place - 1 :] != "]" or place == 1:
        raise Rejected(Reason.BROKEN_CALL, "not a list of calls")


def _closing(text: str, start: int) -> int:
    """Return where the bracket closes that was opened before `start`; texts are passed over."""
    depth, quote, place = 1, "", start
    while place < len(text):
        character = text[place]
        if quote:
            place += character == "\\"
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "()":
            depth += 1 if character == "(" else -1
            if not depth:
                return place
        place += 1
    raise Rejected(Reason.BROKEN_CALL, "a call does not end")


def _arguments(text: str) -> dict[str, Any]:
    call = python_expression(f"f({text}\n)")
    if not isinstance(call, ast.Call) or call.args:
        raise Rejected(Reason.BROKEN_CALL, "an argument without a name")
    arguments: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg in arguments:
            raise Rejected(Reason.BROKEN_CALL, "an argument without a name, or one twice")
        arguments[keyword.arg] = json_value(keyword.value)
    return arguments
