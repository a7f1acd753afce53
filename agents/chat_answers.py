"""What an OpenAI-compatible endpoint answers, as one record, from a JSON body or from a stream.

An answer that is not whole, or not in OpenAI's form, is a `BadAnswerError`; it never reaches an
episode. What the model wrote inside of it is left as it is: broken JSON in the arguments of a call
is for the environment to judge.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

REASONING_KEYS = ("reasoning_content", "reasoning")
"""Where endpoints put what the model thought (vLLM and DeepSeek; OpenRouter)."""

_WRONG_TYPES = (AttributeError, IndexError, KeyError, TypeError, ValueError)


class BadAnswerError(Exception):
    """An answer is not whole, or not in OpenAI's form; the message says how it begins."""


@dataclass(frozen=True)
class NativeCall:
    """A call as the endpoint parsed it.

    Attributes:
        id: What the tool's answer refers to.
        name: Name of the tool; "" where there is none.
        arguments: The arguments as text, which need not be JSON.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Answer:
    """What the model said, and what it cost.

    Attributes:
        content: The text.
        reasoning: What it thought, where the endpoint keeps that apart.
        reasoning_key: The key of the message under which the thought came.
        calls: The calls that the endpoint parsed.
        prompt_tokens: Tokens that were read, as far as the endpoint says.
        completion_tokens: Tokens that were sampled, likewise.
        seconds: How long it was waited for, retries included.
    """

    content: str = ""
    reasoning: str = ""
    reasoning_key: str = REASONING_KEYS[0]
    calls: tuple[NativeCall, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


def read_body(text: str) -> Answer:
    """Return the answer that a JSON body holds.

    Raises:
        BadAnswerError: It holds none.
    """
    try:
        body = json.loads(text)
        return _answer(body["choices"][0]["message"], body.get("usage"))
    except (*_WRONG_TYPES, RecursionError) as error:
        raise BadAnswerError(f"not a chat completion: {_beginning(text)}") from error


async def read_stream(lines: AsyncIterator[str]) -> Answer:
    """Return the answer that a stream of server-sent events adds up to.

    Args:
        lines: The lines of the stream.

    Raises:
        BadAnswerError: The stream ends before the answer does, or reports an error.
    """
    stream = _Stream()
    async for line in lines:
        data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
        if data == "[DONE]":
            stream.finished = True
            break
        if data:
            try:
                stream.add(json.loads(data))
            except (*_WRONG_TYPES, RecursionError) as error:
                raise BadAnswerError(f"not a piece of a stream: {_beginning(data)}") from error
    if not stream.finished:
        raise BadAnswerError("the stream ended before the answer did")
    return stream.answer()


class _Stream:
    """Pieces of one message."""

    def __init__(self) -> None:
        self.finished = False
        self._usage: Any = None
        self._texts: dict[str, str] = {}
        self._calls: dict[Any, dict[str, Any]] = {}

    def add(self, piece: Mapping[str, Any]) -> None:
        if "error" in piece:
            raise BadAnswerError(f"the stream reports an error: {_beginning(str(piece['error']))}")
        self._usage = piece.get("usage") or self._usage
        for choice in piece["choices"][:1]:
            self.finished = self.finished or bool(choice.get("finish_reason"))
            delta = choice.get("delta") or {}
            for key in ("content", *REASONING_KEYS):
                self._texts[key] = self._texts.get(key, "") + (delta.get(key) or "")
            for call in delta.get("tool_calls") or ():
                self._add_call(call)

    def _add_call(self, piece: Mapping[str, Any]) -> None:
        # Servers that send whole calls may leave the index out.
        call = self._calls.setdefault(
            piece.get("index", f"call {len(self._calls)}"),
            {"id": "", "function": {"name": "", "arguments": ""}},
        )
        function = piece.get("function") or {}
        call["id"] = piece.get("id") or call["id"]
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += _as_text(function.get("arguments"))

    def answer(self) -> Answer:
        return _answer({**self._texts, "tool_calls": list(self._calls.values())}, self._usage)


def _answer(message: Mapping[str, Any], usage: Any) -> Answer:
    key = next((key for key in REASONING_KEYS if message.get(key)), REASONING_KEYS[0])
    usage = usage if isinstance(usage, dict) else {}
    return Answer(
        content=_text_or_none(message.get("content")),
        reasoning=_text_or_none(message.get(key)),
        reasoning_key=key,
        calls=tuple(_call(n, call) for n, call in enumerate(message.get("tool_calls") or ())),
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
    )


def _call(number: int, call: Mapping[str, Any]) -> NativeCall:
    function = call["function"]
    name = function.get("name")
    return NativeCall(
        str(call.get("id") or f"call_{number}"),
        name if isinstance(name, str) else "",
        _as_text(function.get("arguments")),
    )


def _text_or_none(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"a text is a {type(value).__name__}")
    return value or ""


def _as_text(arguments: Any) -> str:
    """Return arguments as text, though some servers send them as an object."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _beginning(text: str) -> str:
    """Return the beginning of a text in one line."""
    line = " ".join(text[:400].split())
    return repr(line[:120] + "..." * (len(line) > 120))
