"""Dialogues that change something: store, update, read and then store."""

from __future__ import annotations

from dataclasses import replace

from sft.dialogues.parts import (
    Dialogue,
    Message,
    assistant,
    other_noun,
    quoted,
    record,
    says,
    sentence,
    subject,
    tool_result,
    user,
    wanted_field,
)
from sft.dialogues.reading import found
from sft.gadgets import (
    Dice,
    Gadget,
    reader,
    tool_name,
    writer,
)
from sft.lexicon import WRITE_VERBS
from sft.values import (
    entity_noun,
    filler,
    parameter_names,
    phrase,
    value,
)


def stored(rng: Dice, messages: list[Message], *gadgets: Gadget) -> Dialogue:
    """End a dialogue with the result of a writing tool and a word about it."""
    return Dialogue([*messages, tool_result({"done": True}), assistant("Done.")], gadgets)


def write_dialogue(rng: Dice) -> Dialogue:
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


def update_dialogue(rng: Dice) -> Dialogue:
    """Give one field of one entity a new value."""
    noun, key, item = entity_noun(rng), subject(rng), value(rng)
    (name,) = parameter_names(rng, 1)
    parameters = (f"{noun}_{rng.choice(('key', 'ref', 'code', 'tag'))}", name)
    gadget = Gadget(
        tool_name(rng, rng.choice((noun, name, f"{noun}_{name}")), write=True),
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


def read_then_write_dialogue(rng: Dice) -> Dialogue:
    """Read a field, or find something about somebody; store it with a text of the request."""
    text = phrase(rng)
    if rng.random() < 0.5:
        source, key, row = found(rng)
        wanted, item = source.noun, list(row.values())[-1]
        style = '{verb} {noun} "{text}" {gap} {key}'
    else:
        source, key = reader(rng, entity_noun(rng)), subject(rng)
        row, wanted = record(rng, source, key), wanted_field(rng, source)
        item = row[wanted]
        style = '{verb} {noun} "{text}" with {wanted} of {source} {key}'
    target = writer(rng, other_noun(rng, [source]))
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
