"""`show`: one row as the model will see it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from agents.cli import say
from sft.data.arguments import add_rendering
from sft.data.check import problems
from sft.data.measures import TokenCounter
from sft.data.page import as_page, as_terminal_text, segments, visible
from sft.data.rows import Located, Row, calls, find_row
from sft.data.sources import flags
from sft.data.whole_file import WholeFile

DESCRIPTION = (
    "Show one row as the model will see it: the rendered text, trained tokens on a green ground, "
    "or between marks where the output is no terminal."
)
FACTS = ("source", "model", "licence", "outcome", "truncated", "normalised", "edited")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.description = DESCRIPTION
    parser.add_argument("input", type=Path, metavar="IN", help="JSONL file of canonical rows")
    parser.add_argument("id", metavar="ID", help="`id` of the row")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page, too")
    add_rendering(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the row, and write the page."""
    counter = TokenCounter(arguments.model, thinking=arguments.enable_thinking)
    located = find_row(arguments.input, arguments.id)
    counter.count_at(located)
    runs = segments(counter.template, located.row)
    facts = row_facts(located)
    trained = sum(run.tokens for run in runs if run.trained)
    facts.append(("tokens", f"{sum(run.tokens for run in runs):,}, {trained:,} of them trained"))
    for name, value in facts:
        say(f"{name}: {visible(value)}")
    say()
    say(as_terminal_text(runs, colour=sys.stdout.isatty()).rstrip("\n"))
    if arguments.html:
        with WholeFile(arguments.html) as file:
            file.write_line(as_page(located.row["id"], facts, runs).encode())
        say(f"\nwrote {arguments.html}")
    return 0


def row_facts(located: Located) -> list[tuple[str, str]]:
    """Return what is known about a row beside its text."""
    row: Row = located.row
    facts = [("row", f"{row['id']}, line {located.number} of {located.path.name}")]
    facts += [(key, str(row[key])) for key in FACTS if row.get(key) not in (None, "", [])]
    facts.append(("calls", str(len(calls(row)))))
    facts += [("flag", flag) for flag in flags(row)]
    facts += [("problem", f"{one.code}: {one.message}") for one in problems(row)]
    return facts
