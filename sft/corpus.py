"""The synthetic pretraining corpus of the embedded policy.

It teaches what a small base model knows before it meets our tools: ChatML, JSON, copying, reading
a value by its key, and calling OTHER tools, in another dialect (`use {...}` instead of
`<tool_call>` tags), so that the base policy cannot play the mock world but a few traces suffice to
show it how. What is covered:

    copy        repeat words, ids, numbers, quoted text, any token of the vocabulary
    build       make a JSON object out of pairs; the Hermes form of a call as a rewriting exercise
    read        the value of a key in an object, also in one of several objects
    dialogue    choose among 2 to 6 tools, call, read the result, go on: chains, parallel calls,
                errors that name a way out, writes, sums, nothing fits, something is missing

What is NOT in it: any name, description, parameter set or phrasing of the mock tools, any task.
Every document draws new random words, so nothing in it can be memorised.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sft.lexicon import (
    ATTRIBUTES,
    GENERAL,
    NOT_PARAMETERS,
    NOUNS,
    PLACES,
    SYLLABLES,
    VERBS,
    WRITE_VERBS,
)

KEY_SUFFIXES = ("key", "ref", "code", "tag", "no", "slug")


@dataclass(frozen=True)
class Document:
    """One training document: chat messages and the tools of its system prompt."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]


def user(text: str) -> dict[str, Any]:
    """Return a user message."""
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    """Return an assistant message."""
    return {"role": "assistant", "content": text}


def tool_result(value: Any) -> dict[str, Any]:
    """Return a tool message with the compact JSON of `value` (or a plain error text)."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return {"role": "tool", "content": text}


def call_text(name: str, arguments: dict[str, Any]) -> str:
    """Return a call in the corpus's own dialect: the right object, the wrong wrapping."""
    body = json.dumps(arguments, ensure_ascii=False)
    return f'use {{"name": "{name}", "arguments": {body}}}'


def hermes_text(name: str, arguments: dict[str, Any]) -> str:
    """Return a call in the Hermes form that the Qwen3 template renders."""
    body = json.dumps(arguments, ensure_ascii=False)
    return f'<tool_call>\n{{"name": "{name}", "arguments": {body}}}\n</tool_call>'


# --- values -------------------------------------------------------------------------------------


def pseudo_word(rng: random.Random) -> str:
    """Return a pronounceable random word."""
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 3)))


def word(rng: random.Random) -> str:
    """Return a word, known or new."""
    return rng.choice(GENERAL).lower() if rng.random() < 0.5 else pseudo_word(rng)


def proper_name(rng: random.Random) -> str:
    """Return one or two capitalised words."""
    return " ".join(pseudo_word(rng).capitalize() for _ in range(rng.choice((1, 2, 2))))


def code(rng: random.Random) -> str:
    """Return an id: a letter and 2 to 4 digits."""
    return rng.choice("ABCDEFGHJKLMNPRSTUVWXYZ") + str(rng.randint(10, 9999))


def number(rng: random.Random) -> str:
    """Return a number as text."""
    shape = rng.random()
    if shape < 0.6:
        return str(rng.randint(0, 10 ** rng.randint(1, 4)))
    if shape < 0.9:
        return f"{rng.uniform(0, 500):.{rng.randint(1, 2)}f}"
    return str(-rng.randint(1, 500))


def date(rng: random.Random) -> str:
    """Return an ISO date."""
    return f"20{rng.randint(10, 39)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"


def email(rng: random.Random) -> str:
    """Return an e-mail address."""
    return f"{pseudo_word(rng)}.{pseudo_word(rng)}@{pseudo_word(rng)}.{rng.choice(('com', 'org'))}"


def phone(rng: random.Random) -> str:
    """Return a phone number."""
    return f"+{rng.randint(1, 99)}-{rng.randint(100, 999)}-{rng.randint(1000, 9999)}"


def phrase(rng: random.Random) -> str:
    """Return a few words."""
    return " ".join(word(rng) for _ in range(rng.randint(2, 5)))


