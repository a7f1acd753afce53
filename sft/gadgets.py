"""Random tools of the pretraining corpus, and the toolboxes that a system prompt offers."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sft.lexicon import ATTRIBUTES, GENERAL, VERBS, WRITE_VERBS
from sft.values import attributes, entity_noun, filler, parameter_names, pseudo_word

SHARED_VERBS = 0.5
KNOWN_VERBS = 0.8
KEY_SUFFIXES = ("key", "ref", "code", "tag", "no", "slug")
MOST_OFFERED = 6
OPENING = 'use {"name": '
HERMES_OPENING = '<tool_call>\n{"name": '


class Dice(random.Random):
    """A generator that also remembers which verbs the tools of one document are named with.

    Real servers name many tools with one verb (`get_this`, `get_that`), and then only the noun
    tells them apart; elsewhere every tool has a verb of its own. `new_document` draws which.
    """

    shared: Mapping[bool, str] = MappingProxyType({})

    def new_document(self) -> None:
        """Draw whether the tools of the next document share their verbs, and which."""
        self.shared = {}
        if self.random() < SHARED_VERBS:
            self.shared = {write: self.new_verb(write=write) for write in (False, True)}

    def verb(self, *, write: bool = False) -> str:
        """Return the verb of a tool that reads or writes."""
        return self.shared.get(write) or self.new_verb(write=write)

    def new_verb(self, *, write: bool) -> str:
        """Return a verb of the lexicon, or a word that nobody knows."""
        known = self.random() < KNOWN_VERBS
        return self.choice(WRITE_VERBS if write else VERBS) if known else pseudo_word(self)


@dataclass(frozen=True)
class Gadget:
    """A random tool: its schema parts and the fields of what it returns.

    Attributes:
        name: Its name.
        noun: What it is about.
        parameters: Names of the required arguments, in order.
        fields: Names of the fields of a result.
        write: Whether it changes something.
        numeric: Which parameters are numbers.
        choices: The allowed values of parameters that have such a list.
    """

    name: str
    noun: str
    parameters: tuple[str, ...]
    fields: tuple[str, ...]
    write: bool = False
    numeric: frozenset[str] = frozenset()
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def schema(self, rng: Dice) -> dict[str, Any]:
        """Return the OpenAI function schema."""
        names = list(self.parameters)
        if rng.random() < 0.15:  # an optional argument that nobody gives
            names += [name for name in parameter_names(rng, 1) if name not in names]
        properties = {name: self._property(rng, name) for name in names}
        parameters: dict[str, Any] = {"type": "object", "properties": properties}
        if self.parameters:
            parameters["required"] = list(self.parameters)
        function = {
            "name": self.name,
            "description": self._description(rng),
            "parameters": parameters,
        }
        return {"type": "function", "function": function}

    def _property(self, rng: Dice, name: str) -> dict[str, Any]:
        kind = rng.choice(("integer", "number")) if name in self.numeric else "string"
        schema: dict[str, Any] = {"type": kind}
        if name in self.choices:
            schema["enum"] = list(self.choices[name])
        elif rng.random() < 0.25:
            schema["description"] = f"{rng.choice(GENERAL)} {name.replace('_', ' ')}"
        return schema

    def _description(self, rng: Dice) -> str:
        styles: tuple[str, ...] = (
            "Reads one {noun} through its {parameter}.",
            "Everything known about some {noun}.",
            "{noun} lookup: {fields}.",
            "Returns {fields}.",
            "Use it for a {noun}.",
            "{filler} {noun} {filler}.",
        )
        if self.write:
            styles = (
                "Stores one {noun}.",
                "Adds some {noun} with {parameter}.",
                "{filler} {noun} {filler}.",
            )
        elif not self.parameters:
            styles = ("Every {noun}.", "Names every {noun} {filler}.", "{filler} {noun} {filler}.")
        text = rng.choice(styles).format(
            noun=self.noun,
            parameter=" and ".join(self.parameters[:1]).replace("_", " "),
            fields=" and ".join(self.fields),
            filler=filler(rng, 4),
        )
        text = " ".join(text.split())
        return text[0].upper() + text[1:]


def call_text(name: str, arguments: dict[str, Any]) -> str:
    """Return a call in the corpus's own dialect: the right object after the wrong opening.

    It ends as a Hermes call does, so that a warm start has one token to learn: the opening.
    """
    body = json.dumps(arguments, ensure_ascii=False)
    return f'{OPENING}"{name}", "arguments": {body}}}\n</tool_call>'


def hermes_text(name: str, arguments: dict[str, Any]) -> str:
    """Return a call in the Hermes form that the Qwen3 template renders."""
    return in_hermes_form(call_text(name, arguments))


def in_hermes_form(text: str) -> str:
    """Return what the assistant says with every call opened as the Hermes form opens it."""
    return text.replace(OPENING, HERMES_OPENING)


def tool_name(rng: Dice, noun: str, *, write: bool = False) -> str:
    """Return a name of one to three parts that contains the noun."""
    verb = rng.verb(write=write)
    shape = rng.random()
    if shape < 0.1:
        return noun
    if shape < 0.3:
        return f"{verb}_{noun}_{rng.choice((rng.choice(GENERAL).lower(), noun[:3]))}"
    return f"{verb}_{noun}"


def key_parameter(rng: Dice, noun: str) -> str:
    """Return the name of the parameter that says which one is meant."""
    shape = rng.random()
    if shape > 0.85:
        return parameter_names(rng, 1)[0]
    return f"{noun}_{rng.choice(KEY_SUFFIXES)}" if shape < 0.6 else rng.choice(KEY_SUFFIXES)


def reader(rng: Dice, noun: str, extra: Sequence[str] = ()) -> Gadget:
    """Return a tool that reads one entity by its key."""
    fields = attributes(rng, rng.randint(2, 4), avoid=extra)
    return Gadget(tool_name(rng, noun), noun, (key_parameter(rng, noun),), (*fields, *extra))


def finder(rng: Dice, noun: str) -> Gadget:
    """Return a tool that finds one thing about somebody, and has it in its name."""
    parameter = rng.choice(("who", "person", "holder", "called", *parameter_names(rng, 1)))
    return Gadget(tool_name(rng, noun), noun, (parameter,), (noun,))


def lister(rng: Dice, noun: str) -> Gadget:
    """Return a tool without parameters."""
    return Gadget(tool_name(rng, noun), noun, (), (noun,))


def writer(rng: Dice, noun: str) -> Gadget:
    """Return a tool that stores something with one to three arguments."""
    names = tuple(parameter_names(rng, rng.randint(1, 3)))
    return Gadget(tool_name(rng, noun, write=True), noun, names, ("done",), write=True)


def solver(rng: Dice) -> Gadget:
    """Return a tool that takes a formula."""
    verb = rng.choice(("solve", "work_out", "reckon", "figure"))
    name = rng.choice((verb, f"{verb}_{pseudo_word(rng)}"))
    parameter = rng.choice(("formula", "sum", "term", "problem", *parameter_names(rng, 2)))
    out = rng.choice(("out", "outcome", "solved", rng.choice(GENERAL).lower(), pseudo_word(rng)))
    return Gadget(name, "formula", (parameter,), (out,))


def noun_of_two_words(rng: Dice) -> str:
    """Return two words as they stand in a tool's name (`color_range`)."""
    return f"{rng.choice(ATTRIBUTES)}_{rng.choice((*ATTRIBUTES, pseudo_word(rng)))}"


def toolbox(
    rng: Dice, needed: Sequence[Gadget], absent: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Return the schemas of the needed tools among distractors, shuffled.

    Args:
        rng: The generator.
        needed: Tools that must be offered.
        absent: Nouns no tool of which may be offered.
    """
    gadgets = list(needed)
    nouns = {gadget.noun for gadget in gadgets} | set(absent)
    for gadget in needed:
        # The same entity with the other kind of verb: reading and writing must be told apart.
        if rng.random() < 0.25:
            twin = (reader if gadget.write else writer)(rng, gadget.noun)
            if twin.name not in [one.name for one in gadgets]:
                gadgets.append(twin)
    while len(gadgets) < rng.randint(2, MOST_OFFERED):
        noun = entity_noun(rng)
        if noun in nouns:
            continue
        nouns.add(noun)
        make = rng.choices((reader, writer, finder, lister), (5, 3, 2, 1))[0]
        gadgets.append(make(rng, noun))
    rng.shuffle(gadgets)
    return [gadget.schema(rng) for gadget in gadgets]
