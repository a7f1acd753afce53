"""The same traces in the formats that tool-calling data comes in: the arms of `formats`.

    tags          calls written by hand as `<tool_call>` text into the content; loss on every token
    conversation  structured calls; loss on every token
    structured    structured calls; loss on what the assistant says
    malformed     as `structured`, with the broken traces of the wild left in
    cleaned       the same, without the rows that `sft/data/check.py` finds a problem in
    repeated      the cleaned rows, some of them twice: as many as before, for as many steps

Tags written by hand are well-formed here, but not all alike: as the template writes them, on one
line, or with the arguments before the name. A broken trace (`BROKEN_SHARE` of those with a call) is
broken in all of its views, in one way: calls with single quotes, a last call that is cut off, or a
tool that is called and not offered.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sft.data.check import problems
from sft.data.rows import Row

BROKEN_SHARE = 0.3

Message = dict[str, Any]


def with_tags(rows: Sequence[Row], seed: int) -> list[Row]:
    """Write every call as text into the content of its turn."""
    rng = random.Random(f"tags/{seed}")
    return [_with_text(row, lambda function: rng.choice(HANDS)(function)) for row in rows]


def as_they_are(rows: Sequence[Row], seed: int) -> list[Row]:
    """Return the rows."""
    return list(rows)


def with_broken(rows: Sequence[Row], seed: int) -> list[Row]:
    """Break a share of the traces that call."""
    rng = random.Random(f"malformed/{seed}")
    calling = sorted({trace_of(row) for row in rows if _learned_calls(row)})
    broken = rng.sample(calling, round(BROKEN_SHARE * len(calling)))
    ways = {name: rng.choice(WAYS) for name in broken}
    return [
        ways[trace_of(row)](row) if trace_of(row) in ways and _learned_calls(row) else row
        for row in rows
    ]


def cleaned(rows: Sequence[Row], seed: int) -> list[Row]:
    """Break the same traces, and leave out every row that has a problem."""
    return [row for row in with_broken(rows, seed) if not problems(row)]


def repeated(rows: Sequence[Row], seed: int) -> list[Row]:
    """Clean, and show rows that are left again in the place of those that are not."""
    kept = cleaned(rows, seed)
    again = random.Random(f"repeated/{seed}").choices(kept, k=len(rows) - len(kept))
    return [*kept, *({**row, "id": f"{row['id']}+{n}"} for n, row in enumerate(again, start=1))]


ARMS: Mapping[str, tuple[Callable[[Sequence[Row], int], list[Row]], tuple[str, ...]]] = {
    "tags": (with_tags, ("--loss_on", "conversation", "--check_data", "false")),
    "conversation": (as_they_are, ("--loss_on", "conversation")),
    "structured": (as_they_are, ()),
    "malformed": (with_broken, ("--check_data", "false")),
    "cleaned": (cleaned, ()),
    "repeated": (repeated, ()),
}
"""Arm -> how its rows are made of the traces, and its flags of `sft.train`."""


def trace_of(row: Row) -> str:
    """Return the id of the trace that a row is a view of (`ID/N` is view N)."""
    name, _, view = str(row["id"]).rpartition("/")
    return name if name and view.isdigit() else str(row["id"])


def _plain(function: Mapping[str, Any]) -> str:
    return f"<tool_call>\n{_json(function, 'name', 'arguments')}\n</tool_call>"


def _on_one_line(function: Mapping[str, Any]) -> str:
    return f"<tool_call>{_json(function, 'name', 'arguments')}</tool_call>"


def _arguments_first(function: Mapping[str, Any]) -> str:
    return f"<tool_call>\n{_json(function, 'arguments', 'name')}\n</tool_call>"


HANDS = (_plain, _on_one_line, _arguments_first)
"""How a call is written by hand."""


def _single_quoted(row: Row) -> Row:
    return _with_text(row, lambda function: f"<tool_call>\n{function!r}\n</tool_call>")


def _cut_off(row: Row) -> Row:
    """Cut the last learned call off in its middle."""
    last = max(number for number, one in enumerate(row["messages"]) if _learns_to_call(one))

    def cut(function: Mapping[str, Any]) -> str:
        text = _plain(function)
        return text[: len(text) // 2]

    messages = list(row["messages"])
    messages[last] = _as_text(messages[last], cut)
    return {**row, "messages": messages}


def _not_offered(row: Row) -> Row:
    """Offer every tool but the first that is called."""
    called = _learned_calls(row)[0]["name"]
    tools = [tool for tool in row["tools"] if tool["function"]["name"] != called]
    return {**row, "tools": tools}


WAYS = (_single_quoted, _cut_off, _not_offered)
"""How a trace is broken."""


def _with_text(row: Row, write: Callable[[Mapping[str, Any]], str]) -> Row:
    return {**row, "messages": [_as_text(message, write) for message in row["messages"]]}


def _as_text(message: Message, write: Callable[[Mapping[str, Any]], str]) -> Message:
    """Return a message with its calls as text; one without calls as it is."""
    if not message.get("tool_calls"):
        return message
    parts = [message["content"]] if message["content"] else []
    parts += [write(call["function"]) for call in message["tool_calls"]]
    kept = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**kept, "content": "\n".join(parts)}


def _learns_to_call(message: Message) -> bool:
    return bool(message.get("tool_calls")) and message.get("weight") != 0


def _learned_calls(row: Row) -> list[dict[str, Any]]:
    turns = [message for message in row["messages"] if _learns_to_call(message)]
    return [call["function"] for turn in turns for call in turn["tool_calls"]]


def _json(function: Mapping[str, Any], *keys: str) -> str:
    return json.dumps({key: function[key] for key in keys}, ensure_ascii=False)