def formula(rng: random.Random) -> str:
    """Return an arithmetic expression, sometimes with a bracket."""
    gap = rng.choice(("", " ", " "))
    terms = [number(rng) if rng.random() < 0.3 else str(rng.randint(1, 99)) for _ in range(3)]
    signs = [f"{gap}{rng.choice('+-*/')}{gap}" for _ in range(2)]
    if rng.random() < 0.5:
        return f"{terms[0]}{signs[0]}{terms[1]}"
    shape = rng.choice(("{0}{3}{1}{4}{2}", "({0}{3}{1}){4}{2}", "{0}{3}({1}{4}{2})"))
    return shape.format(*terms, *signs)


def symbol(rng: random.Random) -> str:
    """Return two to four capital letters, such as a currency."""
    known = [name for name in GENERAL if name.isupper() and len(name) > 1]
    if rng.random() < 0.4:
        return rng.choice(known)
    return "".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(rng.randint(2, 4)))


TEXTS: tuple[Callable[[random.Random], str], ...] = (
    word,
    proper_name,
    proper_name,
    code,
    date,
    email,
    phone,
    symbol,
)


def value(rng: random.Random) -> str | int | float:
    """Return a JSON value: mostly text, sometimes a number."""
    if rng.random() < 0.35:
        text = number(rng)
        return float(text) if "." in text else int(text)
    return rng.choice(TEXTS)(rng)


def shown(item: Any) -> str:
    """Return a value as it stands in a sentence."""
    return item if isinstance(item, str) else json.dumps(item)


def entity_noun(rng: random.Random) -> str:
    """Return the noun of an entity."""
    return rng.choice(NOUNS) if rng.random() < 0.6 else pseudo_word(rng)


def attribute(rng: random.Random) -> str:
    """Return the name of a field: an attribute, a general word or a new one."""
    kind = rng.random()
    if kind < 0.5:
        return rng.choice(ATTRIBUTES)
    if kind < 0.75:
        return rng.choice(GENERAL).lower()
    return pseudo_word(rng)


def attributes(rng: random.Random, count: int, avoid: Collection[str] = ()) -> list[str]:
    """Return distinct field names, none of those to avoid."""
    found: list[str] = []
    while len(found) < count:
        name = attribute(rng)
        if name not in found and name not in avoid:
            found.append(name)
    return found


def parameter_names(rng: random.Random, count: int) -> list[str]:
    """Return distinct parameter names, none of which a mock tool has."""
    return attributes(rng, count, avoid=NOT_PARAMETERS)


# --- exercises without tools ----------------------------------------------------------------------


def copy_exercise(rng: random.Random) -> Document:
    """Repeat what was said."""
    items = [shown(value(rng)) for _ in range(rng.randint(1, 5))]
    if rng.random() < 0.3:
        items = [phrase(rng)]
    if rng.random() < 0.15:
        items = [formula(rng)]
    text = rng.choice((" ", ", ", "\n")).join(items)
    head = rng.choice(("repeat", "copy", "echo", "say"))
    return Document([user(f"{head}: {text}"), assistant(text)], [])


def spelling_exercise(rng: random.Random, vocabulary: Sequence[str]) -> Document:
    """Repeat random pieces of the vocabulary, so that every token is learned as an output."""
    text = "".join(rng.choice(vocabulary) for _ in range(rng.randint(4, 24))).strip()
    text = text or "x"
    return Document([user(f"spell: {text}"), assistant(text)], [])


def build_exercise(rng: random.Random) -> Document:
    """Make a JSON object out of pairs."""
    pairs = {name: value(rng) for name in attributes(rng, rng.randint(1, 4))}
    said = ", ".join(f"{name} = {shown(item)}" for name, item in pairs.items())
    text = json.dumps(pairs, ensure_ascii=False)
    return Document([user(f"as json: {said}"), assistant(text)], [])


def rewrite_exercise(rng: random.Random) -> Document:
    """Rewrite one or two calls in the Hermes form."""
    calls = []
    for _ in range(rng.choice((1, 1, 2))):
        noun = entity_noun(rng)
        pairs = {name: value(rng) for name in attributes(rng, rng.randint(1, 3))}
        calls.append((f"{rng.choice(VERBS)}_{noun}", pairs))
    said = "\n".join(call_text(*call) for call in calls)
    text = "\n".join(hermes_text(*call) for call in calls)
    return Document([user(f"rewrite: {said}"), assistant(text)], [])


