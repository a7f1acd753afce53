"""What is wrong with a set of rows: each by itself, and beside the others.

A row is clean if it has none of the problems below. Flags (licences, benchmarks that must not be
reported) and lengths are shown beside them; they make no row unclean.

    of the line         the codes of `reasons.py` for broken lines
    of the row          the codes of `check.py`: structure, order of roles, tags, calls and schemas
    of its rendering    not_rendered, not_round_trip, nothing_trained, loses_trained_tokens
    beside the others   repeated_id, duplicate, near_duplicate
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.tables import aligned
from sft.data.check import problems
from sft.data.duplicates import Twins, digest64
from sft.data.errors import DataError
from sft.data.jsonl import Line
from sft.data.measures import Tally, TokenCounter, Tokens
from sft.data.reasons import Reason
from sft.data.render import parses_back
from sft.data.rows import conversation

NOT_RENDERED = "not_rendered"
NOTHING_TRAINED = "nothing_trained"
LOSES_TRAINED_TOKENS = "loses_trained_tokens"
REPEATED_ID = "repeated_id"
DUPLICATE = "duplicate"
NEAR_DUPLICATE = "near_duplicate"

MOST_EXAMPLES = 5
MOST_LETTERS = 160
"""Of a longer message only the beginning is kept."""

SHOWN_LABELS = ("language", "licence", "flag")


@dataclass
class Finding:
    """How often one problem was found, and the first places.

    Attributes:
        rows: Rows that have it.
        examples: The first places: `file:line: what is wrong`.
    """

    rows: int = 0
    examples: list[str] = field(default_factory=list)


class Validation:
    """Collects what is wrong while the rows are read.

    Args:
        counter: Renders the rows and counts their tokens; None leaves that out.
        similarity: From which similarity on rows are near-duplicates; 0 finds exact copies only.

    Attributes:
        rows: Lines that were read.
        clean: Those without a problem.
        findings: Code -> how often it was found.
        tally: What the readable rows hold.
    """

    def __init__(self, counter: TokenCounter | None, similarity: float) -> None:
        self.rows = 0
        self.clean = 0
        self.findings: dict[str, Finding] = {}
        self.tally = Tally()
        self._counter = counter
        self._twins = Twins(similarity)
        self._places = _Places()
        self._conversations = array("Q")
        self._ids: dict[int, int] = {}

    @property
    def clean_share(self) -> float:
        """Share of the rows without a problem."""
        return self.clean / self.rows if self.rows else 0.0

    def add(self, path: Path, line: Line) -> None:
        """Look at one line."""
        self.rows += 1
        found: dict[str, str] = {}
        for code, message in self._problems(path, line):
            found.setdefault(code, message)
        for code, message in found.items():
            finding = self.findings.setdefault(code, Finding())
            finding.rows += 1
            if len(finding.examples) < MOST_EXAMPLES:
                finding.examples.append(f"{path}:{line.number}: {_short(message)}")
        self.clean += not found

    def _problems(self, path: Path, line: Line) -> Iterator[tuple[str, str]]:
        if line.value is None:
            yield str(line.reason or Reason.BROKEN_JSON), line.error
            return
        row = line.value
        found = problems(row)
        yield from ((str(one.code), one.message) for one in found)
        if any(one.code in _UNREADABLE for one in found):
            return
        tokens: Tokens | None = None
        if self._counter:
            try:
                tokens = self._counter.count(row)
            except DataError as error:
                yield NOT_RENDERED, str(error)
        self.tally.add(row, tokens)
        if self._counter and tokens:
            yield from _rendering_problems(self._counter, row, tokens, checked=not found)
        yield from self._beside_others(path, line.number, row)

    def _beside_others(
        self, path: Path, line: int, row: Mapping[str, Any]
    ) -> Iterator[tuple[str, str]]:
        number = self._places.add(path, line)
        whole = digest64(conversation(row))
        self._conversations.append(whole)
        first = self._ids.setdefault(digest64(row["id"]), number)
        if first != number:
            yield REPEATED_ID, f'the id "{row["id"]}" stands at {self._places[first]} already'
        twin = self._twins.find(row, number)
        if twin is None:
            return
        if twin.exact:
            yield DUPLICATE, f"the messages and tools of {self._places[twin.number]}"
        # What was unrolled from one conversation is alike and meant to be.
        elif self._conversations[twin.number] != whole:
            yield NEAR_DUPLICATE, f"nearly says what {self._places[twin.number]} says"

    def as_json(self) -> dict[str, Any]:
        """Return all figures as a JSON object."""
        found = {
            code: {"rows": finding.rows, "examples": finding.examples}
            for code, finding in self._by_frequency()
        }
        shares = {"rows": self.rows, "clean": self.clean, "clean_share": self.clean_share}
        return {**shares, "problems": found, "readable": self.tally.as_json()}

    def table(self) -> str:
        """Return the figures as text."""
        parts = [f"{self.rows:,} rows, {self.clean:,} clean ({100 * self.clean_share:.1f} %)"]
        if self.findings:
            lines = [["problem", "rows", "%"]]
            examples = []
            for code, one in self._by_frequency():
                lines.append([code, f"{one.rows:,}", f"{100 * one.rows / self.rows:.1f}"])
                examples.append(f"  {code}: {one.examples[0]}")
            parts += [aligned(lines), "first of each:\n" + "\n".join(examples)]
        if self.tally.rows:
            parts += [self.tally.number_table(), self.tally.label_table(SHOWN_LABELS)]
        return "\n\n".join(parts)

    def _by_frequency(self) -> list[tuple[str, Finding]]:
        return sorted(self.findings.items(), key=lambda item: (-item[1].rows, item[0]))


class _Places:
    """Where rows stand, four bytes each."""

    def __init__(self) -> None:
        self._lines = array("I")
        self._starts: list[int] = []
        self._paths: list[Path] = []

    def add(self, path: Path, line: int) -> int:
        """Remember a place and return its number, from 0."""
        if not self._paths or self._paths[-1] != path:
            self._paths.append(path)
            self._starts.append(len(self._lines))
        self._lines.append(line)
        return len(self._lines) - 1

    def __getitem__(self, number: int) -> str:
        path = self._paths[bisect_right(self._starts, number) - 1]
        return f"{path}:{self._lines[number]}"


_UNREADABLE = (
    Reason.MISSING_FIELD,
    Reason.BAD_FIELD,
    Reason.EMPTY_TOOL_CALLS,
    Reason.BROKEN_CALL,
)
"""Where one of these was found, nothing behind it was looked at."""


def _rendering_problems(
    counter: TokenCounter, row: Mapping[str, Any], tokens: Tokens, *, checked: bool
) -> Iterator[tuple[str, str]]:
    if not tokens.trained:
        yield NOTHING_TRAINED, "no token is trained"
    if tokens.lost:
        yield (
            LOSES_TRAINED_TOKENS,
            f"{tokens.lost:,} of {tokens.trained:,} trained tokens stand behind the limit",
        )
    if checked and not parses_back(counter.template, row):
        yield str(Reason.NOT_ROUND_TRIP), "rendered and parsed back, the calls are not the same"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 1] + "…"
