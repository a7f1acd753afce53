"""Draws the pages of the seeded web: subjects with facts and links, and pages that mislead.

Every subject (a town, a company, a person, a landmark, a book) has one current page that states
its facts, one sentence each. What makes a search harder than a look-up:

    near-duplicates   "North Alderford" beside "Alderford": other subjects with other facts
    old pages         outdated values, years older than the current page of the same subject; one of
                      the two is called "Alderford", the other "Alderford profile"
    topic pages       "Chess in Alderford": they mention a subject and link to it, without facts
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from types import MappingProxyType

from mock_mcp.names import (
    DEPARTMENTS,
    FIRST_NAMES,
    LAST_NAMES,
    PRODUCT_ADJECTIVES,
    PRODUCT_NOUNS,
    TOPICS,
    WORDS,
    words,
)

Fact = str | int

TOPIC = "topic"
OLD_PAGES = 16
TOPIC_PAGES = 14
NEAR_DUPLICATES = 4


@dataclass(frozen=True)
class Page:
    """One page of the web.

    Attributes:
        page_id: Such as `W412`.
        subject: What the page is about.
        title: The subject's name, except where an old and a current page share the subject.
        kind: `town`, `company`, `person`, `landmark`, `book` or `topic`.
        updated: Date of the last change.
        sentences: The text.
        facts: Attribute -> value, as the text states it (names of linked subjects included).
        links: Link text -> page id; the link text is the attribute that it belongs to.
        current: False for a page with outdated values.
    """

    page_id: str
    subject: str
    title: str
    kind: str
    updated: date
    sentences: tuple[str, ...] = ()
    facts: Mapping[str, Fact] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    current: bool = True


_STEMS = words(
    """
    Alder Ash Birk Bram Brém Cal Cor Dan Dun Elm Fal Fen Gar Glen Hal Har Hol Ives Kel Kirk Lam
    Lin Lor Mar Mel Nor Oak Orm Pel Pem Quar Rav Ros Sal Sel Ström Tal Thorn Ul Val Wen Wil Yar
    Zel
    """
)
_ENDINGS = words(
    "berg bridge bury dale fell field ford gate ham haven holm mere mont port stead wick"
)
_BRANCHES = words(
    "Bakery Cables Foods Glass Mills Motors Optics Paper Press Records Textiles Tools Toys"
)
_BUILDINGS = words("Arch Castle Church Fountain Gate Hall Library Museum Opera Palace Tower")
_JOBS = words(
    """
    actor architect baker biologist chemist composer dentist engineer farmer gardener geologist
    historian judge lawyer painter pilot poet sculptor surgeon teacher violinist writer
    """
)


def _town(rng: random.Random) -> str:
    return rng.choice(_STEMS) + rng.choice(_ENDINGS)


def _company(rng: random.Random) -> str:
    return f"{rng.choice(WORDS).capitalize()} {rng.choice(_BRANCHES)}"


def _person(rng: random.Random) -> str:
    return f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"


def _landmark(rng: random.Random) -> str:
    return f"{rng.choice(LAST_NAMES)} {rng.choice(_BUILDINGS)}"


def _book(rng: random.Random) -> str:
    return f"The {rng.choice(PRODUCT_ADJECTIVES)} {rng.choice(WORDS).capitalize()}"


def _number(low: int, high: int) -> Callable[[random.Random], Fact]:
    return lambda rng: rng.randint(low, high)


def _word(*lists: Sequence[str]) -> Callable[[random.Random], Fact]:
    return lambda rng: " ".join(rng.choice(choices) for choices in lists)


@dataclass(frozen=True)
class _Sort:
    """A sort of subject.

    Attributes:
        count: How many there are.
        name: Draws a name.
        values: Attribute -> how its value is drawn.
        links: Attribute -> sort of the subject it links to.
    """

    count: int
    name: Callable[[random.Random], str]
    values: Mapping[str, Callable[[random.Random], Fact]]
    links: Mapping[str, str]


SORTS: Mapping[str, _Sort] = MappingProxyType(
    {
        "town": _Sort(
            22,
            _town,
            {
                "population": _number(1_000, 99_000),
                "founding year": _number(1050, 1890),
                "elevation": _number(5, 1900),
                "river": lambda rng: rng.choice(_STEMS) + rng.choice(("a", "en", "o")),
            },
            {"mayor": "person", "twin town": "town", "largest employer": "company"},
        ),
        "company": _Sort(
            20,
            _company,
            {
                "opening year": _number(1900, 2020),
                "number of employees": _number(12, 9_800),
                "best seller": _word(PRODUCT_ADJECTIVES, PRODUCT_NOUNS),
                "oldest department": _word(DEPARTMENTS),
            },
            {"founder": "person", "headquarters": "town", "main supplier": "company"},
        ),
        "person": _Sort(
            26,
            _person,
            {
                "birth year": _number(1935, 2001),
                "occupation": _word(_JOBS),
                "hobby": _word(TOPICS),
                "shoe size": _number(35, 47),
            },
            {"birthplace": "town", "employer": "company", "mentor": "person"},
        ),
        "landmark": _Sort(
            12,
            _landmark,
            {
                "height": _number(12, 320),
                "completion year": _number(1400, 2015),
                "number of visitors": _number(2_000, 900_000),
            },
            {"location": "town", "architect": "person"},
        ),
        "book": _Sort(
            10,
            _book,
            {
                "publication year": _number(1890, 2024),
                "number of pages": _number(90, 980),
                "theme": _word(TOPICS),
            },
            {"author": "person", "publisher": "company"},
        ),
    }
)
"""The sorts of subjects, with what is stated about each."""

_FILLERS = (
    "Many people read about {name} every month.",
    "A longer report about {name} is in preparation.",
    "Readers often ask about {name} and {topic}.",
    "The editors thank {writer} for help with this page.",
    "Photos of the {word} are kept in the archive.",
)


def draw_pages(rng: random.Random) -> dict[str, Page]:
    """Return the pages of a web by their ids, in the order of the ids."""
    subjects = _subjects(rng)
    total = len(subjects) + OLD_PAGES + TOPIC_PAGES
    ids = [f"W{number}" for number in rng.sample(range(100, 1000), total)]
    subjects = [replace(page, page_id=ids.pop()) for page in subjects]
    subjects = [_with_facts(rng, page, subjects) for page in subjects]
    topics = [_topic_page(rng, page, ids.pop()) for page in rng.sample(subjects, TOPIC_PAGES)]
    pages = {page.page_id: page for page in subjects + topics}
    for page in rng.sample(subjects, OLD_PAGES):
        old = _old_page(rng, page, ids.pop())
        # Which of the two has the plain title is drawn: only the date tells them apart.
        titles = rng.sample((page.subject, f"{page.subject} profile"), 2)
        for version, title in zip((page, old), titles, strict=True):
            pages[version.page_id] = replace(version, title=title)
    return dict(sorted(pages.items()))


def _subjects(rng: random.Random) -> list[Page]:
    """Draw the names; some are near-duplicates of names of their own sort."""
    taken: set[str] = set()
    pages: list[Page] = []
    for kind, sort in SORTS.items():
        names: list[str] = []
        while len(names) < sort.count:
            own = sort.count - NEAR_DUPLICATES
            name = sort.name(rng)
            if len(names) >= own:
                name = _near(rng, kind, rng.choice(names[:own]))
            if name not in taken:
                taken.add(name)
                names.append(name)
        pages += [Page("", name, name, kind, _recent(rng)) for name in names]
    return pages


def _near(rng: random.Random, kind: str, name: str) -> str:
    """Return another name that shares a word with `name`."""
    if kind in ("town", "landmark"):
        return f"{rng.choice(('New', 'North', 'Old', 'South', 'Upper'))} {name}"
    if kind == "person":
        return f"{rng.choice(FIRST_NAMES)} {name.split()[-1]}"
    if kind == "company":
        return f"{name.split()[0]} {rng.choice(_BRANCHES)}"
    return f"{name} {rng.choice(('Again', 'Returns', 'Revisited'))}"


def _recent(rng: random.Random) -> date:
    return date(2024, 1, 1) + timedelta(days=rng.randrange(700))


def _with_facts(rng: random.Random, page: Page, subjects: list[Page]) -> Page:
    sort = SORTS[page.kind]
    facts: dict[str, Fact] = {name: draw(rng) for name, draw in sort.values.items()}
    links: dict[str, str] = {}
    for attribute, kind in sort.links.items():
        target = rng.choice([other for other in subjects if other.kind == kind and other != page])
        facts[attribute] = target.subject
        links[attribute] = target.page_id
    return _written(rng, replace(page, facts=facts, links=links))


def _written(rng: random.Random, page: Page) -> Page:
    """Return the page with its text: an introduction, and the facts among filler."""
    name = page.subject
    sentences = [
        f"The {attribute} of {name} is {value}." for attribute, value in page.facts.items()
    ]
    sentences += [
        filler.format(
            name=name, topic=rng.choice(TOPICS), writer=_person(rng), word=rng.choice(WORDS)
        )
        for filler in rng.sample(_FILLERS, 3)
    ]
    rng.shuffle(sentences)
    return replace(page, sentences=(f"{name} is a {page.kind}.", *sentences))


def _old_page(rng: random.Random, page: Page, page_id: str) -> Page:
    values = SORTS[page.kind].values
    facts = {
        name: _other(rng, fact, values[name]) if name in values else fact
        for name, fact in page.facts.items()
    }
    updated = page.updated - timedelta(days=rng.randint(800, 4000))
    old = replace(page, page_id=page_id, updated=updated, facts=facts, current=False)
    return _written(rng, old)


def _other(rng: random.Random, fact: Fact, draw: Callable[[random.Random], Fact]) -> Fact:
    while (value := draw(rng)) == fact:
        pass
    return value


def _topic_page(rng: random.Random, page: Page, page_id: str) -> Page:
    topic = rng.choice(TOPICS)
    sentences = (
        f"This page is about {topic}.",
        f"It was written after a visit to the page of {page.subject}.",
        f"The best known book on {topic} is about the {rng.choice(WORDS)}.",
        f"A talk on {topic} was given by {_person(rng)}.",
    )
    title = f"{topic.capitalize()} and {page.subject}"
    links = {page.subject: page.page_id}
    return Page(page_id, topic, title, TOPIC, _recent(rng), sentences, links=links)
