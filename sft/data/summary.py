"""The counts of a conversion, and how they are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from sft.data.conversion import Converted, Refused


@dataclass
class Counts:
    """Counts of rows; `rows` is the sum of accepted, rejected and duplicates.

    Attributes:
        accepted: Rows written.
        with_calls: Those of them that hold a call.
        duplicates: Rows with the messages and tools of one before them; they are not written.
        rejected: Reason -> rows.
        notes: Permitted change, or benchmark spoilt -> rows written.
    """

    accepted: int = 0
    with_calls: int = 0
    duplicates: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        """Return how many rows there were."""
        return self.accepted + self.duplicates + self.rejected.total()

    def accept(self, row: Converted) -> None:
        """Count a row that is written."""
        self.accepted += 1
        self.with_calls += bool(row.calls)
        self.notes.update(row.notes)

    def refuse(self, row: Refused) -> None:
        """Count a row that is rejected."""
        self.rejected[row.reason] += 1

    def lines(self) -> Iterator[str]:
        """Yield the lines of a table."""
        rejected = self.rejected.total()
        yield (
            f"{self.rows:,} rows = {self.accepted:,} accepted + {rejected:,} rejected "
            f"+ {self.duplicates:,} duplicates"
        )
        without = self.accepted - self.with_calls
        yield f"accepted: {self.with_calls:,} with calls, {without:,} without"
        for title, counter in (("rejected", self.rejected), ("noted", self.notes)):
            for name, count in sorted(counter.items(), key=lambda item: (-item[1], item[0])):
                yield f"{title}: {count:>9,}  {name}"
