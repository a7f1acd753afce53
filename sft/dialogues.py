"""Dialogues of the pretraining corpus: requests, calls of random tools, results and answers."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sft.gadgets import (
    Gadget,
    call_text,
    finder,
    noun_of_two_words,
    reader,
    solver,
    tool_name,
    writer,
)
from sft.lexicon import ATTRIBUTES, GENERAL, VERBS, WRITE_VERBS
from sft.values import (
    attributes,
    code,
    entity_noun,
    filler,
    formula,
    number_value,
    parameter_names,
    phrase,
    proper_name,
    pseudo_word,
    shown,
    symbol,
    value,
    word,
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


Maker = Callable[[random.Random], Dialogue]


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


# --- how requests are said --------------------------------------------------------------------


def sentence(rng: random.Random, text: str) -> str:
    """Return a request among words that mean nothing, as a sentence or not."""
    if rng.random() < 0.5:
        text = f"{filler(rng, 3)} {text} {filler(rng, 2)}"
    text = " ".join(text.split()) + rng.choice((".", "?", "", "."))
    return text[0].upper() + text[1:] if rng.random() < 0.7 else text


def asked(rng: random.Random, wanted: str, noun: str, key: str) -> str:
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


def quoted(rng: random.Random, item: Any) -> str:
    """Return an argument as it stands in a request; longer texts are quoted."""
    text = shown(item)
    if " " in text and rng.random() < 0.8:
        return rng.choice(('"{}"', '"{}"', "'{}'", ": {}")).format(text)
    return text


def subject(rng: random.Random) -> str:
    """Return what an entity is found by: never a common word, which could be taken for filler."""
    return rng.choice((code, code, proper_name, pseudo_word))(rng)


def record(rng: random.Random, gadget: Gadget, key: str) -> dict[str, Any]:
    """Return one result of a tool; the key stands first, as it does in most APIs."""
    row: dict[str, Any] = {gadget.parameters[0]: key}
    for name in gadget.fields:
        row.setdefault(name, value(rng))
    return row


def outcome(rng: random.Random, out: str, item: Any) -> Message:
    """Return the result of a computation; the tool may call it by another name."""
    other = rng.choice(("value", "found", rng.choice(GENERAL).lower()))
    return tool_result({other if rng.random() < 0.3 else out: item})


def wanted_field(rng: random.Random, gadget: Gadget) -> str:
    """Return a field to ask for: any but the key."""
    return rng.choice([name for name in gadget.fields if name not in gadget.parameters])


# --- reading ------------------------------------------------------------------------------------


def lookup_dialogue(rng: random.Random) -> Dialogue:
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


def found(rng: random.Random) -> tuple[Gadget, str, dict[str, Any]]:
    """Return a tool that finds something about somebody, who, and its result."""
    noun = noun_of_two_words(rng) if rng.random() < 0.6 else rng.choice(ATTRIBUTES)
    gadget, who = finder(rng, noun), proper_name(rng)
    row = {gadget.parameters[0]: who, noun: value(rng)}
    if rng.random() < 0.5:  # the result calls it by its first word only, or by some other
        row = {rng.choice((noun.split("_")[0], "found", "value")): row[noun]}
    return gadget, who, row


def find_dialogue(rng: random.Random) -> Dialogue:
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


def chain_dialogue(rng: random.Random) -> Dialogue:
    """Two or three calls: each takes an id from the result of the one before."""
    gadgets = [reader(rng, entity_noun(rng))]
    for _ in range(rng.choice((1, 1, 1, 2))):
        gadgets.insert(0, reader(rng, entity_noun(rng), extra=[gadgets[0].parameters[0]]))
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


def detour_dialogue(rng: random.Random) -> Dialogue:
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


def pair_dialogue(rng: random.Random) -> Dialogue:
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


# --- writing ------------------------------------------------------------------------------------


def stored(rng: random.Random, messages: list[Message], *gadgets: Gadget) -> Dialogue:
    """End a dialogue with the result of a writing tool and a word about it."""
    return Dialogue([*messages, tool_result({"done": True}), assistant("Done.")], gadgets)


def write_dialogue(rng: random.Random) -> Dialogue:
    """One writing call, arguments copied from the request, in any order."""
    gadget = writer(rng, entity_noun(rng))
    row = {name: phrase(rng) if rng.random() < 0.4 else value(rng) for name in gadget.parameters}
    numeric = frozenset(name for name, item in row.items() if not isinstance(item, str))
    gadget = replace(gadget, numeric=numeric)
    bare = rng.random() < 0.3
    said = [
        quoted(rng, item) if bare else f"{name} {quoted(rng, item)}" for name, item in row.items()
    ]
    if rng.random() < 0.5 and not bare:
        rng.shuffle(said)
    verb = rng.choice((gadget.name.split("_")[0], rng.choice(WRITE_VERBS)))
    gap = rng.choice((", ", " ", " with ", " for "))
    text = f"{verb} {rng.choice(('a', 'this', 'one', 'the'))} {gadget.noun} {gap.join(said)}"
    return stored(rng, [user(sentence(rng, text)), says(gadget, *row.values())], gadget)


def update_dialogue(rng: random.Random) -> Dialogue:
    """Give one field of one entity a new value."""
    noun, key, item = entity_noun(rng), subject(rng), value(rng)
    (name,) = parameter_names(rng, 1)
    parameters = (f"{noun}_{rng.choice(('key', 'ref', 'code', 'tag'))}", name)
    gadget = Gadget(
        tool_name(rng, WRITE_VERBS, rng.choice((noun, name, f"{noun}_{name}"))),
        noun,
        parameters,
        ("done",),
        write=True,
        numeric=frozenset() if isinstance(item, str) else frozenset({name}),
    )
    style = rng.choice(
        (
            "{name} of {noun} {key} becomes {item}",
            "{noun} {key}: {name} to {item}",
            "{verb} {noun} {key} with {name} {item}",
            "{verb} {item} as {name} of {noun} {key}",
            "{verb} {name} {noun} {key} {gap} {item}",
        )
    )
    text = style.format(
        name=name,
        noun=noun,
        key=key,
        item=quoted(rng, item),
        verb=rng.choice(WRITE_VERBS),
        gap=rng.choice(("to", "at", "=", "as", filler(rng, 2))),
    )
    return stored(rng, [user(sentence(rng, text)), says(gadget, key, item)], gadget)


def read_then_write_dialogue(rng: random.Random) -> Dialogue:
    """Read a field, or find something about somebody; store it with a text of the request."""
    target, text = writer(rng, entity_noun(rng)), phrase(rng)
    if rng.random() < 0.5:
        source, key, row = found(rng)
        wanted, item = source.noun, list(row.values())[-1]
        style = '{verb} {noun} "{text}" {gap} {key}'
    else:
        source, key = reader(rng, entity_noun(rng)), subject(rng)
        row, wanted = record(rng, source, key), wanted_field(rng, source)
        item = row[wanted]
        style = '{verb} {noun} "{text}" with {wanted} of {source} {key}'
    numeric = frozenset() if isinstance(item, str) else frozenset({wanted})
    note = rng.choice(("remark", "words", "line", *parameter_names(rng, 1)))
    if note == wanted:
        note = "remark"
    names = (wanted, note) if rng.random() < 0.5 else (note, wanted)
    target = replace(target, parameters=names, numeric=numeric)
    said = style.format(
        verb=target.name.split("_")[0],
        noun=target.noun,
        text=text,
        wanted=wanted,
        source=source.noun,
        key=key,
        gap=rng.choice(("to", "for", "at")),
    )
    arguments = [text if name == note else item for name in names]
    messages = [
        user(sentence(rng, said)),
        says(source, key),
        tool_result(row),
        says(target, *arguments),
    ]
    return stored(rng, messages, source, target)


# --- computing ----------------------------------------------------------------------------------


def formula_dialogue(rng: random.Random) -> Dialogue:
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


def query(rng: random.Random, given: tuple[str, Any] | None = None) -> Query:
    """Return a tool of two or three arguments; `given` is one of them."""
    noun = entity_noun(rng)
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
        tool_name(rng, VERBS, noun),
        noun,
        tuple(arguments),
        (out,),
        numeric=numeric,
        choices=choices,
    )
    return Query(gadget, arguments, out)


def said(rng: random.Random, call: Query, names: Sequence[str], *, shuffled: bool = False) -> str:
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


def query_dialogue(rng: random.Random) -> Dialogue:
    """One call with several arguments, in an order of the request's own."""
    call = query(rng)
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


