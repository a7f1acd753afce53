"""The read-only state of the `search` domain: a seeded web of pages and its full-text index."""

from __future__ import annotations

import hashlib
import random
import re
import sqlite3
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Self

from mock_mcp.domains.search_web import Page, draw_pages

MAX_QUERY_WORDS = 20
TITLE_WEIGHT = 5.0

_WORD = re.compile(r"\w+")
_CREATE = "CREATE VIRTUAL TABLE pages USING fts5(page_id UNINDEXED, title, text)"
# Equal scores are ordered by id; rounding keeps the last bits of a float from deciding.
_SEARCH = f"""
    SELECT page_id FROM pages WHERE pages MATCH ?
    ORDER BY round(bm25(pages, 0.0, {TITLE_WEIGHT}, 1.0), 6), page_id LIMIT ?
"""


@dataclass(frozen=True)
class SearchState:
    """What the `search` tools read. Copies share everything.

    Attributes:
        pages: The pages by id.
        digest: SHA-256 of all pages.
        index: Full-text index; any thread may use it (SQLite serialises its connections).
    """

    pages: Mapping[str, Page]
    digest: str
    index: sqlite3.Connection

    writes: ClassVar[int] = 0

    def __post_init__(self) -> None:
        """Close the index with the last copy (Python 3.13 warns where nobody does)."""
        weakref.finalize(self, self.index.close)

    @classmethod
    def build(cls, rng: random.Random) -> Self:
        """Draw the pages and index them."""
        pages = draw_pages(rng)
        index = sqlite3.connect(":memory:", check_same_thread=False)
        index.execute(_CREATE)
        index.executemany(
            "INSERT INTO pages VALUES (?, ?, ?)",
            [(page.page_id, page.title, " ".join(page.sentences)) for page in pages.values()],
        )
        index.commit()
        text = "\n".join(
            "\t".join((page.page_id, page.title, page.updated.isoformat(), *page.sentences))
            for page in pages.values()
        )
        return cls(MappingProxyType(pages), hashlib.sha256(text.encode()).hexdigest(), index)

    def copy(self) -> Self:
        """Return the state itself: nothing in it changes."""
        return self

    def snapshot(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return the fingerprint of the pages, so that they are part of the world's digest."""
        return {"web": {"pages": {"count": len(self.pages), "sha256": self.digest}}}

    def search(self, query: str, limit: int) -> list[Page]:
        """Return the pages that hold any word of the query, best first (BM25)."""
        words = _WORD.findall(query)[:MAX_QUERY_WORDS]
        if not words:
            return []
        match = " OR ".join(f'"{word}"' for word in words)
        rows = self.index.execute(_SEARCH, (match, limit)).fetchall()
        return [self.pages[page_id] for (page_id,) in rows]
