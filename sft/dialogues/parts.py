"""What dialogues of the pretraining corpus are made of: messages, requests, results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sft.gadgets import (
    Dice,
    Gadget,
    call_text,
)
from sft.lexicon import GENERAL
from sft.values import (
    code,
    entity_noun,
    filler,
    proper_name,
    pseudo_word,
    shown,
    value,
)

Message = dict[str, Any]


@dataclass(frozen=True)
class Dialogue:
    """One request and what follows from it.

    Attributes:
        messages: The messages, the user's first.
        gadgets: The tools that it needs.
        absent: Nouns no tool of which may be offered beside it.
    """

    messages: list[Message]
    gadgets: tuple[Gadget, ...] = ()
    absent: frozenset[str] = frozenset()


Maker = Callable[[Dice], Dialogue]


def user(text: str) -> Message:
    """Return a user message."""
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    """Return an assistant message."""
    return {"role": "assistant", "content": text}


def tool_result(value: Any) -> Message:
    """Return a tool message with the compact JSON of `value` (or a plain error text)."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return {"role": "tool", "content": text}


def says(gadget: Gadget, *arguments: Any) -> Message:
    """Return the assistant's call of a tool, arguments in the order of its parameters."""
    pairs = dict(zip(gadget.parameters, arguments, strict=True))
    return assistant(call_text(gadget.name, pairs))


def answer(name: str, item: Any) -> Message:
    """State one value."""
    return assistant(f"The {name.replace('_', ' ')} is {shown(item)}.")


def sentence(rng: Dice, text: str) -> str:
    """Return a request among words that mean nothing, as a sentence or not."""
    if rng.random() < 0.5:
        text = f"{filler(rng, 3)} {text} {filler(rng, 2)}"
    text = " ".join(text.split()) + rng.choice((".", "?", "", "."))
    return text[0].upper() + text[1:] if rng.random() < 0.7 else text


def asked(rng: Dice, wanted: str, noun: str, key: str) -> str:
    """Ask for one field of one entity."""
    gap = rng.choice(("of", "for", "of", "in", "", filler(rng, 2)))
    style = rng.choice(
        (
            "{wanted} {gap} {noun} {key}",
            "{wanted} {gap} {noun} {key}",
            "{wanted} {gap} the {noun} {key}",
            "{noun} {key}: {wanted}",
            "{noun} {key} {gap} {wanted}",
            "for {noun} {key} say its {wanted}",
            "{key} is a {noun}; state the {wanted}",
        )
    )
    text = style.format(noun=noun, key=key, wanted=wanted.replace("_", " "), gap=gap)
    return sentence(rng, text)


def quoted(rng: Dice, item: Any) -> str:
    """Return an argument as it stands in a request; longer texts are quoted."""
    text = shown(item)
    if " " in text and rng.random() < 0.8:
        return rng.choice(('"{}"', '"{}"', "'{}'", ": {}")).format(text)
    return text


def subject(rng: Dice) -> str:
    """Return what an entity is found by: never a common word, which could be taken for filler."""
    return rng.choice((code, code, proper_name, pseudo_word))(rng)


def other_noun(rng: Dice, gadgets: Sequence[Gadget]) -> str:
    """Return a noun that none of the tools is about."""
    noun = entity_noun(rng)
    while noun in [gadget.noun for gadget in gadgets]:
        noun = entity_noun(rng)
    return noun


def record(rng: Dice, gadget: Gadget, key: str) -> dict[str, Any]:
    """Return one result of a tool; the key stands first, as it does in most APIs."""
    row: dict[str, Any] = {gadget.parameters[0]: key}
    for name in gadget.fields:
        row.setdefault(name, value(rng))
    return row


def outcome(rng: Dice, out: str, item: Any) -> Message:
    """Return the result of a computation; the tool may call it by another name."""
    other = rng.choice(("value", "found", rng.choice(GENERAL).lower()))
    return tool_result({other if rng.random() < 0.3 else out: item})


def wanted_field(rng: Dice, gadget: Gadget) -> str:
    """Return a field to ask for: any but the key."""
    return rng.choice([name for name in gadget.fields if name not in gadget.parameters])


def drawn(rng: Dice, makers: Sequence[tuple[Callable[[Dice], Any], int]]) -> Any:
    """Draw one of several makers by weight and let it make something."""
    maker = rng.choices([m for m, _ in makers], [weight for _, weight in makers])[0]
    return maker(rng)
