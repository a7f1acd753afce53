"""The round trip: what a row renders to, parsed back, gives the same calls, text and reasoning."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

from agents.models import load_tokenizer
from agents.template import ChatTemplate
from envs.parsing import parse_turn


def load_template(model: str) -> ChatTemplate:
    """Return the chat template of a model.

    Args:
        model: A folder, a hub id, or `embedded`.

    Raises:
        AgentError: If there is no such tokenizer, or it has no chat template.
    """
    return ChatTemplate(load_tokenizer(model))


def parses_back(template: ChatTemplate, row: Mapping[str, Any]) -> bool:
    """Return whether the turns that are learned from a row read, as a model says them, the same.

    Args:
        template: The chat template.
        row: A canonical row without problems.
    """
    learned = [
        message
        for message in row["messages"]
        if message["role"] == "assistant" and message.get("weight") != 0
    ]
    said = list(_said(template, row))
    return len(said) == len(learned) and all(
        _same(text, message, thinking=template.thinking)
        for text, message in zip(said, learned, strict=True)
    )


def _said(template: ChatTemplate, row: Mapping[str, Any]) -> Iterator[str]:
    """Yield the text of every turn that is learned, by way of its tokens."""
    ids, mask = template.training_row(row["messages"], row["tools"])
    for trained, run in groupby(zip(ids, mask, strict=True), key=itemgetter(1)):
        if trained:
            yield template.tokenizer.decode([token for token, _ in run])


def _same(text: str, message: Mapping[str, Any], *, thinking: bool) -> bool:
    parsed = parse_turn(text)
    functions = [call["function"] for call in message.get("tool_calls", ())]
    calls = [(call.name, call.arguments) for call in parsed.calls]
    if parsed.fault is not None or _plain(parsed.text) != _plain(message["content"]):
        return False
    if thinking and _plain(parsed.thought) != _plain(message.get("reasoning_content") or ""):
        return False
    return calls == [(f["name"], f["arguments"]) for f in functions]


def _plain(text: str) -> str:
    """Return a text as it is after a tokenizer that composes accents, such as Qwen's."""
    return unicodedata.normalize("NFC", text.strip())