def read_exercise(rng: random.Random) -> Document:
    """Say the value of a key, in one object or in one of several."""
    names = attributes(rng, rng.randint(2, 5))
    rows = [{name: value(rng) for name in names} for _ in range(rng.choice((1, 1, 2, 3)))]
    row, wanted = rng.choice(rows), rng.choice(names)
    given = names[0] if len(rows) > 1 else ""
    question = f"{wanted}?" if not given else f"{wanted} where {given} is {shown(row[given])}?"
    text = json.dumps(rows[0] if len(rows) == 1 else rows, ensure_ascii=False)
    return Document([user(f"{text}\n{question}"), assistant(answer(rng, wanted, row[wanted]))], [])


# --- tools and dialogues --------------------------------------------------------------------------


@dataclass(frozen=True)
class Gadget:
    """A random tool: its schema parts and the fields of what it returns."""

    name: str
    noun: str
    parameters: tuple[str, ...]
    fields: tuple[str, ...]
    write: bool = False
    numeric: frozenset[str] = frozenset()

    def schema(self, rng: random.Random) -> dict[str, Any]:
        """Return the OpenAI function schema."""
        properties: dict[str, Any] = {}
        for name in self.parameters:
            kind = rng.choice(("integer", "number")) if name in self.numeric else "string"
            properties[name] = {"type": kind}
            if rng.random() < 0.25:
                properties[name]["description"] = f"{rng.choice(GENERAL)} {name.replace('_', ' ')}"
        style = rng.choice(
            (
                "Reads one {noun} through its {parameter}.",
                "Everything known about some {noun}.",
                "{noun} lookup: {fields}.",
                "Returns {fields}.",
                "Use it for a {noun}.",
            )
        )
        if self.write:
            style = rng.choice(("Stores one {noun}.", "Adds some {noun} with {parameter}."))
        text = style.format(
            noun=self.noun,
            parameter=self.parameters[0].replace("_", " "),
            fields=" and ".join(self.fields),
        )
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": text[0].upper() + text[1:],
                "parameters": {
                    "type": "object",
                    "properties": properties,
                    "required": list(self.parameters),
                },
            },
        }


def tool_name(rng: random.Random, verbs: Sequence[str], noun: str) -> str:
    """Return a name of one to three parts that contains the noun."""
    shape = rng.random()
    if shape < 0.1:
        return noun
    if shape < 0.3:
        return f"{rng.choice(verbs)}_{noun}_{rng.choice((rng.choice(GENERAL).lower(), noun[:3]))}"
    return f"{rng.choice(verbs)}_{noun}"


def reader(rng: random.Random, noun: str, extra: Sequence[str] = ()) -> Gadget:
    """Return a tool that reads one entity by its key."""
    shape = rng.random()
    parameter = f"{noun}_{rng.choice(KEY_SUFFIXES)}" if shape < 0.6 else rng.choice(KEY_SUFFIXES)
    if shape > 0.85:
        (parameter,) = parameter_names(rng, 1)
    fields = attributes(rng, rng.randint(2, 4))
    return Gadget(tool_name(rng, VERBS, noun), noun, (parameter,), (*fields, *extra))


def writer(rng: random.Random, noun: str) -> Gadget:
    """Return a tool that stores something with one to three arguments."""
    names = tuple(parameter_names(rng, rng.randint(1, 3)))
    return Gadget(tool_name(rng, WRITE_VERBS, noun), noun, names, ("done",), write=True)


def subject(rng: random.Random) -> str:
    """Return what an entity is found by."""
    return rng.choice((code, code, proper_name, word))(rng)


def record(rng: random.Random, gadget: Gadget, key: str) -> dict[str, Any]:
    """Return one result of a tool; the key stands first, as it does in most APIs."""
    row: dict[str, Any] = {gadget.parameters[0]: key}
    for name in gadget.fields:
        row.setdefault(name, value(rng))
    return row


def answer(rng: random.Random, name: str, item: Any) -> str:
    """State one value."""
    style = rng.choice(("The {0} is {1}.",) * 7 + ("{0}: {1}",))
    return style.format(name, shown(item))


