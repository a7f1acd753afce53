"""The card of a data set: README.md with the metadata that the hub reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from huggingface_hub import DatasetCard, DatasetCardData

from agents.tables import markdown
from sft.data.languages import UNKNOWN
from sft.data.measures import NONE, Tally

SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
LARGEST = "10M<n<100M"
TAGS = ("tool-calling", "function-calling", "mcp", "sft")
MOST_LISTED = 20
FEWEST_OF_A_LANGUAGE = 0.01
"""Share of the rows from which on a language is named: below, it is mostly a mistaken name."""


@dataclass(frozen=True)
class DataFile:
    """One file of a data set: the split that it is, its name in the set, and its rows."""

    split: str
    name: str
    rows: int


def write_card(name: str, files: Sequence[DataFile], tally: Tally, licence: str = "") -> str:
    """Return the text of a card.

    Args:
        name: What the data set is called.
        files: Its files.
        tally: What is in them.
        licence: Licence of the whole, by its id on the hub; otherwise that of all rows, `other` if
            they have several, and `unknown` if one has none.

    Returns:
        Markdown behind YAML metadata.
    """
    data = DatasetCardData(
        language=_languages(tally) or None,
        license=licence or common_licence(tally.labels["licence"]),
        size_categories=size_category(tally.rows),
        task_categories=["text-generation"],
        tags=list(TAGS),
        pretty_name=name,
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": file.split, "path": file.name} for file in files],
            }
        ],
    )
    card = DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{_body(name, files, tally)}")
    return str(card.content)


def common_licence(found: Mapping[str, int]) -> str:
    """Return the licence that all rows have, or `other` or `unknown`."""
    if not found or NONE in found:
        return "unknown"
    return next(iter(found)).lower() if len(found) == 1 else "other"


def size_category(rows: int) -> str:
    """Return the hub's name for a number of rows."""
    return next((name for limit, name in SIZES if rows < limit), LARGEST)


def _languages(tally: Tally) -> list[str]:
    found = tally.labels["language"]
    needed = FEWEST_OF_A_LANGUAGE * tally.rows
    return [code for code, rows in found.most_common() if code != UNKNOWN and rows >= needed]


def _body(name: str, files: Sequence[DataFile], tally: Tally) -> str:
    spreads = {key: values.spread() for key, values in tally.numbers.items()}
    keys = ["min", "median", "p95", "max"]
    numbers = [
        [key, *(f"{spread[k]:,}" for k in keys)] for key, spread in spreads.items() if spread
    ]
    parts = [
        f"# {name}",
        f"{tally.rows:,} tool-calling conversations. A row has `messages` with structured calls, "
        "`tools` as OpenAI function schemas, and where it comes from; a turn with "
        '`"weight": 0` is shown and not trained.',
        markdown([["split", "file", "rows"], *([f.split, f.name, f"{f.rows:,}"] for f in files)]),
        *(f"## {title}\n\n{_counts(tally.labels[key])}" for title, key in _SECTIONS),
        "## Size of a row\n\n" + markdown([["", *keys], *numbers]),
        "## Limits\n\n" + _limits(tally),
    ]
    return "\n\n".join(parts) + "\n"


_SECTIONS = (
    ("Sources", "source"),
    ("Licences", "licence"),
    ("Models", "model"),
    ("Outcomes", "outcome"),
    ("Languages of the user", "language"),
)


def _counts(found: Counter[str]) -> str:
    shown = [[_cell(value), f"{count:,}"] for value, count in found.most_common(MOST_LISTED)]
    if len(found) > MOST_LISTED:
        rest = sum(found.values()) - sum(count for _, count in found.most_common(MOST_LISTED))
        shown.append([f"{len(found) - MOST_LISTED} others", f"{rest:,}"])
    return markdown([["", "rows"], *shown])


def _limits(tally: Tally) -> str:
    lines = [f"- {rows:,} rows: {flag}." for flag, rows in tally.labels["flag"].most_common()]
    without = tally.labels["licence"][NONE]
    if without:
        lines.append(f"- {without:,} rows carry no licence; ask where they come from before use.")
    lines.append("- Languages were told by a model (py3langid) and are mistaken at times.")
    return "\n".join(lines)


def _cell(value: str) -> str:
    """Text of a data set as one cell of a table, whatever is in it."""
    text = " ".join(value.split()).replace("\\", "\\\\").replace("|", "\\|")
    return text.replace("<", "&lt;").replace("`", "\\`")
