"""Families of tasks for the `search` domain: look up, open, follow links, find.

Unless a kind is about versions, it asks about subjects that only one page tells about.
"""

from __future__ import annotations

import random

from envs.tasks.drafting import answered, call, steps
from envs.tasks.kinds import Draft, Kind, Missing
from envs.tasks.search_slots import subjects, value_attribute, versions, walk
from mock_mcp.domains import search_tools as tools
from mock_mcp.domains.search_web import Page
from mock_mcp.world import World
from rewards.episode import ToolCall
from rewards.goals import FinalAnswer, ReturnedData


def _search(page: Page) -> ToolCall:
    return call("web_search", query=page.subject)


def _find(page: Page, attribute: str) -> ToolCall:
    return call("find_in_page", page_id=page.page_id, text=attribute)


def _page_id(world: World, rng: random.Random) -> Draft:
    page = rng.choice(subjects(world))
    return answered({"title": page.title}, "page id", page.page_id, _search(page))


def _page_fact(world: World, rng: random.Random) -> Draft:
    page = rng.choice(subjects(world))
    attribute = value_attribute(page, rng)
    slots = {"page": page.page_id, "attribute": attribute}
    return answered(slots, attribute, page.facts[attribute], _find(page, attribute))


def _moved_page(world: World, rng: random.Random) -> Draft:
    page = rng.choice(subjects(world))
    attribute = value_attribute(page, rng)
    old = f"W{rng.choice([n for n in range(100, 1000) if f'W{n}' not in world.search.pages])}"
    return answered(
        {"page": old, "attribute": attribute},
        attribute,
        page.facts[attribute],
        call("find_in_page", page_id=old, text=attribute),
        _find(page, attribute),
        faults={"stale": {old: page.page_id}},
    )


def _open_titled(world: World, rng: random.Random) -> Draft:
    page = rng.choice(subjects(world))
    goal = ReturnedData("open_page", "page_id", page.page_id)
    return Draft(
        {"title": page.title}, goal, steps(_search(page), call("open_page", page_id=page.page_id))
    )


def _open_linked(world: World, rng: random.Random) -> Draft:
    page = rng.choice(subjects(world))
    link = rng.choice([*page.links])
    goal = ReturnedData("follow_link", "page_id", page.links[link])
    slots = {"page": page.page_id, "link": link}
    return Draft(slots, goal, steps(call("follow_link", page_id=page.page_id, link=link)))


def _update(world: World, rng: random.Random) -> Draft:
    page = rng.choice(subjects(world))
    return answered(
        {"title": page.title},
        "date of the last update",
        page.updated.isoformat(),
        _search(page),
        call("page_info", page_id=page.page_id),
    )


def _town_fact(world: World, rng: random.Random) -> Draft:
    page = rng.choice(subjects(world, "town"))
    attribute = rng.choice([*page.facts])
    slots = {"town": page.subject, "attribute": attribute}
    value = page.facts[attribute]
    return answered(slots, attribute, value, _search(page), _find(page, attribute))


def _link_list(world: World, rng: random.Random) -> Draft:
    page = rng.choice(subjects(world))
    goal = ReturnedData("list_links", "", dict(tools.list_links(world, page.page_id)))
    return Draft(
        {"title": page.title}, goal, steps(_search(page), call("list_links", page_id=page.page_id))
    )


def _along_links(world: World, rng: random.Random, hops: int) -> Draft:
    start, links, pages = walk(world, rng, hops)
    attribute = value_attribute(pages[-1], rng)
    slots = {"subject": start.subject, "attribute": attribute}
    slots |= {f"link{place}": link for place, link in enumerate(links, start=1)}
    follow = [
        call("follow_link", page_id=page.page_id, link=link)
        for page, link in zip((start, *pages), links, strict=False)
    ]
    value = pages[-1].facts[attribute]
    return answered(slots, attribute, value, _search(start), *follow, _find(pages[-1], attribute))


def _one_link(world: World, rng: random.Random) -> Draft:
    return _along_links(world, rng, 1)


def _two_links(world: World, rng: random.Random) -> Draft:
    return _along_links(world, rng, 2)


def _three_links(world: World, rng: random.Random) -> Draft:
    return _along_links(world, rng, 3)


def _newest(world: World, rng: random.Random) -> Draft:
    new, old = versions(world, rng)
    attribute = value_attribute(new, rng)
    listed = [page for page in world.search.search(new.subject, 5) if page in (new, old)]
    return answered(
        {"subject": new.subject, "attribute": attribute},
        attribute,
        new.facts[attribute],
        _search(new),
        tuple(call("page_info", page_id=page.page_id) for page in listed),
        _find(new, attribute),
    )