def read_then_query_dialogue(rng: random.Random) -> Dialogue:
    """Read a field, then ask another tool about it."""
    source, key = reader(rng, entity_noun(rng)), subject(rng)
    row, wanted = record(rng, source, key), wanted_field(rng, source)
    row[wanted] = number_value(rng)
    call = query(rng, (rng.choice((wanted, "amount", "value")), row[wanted]))
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


# --- no call ------------------------------------------------------------------------------------


def choose_exercise(rng: random.Random) -> Dialogue:
    """Name the tool for each of several entities, or say that there is none.

    The verb of a tool's name stands before the noun that identifies it, and a missing tool can
    only be noticed by looking at all of them: both are learned best where nothing else is asked.
    """
    gadgets: dict[str, Gadget] = {}
    for _ in range(rng.randint(2, 5)):
        gadget = rng.choice((reader, reader, writer, finder))(rng, entity_noun(rng))
        gadgets.setdefault(gadget.noun, gadget)
    nouns = {entity_noun(rng) for _ in range(rng.randint(1, 2))} - set(gadgets)
    picked = [*rng.sample(sorted(gadgets), rng.randint(1, len(gadgets))), *sorted(nouns)]
    rng.shuffle(picked)
    lines = []
    whole = rng.random() < 0.5
    for noun in picked:
        if noun in nouns:
            lines.append("none")
        elif whole:
            empty = dict.fromkeys(gadgets[noun].parameters, "")
            lines.append(call_text(gadgets[noun].name, empty))
        else:
            lines.append(gadgets[noun].name)
    head = "calls" if whole else "tools"
    messages = [user(f"{head} for {', '.join(picked)}?"), assistant("\n".join(lines))]
    return Dialogue(messages, tuple(gadgets.values()), frozenset(nouns))


