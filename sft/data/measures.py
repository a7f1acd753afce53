"""What a set of rows holds, counted while it is read."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from agents.models import load_tokenizer
from agents.tables import aligned
from agents.template import ChatTemplate, Message, Tools
from sft.data.errors import DataError
from sft.data.languages import language
from sft.data.rows import Located, assistant_turns, calls, user_text
from sft.data.sources import NO_LICENCE, flags, licence_of
from sft.data.whole_file import WholeFile

LABELS = ("source", "model", "licence", "outcome", "language", "flag", "truncated", "tool")
NUMBERS = ("turns", "calls", "tools", "characters", "tokens", "trained tokens")
NONE = "-"

RENDER_ERRORS = (TemplateError, ValueError, TypeError, KeyError)
"""What a chat template raises for a row that it was not made for."""

MOST_SHOWN = 12
"""Values of a label that a table shows; the others are summed up."""


@dataclass(frozen=True)
class Tokens:
    """How long a row is, in tokens.

    Attributes:
        total: All of the rendered conversation.
        trained: Those that are trained on.
        lost: Those of them that stand behind `max_length`.
    """

    total: int
    trained: int
    lost: int = 0


class _LastRow(ChatTemplate):
    """Renders a row once, though its tokens are counted and then parsed back."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, thinking: bool) -> None:
        super().__init__(tokenizer, thinking=thinking)
        self._seen: tuple[Any, Any] = (None, None)
        self._last: tuple[list[int], list[int]] = ([], [])

    def training_row(
        self, messages: Sequence[Message], tools: Tools = ()
    ) -> tuple[list[int], list[int]]:
        if self._seen[0] is not messages or self._seen[1] is not tools:
            self._last = super().training_row(messages, tools)
            self._seen = (messages, tools)
        return self._last


class TokenCounter:
    """Counts a row's tokens as training does.

    Args:
        model: Model whose tokenizer and chat template are used: `embedded`, a folder, or a hub id.
        max_length: Tokens that training keeps of a row; 0 for all.
        thinking: Render `reasoning_content`, as training with `--enable_thinking true` does.

    Raises:
        AgentError: If there is no such tokenizer.
        DataError: If it has no chat template.
    """

    def __init__(self, model: str, max_length: int = 0, *, thinking: bool = False) -> None:
        try:
            self.template: ChatTemplate = _LastRow(load_tokenizer(model), thinking=thinking)
        except ValueError as error:
            raise DataError(str(error)) from error
        self._max_length = max_length

    def count(self, row: Mapping[str, Any]) -> Tokens:
        """Return the tokens of a row.

        Raises:
            DataError: If the chat template refuses the row.
        """
        try:
            ids, mask = self.template.training_row(row["messages"], row["tools"])
        except RENDER_ERRORS as error:
            raise DataError(f"the chat template refuses it: {error}") from error
        lost = sum(mask[self._max_length :]) if self._max_length else 0
        return Tokens(len(ids), sum(mask), lost)

    def count_at(self, located: Located) -> Tokens:
        """Return the tokens of a row; what is wrong with it begins with `file:line`."""
        try:
            return self.count(located.row)
        except DataError as error:
            raise DataError(f"{located.place}: {error}") from error


def write_figures(path: Path, figures: Mapping[str, Any]) -> None:
    """Write figures as indented JSON, whole or not at all.

    Raises:
        DataFileError: If the file cannot be written.
    """
    with WholeFile(path) as file:
        file.write_line(json.dumps(figures, indent=2, ensure_ascii=False).encode())


class Numbers:
    """Non-negative numbers, four bytes each, and how they are spread."""

    def __init__(self) -> None:
        self._values = array("I")

    def add(self, value: int) -> None:
        """Add one."""
        self._values.append(value)

    def values(self) -> list[int]:
        """Return all, in the order they came."""
        return self._values.tolist()

    def spread(self) -> dict[str, float]:
        """Return least, median, 95th percentile, most, mean and sum; nothing without a number."""
        if not self._values:
            return {}
        values = np.frombuffer(self._values, dtype=np.uint32)
        low, middle, high, most = np.percentile(values, [0, 50, 95, 100], method="lower").tolist()
        return {
            "min": low,
            "median": middle,
            "p95": high,
            "max": most,
            "mean": round(float(values.mean()), 2),
            "sum": int(values.sum(dtype=np.uint64)),
        }


class Tally:
    """Counts of labels and spreads of numbers over the rows that were added.

    Attributes:
        rows: How many rows.
        labels: For each of `LABELS` how many rows have which value (for `tool` how many calls,
            for `flag` how many rows each).
        numbers: For each of `NUMBERS` its values.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.labels: dict[str, Counter[str]] = {name: Counter() for name in LABELS}
        self.numbers = {name: Numbers() for name in NUMBERS}

    def add(self, row: Mapping[str, Any], tokens: Tokens | None = None) -> None:
        """Count one row.

        Args:
            row: A canonical row.
            tokens: Its length in tokens, if that was measured.
        """
        self.rows += 1
        called = calls(row)
        for name in ("source", "model", "outcome"):
            self.labels[name][str(row.get(name) or NONE)] += 1
        self.labels["licence"][licence_of(row) or NONE] += 1
        self.labels["truncated"]["yes" if row.get("truncated") else "no"] += 1
        said = user_text(row)
        self.labels["language"][language(said)] += 1
        self.labels["flag"].update(flag for flag in flags(row) if flag != NO_LICENCE)
        self.labels["tool"].update(str(call.get("name")) for call in called)
        counts = {
            "turns": len(assistant_turns(row)),
            "calls": len(called),
            "tools": len(row["tools"]),
            "characters": sum(len(message.get("content") or "") for message in row["messages"]),
        }
        if tokens is not None:
            counts |= {"tokens": tokens.total, "trained tokens": tokens.trained}
        for name, count in counts.items():
            self.numbers[name].add(count)

    def as_json(self) -> dict[str, Any]:
        """Return all figures as a JSON object."""
        return {
            "rows": self.rows,
            "labels": {name: dict(found.most_common()) for name, found in self.labels.items()},
            "numbers": {name: values.spread() for name, values in self.numbers.items()},
        }

    def number_table(self) -> str:
        """Return one line per number with its spread."""
        spreads = {name: values.spread() for name, values in self.numbers.items()}
        keys = ["min", "median", "p95", "max", "mean", "sum"]
        lines = [
            [name, *(f"{spread[key]:,g}" if key == "mean" else f"{spread[key]:,}" for key in keys)]
            for name, spread in spreads.items()
            if spread
        ]
        return aligned([["per row", *keys], *lines])

    def label_table(self, names: Sequence[str] = LABELS) -> str:
        """Return one line per value of each of these labels, the most common first."""
        lines = [["", "rows", "%"]]
        for name in names:
            found = self.labels[name]
            if not found:
                continue
            unit = sum(found.values()) if name == "tool" else self.rows
            title = "tool (calls of it)" if name == "tool" else name
            shown = found.most_common(MOST_SHOWN)
            rest = sum(found.values()) - sum(count for _, count in shown)
            if len(found) > MOST_SHOWN:
                shown.append((f"{len(found) - MOST_SHOWN} others", rest))
            lines.append([title, "", ""])
            for value, count in shown:
                lines.append([f"  {value}", f"{count:,}", f"{100 * count / unit:.1f}"])
        return aligned(lines)
