from __future__ import annotations

import random
import sqlite3
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mock_mcp.domains import search_tools as tools
from mock_mcp.domains.search_state import SearchState
from mock_mcp.domains.search_web import NEAR_DUPLICATES, OLD_PAGES, SORTS, TOPIC
from mock_mcp.toolspec import ToolFailure


def _world(seed: int) -> Any:
    return SimpleNamespace(search=SearchState.build(random.Random(seed)))


WORLD = _world(0)
PAGES = [*WORLD.search.pages.values()]
TOWN = next(page for page in PAGES if page.kind == "town" and page.current)


def test_the_web_has_pages_of_every_sort_and_the_distractors() -> None:
    assert len(PAGES) == 120
    assert {page.kind for page in PAGES} == {*SORTS, TOPIC}
    assert sum(not page.current for page in PAGES) == OLD_PAGES
    for kind, sort in SORTS.items():
        names = [page.subject for page in PAGES if page.kind == kind and page.current]
        assert len(names) == len({*names}) == sort.count
        shared = sum(
            any(other != name and {*name.split()} & {*other.split()} - {"The"} for other in names)
            for name in names
        )
        assert shared >= NEAR_DUPLICATES


def test_every_fact_of_a_page_is_found_by_its_attribute_and_by_nothing_else() -> None:
    for page in PAGES:
        for attribute, value in page.facts.items():
            found = tools.find_in_page(WORLD, page.page_id, attribute)["matches"]
            assert found == [f"The {attribute} of {page.subject} is {value}."]


def test_links_lead_to_the_current_page_of_what_the_fact_names() -> None:
    for page in PAGES:
        for link, target in page.links.items():
            linked = WORLD.search.pages[target]
            assert linked.current
            assert linked.subject == page.facts.get(link, link)


def test_an_old_page_is_older_and_wrong_and_no_title_gives_it_away() -> None:
    plain = set()
    for old in (page for page in PAGES if not page.current):
        new = next(page for page in PAGES if page.current and page.subject == old.subject)
        assert old.updated < new.updated
        assert all(old.facts[name] != new.facts[name] for name in SORTS[new.kind].values)
        assert {old.title, new.title} == {new.subject, f"{new.subject} profile"}
        plain.add(new.title == new.subject)
    assert plain == {True, False}


def test_the_title_of_a_page_finds_it() -> None:
    for page in PAGES:
        results = tools.web_search(WORLD, page.title)["results"]
        assert len(results) <= 5
        assert {"page_id": page.page_id, "title": page.title} in results


def test_the_same_search_gives_the_same_order_in_a_world_built_again() -> None:
    again = _world(0)
    for page in PAGES[::7]:
        query = " ".join(page.sentences[-1].split()[:5])
        assert tools.web_search(again, query) == tools.web_search(WORLD, query)


def test_equal_scores_are_ordered_by_page_id() -> None:
    # Only the introductions "... is a landmark." hold the word, in texts of similar length.
    index = sqlite3.connect(":memory:")
    index.execute("CREATE VIRTUAL TABLE pages USING fts5(page_id UNINDEXED, title, text)")
    ids = ["W3", "W9", "W1", "W5"]
    index.executemany("INSERT INTO pages VALUES (?, 'a', 'same words')", [(key,) for key in ids])
    state = SearchState({key: key for key in ids}, "", index)  # type: ignore[dict-item]
    assert state.search("words", 5) == ["W1", "W3", "W5", "W9"]


@given(st.text(max_size=80))
def test_no_query_breaks_the_search(query: str) -> None:
    assume(query.strip())
    assert len(tools.web_search(WORLD, query)["results"]) <= 5


@pytest.mark.parametrize("query", ['"', "title:x", "a AND", "NEAR(", "* ^", "\x00", "NOT"])
def test_the_search_languages_own_signs_are_only_text(query: str) -> None:
    assert "results" in tools.web_search(WORLD, query)


def test_accents_may_be_left_out() -> None:
    page = next(page for page in PAGES if not page.title.isascii() and page.current)
    plain = page.title.replace("é", "e").replace("ö", "o")
    ids = [result["page_id"] for result in tools.web_search(WORLD, plain)["results"]]
    assert page.page_id in ids


def test_opening_shows_the_beginning_and_says_how_much_is_hidden() -> None:
    opened = tools.open_page(WORLD, TOWN.page_id)
    assert opened == {
        "page_id": TOWN.page_id,
        "title": TOWN.title,
        "text": " ".join(TOWN.sentences[:4]),
        "hidden_sentences": len(TOWN.sentences) - 4,
    }
    assert opened["hidden_sentences"] > 0


def test_following_a_link_opens_its_target() -> None:
    links = tools.list_links(WORLD, TOWN.page_id)["links"]
    assert [link["link"] for link in links] == ["mayor", "twin town", "largest employer"]
    for link in links:
        followed = tools.follow_link(WORLD, TOWN.page_id, link["link"].upper())
        assert followed == tools.open_page(WORLD, link["page_id"])


def test_page_info_tells_the_date() -> None:
    info = tools.page_info(WORLD, TOWN.page_id)
    assert info["updated"] == TOWN.updated.isoformat()


def test_find_needs_all_words_in_one_sentence_whatever_their_case() -> None:
    assert tools.find_in_page(WORLD, TOWN.page_id, "POPULATION the") != {"matches": []}
    assert tools.find_in_page(WORLD, TOWN.page_id, "population elevation") == {"matches": []}


def test_failures_say_what_to_do() -> None:
    with pytest.raises(ToolFailure, match="web_search finds page ids"):
        tools.open_page(WORLD, "W1")
    with pytest.raises(ToolFailure, match="Its links: mayor, twin town, largest employer"):
        tools.follow_link(WORLD, TOWN.page_id, "queen")
    for query in ("", "  "):
        with pytest.raises(ToolFailure, match="query is empty"):
            tools.web_search(WORLD, query)
    with pytest.raises(ToolFailure, match="longer than 200"):
        tools.find_in_page(WORLD, TOWN.page_id, "a" * 201)


def test_another_thread_can_search() -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(tools.web_search(WORLD, TOWN.title)))
    thread.start()
    thread.join()
    assert found == [tools.web_search(WORLD, TOWN.title)]


def test_copies_share_everything_and_seeds_differ() -> None:
    assert WORLD.search.copy() is WORLD.search
    other = _world(1).search
    assert other.digest != WORLD.search.digest
    assert _world(0).search.snapshot() == WORLD.search.snapshot()


def test_the_digest_sees_every_page() -> None:
    assert len(WORLD.search.digest) == 64
    assert WORLD.search.snapshot()["web"]["pages"]["count"] == len(PAGES)


def test_the_index_is_closed_with_the_state() -> None:
    state = SearchState.build(random.Random(3))
    index = state.index
    del state
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        index.execute("SELECT 1")
