"""A trace with other values: the same task about other names, ids, numbers, texts and fields.

A policy that is shown few traces learns their values by heart: it says `Leo Balo` for Leo Becker.
What a trace teaches is where a value comes from and where it goes, so every value that the world
or the user put in is replaced by another of the same shape, in the request, the calls, the results
and the answer alike. Nothing is replaced that has to be as it is:

    the allowed values of an argument (`enum`), and an argument's value that stands nowhere before
        the call: the policy had it from its meaning (EUR for "euros"), not by copying
    the names of tools and arguments, and a field that is part of one

The replaced trace was not played: no server was asked, and a result need not be true. Whoever
learns from it learns to copy, which is what the trained tokens of a trace mostly are.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sft.lexicon import ATTRIBUTES, GENERAL, NOUNS
from sft.values import date, pseudo_word

Row = dict[str, Any]

LONGEST = 80
OTHER_VALUES = ", other values"
"""Added to a row's `source`: what it shows was not played as it stands."""
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_PIECE = re.compile(r"[^\W\d_]+|\d+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
# What a request names, found by its form: a quoted text, anything with a digit, a proper name.
_NOTICED = re.compile(r'"([^"]+)"|([\w.@-]*\d[\w.@-]*\w|\d)|(?<=\w )([A-Z][a-z]+(?: [A-Z][a-z]+)*)')


def with_other_values(row: Mapping[str, Any], rng: random.Random) -> Row:
    """Return a canonical row with its values replaced.

    Args:
        row: The row; it is not changed.
        rng: Source of the new values.

    Returns:
        The new row; the row as it is if its answer says a number that stands nowhere before it
        (one that the policy has rounded or reckoned would be wrong beside other values).
    """
    messages = row["messages"]
    if _says_a_new_number(messages):
        return dict(row)
    words: dict[str, str] = {}
    new = {old: _other(old, words, rng) for old in sorted(_replaceable(messages, row["tools"]))}
    if not new:
        return dict(row)
    pattern = _standing_alone(*sorted(new, key=len, reverse=True))

    def replaced(text: str) -> str:
        return pattern.sub(lambda found: new[found.group()], text)

    changed = [_message(message, replaced) for message in messages]
    return {**row, "messages": changed, "source": f"{row['source']}{OTHER_VALUES}"}


def _message(message: Mapping[str, Any], replaced: Callable[[str], str]) -> dict[str, Any]:
    if "<tool_call>" in message["content"]:  # a broken call, kept as it was said and not trained
        return dict(message)
    changed = {**message, "content": replaced(message["content"])}
    if calls := message.get("tool_calls"):
        changed["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": _mapped(arguments, replaced)}}
            for call in calls
            for arguments in [call["function"]["arguments"]]
        ]
    return changed


def _mapped(value: Any, replaced: Callable[[str], str]) -> Any:
    """Return an argument with its texts and numbers replaced, its keys as they are."""
    if isinstance(value, Mapping):
        return {key: _mapped(item, replaced) for key, item in value.items()}
    if isinstance(value, list):
        return [_mapped(item, replaced) for item in value]
    if isinstance(value, str):
        return replaced(value)
    return json.loads(replaced(json.dumps(value)))


def _replaceable(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any]) -> set[str]:
    """Return the texts of a row that may be replaced."""
    found: set[str] = set()
    before = ""
    for message in messages:
        content = message["content"]
        if message["role"] == "user":
            found |= {next(filter(None, groups)) for groups in _NOTICED.findall(content)}
        elif message["role"] == "tool":
            found |= set(_texts(_parsed(content), keys=True))
        for call in message.get("tool_calls", ()):
            copied = _texts(call["function"]["arguments"], keys=False)
            found |= {text for text in copied if _standing_alone(text).search(before)}
        if message["role"] != "assistant":
            before += f"{content}\n"
    fixed = _fixed(tools)
    return {text for text in found - fixed if len(text) <= LONGEST and _PIECE.search(text)}


def _standing_alone(*texts: str) -> re.Pattern[str]:
    """Match any of the texts where it is no part of a longer word or number; the first wins."""
    either = "|".join(re.escape(text) for text in texts)
    return re.compile(rf"(?<!\w)(?<!\d\.)(?:{either})(?!\w|\.\d)")


def _fixed(tools: Sequence[Any]) -> set[str]:
    """Return what tools give a meaning to: names, the words of them, and allowed values."""
    fixed = {"true", "false", "null"}
    for tool in tools:
        properties = tool["function"].get("parameters", {}).get("properties", {})
        for name in (tool["function"]["name"], *properties):
            fixed |= {name, *name.split("_")}
        for schema in properties.values():
            fixed |= {str(allowed) for allowed in schema.get("enum", ())}
    return fixed


def _texts(value: Any, *, keys: bool) -> Iterator[str]:
    """Yield the texts and numbers in a JSON value; if asked for, the keys of single ones too."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if keys and not isinstance(item, Mapping | list | tuple):
                yield key
            yield from _texts(item, keys=keys)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, keys=keys)
    elif isinstance(value, str):
        if json.dumps(value, ensure_ascii=False) == f'"{value}"':  # as it stands in a result
            yield value
    elif value is not None and not isinstance(value, bool):
        yield json.dumps(value)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _says_a_new_number(messages: Sequence[Mapping[str, Any]]) -> bool:
    before = ""
    for message in messages:
        numbers = _NUMBER.findall(message["content"])
        if message["role"] == "assistant" and any(number not in before for number in numbers):
            return True
        before += f"{message['content']}\n"
    return False


def _other(text: str, words: dict[str, str], rng: random.Random) -> str:
    """Return another value of the same shape; the same word becomes the same word everywhere."""
    if _DATE.fullmatch(text):
        return date(rng)

    def piece(found: re.Match[str]) -> str:
        old = found.group()
        if len(old) == 1 and old.isalpha():
            return old  # the letter of an id says what it is the id of
        if old.lower() not in words:
            words[old.lower()] = _digits(old, rng) if old.isdigit() else _word(old, rng)
        new = words[old.lower()]
        return new.upper() if old.isupper() else new.capitalize() if old[0].isupper() else new

    return _PIECE.sub(piece, text)


def _digits(old: str, rng: random.Random) -> str:
    """Return as many digits, the first and last not 0 so that a number is written in one way."""
    inner = "".join(rng.choices("0123456789", k=len(old)))
    ends = rng.choices("123456789", k=2)
    return ends[0] if len(old) == 1 else ends[0] + inner[1:-1] + ends[1]


def _word(old: str, rng: random.Random) -> str:
    if old.isupper():
        return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=len(old)))
    return (
        rng.choice((*GENERAL, *NOUNS, *ATTRIBUTES)).lower()
        if rng.random() < 0.5
        else pseudo_word(rng)
    )
