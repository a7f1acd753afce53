"""Dialogues in which nothing may be called: no tool fits, or the request does not say enough."""

from __future__ import annotations

from sft.dialogues.computing import formula_dialogue, query_dialogue, read_then_query_dialogue
from sft.dialogues.parts import (
    Dialogue,
    Maker,
    assistant,
    drawn,
    sentence,
    user,
)
from sft.dialogues.reading import (
    chain_dialogue,
    detour_dialogue,
    find_dialogue,
    lookup_dialogue,
    pair_dialogue,
)
from sft.dialogues.writing import read_then_write_dialogue, update_dialogue, write_dialogue
from sft.gadgets import (
    Dice,
    Gadget,
    call_text,
    finder,
    reader,
    writer,
)
from sft.values import (
    entity_noun,
)

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


def choose_exercise(rng: Dice) -> Dialogue:
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


def nothing_fits_dialogue(rng: Dice) -> Dialogue:
    """A tool that the request needs is not offered: the first one, or one for later."""
    whole = drawn(rng, ACTIONS)
    missing = whole.gadgets[0] if rng.random() < 0.8 else rng.choice(whole.gadgets)
    return Dialogue(
        [whole.messages[0], assistant("None of these tools fits.")],
        tuple(gadget for gadget in whole.gadgets if gadget is not missing),
        frozenset({missing.noun}),
    )


def key_missing_dialogue(rng: Dice) -> Dialogue:
    """The request does not say which entity is meant."""
    gadget = rng.choice((reader, reader, finder))(rng, entity_noun(rng))
    wanted = rng.choice(gadget.fields)
    name = rng.choice((gadget.noun, gadget.noun.replace("_", " ")))
    article = rng.choice(("a", "the", "some", "one"))
    style = rng.choice(("{0} of {2} {1}", "{2} {1}: {0}", "{2} {1}", "{0}, {2} {1}"))
    text = style.format(wanted.replace("_", " "), name, article)
    return Dialogue([user(sentence(rng, text)), assistant(f"Which {name}?")], (gadget,))
