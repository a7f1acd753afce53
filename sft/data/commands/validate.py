"""`validate`: what is wrong with a set of rows."""

from __future__ import annotations

import argparse
from pathlib import Path

from agents.cli import say
from sft.data.arguments import add_rendering, count, share
from sft.data.duplicates import SIMILARITY
from sft.data.errors import DataFileError
from sft.data.jsonl import read_lines
from sft.data.measures import TokenCounter, write_figures
from sft.data.progress import counted
from sft.data.validation import Validation

DESCRIPTION = (
    "Check every row: structure, order of roles, tags, each call against its own schema, the round "
    "trip through the chat template, trained tokens behind the sequence length, exact and near "
    "duplicates; show lengths, languages, licences, and benchmarks that must not be reported."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.description = DESCRIPTION
    parser.epilog = "Exit code: 0, or 1 if the share of clean rows is below --threshold."
    parser.add_argument(
        "inputs", type=Path, nargs="+", metavar="IN", help="JSONL files of canonical rows"
    )
    parser.add_argument("--threshold", type=share, default=1.0, metavar="SHARE",
                        help="share of the rows that must be clean (default: 1)")  # fmt: skip
    parser.add_argument("--max_length", type=count, default=2048, metavar="TOKENS",
                        help="tokens that training keeps of a row; 0: all "
                        "(default: %(default)s)")  # fmt: skip
    add_rendering(parser, otherwise="render nothing")
    parser.add_argument("--near_duplicates", type=share, default=SIMILARITY, metavar="SIMILARITY",
                        help="Jaccard similarity of word triples from which on rows are "
                        "near-duplicates; 0: find exact copies only "
                        "(default: %(default)s)")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the table."""
    counter = None
    if arguments.model != "none":
        length, thinking = arguments.max_length, arguments.enable_thinking
        counter = TokenCounter(arguments.model, length, thinking=thinking)
    validation = Validation(counter, arguments.near_duplicates)
    for path in arguments.inputs:
        for line in counted(read_lines(path), path.name):
            validation.add(path, line)
    if not validation.rows:
        raise DataFileError(f"{', '.join(map(str, arguments.inputs))}: no row to check")
    say(validation.table())
    if arguments.json:
        write_figures(arguments.json, validation.as_json())
        say(f"\nwrote {arguments.json}")
    if validation.clean_share < arguments.threshold:
        say(f"\nbelow the threshold: {100 * validation.clean_share:.1f} % of the rows are clean, "
            f"{100 * arguments.threshold:g} % must be")  # fmt: skip
        return 1
    return 0
