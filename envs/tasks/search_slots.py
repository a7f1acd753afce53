"""Draws that several kinds of the `search` domain share."""

from __future__ import annotations

import random
from collections.abc import Iterator

from mock_mcp.domains.search_web import SORTS, TOPIC, Page
from mock_mcp.world import World


def subjects(world: World, *kinds: str) -> list[Page]:
    """Return the pages of subjects that no other page tells otherwise, of some kinds or of all."""
    outdated = {page.subject for page in _pages(world) if not page.current}
    return [
        page
        for page in _pages(world)
        if page.kind != TOPIC and page.subject not in outdated and (not kinds or page.kind in kinds)
    ]


def versions(world: World, rng: random.Random) -> tuple[Page, Page]:
    """Draw a subject with two pages: the current one and the outdated one."""
    old = rng.choice([page for page in _pages(world) if not page.current])
    new = next(page for page in _pages(world) if page.subject == old.subject and page.current)
    return new, old


def value_attribute(page: Page, rng: random.Random) -> str:
    """Draw an attribute whose value is no link."""
    return rng.choice([*SORTS[page.kind].values])


def walk(world: World, rng: random.Random, hops: int) -> tuple[Page, list[str], list[Page]]:
    """Draw a walk along links that meets no page twice.

    Returns:
        The first page, the links to follow from it, and the pages that they lead to.
    """
    while True:
        start = rng.choice(subjects(world))
        links: list[str] = []
        pages = [start]
        for _ in range(hops):
            links.append(rng.choice([*pages[-1].links]))
            pages.append(world.search.pages[pages[-1].links[links[-1]]])
        if len({page.page_id for page in pages}) == len(pages):
            return start, links, pages[1:]


def _pages(world: World) -> Iterator[Page]:
    return iter(world.search.pages.values())