def request(rng: random.Random, wanted: str, noun: str, key: str) -> str:
    """Ask for one field of one entity."""
    style = rng.choice(
        (
            "{noun} {key}: {wanted}?",
            "Report {wanted}, {noun} {key}.",
            "{wanted} for {noun} {key}",
            "Which {wanted} belongs to {noun} {key}?",
            "For {noun} {key} say its {wanted}.",
            "I ask about {noun} {key}. Its {wanted}?",
            "{key} is a {noun}; state the {wanted}.",
            "Kindly read {noun} {key} and state {wanted}.",
        )
    )
    text = style.format(noun=noun, key=key, wanted=wanted)
    return text[0].upper() + text[1:] if rng.random() < 0.7 else text


def toolbox(
    rng: random.Random, needed: Sequence[Gadget], low: int = 2, high: int = 6
) -> list[dict[str, Any]]:
    """Return the schemas of the needed tools among distractors, shuffled."""
    gadgets = list(needed)
    nouns = {gadget.noun for gadget in gadgets}
    for gadget in needed:
        # The same entity with the other kind of verb: reading and writing must be told apart.
        if rng.random() < 0.35:
            twin = (reader if gadget.write else writer)(rng, gadget.noun)
            if twin.name not in [one.name for one in gadgets]:
                gadgets.append(twin)
    while len(gadgets) < max(rng.randint(low, high), len(needed)):
        noun = entity_noun(rng)
        if noun in nouns:
            continue
        nouns.add(noun)
        gadgets.append(writer(rng, noun) if rng.random() < 0.35 else reader(rng, noun))
    rng.shuffle(gadgets)
    return [gadget.schema(rng) for gadget in gadgets]


def lookup_dialogue(rng: random.Random) -> Document:
    """One call, then the value of a field."""
    gadget, key = reader(rng, entity_noun(rng)), subject(rng)
    row = record(rng, gadget, key)
    wanted = rng.choice(gadget.fields)
    return Document(
        [
            user(request(rng, wanted, gadget.noun, key)),
            assistant(call_text(gadget.name, {gadget.parameters[0]: key})),
            tool_result(row),
            assistant(answer(rng, wanted, row[wanted])),
        ],
        toolbox(rng, [gadget]),
    )


def chain_dialogue(rng: random.Random) -> Document:
    """Two or three calls: each takes an id from the result of the one before."""
    gadgets = [reader(rng, entity_noun(rng))]
    for _ in range(rng.choice((1, 1, 1, 2))):
        gadgets.insert(0, reader(rng, entity_noun(rng), extra=[gadgets[0].parameters[0]]))
    first, last, key = gadgets[0], gadgets[-1], subject(rng)
    wanted = rng.choice(last.fields)
    nouns = [gadget.noun for gadget in gadgets]
    path = " ".join(f"of its {noun}" for noun in reversed(nouns[1:]))
    style = rng.choice(
        (
            "{a} {key}: {wanted} {path}?",
            "The {b} behind {a} {key}: {wanted}?",
            "Follow {a} {key} to the {b} and state {wanted}.",
        )
    )
    text = style.format(a=first.noun, b=" and ".join(nouns[1:]), key=key, wanted=wanted, path=path)
    messages = [user(text)]
    row: dict[str, Any] = {}
    for gadget, following in zip(gadgets, [*gadgets[1:], None], strict=True):
        row = record(rng, gadget, key)
        messages.append(assistant(call_text(gadget.name, {gadget.parameters[0]: key})))
        if following is not None:
            key = code(rng)
            row[following.parameters[0]] = key
        messages.append(tool_result(row))
    messages.append(assistant(answer(rng, wanted, row[wanted])))
    return Document(messages, toolbox(rng, gadgets))


