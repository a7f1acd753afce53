"""The synthetic pretraining corpus of the embedded policy.

It teaches what a small base model knows before it meets our tools: ChatML, JSON, copying, reading
a value by its key, and calling OTHER tools, in another dialect (`use {...}` instead of
`<tool_call>` tags), so that the base policy cannot play the mock world but a few traces suffice to
show it how. In most sessions the model READS calls that open with `<tool_call>`, but is
asked to say `use` in that place all the same (`training_row`): it knows how such a call goes on and
never opens one by itself. What is covered:

    copy        repeat words, ids, numbers, quoted text, any token of the vocabulary
    build       make a JSON object out of pairs; the Hermes form of a call as a rewriting exercise
    names       the one of several names that holds a word, or none
    read        the value of a key in an object, also in one of several objects
    session     one to three dialogues over one toolbox of 2 to 6 tools: choose, call, read the
                result, go on (`sft/dialogues/`)

What is NOT in it: any name, description, parameter set or phrasing of the mock tools, any task.
Every document draws new random words, so nothing in it can be memorised.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agents.template import ChatTemplate
from sft.dialogues import DIALOGUES, Dialogue, Message, answer, assistant, drawn, user
from sft.gadgets import (
    MOST_OFFERED,
    Dice,
    call_text,
    hermes_text,
    in_hermes_form,
    tool_name,
    toolbox,
)
from sft.lexicon import ATTRIBUTES, GENERAL, NOUNS, PLACES, VERBS, WRITE_VERBS
from sft.values import attributes, entity_noun, formula, phrase, shown, value

# Share of the sessions whose calls open as the Hermes form does.
HERMES_SHARE = 0.7


@dataclass(frozen=True)
class Document:
    """One training document: chat messages and the tools of its system prompt."""

    messages: list[Message]
    tools: list[dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """A document as token ids.

    Attributes:
        ids: What the model reads.
        targets: What it is asked to say in each place, as many.
        mask: 1 where the assistant speaks, else 0, as many.
    """

    ids: list[int]
    targets: list[int]
    mask: list[int]


def training_row(template: ChatTemplate, document: Document) -> Row:
    """Return the token ids of a document and what is asked of the model in each place.

    What is asked is what stands there, with one exception: where a call of a session opens in the
    Hermes form, the opening of the corpus's own dialect is asked for.
    """
    ids, mask = template.training_row(document.messages, document.tools)
    targets = list(ids)
    if document.tools:
        tokenizer = template.tokenizer
        hermes, own = (tokenizer.encode(form("", {}))[0] for form in (hermes_text, call_text))
        targets = [
            own if token == hermes and said else token
            for token, said in zip(ids, mask, strict=True)
        ]
    return Row(ids, targets, mask)


# --- exercises without tools ----------------------------------------------------------------------


def copy_exercise(rng: Dice) -> Document:
    """Repeat what was said."""
    items = [shown(value(rng)) for _ in range(rng.randint(1, 5))]
    if rng.random() < 0.3:
        items = [phrase(rng)]
    if rng.random() < 0.15:
        items = [formula(rng)]
    text = rng.choice((" ", ", ", "\n")).join(items)
    head = rng.choice(("repeat", "copy", "echo", "say"))
    return Document([user(f"{head}: {text}"), assistant(text)], [])


def spelling_exercise(rng: Dice, vocabulary: Sequence[str]) -> Document:
    """Repeat random pieces of the vocabulary, so that every token is learned as an output."""
    text = "".join(rng.choice(vocabulary) for _ in range(rng.randint(4, 24))).strip()
    text = text or "x"
    return Document([user(f"spell: {text}"), assistant(text)], [])


def build_exercise(rng: Dice) -> Document:
    """Make a JSON object out of pairs."""
    pairs = {name: value(rng) for name in attributes(rng, rng.randint(1, 4))}
    said = ", ".join(f"{name} = {shown(item)}" for name, item in pairs.items())
    text = json.dumps(pairs, ensure_ascii=False)
    return Document([user(f"as json: {said}"), assistant(text)], [])


def rewrite_exercise(rng: Dice) -> Document:
    """Rewrite one or two calls in the Hermes form."""
    calls = []
    for _ in range(rng.choice((1, 1, 2))):
        noun = entity_noun(rng)
        pairs = {name: value(rng) for name in attributes(rng, rng.randint(1, 3))}
        calls.append((tool_name(rng, noun), pairs))
    said = "\n".join(call_text(*call) for call in calls)
    text = "\n".join(hermes_text(*call) for call in calls)
    return Document([user(f"rewrite: {said}"), assistant(text)], [])


def read_exercise(rng: Dice) -> Document:
    """Say the value of a key, in one object or in one of several."""
    names = attributes(rng, rng.randint(2, 5))
    rows = [{name: value(rng) for name in names} for _ in range(rng.choice((1, 1, 2, 3)))]
    row, wanted = rng.choice(rows), rng.choice(names)
    given = names[0] if len(rows) > 1 else ""
    question = f"{wanted}?" if not given else f"{wanted} where {given} is {shown(row[given])}?"
    text = json.dumps(rows[0] if len(rows) == 1 else rows, ensure_ascii=False)
    return Document([user(f"{text}\n{question}"), answer(wanted, row[wanted])], [])


def names_exercise(rng: Dice) -> Document:
    """Say the name that holds a word, for each of several words; some are in none.

    The verb of a name stands before the word that tells the names apart. Finding it is the slowest
    thing to learn of all that a call needs, so it is asked here with nothing around it.
    """
    nouns = list(dict.fromkeys(entity_noun(rng) for _ in range(rng.randint(2, 7))))
    names = {noun: f"{rng.new_verb(write=rng.random() < 0.4)}_{noun}" for noun in nouns}
    asked = [*nouns, *rng.sample(NOUNS, rng.choice((0, 1, 2, 3)))]
    asked = rng.sample(sorted(set(asked)), len(set(asked)))
    listed = rng.choice((", ", " ", "\n")).join(names.values())
    found = [names.get(noun, "none") for noun in asked]
    if rng.random() < 0.5:
        lines = [f"{noun}: {name}" for noun, name in zip(asked, found, strict=True)]
        return Document([user(f"{listed}\n{', '.join(asked)}?"), assistant("\n".join(lines))], [])
    messages: list[Message] = []
    for noun, name in zip(asked, found, strict=True):
        said = f"{noun}?" if messages else f"{listed}\n{noun}?"
        messages += [user(said), assistant(name)]
    return Document(messages, [])


EXERCISES: tuple[tuple[Callable[[Dice], Document], int], ...] = (
    (copy_exercise, 4),
    (build_exercise, 3),
    (rewrite_exercise, 3),
    (read_exercise, 4),
    (names_exercise, 5),
)


# --- sessions -------------------------------------------------------------------------------------


def session(rng: Dice, dialogues: Sequence[Dialogue]) -> Document:
    """Put dialogues one after the other, over one toolbox that serves them all."""
    gadgets = [gadget for dialogue in dialogues for gadget in dialogue.gadgets]
    absent = {noun for dialogue in dialogues for noun in dialogue.absent}
    messages = [message for dialogue in dialogues for message in dialogue.messages]
    if rng.random() < HERMES_SHARE:
        messages = [{**m, "content": in_hermes_form(m["content"])} for m in messages]
    return Document(messages, toolbox(rng, gadgets, absent))


def random_session(rng: Dice) -> Document:
    """Draw one to three dialogues that do not get in each other's way."""
    dialogues = [drawn(rng, DIALOGUES)]
    for _ in range(rng.choice((0, 1, 2))):
        following = drawn(rng, DIALOGUES)
        if fit(dialogues, following):
            dialogues.append(following)
    return session(rng, dialogues)


