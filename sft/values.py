"""Random words, names, ids, numbers and fields: what the pretraining corpus talks about."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable, Collection
from typing import Any

from sft.lexicon import ATTRIBUTES, GENERAL, NOT_PARAMETERS, NOUNS, SYLLABLES


def pseudo_word(rng: random.Random) -> str:
    """Return a random word, pronounceable or not: names come in more forms than syllables have."""
    if rng.random() < 0.3:
        return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, 7)))
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 3)))


def word(rng: random.Random) -> str:
    """Return a word, known or new."""
    return rng.choice(GENERAL).lower() if rng.random() < 0.5 else pseudo_word(rng)


def proper_name(rng: random.Random) -> str:
    """Return one or two capitalised words, known or new."""
    return " ".join(
        (pseudo_word(rng) if rng.random() < 0.7 else rng.choice(GENERAL + ATTRIBUTES)).capitalize()
        for _ in range(rng.choice((1, 2, 2)))
    )


def handle(rng: random.Random) -> str:
    """Return words and digits with marks and no space between them, as user and file names are."""
    parts = [
        str(rng.randint(0, 99)) if rng.random() < 0.3 else word(rng)
        for _ in range(rng.randint(2, 3))
    ]
    return parts[0] + "".join(rng.choice(("", "", *"._-/#")) + part for part in parts[1:])


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
    end = rng.choice(("com", "org", "net", pseudo_word(rng), word(rng)))
    return f"{handle(rng)}@{word(rng)}.{end}"


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
    email,
    handle,
    handle,
    phone,
    symbol,
)


def value(rng: random.Random) -> str | int | float:
    """Return a JSON value: mostly text, sometimes a number."""
    if rng.random() < 0.35:
        return number_value(rng)
    return rng.choice(TEXTS)(rng)


def shown(item: Any) -> str:
    """Return a value as it stands in a sentence."""
    return item if isinstance(item, str) else json.dumps(item)


def entity_noun(rng: random.Random) -> str:
    """Return the noun of an entity."""
    return rng.choice(NOUNS) if rng.random() < 0.8 else pseudo_word(rng)


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


def number_value(rng: random.Random) -> int | float:
    """Return a number."""
    text = number(rng)
    return float(text) if "." in text else int(text)


def filler(rng: random.Random, most: int) -> str:
    """Return up to `most` words that mean nothing here."""
    return " ".join(rng.choice(GENERAL).lower() for _ in range(rng.randint(0, most)))