def detour_dialogue(rng: random.Random) -> Document:
    """The first call fails and the error names what to use instead."""
    gadget, key, other = reader(rng, entity_noun(rng)), code(rng), code(rng)
    row = record(rng, gadget, other)
    wanted = rng.choice(gadget.fields)
    error = rng.choice(
        (f"{key} moved to {other}.", f"nothing under {key}, see {other}", f"{key} became {other}")
    )
    again = key if rng.random() < 0.25 else other
    if again == key:
        error, row[gadget.parameters[0]] = rng.choice(("busy, once more", "try {key} later")), key
    return Document(
        [
            user(request(rng, wanted, gadget.noun, key)),
            assistant(call_text(gadget.name, {gadget.parameters[0]: key})),
            tool_result(error.replace("{key}", key)),
            assistant(call_text(gadget.name, {gadget.parameters[0]: again})),
            tool_result(row),
            assistant(answer(rng, wanted, row[wanted])),
        ],
        toolbox(rng, [gadget]),
    )


def argument_for(rng: random.Random) -> Any:
    """Return an argument of a writing tool."""
    if rng.random() < 0.4:
        return phrase(rng)
    return value(rng)


def quoted(rng: random.Random, item: Any) -> str:
    """Return an argument as it stands in a request; longer texts are quoted."""
    text = shown(item)
    if " " in text and rng.random() < 0.7:
        return rng.choice(('"{}"', "'{}'", ": {}")).format(text)
    return text


def write_dialogue(rng: random.Random) -> Document:
    """One writing call, arguments copied from the request, in any order."""
    gadget = writer(rng, entity_noun(rng))
    row = {name: argument_for(rng) for name in gadget.parameters}
    numeric = frozenset(name for name, item in row.items() if not isinstance(item, str))
    gadget = replace(gadget, numeric=numeric)
    said = [f"{name} {quoted(rng, item)}" for name, item in row.items()]
    if rng.random() < 0.5:
        rng.shuffle(said)
    verb = gadget.name.split("_")[0]
    text = f"{verb} {rng.choice(('a', 'this', 'one'))} {gadget.noun} {', '.join(said)}"
    messages = [user(text[0].upper() + text[1:] if rng.random() < 0.3 else text)]
    messages.append(assistant(call_text(gadget.name, row)))
    messages += [tool_result({"done": True}), assistant(rng.choice(("Done.", "It is stored.")))]
    return Document(messages, toolbox(rng, [gadget]))


def read_then_write_dialogue(rng: random.Random) -> Document:
    """Read a field, then store it together with a text of the request."""
    source, target = reader(rng, entity_noun(rng)), writer(rng, entity_noun(rng))
    key = subject(rng)
    row = record(rng, source, key)
    wanted = rng.choice(source.fields)
    numeric = frozenset() if isinstance(row[wanted], str) else frozenset({wanted})
    names = (wanted, "remark") if rng.random() < 0.5 else ("remark", wanted)
    target = replace(target, parameters=names, numeric=numeric)
    text = phrase(rng)
    verb = target.name.split("_")[0]
    return Document(
        [
            user(f'{verb} {target.noun} "{text}" with {wanted} of {source.noun} {key}'),
            assistant(call_text(source.name, {source.parameters[0]: key})),
            tool_result(row),
            assistant(
                call_text(target.name, {n: text if n == "remark" else row[n] for n in names})
            ),
            tool_result({"done": True}),
            assistant("Done."),
        ],
        toolbox(rng, [source, target]),
    )


def pair_dialogue(rng: random.Random) -> Document:
    """Two calls in one turn; then both values, or their sum through a third tool."""
    gadget = reader(rng, entity_noun(rng))
    keys = [code(rng), code(rng)]
    rows = [record(rng, gadget, key) for key in keys]
    wanted = rng.choice(gadget.fields)
    for row in rows:
        row[wanted] = rng.randint(1, 999)
    solver = solver_tool(rng)
    joined = rng.choice((" and ", ", ", " plus "))
    add = joined == " plus " or rng.random() < 0.5
    head = rng.choice(("add up", "sum up")) if add else "list"
    calls = [call_text(gadget.name, {gadget.parameters[0]: key}) for key in keys]
    messages = [user(f"{head} {wanted}, {gadget.noun} {joined.join(keys)}")]
    messages += [assistant("\n".join(calls)), *(tool_result(row) for row in rows)]
    left, right = (row[wanted] for row in rows)
    if not add:
        messages.append(assistant(f"{wanted}: {left}, {right}"))
        return Document(messages, toolbox(rng, [gadget]))
    text = f"{left} + {right}"
    messages += [
        assistant(call_text(solver.name, {"formula": text})),
        tool_result({"out": left + right}),
        assistant(answer(rng, "sum", left + right)),
    ]
    return Document(messages, toolbox(rng, [gadget, solver]))


