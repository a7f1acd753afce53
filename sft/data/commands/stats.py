"""`stats`: what a set of rows holds."""

from __future__ import annotations

import argparse
from pathlib import Path

from agents.cli import say
from sft.data.arguments import add_rendering
from sft.data.histograms import plot_tally
from sft.data.measures import Tally, TokenCounter, write_figures
from sft.data.progress import counted
from sft.data.rows import read_rows

DESCRIPTION = (
    "Count rows by source, model, licence, outcome, language and called tool, and show how turns, "
    "calls, tools and tokens are spread."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.description = DESCRIPTION
    parser.add_argument(
        "inputs", type=Path, nargs="+", metavar="IN", help="JSONL files of canonical rows"
    )
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw histograms into this file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures as JSON")
    add_rendering(parser, otherwise="count no tokens")


def run(arguments: argparse.Namespace) -> int:
    """Print the tables."""
    none = arguments.model == "none"
    counter = None if none else TokenCounter(arguments.model, thinking=arguments.enable_thinking)
    tally = Tally()
    for located in counted(read_rows(arguments.inputs), "stats"):
        tally.add(located.row, counter.count_at(located) if counter else None)
    say(f"{tally.rows:,} rows\n")
    say(tally.number_table() + "\n")
    say(tally.label_table())
    if arguments.json:
        write_figures(arguments.json, tally.as_json())
        say(f"\nwrote {arguments.json}")
    if arguments.png:
        title = ", ".join(path.name for path in arguments.inputs)
        say(f"wrote {plot_tally(tally, arguments.png, title)}")
    return 0