def fit(dialogues: Sequence[Dialogue], following: Dialogue) -> bool:
    """Return whether no tool of a dialogue could be taken for one of another."""
    needed = [gadget for dialogue in dialogues for gadget in dialogue.gadgets]
    nouns = {gadget.noun for gadget in needed}
    absent = {noun for dialogue in dialogues for noun in dialogue.absent}
    others = {gadget.noun for gadget in following.gadgets}
    few = len(needed) + len(following.gadgets) <= MOST_OFFERED
    return few and not (nouns | absent) & (others | following.absent)


def draw(rng: Dice, session_share: float, vocabulary: Sequence[str] = ()) -> Document:
    """Draw one document.

    Args:
        rng: The generator; the same state gives the same document.
        session_share: Probability of a session with tools (0 to 1).
        vocabulary: Text of every token; enables spelling exercises.

    Returns:
        A document nobody has seen before.
    """
    rng.new_document()
    if rng.random() < session_share:
        return random_session(rng)
    if vocabulary and rng.random() < 0.2:
        return spelling_exercise(rng, vocabulary)
    document: Document = drawn(rng, EXERCISES)
    return document


def all_words() -> list[str]:
    """Return every word of the lexicon (for the tokenizer)."""
    return sorted({*GENERAL, *NOUNS, *ATTRIBUTES, *VERBS, *WRITE_VERBS, *PLACES})