def solver_tool(rng: random.Random, out: str = "out") -> Gadget:
    """Return a tool that takes a formula."""
    name = rng.choice(("solve", "work_out", "reckon", f"solve_{pseudo_word(rng)}"))
    return Gadget(name, "formula", ("formula",), (out,))


def formula_dialogue(rng: random.Random) -> Document:
    """Copy a formula into a call, then the result out of it."""
    out = rng.choice(("out", "outcome", "solved", pseudo_word(rng)))
    solver = solver_tool(rng, out)
    text, result = formula(rng), value(rng)
    style = rng.choice(
        ("{0} = ?", "solve {0}", "work out {0}.", "{0}", "{1} of {0}?", "The {1} of {0}.")
    )
    messages = [
        user(style.format(text, out)),
        assistant(call_text(solver.name, {"formula": text})),
        tool_result({out: result}),
        assistant(answer(rng, out, result)),
    ]
    return Document(messages, toolbox(rng, [solver]))


@dataclass(frozen=True)
class Query:
    """A tool with several arguments, and a request that says all but one of them in words."""

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
        arguments = {
            rng.choice(("amount", "value", "size", "count")): number_value(rng),
            **arguments,
        }
    numeric = frozenset(name for name, item in arguments.items() if not isinstance(item, str))
    out = rng.choice(("out", rng.choice(GENERAL).lower(), rng.choice(ATTRIBUTES)))
    gadget = Gadget(tool_name(rng, VERBS, noun), noun, tuple(arguments), (out,), numeric=numeric)
    return Query(gadget, arguments, out)


def number_value(rng: random.Random) -> int | float:
    """Return a number."""
    text = number(rng)
    return float(text) if "." in text else int(text)


def said(rng: random.Random, asked: Query, names: Sequence[str]) -> str:
    """Return the arguments as a request says them: with their names, or by from and to."""
    parts = []
    for name in names:
        text = shown(asked.arguments[name])
        prefix = name.split("_")[0]
        label = prefix if prefix in ("from", "to") else rng.choice((name, name, ""))
        parts.append(f"{label} {text}".strip())
    return " ".join(parts)


def query_dialogue(rng: random.Random) -> Document:
    """One call with several arguments, in an order of the request's own."""
    asked = query(rng)
    names = list(asked.arguments)
    if rng.random() < 0.3:
        rng.shuffle(names)
    words = said(rng, asked, names)
    style = rng.choice(
        (
            "{noun} {words}: {out}?",
            "{out} of {noun} {words}",
            "{words}, {noun}; state {out}",
            "Which {out} has the {noun} {words}?",
        )
    )
    result = value(rng)
    return Document(
        [
            user(style.format(noun=asked.gadget.noun, words=words, out=asked.out)),
            assistant(call_text(asked.gadget.name, asked.arguments)),
            tool_result({asked.out: result}),
            assistant(answer(rng, asked.out, result)),
        ],
        toolbox(rng, [asked.gadget]),
    )


def read_then_query_dialogue(rng: random.Random) -> Document:
    """Read a field, then ask another tool about it."""
    source, key = reader(rng, entity_noun(rng)), subject(rng)
    row = record(rng, source, key)
    wanted = rng.choice(source.fields)
    row[wanted] = number_value(rng)
    asked = query(rng, (rng.choice((wanted, "amount", "value")), row[wanted]))
    words = said(rng, asked, list(asked.arguments)[1:])
    result = value(rng)
    style = rng.choice(
        (
            "{wanted} of {a} {key} as {noun} {words}: {out}?",
            "Take {wanted} of {a} {key}, then {noun} {words}, state {out}.",
        )
    )
    text = style.format(
        wanted=wanted, a=source.noun, key=key, noun=asked.gadget.noun, words=words, out=asked.out
    )
    return Document(
        [
            user(text),
            assistant(call_text(source.name, {source.parameters[0]: key})),
            tool_result(row),
            assistant(call_text(asked.gadget.name, asked.arguments)),
            tool_result({asked.out: result}),
            assistant(answer(rng, asked.out, result)),
        ],
        toolbox(rng, [source, asked.gadget]),
    )


