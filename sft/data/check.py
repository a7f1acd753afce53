"""The rules of a canonical row: structure, tags, and every call against its own schema.

A turn with `"weight": 0` is shown and not learned: it may hold a mistake, so neither its calls nor
its text are checked, and a result may follow it whatever it holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from envs.parsing import MAX_CALLS, MAX_DEPTH, parse_turn
from rewards.episode import Fault
from rewards.errors import did_you_mean
from sft.data.call_order import order_problems
from sft.data.reasons import Problem, Reason
from sft.data.strict import dump_json, is_deeper
from sft.data.tool_schemas import CONTROL_TOKEN, Toolbox, toolbox

__all__ = ["Problem", "problems"]

ROLES = ("system", "user", "assistant", "tool")

_REQUIRED: Mapping[str, type] = {"id": str, "messages": list, "tools": list}
_FIELDS: Mapping[str, type] = {
    "source": str,
    "model": str,
    "timestamp": str,
    "truncated": bool,
    "outcome": str,
    "licence": str,
    "contaminates": list,
    "normalised": list,
}
"""Fields and what they hold; only those of the first group must be there."""

_MAY_HOLD_A_TAG = re.compile(r"[<{\[]")
_THOUGHT_TAG = re.compile(r"(?<!`)</?think>")
_RESULT_TAG = re.compile(r"(?<!`)<(/?)tool_response>")


def problems(row: Mapping[str, Any]) -> list[Problem]:
    """Return everything that is wrong with a canonical row, but how it renders.

    Args:
        row: A JSON object without NaN, and with no more levels than `strict.MAX_DEPTH`.

    Returns:
        The problems in the order of the row; where its form is wrong, only those of the form.
    """
    return list(_form_problems(row)) or list(_content_problems(row))


def _form_problems(row: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what keeps a row from being looked at further."""
    for key, kind in _REQUIRED.items():
        if key not in row:
            yield Problem(Reason.MISSING_FIELD, f'"{key}" is missing')
        elif not isinstance(row[key], kind):
            yield Problem(Reason.BAD_FIELD, f'"{key}" is not a {kind.__name__}')
        elif not row[key] and key != "tools":
            yield Problem(Reason.BAD_FIELD, f'"{key}" is empty')
    for key, kind in _FIELDS.items():
        if key in row and not isinstance(row[key], kind):
            yield Problem(Reason.BAD_FIELD, f'"{key}" is not a {kind.__name__}')
    messages = row.get("messages")
    for number, message in enumerate(messages if isinstance(messages, list) else (), start=1):
        if problem := _message_problem(message):
            yield Problem(problem.code, f"message {number}: {problem.message}")


def _message_problem(message: Any) -> Problem | None:
    """Return what is wrong with the form of a message."""
    if not isinstance(message, dict):
        return Problem(Reason.BAD_FIELD, "not an object")
    if message.get("role") not in ROLES:
        role = str(message.get("role"))[:40]
        return Problem(Reason.BAD_FIELD, f'unknown role "{role}" (known: {", ".join(ROLES)})')
    for key in ("content", "reasoning_content", "tool_call_id"):
        if not isinstance(message.get(key, "" if key != "content" else None), str):
            return Problem(Reason.BAD_FIELD, f'"{key}" is not a text')
    if message.get("weight", 1) not in (0, 1):
        return Problem(Reason.BAD_FIELD, '"weight" is neither 0 nor 1')
    if "tool_calls" not in message:
        return None
    if message["role"] != "assistant":
        return Problem(Reason.BAD_FIELD, f"{message['role']} makes calls")
    return _calls_problem(message["tool_calls"])


def _calls_problem(calls: Any) -> Problem | None:
    """Return what is wrong with the form of the calls of a turn."""
    if not isinstance(calls, list):
        return Problem(Reason.BAD_FIELD, '"tool_calls" is not a list')
    if not calls:
        return Problem(Reason.EMPTY_TOOL_CALLS, '"tool_calls" is an empty list')
    if len(calls) > MAX_CALLS:
        return Problem(Reason.BROKEN_CALL, f"more than {MAX_CALLS} calls in one turn")
    for number, call in enumerate(calls, start=1):
        if detail := _call_detail(call):
            return Problem(Reason.BROKEN_CALL, f"call {number}: {detail}")
    identifiers = [call["id"] for call in calls if "id" in call]
    if len(set(identifiers)) < len(identifiers):
        return Problem(Reason.BROKEN_CALL, "two calls have the same id")
    return None


