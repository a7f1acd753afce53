"""`unroll`: each conversation of n rounds as n rows."""

from __future__ import annotations

import argparse
from pathlib import Path

from agents.cli import say
from sft.data.errors import DataError
from sft.data.rows import CONVERSATION, read_rows
from sft.data.unroll import unrolled
from sft.data.whole_file import WholeFile

DESCRIPTION = (
    "Make n rows of a conversation of n rounds: the whole, the first n - 1 rounds, ..., the first. "
    "Templates such as Qwen's render only the latest reasoning; so each turn's is the latest once. "
    "Shorter rows have `truncated` true and the id of the whole in `unrolled_from`."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.description = DESCRIPTION
    parser.add_argument("input", type=Path, metavar="IN", help="JSONL file of canonical rows")
    parser.add_argument("output", type=Path, metavar="OUT", help="file to write")


def run(arguments: argparse.Namespace) -> int:
    """Write the rows."""
    read = written = 0
    with WholeFile(arguments.output) as file:
        for located in read_rows([arguments.input]):
            if CONVERSATION in located.row:
                whole = located.row[CONVERSATION]
                raise DataError(f"{located.place}: was unrolled before, from {whole}")
            read += 1
            for row in unrolled(located.row):
                file.write(row)
                written += 1
    say(f"wrote {arguments.output}: {written:,} rows from {read:,} conversations")
    return 0