def choose_exercise(rng: random.Random) -> Document:
    """Name the tool for each of several entities: the verb stands before what identifies it."""
    gadgets: dict[str, Gadget] = {}
    for _ in range(rng.randint(2, 5)):
        gadget = (writer if rng.random() < 0.3 else reader)(rng, entity_noun(rng))
        gadgets.setdefault(gadget.noun, gadget)
    asked = rng.sample(sorted(gadgets), rng.randint(1, len(gadgets)))
    tools = [gadget.schema(rng) for gadget in gadgets.values()]
    calls = [
        call_text(gadgets[noun].name, dict.fromkeys(gadgets[noun].parameters, "")) for noun in asked
    ]
    return Document([user(f"tools for {', '.join(asked)}?"), assistant("\n".join(calls))], tools)


def nothing_fits_dialogue(rng: random.Random) -> Document:
    """The tool that the request needs is not offered."""
    gadget = reader(rng, entity_noun(rng))
    wanted = rng.choice(gadget.fields)
    text = request(rng, wanted, gadget.noun, subject(rng))
    reply = rng.choice(("Nothing here reads a {0}.", "No way to look into {0}.", "None fits {0}."))
    tools = toolbox(rng, [reader(rng, rng.choice([n for n in NOUNS if n != gadget.noun]))])
    if any(gadget.noun in json.dumps(tool) for tool in tools):
        return nothing_fits_dialogue(rng)
    return Document([user(text), assistant(reply.format(gadget.noun))], tools)


def key_missing_dialogue(rng: random.Random) -> Document:
    """The request does not say which entity is meant."""
    gadget = reader(rng, entity_noun(rng))
    wanted = rng.choice(gadget.fields)
    text = request(rng, wanted, gadget.noun, "").replace("  ", " ").replace(" .", ".")
    reply = rng.choice(("Which {0}?", "Say which {0}.", "The {0} is not named. Which one?"))
    return Document([user(text), assistant(reply.format(gadget.noun))], toolbox(rng, [gadget]))


Maker = Callable[[random.Random], Document]

EXERCISES: tuple[tuple[Maker, int], ...] = (
    (copy_exercise, 4),
    (build_exercise, 3),
    (rewrite_exercise, 3),
    (read_exercise, 4),
)

DIALOGUES: tuple[tuple[Maker, int], ...] = (
    (lookup_dialogue, 6),
    (choose_exercise, 5),
    (chain_dialogue, 4),
    (detour_dialogue, 3),
    (write_dialogue, 3),
    (read_then_write_dialogue, 3),
    (pair_dialogue, 3),
    (formula_dialogue, 2),
    (query_dialogue, 4),
    (read_then_query_dialogue, 3),
    (nothing_fits_dialogue, 2),
    (key_missing_dialogue, 2),
)


def draw(rng: random.Random, dialogue_share: float, vocabulary: Sequence[str] = ()) -> Document:
    """Draw one document.

    Args:
        rng: The generator; the same state gives the same document.
        dialogue_share: Probability of a dialogue with tools (0 to 1).
        vocabulary: Text of every token; enables spelling exercises.

    Returns:
        A document nobody has seen before.
    """
    if rng.random() < dialogue_share:
        return _drawn(rng, DIALOGUES)
    if vocabulary and rng.random() < 0.2:
        return spelling_exercise(rng, vocabulary)
    return _drawn(rng, EXERCISES)


def _drawn(rng: random.Random, makers: Sequence[tuple[Maker, int]]) -> Document:
    maker = rng.choices([m for m, _ in makers], [weight for _, weight in makers])[0]
    return maker(rng)


def all_words() -> list[str]:
    """Return every word of the lexicon (for the tokenizer)."""
    return sorted({*GENERAL, *NOUNS, *ATTRIBUTES, *VERBS, *WRITE_VERBS, *PLACES})
