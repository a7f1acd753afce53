"""Which rows a filter keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sft.data.rows import assistant_turns, calls


@dataclass(frozen=True)
class Criteria:
    """What a row must be, to be kept; None and empty tuples ask for nothing.

    Attributes:
        outcomes: One of these outcomes.
        sources: One of these sources.
        min_reward: At least this return; a row without one is not kept.
        max_reward: At most this return.
        min_calls: At least so many calls.
        max_calls: At most so many calls.
        min_turns: At least so many turns of the assistant.
        max_turns: At most so many.
        min_tokens: At least so many tokens.
        max_tokens: At most so many tokens.
    """

    outcomes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    min_reward: float | None = None
    max_reward: float | None = None
    min_calls: int | None = None
    max_calls: int | None = None
    min_turns: int | None = None
    max_turns: int | None = None
    min_tokens: int | None = None
    max_tokens: int | None = None

    @property
    def need_tokens(self) -> bool:
        """True if a row can be judged only with its length in tokens."""
        return self.min_tokens is not None or self.max_tokens is not None

    def failed(self, row: Mapping[str, Any], tokens: Callable[[], int]) -> str:
        """Return the first criterion that a row fails, or "".

        Args:
            row: A canonical row.
            tokens: Measures its length; called only if a criterion asks for it.
        """
        if self.outcomes and row.get("outcome") not in self.outcomes:
            return "outcome"
        if self.sources and row.get("source") not in self.sources:
            return "source"
        if not _within(row.get("reward"), self.min_reward, self.max_reward):
            return "reward"
        if not _within(len(calls(row)), self.min_calls, self.max_calls):
            return "number of calls"
        if not _within(len(assistant_turns(row)), self.min_turns, self.max_turns):
            return "number of turns"
        if self.need_tokens and not _within(tokens(), self.min_tokens, self.max_tokens):
            return "length in tokens"
        return ""


def _within(value: Any, least: float | None, most: float | None) -> bool:
    if least is None and most is None:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return (least is None or value >= least) and (most is None or value <= most)
