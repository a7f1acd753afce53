"""What a collection came to: outcomes, lost episodes, requests, tokens."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from agents.chat_client import Usage
from agents.stats import wilson
from agents.tables import aligned
from rewards.episode import Outcome, Status
from sft.collecting.loop import Played

UNJUDGED = "not judged"


@dataclass
class Tally:
    """Counts of the episodes of one call.

    Attributes:
        outcomes: Rows written, by outcome.
        lost: Episodes that an infrastructure fault ended, by where it was.
        last_fault: What the last of them died of.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    last_fault: str = ""

    @property
    def rows(self) -> int:
        """Return how many rows were written."""
        return self.outcomes.total()

    def add(self, outcome: str) -> None:
        """Count an episode that was written, by its outcome, or as `UNJUDGED`."""
        self.outcomes[outcome] += 1

    def add_lost(self, played: Played) -> None:
        """Count an episode that was not written."""
        status = played.episode.status
        self.lost["endpoint" if status is Status.OK else str(status)] += 1
        self.last_fault = played.lost or f"a server: {status}"

    def table(self, usage: Usage) -> str:
        """Return the counts as text.

        Args:
            usage: What was asked for.
        """
        judged = UNJUDGED not in self.outcomes
        names = [str(outcome) for outcome in Outcome] if judged else [UNJUDGED]
        counts = [[name, str(self.outcomes[name])] for name in names]
        lines = [aligned([["outcome", "rows"], *counts])]
        if self.rows and judged:
            successes = self.outcomes[Outcome.SUCCESS]
            low, high = wilson(successes, self.rows)
            rate = successes / self.rows
            lines.append(f"success {rate:.1%} of {self.rows} [Wilson 95 % {low:.1%}, {high:.1%}]")
        if self.lost:
            places = ", ".join(f"{where} {count}" for where, count in self.lost.most_common())
            lines.append(f"lost, not written: {places}; the last: {self.last_fault}")
        lines.append(
            f"{usage.answers:,} answers, {usage.retries:,} retries; tokens: "
            f"{usage.prompt_tokens:,} read, {usage.completion_tokens:,} sampled"
        )
        return "\n".join(lines)
