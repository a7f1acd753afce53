"""Dialogues that read: one call, chains of calls, detours after an error, two calls at once."""

from __future__ import annotations

from typing import Any

from sft.dialogues.parts import (
    Dialogue,
    answer,
    asked,
    assistant,
    other_noun,
    outcome,
    record,
    says,
    sentence,
    subject,
    tool_result,
    user,
    wanted_field,
)
from sft.gadgets import (
    Dice,
    Gadget,
    call_text,
    finder,
    noun_of_two_words,
    reader,
    solver,
)
from sft.lexicon import ATTRIBUTES
from sft.values import (
    code,
    entity_noun,
    proper_name,
    value,
)


def lookup_dialogue(rng: Dice) -> Dialogue:
    """One call, then the value of a field."""
    gadget, key = reader(rng, entity_noun(rng)), subject(rng)
    row, wanted = record(rng, gadget, key), wanted_field(rng, gadget)
    return Dialogue(
        [
            user(asked(rng, wanted, gadget.noun, key)),
            says(gadget, key),
            tool_result(row),
            answer(wanted, row[wanted]),
        ],
        (gadget,),
    )


def found(rng: Dice) -> tuple[Gadget, str, dict[str, Any]]:
    """Return a tool that finds something about somebody, who, and its result."""
    noun = noun_of_two_words(rng) if rng.random() < 0.6 else rng.choice(ATTRIBUTES)
    gadget, who = finder(rng, noun), proper_name(rng)
    row = {gadget.parameters[0]: who, noun: value(rng)}
    if rng.random() < 0.5:  # the result calls it by its first word only, or by some other
        row = {rng.choice((noun.split("_")[0], "found", "value")): row[noun]}
    return gadget, who, row


def find_dialogue(rng: Dice) -> Dialogue:
    """Find one thing about somebody with the tool that is named after it."""
    gadget, who, row = found(rng)
    thing, item = gadget.noun, list(row.values())[-1]
    style = rng.choice(("{0} of {1}", "{0} for {1}", "{1}: {0}", "{0} {1}", "{1}, {0}"))
    return Dialogue(
        [
            user(sentence(rng, style.format(thing.replace("_", " "), who))),
            says(gadget, who),
            tool_result(row),
            answer(thing, item),
        ],
        (gadget,),
    )


def chain_dialogue(rng: Dice) -> Dialogue:
    """Two or three calls: each takes an id from the result of the one before."""
    gadgets = [reader(rng, entity_noun(rng))]
    for _ in range(rng.choice((1, 1, 1, 2))):
        noun = other_noun(rng, gadgets)
        gadgets.insert(0, reader(rng, noun, extra=[gadgets[0].parameters[0]]))
    first, last, key = gadgets[0], gadgets[-1], subject(rng)
    wanted = wanted_field(rng, last)
    nouns = [gadget.noun for gadget in gadgets]
    gap = rng.choice(("of its", "of the", "of", "for the", "in"))
    path = " ".join(f"{gap} {noun}" for noun in reversed(nouns[1:]))
    style = rng.choice(
        (
            "{a} {key}: {wanted} {path}",
            "{wanted} {path} {gap} {a} {key}",
            "{wanted} {path} {gap} {a} {key}",
            "the {b} behind {a} {key}: {wanted}",
            "follow {a} {key} to the {b} and state {wanted}",
        )
    )
    text = style.format(
        a=first.noun, b=" and ".join(nouns[1:]), key=key, wanted=wanted, path=path, gap=gap
    )
    messages = [user(sentence(rng, text))]
    row: dict[str, Any] = {}
    for gadget, following in zip(gadgets, [*gadgets[1:], None], strict=True):
        row = record(rng, gadget, key)
        messages.append(says(gadget, key))
        if following is not None:
            key = code(rng)
            row[following.parameters[0]] = key
        messages.append(tool_result(row))
    messages.append(answer(wanted, row[wanted]))
    return Dialogue(messages, tuple(gadgets))


def detour_dialogue(rng: Dice) -> Dialogue:
    """The first call fails; the error names what to use instead, or asks to try again."""
    gadget, key, other = reader(rng, entity_noun(rng)), code(rng), code(rng)
    error = rng.choice(
        (f"{key} moved to {other}.", f"nothing under {key}, see {other}", f"{key} became {other}")
    )
    if rng.random() < 0.25:
        other, error = key, rng.choice(("busy, once more", f"try {key} later"))
    row, wanted = record(rng, gadget, other), wanted_field(rng, gadget)
    return Dialogue(
        [
            user(asked(rng, wanted, gadget.noun, key)),
            says(gadget, key),
            tool_result(error),
            says(gadget, other),
            tool_result(row),
            answer(wanted, row[wanted]),
        ],
        (gadget,),
    )


def pair_dialogue(rng: Dice) -> Dialogue:
    """Two calls in one turn; then both values, or their sum through a third tool."""
    gadget = reader(rng, entity_noun(rng))
    keys = [code(rng), code(rng)]
    rows = [record(rng, gadget, key) for key in keys]
    wanted = wanted_field(rng, gadget)
    for row in rows:
        row[wanted] = rng.randint(1, 999)
    left, right = (row[wanted] for row in rows)
    add = rng.random() < 0.7
    head = rng.choice(("add up", "sum up", "sum of", "together,")) if add else "list"
    joined = rng.choice((" and ", " and ", ", ", " plus " if add else " or "))
    gap = rng.choice((",", "of", "for"))
    calls = [call_text(gadget.name, {gadget.parameters[0]: key}) for key in keys]
    messages = [user(sentence(rng, f"{head} {wanted} {gap} {gadget.noun} {joined.join(keys)}"))]
    messages += [assistant("\n".join(calls)), *(tool_result(row) for row in rows)]
    if not add:
        messages.append(assistant(f"{wanted}: {left}, {right}"))
        return Dialogue(messages, (gadget,))
    adder = solver(rng)
    messages += [
        says(adder, f"{left} + {right}"),
        outcome(rng, adder.fields[0], left + right),
        answer("sum", left + right),
    ]
    return Dialogue(messages, (gadget, adder))
