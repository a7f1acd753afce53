"""Calls that stand as text in what the assistant says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envs.parsing import parse_turn
from rewards.episode import Fault
from sft.data.formats.draft import Draft
from sft.data.formats.literals import python_literal
from sft.data.reasons import Normalisation, Reason
from sft.data.rejected import Rejected
from sft.data.strict import NotJSON, dump_json, parse_json

_BLOCK = re.compile(r"(?<!`)<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
_FENCE = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL)
_JSON_START = re.compile(r"^\s*[{\[]", re.MULTILINE)

NAME_KEYS = ("name", "tool", "tool_name", "function", "function_name", "action")
ARGUMENT_KEYS = ("arguments", "parameters", "args", "input", "action_input")


@dataclass(frozen=True)
class Said:
    """What a turn says.

    Attributes:
        text: The text beside calls and thoughts.
        thought: The thoughts.
        calls: Name and arguments of each call.
        normalised: The permitted changes that reading it took.
    """

    text: str
    thought: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    normalised: frozenset[Normalisation] = frozenset()

    def add_to(self, draft: Draft) -> None:
        """Add the turn to a draft."""
        draft.add("assistant", self.text)
        if self.thought:
            draft.messages[-1]["reasoning_content"] = self.thought
        for name, arguments in self.calls:
            draft.call(name, arguments)
        draft.normalised |= self.normalised


def tagged_turn(text: str, *, python: bool = False) -> Said:
    """Read a turn with `<think>` and `<tool_call>` blocks.

    Args:
        text: The turn.
        python: A block may hold a Python literal.

    Raises:
        Rejected: If a tag does not end, or a block holds no call.
    """
    parsed = parse_turn(text)
    normalised: set[Normalisation] = set()
    if parsed.fault is Fault.INVALID_JSON:
        text = _BLOCK.sub(lambda block: _as_json(block[1], normalised, python=python), text)
        parsed = parse_turn(text)
    if parsed.fault is Fault.INVALID_JSON:
        detail = parsed.fault_detail.partition(";")[0]
        tag = "end tag" in detail
        raise Rejected(Reason.UNBALANCED_TAG if tag else Reason.BROKEN_CALL, detail)
    if parsed.thought_cut:
        raise Rejected(Reason.UNBALANCED_TAG, "a think tag does not end")
    calls = tuple((call.name, call.arguments) for call in parsed.calls)
    return Said(parsed.text, parsed.thought, calls, frozenset(normalised))


def _as_json(body: str, normalised: set[Normalisation], *, python: bool) -> str:
    """Return a block with its call as strict JSON; what is no call stays as it is."""
    try:
        call = parse_json(body)
    except NotJSON as error:
        if not python:
            raise Rejected(error.reason, f"a call: {error}") from error
        call = python_literal(body)
        normalised.add(Normalisation.PYTHON_LITERAL)
    if isinstance(call, dict) and isinstance(call.get("arguments"), str):
        try:
            call["arguments"] = parse_json(call["arguments"])
        except NotJSON as error:
            raise Rejected(error.reason, f"the arguments of a call: {error}") from error
        normalised.add(Normalisation.DOUBLE_ENCODED)
    return f"<tool_call>{dump_json(call)}</tool_call>"


def bare_turn(text: str) -> Said:
    """Read a turn that may end with its calls as bare JSON, in a fenced block or not.

    JSON that is no call, as in an answer about JSON, is text.

    Raises:
        Rejected: If it begins like a call and is not JSON.
    """
    start = _JSON_START.search(text)
    fence = _FENCE.search(text)
    if fence and fence.end() == len(text):
        before, body = text[: fence.start()], fence[1]
    elif start:
        before, body = text[: start.start()], text[start.start() :]
    else:
        return Said(text.strip())
    try:
        calls = calls_of(parse_json(body))
    except NotJSON as error:
        if parse_turn(body).fault is Fault.WRONG_FORMAT:
            raise Rejected(error.reason, f"a call: {error}") from error
        calls = ()
    return Said(before.strip(), calls=calls) if calls else Said(text.strip())


def calls_of(value: Any) -> tuple[tuple[str, Any], ...]:
    """Return the calls that a JSON value is, or none."""
    if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    found = [_call_of(item) for item in (value if isinstance(value, list) else [value])]
    calls = tuple(call for call in found if call is not None)
    return calls if len(calls) == len(found) else ()


def _call_of(value: Any) -> tuple[str, Any] | None:
    """Return name and arguments of one call, under whatever keys they stand."""
    if not isinstance(value, dict):
        return None
    for key in ("function", "function_call"):
        if isinstance(value.get(key), dict):
            return _call_of(value[key])
    name = _only(value, NAME_KEYS)
    arguments = _only(value, ARGUMENT_KEYS)
    if not isinstance(name, str) or not isinstance(arguments, dict | str):
        return None
    return name, arguments


def _only(value: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    found = [value[key] for key in keys if key in value]
    return found[0] if len(found) == 1 else None
