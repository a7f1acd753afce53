"""`glaive` and `glaive-v1`: one text with `USER:`, `ASSISTANT:` and `FUNCTION RESPONSE:`.

    SYSTEM: You are a helpful assistant with access to the following functions. ... {"name": ...}
    USER: ...
    ASSISTANT: <functioncall> {"name": "f", "arguments": '{"a": "it's"}'} <|endoftext|>
    FUNCTION RESPONSE: {...}

The sentence that leads up to the tools belongs to the list and goes with it. The arguments are
JSON between single quotes inside of JSON; where their own end is must be read off their JSON,
because an apostrophe inside of them looks like the closing quote.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from sft.data.formats.draft import Draft, Row, text_field
from sft.data.formats.tool_lists import tools_in_text
from sft.data.reasons import Normalisation, Reason
from sft.data.rejected import Rejected
from sft.data.strict import NotJSON, after_space, decode_at, parse_json

_MARK = re.compile(r"^[ \t]*(SYSTEM|USER|ASSISTANT|FUNCTION RESPONSE):", re.MULTILINE)
_CALL = re.compile(r"(?<!`)<functioncall>\s*(?=\{)")
_END = "<|endoftext|>"
_LEAD = re.compile(
    r"You are an? helpful assistant,?(?: who has| with)? access to the following functions\b"
    r"[^\n{]*?-?\s*$"
)
_QUOTED = re.compile(r"""\{\s*"name"\s*:\s*("[^"\\]*")\s*,\s*"arguments"\s*:\s*'""")
_CLOSING = re.compile(r"'\s*\}")

KEPT_SYSTEM_TEXTS = 512


def parse(row: Row) -> Draft:
    """Read a row of version 2, with the fields `system` and `chat`."""
    return _conversation(text_field(row, "system"), text_field(row, "chat"))


def parse_v1(row: Row) -> Draft:
    """Read a row of version 1, whose one field `sample` holds everything."""
    sample = text_field(row, "sample")
    first_user = next((mark for mark in _MARK.finditer(sample) if mark[1] == "USER"), None)
    if first_user is None:
        raise Rejected(Reason.BAD_FIELD, "no USER: in the sample")
    return _conversation(sample[: first_user.start()], sample[first_user.start() :])


def _conversation(system: str, chat: str) -> Draft:
    text, tools = _system(system)
    draft = Draft(tools=list(tools))
    draft.system(text)
    marks = list(_MARK.finditer(chat))
    if not marks or chat[: marks[0].start()].strip():
        raise Rejected(Reason.BAD_FIELD, "the chat does not begin with USER: or ASSISTANT:")
    ends = [mark.start() for mark in marks[1:]] + [len(chat)]
    for mark, end in zip(marks, ends, strict=True):
        _add(draft, mark[1], chat[mark.end() : end].strip())
    return draft


@lru_cache(KEPT_SYSTEM_TEXTS)
def _system(system: str) -> tuple[str, tuple[dict[str, Any], ...]]:
    """Return the system prompt and the tools that stand in it."""
    text, tools = tools_in_text(system.strip().removeprefix("SYSTEM:"))
    return (without_lead(text) if tools else text), tuple(tools)


def without_lead(text: str) -> str:
    """Return a system prompt without the sentence that leads up to the tools."""
    return _LEAD.sub("", text.strip())


def _add(draft: Draft, speaker: str, text: str) -> None:
    if speaker == "ASSISTANT":
        add_turn(draft, text)
    elif speaker == "FUNCTION RESPONSE":
        draft.result(text.removesuffix(_END).rstrip())
    elif speaker == "USER":
        draft.add("user", text)
    else:
        raise Rejected(Reason.ROLE_ORDER, "SYSTEM: in the middle of the chat")


def add_turn(draft: Draft, text: str) -> None:
    """Add what the assistant says: text, calls, or text and then calls.

    Raises:
        Rejected: If a call is not whole, or text follows a call.
    """
    text = text.strip().removesuffix(_END).rstrip()
    found = _CALL.search(text)
    draft.add("assistant", text[: found.start()].strip() if found else text)
    while found:
        name, arguments, end = functioncall(draft, text, found.end())
        draft.call(name, arguments)
        rest = text[end:].removeprefix(_END).lstrip()
        found = _CALL.match(rest)
        if rest and not found:
            raise Rejected(Reason.BROKEN_CALL, "text behind a call")
        text = rest


def functioncall(draft: Draft, text: str, start: int) -> tuple[Any, Any, int]:
    """Read one call with arguments between single quotes.

    Args:
        draft: The draft in which the change is recorded.
        text: A text.
        start: Where the call's bracket stands in it.

    Returns:
        Name, arguments, and where the text goes on behind the call.

    Raises:
        Rejected: If there is no whole call.
    """
    quoted = _QUOTED.match(text, start)
    try:
        if quoted is None:
            call, end = decode_at(text, start)
            if not isinstance(call, dict):
                raise Rejected(Reason.BROKEN_CALL, "a call that is not an object")
            return call.get("name"), call.get("arguments"), end
        draft.normalised.add(Normalisation.PYTHON_LITERAL)
        return (parse_json(quoted[1]), *_single_quoted(text, quoted.end()))
    except NotJSON as error:
        raise Rejected(error.reason, f"a call: {error}") from error


def _single_quoted(text: str, start: int) -> tuple[Any, int]:
    """Return the value of JSON between single quotes, and where the text goes on behind the call.

    Raises:
        NotJSON: If it is none, whether or not its apostrophes are escaped.
    """
    try:
        value, end = decode_at(text, after_space(text, start))
    except NotJSON:
        closing = list(_CLOSING.finditer(text, start))
        if not closing:
            raise
        inside = text[start : closing[-1].start()]
        return parse_json(inside.replace("\\'", "'")), closing[-1].end()
    closed = _CLOSING.match(text, after_space(text, end))
    if closed is None:
        raise NotJSON("the call does not end behind its arguments")
    return value, closed.end()
