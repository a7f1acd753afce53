"""`split`: rows into files by conversation."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from agents.cli import say
from agents.tables import aligned
from sft.data.arguments import share
from sft.data.duplicates import SIMILARITY
from sft.data.errors import DataError
from sft.data.rows import conversation, read_rows
from sft.data.sides import deal, group_sizes
from sft.data.whole_file import WholeFile

DESCRIPTION = (
    "Split rows into files, by conversation and never by row: rows unrolled from one "
    "conversation, exact copies and near-duplicates stay on one side. The same seed gives the "
    "same sides, in whatever order the rows stand."
)
TOLERANCE = 1e-6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.description = DESCRIPTION
    parser.add_argument("input", type=Path, metavar="IN", help="JSONL file of canonical rows")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="NAME.jsonl are written here")
    parser.add_argument(
        "--shares",
        type=float,
        nargs="+",
        default=[0.9, 0.05, 0.05],
        help="share of the rows for each side; they sum to 1 (default: 0.9 0.05 0.05)",
    )
    parser.add_argument(
        "--names",
        nargs="+",
        default=["train", "validation", "test"],
        help="names of the sides (default: train validation test)",
    )
    parser.add_argument("--seed", type=int, default=0, help="decides who goes where (default: 0)")
    parser.add_argument(
        "--near_duplicates",
        type=share,
        default=SIMILARITY,
        metavar="SIMILARITY",
        help="keep rows from this Jaccard similarity on together; 0: only exact copies "
        "(default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the files."""
    names, shares = arguments.names, arguments.shares
    _check(names, shares)
    paths = [arguments.folder / f"{name}.jsonl" for name in names]
    groups, sizes = group_sizes(read_rows([arguments.input]), arguments.near_duplicates)
    sides = deal(groups, sizes, shares, arguments.seed)
    rows, conversations = [0] * len(names), [0] * len(names)
    for name, side in sides.items():
        rows[side] += sizes[name]
        conversations[side] += 1
    for name, part, count in zip(names, shares, conversations, strict=True):
        if not count:
            raise DataError(
                f"{arguments.input}: {name} would be empty: {len(sizes)} conversations are too few "
                f"for a share of {part:g}; nothing was written"
            )
    with ExitStack() as stack:
        files = [stack.enter_context(WholeFile(path)) for path in paths]
        for located in read_rows([arguments.input]):
            files[sides[conversation(located.row)]].write(located.row)
    total = sum(rows)
    table = [["file", "rows", "%", "conversations"]]
    for path, count, several in zip(paths, rows, conversations, strict=True):
        table.append([str(path), f"{count:,}", f"{100 * count / total:.1f}", f"{several:,}"])
    say(aligned(table))
    return 0


def _check(names: list[str], shares: list[float]) -> None:
    if len(names) != len(shares):
        raise DataError(f"{len(names)} --names but {len(shares)} --shares; give one share per name")
    if min(shares) <= 0 or abs(sum(shares) - 1) > TOLERANCE:
        raise DataError(f"--shares must be above 0 and sum to 1, not {sum(shares):g}")
    for name in names:
        if names.count(name) > 1 or Path(name).name != name or not name:
            raise DataError(f'--names: "{name}" is no name of a file, or is given twice')