def nothing_fits_dialogue(rng: random.Random) -> Dialogue:
    """A tool that the request needs is not offered: the first one, or one for later."""
    whole = drawn(rng, ACTIONS)
    missing = whole.gadgets[0] if rng.random() < 0.6 else rng.choice(whole.gadgets)
    return Dialogue(
        [whole.messages[0], assistant("None of these tools fits.")],
        tuple(gadget for gadget in whole.gadgets if gadget is not missing),
        frozenset({missing.noun}),
    )


def key_missing_dialogue(rng: random.Random) -> Dialogue:
    """The request does not say which entity is meant."""
    gadget = rng.choice((reader, reader, finder))(rng, entity_noun(rng))
    wanted = rng.choice(gadget.fields)
    name = rng.choice((gadget.noun, gadget.noun.replace("_", " ")))
    article = rng.choice(("a", "the", "some", "one"))
    style = rng.choice(("{0} of {2} {1}", "{2} {1}: {0}", "{2} {1}", "{0}, {2} {1}"))
    text = style.format(wanted.replace("_", " "), name, article)
    return Dialogue([user(sentence(rng, text)), assistant(f"Which {name}?")], (gadget,))


ACTIONS: tuple[tuple[Maker, int], ...] = (
    (lookup_dialogue, 5),
    (find_dialogue, 3),
    (chain_dialogue, 4),
    (detour_dialogue, 3),
    (pair_dialogue, 3),
    (write_dialogue, 4),
    (update_dialogue, 4),
    (read_then_write_dialogue, 3),
    (formula_dialogue, 3),
    (query_dialogue, 4),
    (read_then_query_dialogue, 3),
)

DIALOGUES: tuple[tuple[Maker, int], ...] = (
    *ACTIONS,
    (choose_exercise, 6),
    (nothing_fits_dialogue, 7),
    (key_missing_dialogue, 3),
)


def drawn(rng: random.Random, makers: Sequence[tuple[Callable[[random.Random], Any], int]]) -> Any:
    """Draw one of several makers by weight and let it make something."""
    maker = rng.choices([m for m, _ in makers], [weight for _, weight in makers])[0]
    return maker(rng)
