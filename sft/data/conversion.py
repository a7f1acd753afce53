"""One line of another format -> canonical rows, or why not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sft.data.check import problems
from sft.data.formats import FORMATS
from sft.data.formats.detect import candidates
from sft.data.formats.draft import Row
from sft.data.jsonl import Line
from sft.data.reasons import Problem, Reason
from sft.data.rejected import Rejected
from sft.data.renaming import rename_tools
from sft.data.rows import content_key
from sft.data.seen import DIGEST_BYTES
from sft.data.sources import spoiled_benchmarks
from sft.data.strict import dump_json

RoundTrip = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Settings:
    """What is the same for all rows of a conversion.

    Attributes:
        format: Name of the format.
        detected: The format was told by the first rows, so that another one is an error.
        source: Where the rows come from.
        stem: What ids begin with that the source does not have.
        licence: The licence of rows that name none themselves.
        model: Tokenizer with whose template rows are rendered and parsed back, or "".
    """

    format: str
    detected: bool
    source: str
    stem: str
    licence: str
    model: str


@dataclass(frozen=True)
class Converted:
    """A row of the output.

    Attributes:
        line: The row as JSON.
        digest: Equal for rows with the same messages and tools.
        calls: How many calls it holds.
        notes: The permitted changes, and the benchmarks it spoils, as counted in the summary.
    """

    line: bytes
    digest: bytes
    calls: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Refused:
    """A row of the rejects.

    Attributes:
        line: The row as JSON: where it stood, why it was refused, and how it read.
        reason: The code.
    """

    line: bytes
    reason: Reason


@dataclass(frozen=True)
class OtherFormat:
    """A row that is in another known format than the rows before it.

    Attributes:
        number: Its line.
        formats: The formats that it may be in.
    """

    number: int
    formats: list[str]


Outcome = Converted | Refused | OtherFormat


def convert_line(
    line: Line, settings: Settings, round_trip: RoundTrip | None = None
) -> Iterator[Outcome]:
    """Convert the rows of a line.

    Args:
        line: A line of a file in another format.
        settings: What is the same for all.
        round_trip: Says whether a canonical row, rendered and parsed, gives its calls.

    Yields:
        What became of each row: of a line one, but for formats with several in a line.
    """
    if line.value is None:
        yield _refused(line, Problem(line.reason or Reason.BROKEN_JSON, line.error))
        return
    if settings.detected and (other := _other_format(line.number, line.value, settings.format)):
        yield other
        return
    try:
        parts = list(FORMATS[settings.format].split(line.value))
    except Rejected as rejected:
        yield _refused(line, rejected.problem)
        return
    for number, part in enumerate(parts, start=1):
        name = f"{settings.stem}-{line.number}" + (f"-{number}" if len(parts) > 1 else "")
        try:
            yield _converted(_row(part, settings, name), round_trip)
        except Rejected as rejected:
            yield _refused(line, rejected.problem)


def _other_format(number: int, row: Row, expected: str) -> OtherFormat | None:
    found = candidates(row)
    return OtherFormat(number, found) if found and expected not in found else None


def _row(part: Row, settings: Settings, name: str) -> dict[str, Any]:
    """Return the canonical row of one conversation.

    Raises:
        Rejected: If it cannot be read.
    """
    draft = FORMATS[settings.format].parse(part)
    rename_tools(draft)
    row: dict[str, Any] = {
        "id": name,
        "messages": draft.messages,
        "tools": draft.tools,
        "source": settings.source,
        "model": "",
        "timestamp": "",
        "truncated": False,
        "licence": settings.licence,
        **draft.fields,
    }
    if spoiled := spoiled_benchmarks({"source": f"{settings.format} {row['source']}"}):
        row["contaminates"] = spoiled
    if draft.normalised:
        row["normalised"] = sorted(draft.normalised)
    return row


def _converted(row: dict[str, Any], round_trip: RoundTrip | None) -> Converted:
    """Check a canonical row and return it as a line.

    Raises:
        Rejected: If it breaks a rule.
    """
    found = problems(row)
    if found:
        raise Rejected(found[0].code, found[0].message)
    if round_trip is not None and not round_trip(row):
        raise Rejected(Reason.NOT_ROUND_TRIP, "rendered and parsed back, its calls differ")
    calls = sum(len(message.get("tool_calls", ())) for message in row["messages"])
    digest = hashlib.blake2b(content_key(row).encode(), digest_size=DIGEST_BYTES).digest()
    notes = (
        *row.get("normalised", ()),
        *(f"spoils {benchmark}" for benchmark in row.get("contaminates", ())),
    )
    return Converted(dump_json(row).encode(), digest, calls, notes)


def _refused(line: Line, problem: Problem) -> Refused:
    record = {
        "line": line.number,
        "reason": problem.code,
        "message": problem.message,
        "row": line.raw.decode(errors="replace"),
    }
    return Refused(dump_json(record).encode(errors="replace"), problem.code)
