"""`edit`: one row changed by hand, and checked again."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from agents.cli import say
from sft.data.arguments import add_rendering
from sft.data.check import problems
from sft.data.edits import EDITED, drop_turn, merge_turns, replace_text
from sft.data.errors import DataError, DataFileError
from sft.data.jsonl import read_lines
from sft.data.measures import TokenCounter
from sft.data.render import parses_back
from sft.data.rows import Located, Row, find_row
from sft.data.whole_file import WholeFile

DESCRIPTION = (
    "Change one row: drop a turn of the assistant with its results, merge turns, or replace a "
    "text in what the assistant says or passes. The row is checked again, and the change is "
    "refused if it leaves a problem; it is recorded in the row's `edited` list. Every other line "
    "stays as it is, byte for byte."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.description = DESCRIPTION
    parser.add_argument("input", type=Path, metavar="IN", help="JSONL file of canonical rows")
    parser.add_argument("id", metavar="ID", help="`id` of the row")
    change = parser.add_mutually_exclusive_group(required=True)
    change.add_argument("--drop_turn", type=int, metavar="N", help="turns count from 1")
    change.add_argument(
        "--merge_turns", type=int, nargs=2, metavar=("N", "M"), help="make turns N to M one"
    )
    change.add_argument(
        "--replace", nargs=2, metavar=("OLD", "NEW"), help="in texts, reasoning and arguments"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write here and leave IN as it is")
    add_rendering(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the file with the changed row."""
    if arguments.input.suffix not in (".jsonl", ""):
        raise DataError(f"{arguments.input} is no .jsonl file: its lines cannot be kept")
    located = find_row(arguments.input, arguments.id)
    try:
        changed = _changed(located.row, arguments)
    except DataError as error:
        raise DataError(f"{located.place}: {error}") from error
    _check(located, changed, TokenCounter(arguments.model, thinking=arguments.enable_thinking))
    target = arguments.out or arguments.input
    with WholeFile(target) as file:
        for line in read_lines(arguments.input):
            if line.value is None:
                raise DataFileError(f"{arguments.input}:{line.number}: {line.error}")
            if line.value.get("id") == arguments.id:
                if line.number != located.number:
                    raise DataError(
                        f'{located.place}: the id "{arguments.id}" stands on line {line.number} '
                        "again; give the rows different ids"
                    )
                file.write(changed)
            else:
                file.write_line(line.raw)
    say(f"wrote {target}: {json.dumps(changed[EDITED][-1], ensure_ascii=False)} in line "
        f"{located.number}")  # fmt: skip
    return 0


def _changed(row: Row, arguments: argparse.Namespace) -> Row:
    if arguments.drop_turn is not None:
        return drop_turn(row, arguments.drop_turn)
    if arguments.merge_turns:
        return merge_turns(row, *arguments.merge_turns)
    return replace_text(row, *arguments.replace)


def _check(located: Located, changed: Row, counter: TokenCounter) -> None:
    """Refuse a row that the edit has left with a problem."""
    found = problems(changed)
    if found:
        more = f" (and {len(found) - 1} more problems)" if len(found) > 1 else ""
        raise DataError(
            f"{located.place}: refused, the row would have a problem: {found[0].code}: "
            f"{found[0].message}{more}"
        )
    counter.count_at(Located(located.path, located.number, changed))
    if not parses_back(counter.template, changed):
        raise DataError(
            f"{located.place}: refused, rendered and parsed back the row would not have the same "
            "calls"
        )