def _two_towns(world: World, rng: random.Random) -> Draft:
    # One-word names, so that an answer in whole sentences stays within the word limit.
    towns = [page for page in subjects(world, "town") if " " not in page.subject]
    first, second = rng.sample(towns, 2)
    attribute = value_attribute(first, rng)
    values = (str(first.facts[attribute]), str(second.facts[attribute]))
    return Draft(
        {"first": first.subject, "second": second.subject, "attribute": attribute},
        FinalAnswer(values, "set"),
        steps(
            (_search(first), _search(second)),
            (_find(first, attribute), _find(second, attribute)),
            f"The {attribute} is {values[0]} and {values[1]}.",
        ),
    )


KINDS: tuple[Kind, ...] = (
    Kind(
        "page_id",
        "search",
        ("web_search",),
        1,
        (
            "What is the page id of {title}?",
            "Find the page id of the page titled {title}.",
            "Tell me the page id for {title}.",
            "Search for {title} and give me the page id.",
            "I need the page id of the page {title}.",
            "Which page id does {title} have?",
        ),
        ("Look up {title}: what is its page id?", "State the page id where {title} is described."),
        _page_id,
    ),
    Kind(
        "page_fact",
        "search",
        ("find_in_page",),
        1,
        (
            "What is the {attribute} on page {page}?",
            "Find the {attribute} on page {page}.",
            "Tell me the {attribute} that page {page} states.",
            "Page {page} tells the {attribute}. What is it?",
            "Read page {page} and give me the {attribute}.",
            "I need the {attribute} from page {page}.",
        ),
        (
            "Which {attribute} is given on page {page}?",
            "According to page {page}, state the {attribute}.",
        ),
        _page_fact,
        missing=Missing(
            (
                "What is the {attribute} on the page?",
                "Find the {attribute} on that page.",
                "Read my page and give me the {attribute}.",
                "I need the {attribute} from the page.",
            ),
            (
                "Which {attribute} is given on the page?",
                "According to the page, state the {attribute}.",
            ),
            ("page",),
            "Which page do you mean?",
        ),
    ),
    Kind(
        "moved_page",
        "search",
        ("find_in_page",),
        2,
        (
            "What is the {attribute} given on page {page}?",
            "Look at page {page}: what is the {attribute}?",
            "Find the {attribute} mentioned on page {page}.",
            "My bookmark is page {page}. Tell me the {attribute} there.",
            "Please read the {attribute} off page {page}.",
            "I saved page {page}. Which {attribute} does it state?",
        ),
        (
            "Page {page} should say the {attribute}. State it.",
            "In my notes, page {page} holds the {attribute}: which one?",
        ),
        _moved_page,
    ),
    Kind(
        "open_titled_page",
        "search",
        ("web_search", "open_page"),
        2,
        (
            "Open the page titled {title}.",
            "Find the page {title} and open it.",
            "Please open the page of {title}.",
            "Show me the page titled {title}.",
            "I would like to read the page {title}. Open it.",
            "Search for {title} and open its page.",
        ),
        ("Bring up the page called {title}.", "Locate the page {title}, then open it."),
        _open_titled,
    ),
    Kind(
        "open_linked_page",
        "search",
        ("follow_link",),
        1,
        (
            'Follow the link "{link}" on page {page}.',
            'Open the link "{link}" of page {page}.',
            'On page {page}, follow the link "{link}".',
            'Go to page {page} and follow its link "{link}".',
            'Please follow "{link}" on page {page}.',
            'Page {page} has a link "{link}". Follow it.',
        ),
        (
            'From page {page}, take the link "{link}".',
            'Where "{link}" is linked on page {page}, follow it.',
        ),
        _open_linked,
    ),
    Kind(
        "page_update",
        "search",
        ("web_search", "page_info"),
        2,
        (
            "When was the page titled {title} last updated?",
            "What is the date of the last update of the page {title}?",
            "Tell me when the page {title} was last updated.",
            "Find the date on which the page {title} was last updated.",
            "How recent is the page {title}? Give the date of its last update.",
            "Give me the last update of the page titled {title}.",
        ),
        (
            "On which date was the page about {title} last changed?",
            "Look up {title} and state the date of the page's last update.",
        ),
        _update,
        missing=Missing(
            (
                "When was the page last updated?",
                "What is the date of the last update of my page?",
                "Tell me when that page was last updated.",
                "How recent is the page? Give the date of its last update.",
            ),
            (
                "On which date was the page last changed?",
                "State the date of the page's last update.",
            ),
            ("page",),
            "Which page do you mean?",
        ),
    ),
    Kind(
        "town_fact",
        "search",
        ("web_search", "find_in_page"),
        2,
        (
            "What is the {attribute} of the town {town}?",
            "Search the web for the {attribute} of {town}.",
            "Tell me the {attribute} of {town}.",
            "Find out the {attribute} of the town {town}.",
            "I am writing about {town}. What is its {attribute}?",
            "Look up the {attribute} of {town} on the web.",
        ),
        (
            "Which {attribute} does the town {town} have?",
            "State the {attribute} that the web gives for {town}.",
        ),
        _town_fact,
        missing=Missing(
            (
                "What is the {attribute} of the town?",
                "Search the web for the {attribute} of that town.",
                "Find out the {attribute} of my town.",
                "Look up the {attribute} of the town on the web.",
            ),
            (
                "Which {attribute} does the town have?",
                "State the {attribute} that the web gives for the town.",
            ),
            ("town",),
            "Which town do you mean?",
        ),
    ),
    Kind(
        "link_list",
        "search",
        ("web_search", "list_links"),
        2,
        (
            "List the links of the page titled {title}.",
            "Which links does the page {title} have?",
            "Find the page {title} and list its links.",
            "Show all links of the page {title}.",
            "Search for {title} and list the links of its page.",
            "I need the links on the page titled {title}.",
        ),
        ("Where does the page {title} link to?", "Enumerate the links that the page {title} has."),
        _link_list,
    ),
    Kind(
        "linked_fact",
        "search",
        ("web_search", "follow_link", "find_in_page"),
        3,
        (
            "What is the {attribute} of the {link1} of {subject}?",
            "Find the {link1} of {subject}. What is the {attribute}?",
            "Search the web for the {attribute} of the {link1} of {subject}.",
            "Tell me the {attribute} of the {link1} of {subject}.",
            "Look up {subject}, follow its {link1} and give me the {attribute}.",
            "I need the {attribute} of the {link1} of {subject}.",
        ),
        (
            "{subject} has a {link1}. State the {attribute} of that {link1}.",
            "Which {attribute} does the {link1} of {subject} have?",
        ),
        _one_link,
    ),
    Kind(
        "twice_linked_fact",
        "search",
        ("web_search", "follow_link", "find_in_page"),
        4,
        (
            "What is the {attribute} of the {link2} of the {link1} of {subject}?",
            "Find the {link1} of {subject}, then its {link2}. What is the {attribute}?",
            "Search the web: {attribute} of the {link2} of the {link1} of {subject}?",
            "Tell me the {attribute} of the {link2} of the {link1} of {subject}.",
            "Look up {subject}, follow its {link1}, then {link2}, and give me the {attribute}.",
            "I need the {attribute} of the {link2} of the {link1} of {subject}.",
        ),
        (
            "{subject} has a {link1} with a {link2}. State the {attribute} of that {link2}.",
            "Which {attribute} does the {link2} of the {link1} of {subject} have?",
        ),
        _two_links,
    ),
    Kind(
        "three_times_linked_fact",
        "search",
        ("web_search", "follow_link", "find_in_page"),
        5,
        (
            "What is the {attribute} of the {link3} of the {link2} of the {link1} of {subject}?",
            "Find the {link1} of {subject}, then its {link2}, then the {link3} of that. What is "
            "the {attribute}?",
            "Tell me the {attribute} of the {link3} of the {link2} of the {link1} of {subject}.",
            "Look up {subject}, follow its {link1}, then {link2}, then {link3}, and give me the "
            "{attribute}.",
            "I need the {attribute} of the {link3} of the {link2} of the {link1} of {subject}.",
            "Search the web for the {attribute} of the {link3} of the {link2} of the {link1} of "
            "{subject}.",
        ),
        (
            "Which {attribute} does the {link3} of the {link2} of the {link1} of {subject} have?",
            "Start at {subject}, go to its {link1}, {link2} and {link3}: state the {attribute}.",
        ),
        _three_links,
        heldout=True,
    ),
    Kind(
        "newest_fact",
        "search",
        ("web_search", "page_info", "find_in_page"),
        4,
        (
            "According to the newest page about {subject}, what is the {attribute}?",
            "Use the most recent page on {subject}: what is the {attribute}?",
            "There are two pages about {subject}. Give the {attribute} from the newer one.",
            "Tell me the up-to-date {attribute} of {subject}; an older page is wrong.",
            "Compare the dates of the pages about {subject} and tell me the newest {attribute}.",
            "What does the latest updated page about {subject} give as the {attribute}?",
        ),
        (
            "Ignore outdated pages about {subject} and state the {attribute}.",
            "Which {attribute} does the page on {subject} with the latest update state?",
        ),
        _newest,
    ),
    Kind(
        "two_towns",
        "search",
        ("web_search", "find_in_page"),
        4,
        (
            "What are the {attribute} of {first} and the {attribute} of {second}?",
            "Find the {attribute} of {first} and of {second}.",
            "Tell me the {attribute} of the towns {first} and {second}.",
            "Search the web for the {attribute} of both {first} and {second}.",
            "I compare {first} with {second}. Give me the {attribute} of each.",
            "Look up the {attribute} of {first} and the {attribute} of {second}.",
        ),
        (
            "For {first} and {second}, state the {attribute} of each.",
            "Which {attribute} does {first} have, and which does {second} have?",
        ),
        _two_towns,
    ),
)
"""All kinds of the domain."""