def _call_detail(call: Any) -> str:
    if not isinstance(call, dict) or not isinstance(call.get("function"), dict):
        return 'not {"type": "function", "function": {...}}'
    name, arguments = call["function"].get("name"), call["function"].get("arguments")
    if not isinstance(name, str) or not name:
        return '"name" is not a text'
    if not isinstance(arguments, dict):
        return '"arguments" is not an object'
    if not isinstance(call.get("id", ""), str):
        return '"id" is not a text'
    return "the arguments are nested too deeply" if is_deeper(arguments, MAX_DEPTH) else ""


def _content_problems(row: Mapping[str, Any]) -> Iterator[Problem]:
    tools = toolbox(row["tools"])
    yield from tools.problems
    yield from order_problems(row["messages"])
    speakers = [message["role"] for message in row["messages"]]
    if "assistant" not in speakers:
        yield Problem(Reason.NO_ASSISTANT_TURN, "the assistant says nothing")
    for number, message in enumerate(row["messages"], start=1):
        if message["role"] == "assistant" and message.get("weight") != 0:
            for problem in _turn_problems(message, tools):
                yield Problem(problem.code, f"message {number}: {problem.message}")


def _turn_problems(turn: Mapping[str, Any], tools: Toolbox) -> Iterator[Problem]:
    """Yield what is wrong with what the assistant says and calls."""
    calls = turn.get("tool_calls", ())
    thought = turn.get("reasoning_content", "")
    if not calls and not turn["content"].strip():
        yield Problem(Reason.EMPTY_TURN, "the assistant neither says nor calls anything")
    if "think>" in thought and _THOUGHT_TAG.search(thought):
        yield Problem(Reason.UNBALANCED_TAG, "a think tag stands inside the reasoning")
    if _MAY_HOLD_A_TAG.search(turn["content"]):
        yield from _text_problems(turn["content"])
    for call in calls:
        yield from _call_problems(call["function"], tools)
    if CONTROL_TOKEN.search(turn["content"] + thought):
        yield Problem(Reason.CONTROL_TOKEN, "a control token of a chat template")


def _text_problems(text: str) -> Iterator[Problem]:
    """Yield what is wrong with the text of a turn, which must hold neither call nor thought."""
    tags = [tag[1] for tag in _RESULT_TAG.finditer(text)]
    if tags:
        balanced = tags.count("") == tags.count("/")
        reason = Reason.RESULT_WITHOUT_CALL if balanced else Reason.UNBALANCED_TAG
        yield Problem(reason, "a tool_response tag in what the assistant says")
    parsed = parse_turn(text)
    if parsed.calls:
        yield Problem(Reason.CALL_TEXT, "a call stands as text in the content")
    elif parsed.fault is Fault.WRONG_FORMAT:
        yield Problem(Reason.CALL_TEXT, parsed.fault_detail.partition(";")[0])
    elif parsed.fault is Fault.INVALID_JSON:
        yield Problem(Reason.UNBALANCED_TAG, parsed.fault_detail.partition(";")[0])
    if parsed.thought_cut or (parsed.thought and "<think>" not in text):
        yield Problem(Reason.UNBALANCED_TAG, "a think tag begins and does not end, or the reverse")
    elif _THOUGHT_TAG.search(text):
        yield Problem(Reason.THOUGHT_TEXT, "a thought belongs in reasoning_content")


def _call_problems(function: Mapping[str, Any], tools: Toolbox) -> Iterator[Problem]:
    """Yield what is wrong with a call, measured by its own tool."""
    name = function["name"]
    if name not in tools.names:
        hint = did_you_mean(name, tools.names)
        yield Problem(Reason.UNKNOWN_TOOL, f'no tool "{name[:60]}" was offered{hint}')
    elif (tool := tools.validators.get(name)) and (detail := tool.problem(function["arguments"])):
        yield Problem(Reason.BAD_ARGUMENTS, detail)
    if "<|" in name or CONTROL_TOKEN.search(dump_json(function["arguments"])):
        yield Problem(Reason.CONTROL_TOKEN, f"a control token in a call of {name[:60]!r}")
