"""Reading the model's raw turn: Hermes/Qwen text with `<think>` and `<tool_call>` blocks.

`parse_turn` never raises and never repairs. The rules, in order:

1.  The text is read from tag to tag, left to right, so that a tag inside a thought or inside the
    JSON of a call is no tag. A tag directly after a backtick is prose.
2.  `<think>...</think>` is set aside; a call in it is not a call. A `<think>` without an end
    swallows the rest and is flagged (`thought_cut`). A `</think>` before any other tag ends a
    thought that began in the prompt.
3.  `<tool_call>` must be followed by one JSON object with exactly the keys `name` and `arguments`
    and by `</tool_call>`. Anything else, or an end tag without a beginning, is invalid JSON for
    the whole turn. JSON is strict: no duplicate keys, no NaN, no unpaired surrogates, at most
    `MAX_DEPTH` levels.
4.  Without any call: bare JSON that looks like a call, a call in a fenced block, `<tool_code>`,
    `<function=...>` and their relatives are a wrong format, and so are more than `MAX_CALLS`
    calls. Nothing but white space is an empty turn. Everything else is a final answer.

End-of-turn tokens at the very end are no text.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from dataclasses import dataclass
from typing import Any, Final

from rewards.episode import Fault, ToolCall

MAX_CALLS: Final = 64
MAX_DEPTH: Final = 32
CLOSE_CALL: Final = "</tool_call>"
CLOSE_THOUGHT: Final = "</think>"
END_MARKS: Final = ("<|im_end|>", "<|endoftext|>")
HOW_TO_CALL: Final = 'write one JSON object with "name" and "arguments" inside tool_call tags'

_TAG = re.compile(r"(?<!`)<(think|tool_call)>")
_STRAY_END = re.compile(r"(?<!`)</tool_call>")
_SPACE = re.compile(r"[ \t\r\n]*")
_FOREIGN_TAG = re.compile(
    r"(?<!`)(?:<tool_code>|<function=|<function_calls?>|<functioncall>|<tool_use>|<invoke\b"
    r"|<\|python_tag\|>|<\|tool_call|<\uff5ctool|\[TOOL_CALLS\]|</?tool_?calls?\b)",
    re.IGNORECASE,
)
_CALL_KEYS = r"name|function|tool|tool_name|arguments|parameters|args"
_CALL_START = re.compile(rf"""\{{\s*["'](?:{_CALL_KEYS})["']\s*:""")
_NAME_KEY = re.compile(r"""["'](?:name|function|tool|tool_name)["']\s*:""")
_ARGUMENTS_KEY = re.compile(r"""["'](?:arguments|parameters|args)["']\s*:""")
_CALL_WINDOW = 4000
"""How far behind its first key a bare call is looked at, so that a huge text costs nothing."""


@dataclass(frozen=True)
class ParsedTurn:
    """What a raw turn says.

    Attributes:
        calls: The calls; empty where `fault` is set.
        text: The text outside of calls and thoughts.
        thought: The text of the thoughts.
        fault: What is wrong with the form, or None.
        fault_detail: One sentence for the model: what was wrong and what to do.
        thought_cut: A `<think>` had no end.
    """

    calls: tuple[ToolCall, ...] = ()
    text: str = ""
    thought: str = ""
    fault: Fault | None = None
    fault_detail: str = ""
    thought_cut: bool = False


class _Fault(Exception):
    """The turn has a fault of form; it never leaves this module."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(detail)
        self.fault = fault


class _BadJSON(ValueError):
    """The JSON of a call is not acceptable; the message says why."""


def parse_turn(text: str) -> ParsedTurn:
    """Read a raw turn.

    Args:
        text: Whatever the model said.

    Returns:
        The calls, the answer, or the fault.
    """
    reading = _Reading(_without_end_marks(text))
    try:
        reading.read()
    except _Fault as fault:
        return reading.turn(fault.fault, str(fault))
    return reading.turn()


def _without_end_marks(text: str) -> str:
    end = len(text)
    while True:
        while end and text[end - 1].isspace():
            end -= 1
        mark = next((mark for mark in END_MARKS if text.endswith(mark, 0, end)), None)
        if mark is None:
            return text[:end]
        end -= len(mark)


class _Reading:
    """One pass over a turn."""

    def __init__(self, raw: str) -> None:
        self._raw = raw
        self._position = 0
        self._calls: list[ToolCall] = []
        self._spoken: list[str] = []
        self._thoughts: list[str] = []
        self._cut = False

    def turn(self, fault: Fault | None = None, detail: str = "") -> ParsedTurn:
        """Return what has been read."""
        return ParsedTurn(
            calls=() if fault else tuple(self._calls),
            text=self._text(),
            thought="\n".join(part.strip() for part in self._thoughts),
            fault=fault,
            fault_detail=detail,
            thought_cut=self._cut,
        )

    def _text(self) -> str:
        return "".join(self._spoken).strip()

    def read(self) -> None:
        """Read to the end.

        Raises:
            _Fault: At the first fault of form.
        """
        self._end_prompted_thought()
        while tag := _TAG.search(self._raw, self._position):
            self._spoken.append(self._raw[self._position : tag.start()])
            self._position = tag.end()
            if tag[1] == "think":
                self._read_thought()
            else:
                self._read_call()
        self._spoken.append(self._raw[self._position :])
        self._check_text()

    def _end_prompted_thought(self) -> None:
        end = self._raw.find(CLOSE_THOUGHT)
        if end >= 0 and _TAG.search(self._raw, 0, end) is None:
            self._thoughts.append(self._raw[:end])
            self._position = end + len(CLOSE_THOUGHT)

    def _read_thought(self) -> None:
        end = self._raw.find(CLOSE_THOUGHT, self._position)
        self._cut = end < 0
        if self._cut:
            end = len(self._raw)
        self._thoughts.append(self._raw[self._position : end])
        self._position = min(end + len(CLOSE_THOUGHT), len(self._raw))

    def _read_call(self) -> None:
        number = len(self._calls) + 1
        if number > MAX_CALLS:
            detail = f"more than {MAX_CALLS} calls in one turn; make fewer"
            raise _Fault(Fault.WRONG_FORMAT, detail)
        try:
            call, self._position = _call_at(self._raw, self._position)
        except _BadJSON as problem:
            which = f"call {number}: " if number > 1 else ""
            detail = f"{which}{problem}; {HOW_TO_CALL}"
            raise _Fault(Fault.INVALID_JSON, detail) from problem
        self._calls.append(call)

    def _check_text(self) -> None:
        """Look for what is no proper turn in the text beside the calls."""
        text = self._text()
        if _STRAY_END.search(text):
            detail = f"a tool_call end tag without its beginning; {HOW_TO_CALL}"
            raise _Fault(Fault.INVALID_JSON, detail)
        if self._calls:
            return
        if not text:
            problem = "the thought did not end" if self._cut else "the turn is empty"
            raise _Fault(Fault.EMPTY, f"{problem}; call a tool or give the final answer")
        if foreign := _foreign_format(text):
            raise _Fault(Fault.WRONG_FORMAT, f"{foreign}; {HOW_TO_CALL}")


def _call_at(text: str, start: int) -> tuple[ToolCall, int]:
    """Return the call whose block begins at `start`, and where the text goes on behind it."""
    start = _after_space(text, start)
    try:
        value, end = _DECODER.raw_decode(text, start)
    except RecursionError as error:
        raise _BadJSON(f"the JSON is nested deeper than {MAX_DEPTH} levels") from error
    except json.JSONDecodeError as error:
        raise _BadJSON(_syntax_problem(text, start, error)) from error
    except _BadJSON:
        raise
    except ValueError as error:
        raise _BadJSON("a number has too many digits") from error
    call = _checked_call(value)
    if ("\\u" in text[start:end] or not text[start:end].isascii()) and not _is_unicode(value):
        raise _BadJSON("a text is not valid Unicode")
    end = _after_space(text, end)
    if not text.startswith(CLOSE_CALL, end):
        closed = text.find(CLOSE_CALL, end) >= 0
        raise _BadJSON(
            "there is more than one JSON object" if closed else "the call has no end tag"
        )
    return call, end + len(CLOSE_CALL)


def _after_space(text: str, start: int) -> int:
    match = _SPACE.match(text, start)
    return match.end() if match else start


def _syntax_problem(text: str, start: int, error: json.JSONDecodeError) -> str:
    end = text.find(CLOSE_CALL, start)
    if end < 0:
        return "the call has no end tag"
    if end == start:
        return "the call is empty"
    if text.startswith(("{'", "{ '"), start):
        return "not valid JSON: use double quotes, not single quotes"
    if error.pos >= end:
        return "not valid JSON: the object does not end"
    return f"not valid JSON: {error.msg} at character {error.pos - start + 1}"


def _checked_call(value: Any) -> ToolCall:
    if not isinstance(value, dict):
        raise _BadJSON(f"the call is a {_json_type(value)}, not one object")
    for key in ("name", "arguments"):
        if key not in value:
            raise _BadJSON(f'"{key}" is missing')
    extra = next((key for key in value if key not in ("name", "arguments")), None)
    if extra is not None:
        raise _BadJSON(f'unknown key "{extra[:40]}"')
    name, arguments = value["name"], value["arguments"]
    if not isinstance(name, str) or not name:
        raise _BadJSON('"name" must be a text')
    if not isinstance(arguments, dict):
        raise _BadJSON(f'"arguments" is a {_json_type(arguments)}, not an object')
    if _too_deep(arguments):
        raise _BadJSON(f"the JSON is nested deeper than {MAX_DEPTH} levels")
    return ToolCall(name, arguments)


def _too_deep(arguments: dict[str, Any]) -> bool:
    level: list[Any] = [arguments]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for value in level
            for child in (value.values() if isinstance(value, dict) else value)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = sorted(key for key, _ in pairs)
        twice = next(a for a, b in itertools.pairwise(keys) if a == b)
        raise _BadJSON(f'the key "{twice[:40]}" occurs twice')
    return value


def _no_constant(name: str) -> Any:
    raise _BadJSON(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _BadJSON("a number is too large")
    return number


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_keys, parse_constant=_no_constant, parse_float=_finite
)


def _json_type(value: Any) -> str:
    names = {dict: "object", list: "list", str: "text", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def _foreign_format(text: str) -> str:
    """Return what foreign way of calling a text uses, or an empty string."""
    if tag := _FOREIGN_TAG.search(text):
        return f"{tag[0].strip('<>[]|=/')} is not how tools are called here"
    fenced = text.split("```")[1::2]
    if any(_looks_like_call(block) for block in fenced):
        return "a call in a fenced block is not a call"
    if _looks_like_call(text):
        return "a call without tool_call tags is not a call"
    return ""


def _looks_like_call(text: str) -> bool:
    start = _CALL_START.search(text)
    if start is None:
        return False
    window = text[start.start() : start.start() + _CALL_WINDOW]
    return bool(_NAME_KEY.search(window)) and bool(_ARGUMENTS_KEY.search(window))
