"""Canonical rows for the tests of the commands that curate them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from sft.data.__main__ import main

Row = dict[str, Any]

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}


def user(text: str) -> Row:
    return {"role": "user", "content": text}


def says(text: str, **more: Any) -> Row:
    return {"role": "assistant", "content": text, **more}


def asks(*cities: str, **more: Any) -> Row:
    functions = [{"name": "get_weather", "arguments": {"city": city}} for city in cities]
    calls = [{"type": "function", "function": function} for function in functions]
    return says("", tool_calls=calls, **more)


def result(text: str) -> Row:
    return {"role": "tool", "content": text}


def row(name: str, *messages: Row, **more: Any) -> Row:
    """A row; without messages, one that asks for the weather of a city called like its id."""
    said = list(messages) or [
        user(f"Tell me, please, what the weather is like in {name} today."),
        asks(name),
        result(f'{{"temperature": {len(name)}}}'),
        says(f"In {name} it is {len(name)} degrees, and the sky is clear."),
    ]
    fields = {"source": "glaive", "model": "m", "licence": "apache-2.0", "truncated": False}
    return {"id": name, "messages": said, "tools": [WEATHER], **fields, **more}


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return path


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(*arguments: object) -> int:
    """Run `python -m sft.data` in this process."""
    return main([str(argument) for argument in arguments])


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    lambda text: text.strip() and not set(text) & set("<>{}[]`|")
)


@st.composite
def rounds(draw: st.DrawFn) -> list[Row]:
    """What follows a message of the user: calls with results, then an answer."""
    messages = [user(draw(texts))]
    for _ in range(draw(st.integers(0, 3))):
        cities = draw(st.lists(texts, min_size=1, max_size=2))
        thought = {"reasoning_content": draw(texts)} if draw(st.booleans()) else {}
        messages += [asks(*cities, **thought), *(result(draw(texts)) for _ in cities)]
    return [*messages, says(draw(texts))]


@st.composite
def conversations(draw: st.DrawFn) -> Row:
    """A canonical row of one to three messages of the user, with calls between."""
    name = draw(st.text("abcxyz0189", min_size=1, max_size=6))
    parts = draw(st.lists(rounds(), min_size=1, max_size=3))
    return row(name, *(message for part in parts for message in part))
