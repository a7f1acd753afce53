"""The tools of the `search` domain: find pages of the seeded web and read them.

`open_page` and `follow_link` show the beginning of a page only, as a browser's first screen;
`find_in_page` reads all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypedDict

from pydantic import Field

from mock_mcp.domains.search_web import Page
from mock_mcp.errors import did_you_mean
from mock_mcp.toolspec import ToolFailure, ToolSpec

if TYPE_CHECKING:
    from mock_mcp.world import World

MAX_RESULTS = 5
MAX_MATCHES = 5
MAX_TEXT = 200
SHOWN_SENTENCES = 4


class FoundPage(TypedDict):
    """A page in a result list."""

    page_id: str
    title: str


class SearchResults(TypedDict):
    """The best pages for a query."""

    results: list[FoundPage]


class OpenedPage(TypedDict):
    """The beginning of a page."""

    page_id: str
    title: str
    text: str
    hidden_sentences: int


class PageInfo(TypedDict):
    """What is known about a page besides its text."""

    page_id: str
    title: str
    updated: str


class Matches(TypedDict):
    """Sentences of a page."""

    matches: list[str]


class Link(TypedDict):
    """A link and the page it leads to."""

    link: str
    page_id: str


class Links(TypedDict):
    """The links of a page."""

    links: list[Link]


def web_search(world: World, query: str) -> SearchResults:
    """Search the web for pages, best match first."""
    _check_text("query", query)
    found = world.search.search(query, MAX_RESULTS)
    return {"results": [{"page_id": page.page_id, "title": page.title} for page in found]}


def open_page(world: World, page_id: str) -> OpenedPage:
    """Open a page and read its first sentences."""
    return _opened(_page(world, page_id))


def find_in_page(
    world: World, page_id: str, text: Annotated[str, Field(description="words to find")]
) -> Matches:
    """Find the sentences of a page that contain some words."""
    page = _page(world, page_id)
    _check_text("text", text)
    words = text.casefold().split()
    found = [
        sentence
        for sentence in page.sentences
        if all(word in sentence.casefold() for word in words)
    ]
    return {"matches": found[:MAX_MATCHES]}


def list_links(world: World, page_id: str) -> Links:
    """List the links of a page."""
    links = _page(world, page_id).links
    return {"links": [{"link": text, "page_id": target} for text, target in links.items()]}


def follow_link(world: World, page_id: str, link: str) -> OpenedPage:
    """Open the page that a link of a page leads to."""
    links = _page(world, page_id).links
    target = {text.casefold(): target for text, target in links.items()}.get(link.casefold())
    if target is None:
        known = ", ".join(links) or "none"
        raise ToolFailure(f"Page {page_id} has no link {link[:40]!r}. Its links: {known}.")
    return _opened(_page(world, target))


def page_info(world: World, page_id: str) -> PageInfo:
    """Get the title and the last update of a page."""
    page = _page(world, page_id)
    return {"page_id": page_id, "title": page.title, "updated": page.updated.isoformat()}


def _page(world: World, page_id: str) -> Page:
    page = world.search.pages.get(page_id)
    if page is None:
        hint = did_you_mean(page_id, world.search.pages)
        raise ToolFailure(f"There is no page {page_id[:40]!r}.{hint} web_search finds page ids.")
    return page


def _opened(page: Page) -> OpenedPage:
    shown = page.sentences[:SHOWN_SENTENCES]
    return {
        "page_id": page.page_id,
        "title": page.title,
        "text": " ".join(shown),
        "hidden_sentences": len(page.sentences) - len(shown),
    }


def _check_text(name: str, text: str) -> None:
    if not text.strip():
        raise ToolFailure(f"The {name} is empty. Give at least one word.")
    if len(text) > MAX_TEXT:
        raise ToolFailure(f"The {name} is longer than {MAX_TEXT} characters. Shorten it.")


TOOLS = tuple(
    ToolSpec(function)
    for function in (web_search, open_page, find_in_page, list_links, follow_link, page_info)
)
"""The tools of the domain."""
