"""Dialogues that compute: a formula, a tool of several arguments, a value read before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sft.dialogues.parts import (
    Dialogue,
    answer,
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
    reader,
    solver,
    tool_name,
)
from sft.lexicon import ATTRIBUTES, GENERAL
from sft.values import (
    attributes,
    entity_noun,
    formula,
    number_value,
    parameter_names,
    proper_name,
    shown,
    symbol,
    value,
    word,
)


def formula_dialogue(rng: Dice) -> Dialogue:
    """Copy a formula into a call, then the result out of it."""
    gadget, text, result = solver(rng), formula(rng), value(rng)
    out = gadget.fields[0]
    style = rng.choice(
        ("{0} =", "solve {0}", "work out {0}", "{0}", "{1} of {0}", "{0}; state the {1}")
    )
    return Dialogue(
        [
            user(sentence(rng, style.format(text, out))),
            says(gadget, text),
            outcome(rng, out, result),
            answer(out, result),
        ],
        (gadget,),
    )


@dataclass(frozen=True)
class Query:
    """A tool with several arguments and one result."""

    gadget: Gadget
    arguments: dict[str, Any]
    out: str


def query(rng: Dice, noun: str, given: tuple[str, Any] | None = None) -> Query:
    """Return a tool of two or three arguments; `given` is one of them."""
    names = parameter_names(rng, rng.randint(1, 2))
    if rng.random() < 0.5:
        names = [f"{prefix}_{names[0]}" for prefix in ("from", "to")]
    arguments = {name: rng.choice((symbol, word, number_value, proper_name))(rng) for name in names}
    if given is not None:
        arguments = {given[0]: given[1], **arguments}
    elif rng.random() < 0.6:
        amount = rng.choice(("amount", "value", "size", "count"))
        arguments = {amount: number_value(rng), **arguments}
    choices = {}
    if rng.random() < 0.4:  # one argument has a list of allowed words
        (name,) = attributes(rng, 1, avoid=arguments)
        choices[name] = tuple(attributes(rng, rng.randint(2, 5), avoid=arguments))
        arguments[name] = rng.choice(choices[name])
    numeric = frozenset(name for name, item in arguments.items() if not isinstance(item, str))
    out = rng.choice(("out", rng.choice(GENERAL).lower(), rng.choice(ATTRIBUTES)))
    gadget = Gadget(
        tool_name(rng, noun),
        noun,
        tuple(arguments),
        (out,),
        numeric=numeric,
        choices=choices,
    )
    return Query(gadget, arguments, out)


def said(rng: Dice, call: Query, names: Sequence[str], *, shuffled: bool = False) -> str:
    """Return the arguments as a request says them: by their names, by from and to, or in order."""
    parts = []
    for name in names:
        text = shown(call.arguments[name])
        prefix = name.split("_")[0]
        label = name if shuffled else rng.choice((name, name, ""))
        if prefix in ("from", "to"):
            label = rng.choice((prefix, prefix, "into" if prefix == "to" else ""))
        elif name in call.gadget.choices:
            label = rng.choice(("", "by", "the", name))
        parts.append(f"{label} {text}".strip())
    return " ".join(parts)


def query_dialogue(rng: Dice) -> Dialogue:
    """One call with several arguments, in an order of the request's own."""
    call = query(rng, entity_noun(rng))
    names, shuffled = list(call.arguments), rng.random() < 0.3
    if shuffled:
        rng.shuffle(names)
    words = said(rng, call, names, shuffled=shuffled)
    style = rng.choice(
        (
            "{noun} {words}: {out}",
            "{out} of {noun} {words}",
            "{words}, {noun}; state {out}",
            "{noun} {words} and say the {out}",
            "{words} in the {noun}",
        )
    )
    result = value(rng)
    text = style.format(noun=call.gadget.noun, words=words, out=call.out)
    return Dialogue(
        [
            user(sentence(rng, text)),
            assistant(call_text(call.gadget.name, call.arguments)),
            outcome(rng, call.out, result),
            answer(call.out, result),
        ],
        (call.gadget,),
    )


def read_then_query_dialogue(rng: Dice) -> Dialogue:
    """Read a field, then ask another tool about it."""
    source, key = reader(rng, entity_noun(rng)), subject(rng)
    row, wanted = record(rng, source, key), wanted_field(rng, source)
    row[wanted] = number_value(rng)
    given = (rng.choice((wanted, "amount", "value")), row[wanted])
    call = query(rng, other_noun(rng, [source]), given)
    result = value(rng)
    style = rng.choice(
        (
            "{wanted} of {a} {key} as {noun} {words}: {out}",
            "take {wanted} of {a} {key}, then {noun} {words}, state {out}",
            "{noun} {wanted} of {a} {key} {words}",
            "{wanted} for {a} {key}, {noun}, {words}",
        )
    )
    text = style.format(
        wanted=wanted,
        a=source.noun,
        key=key,
        noun=call.gadget.noun,
        words=said(rng, call, list(call.arguments)[1:]),
        out=call.out,
    )
    return Dialogue(
        [
            user(sentence(rng, text)),
            says(source, key),
            tool_result(row),
            assistant(call_text(call.gadget.name, call.arguments)),
            outcome(rng, call.out, result),
            answer(call.out, result),
        ],
        (source, call.gadget),
    )
