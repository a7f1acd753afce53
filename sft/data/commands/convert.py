"""`convert`: data of other formats becomes canonical rows, and every row is accounted for."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

from tqdm import tqdm

from agents.cli import say
from sft.data.conversion import OtherFormat, Refused, Settings
from sft.data.errors import DataFileError, FormatNameError
from sft.data.formats import FORMATS
from sft.data.formats.detect import LOOKED_AT, detect, two_formats
from sft.data.jsonl import parse_line
from sft.data.pool import converted
from sft.data.raw_lines import RawLine, raw_lines
from sft.data.seen import SeenDigests
from sft.data.summary import Counts
from sft.data.whole_file import WholeFile

AUTO = "auto"
NO_MODEL = "none"
LOOKED_AT_BYTES = 8 << 20
NOTHING_ACCEPTED = 1

DESCRIPTION = (
    "Every row is read, checked against the schemas of its own tools, rendered with a chat "
    "template and parsed back; it is then written to OUT or, with a reason, to R. Exit code 1 if "
    "no row was accepted."
)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.description = DESCRIPTION
    parser.add_argument(
        "--format",
        required=True,
        metavar="NAME",
        choices=[AUTO, *FORMATS],
        help=f"auto, or one of: {', '.join(FORMATS)}",
    )
    parser.add_argument(
        "input",
        metavar="IN",
        help="file (.jsonl, .json, .parquet), data set folder, or hub id (OWNER/NAME[:CONFIG])",
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="file of canonical rows to write")
    parser.add_argument(
        "--rejects", type=Path, required=True, metavar="R", help="file of rejected rows to write"
    )
    parser.add_argument(
        "--model",
        default="embedded",
        metavar="TOKENIZER",
        help="whose chat template rows are rendered with: a folder, a hub id, 'embedded', or "
        "'none' to leave rendering out (default: embedded)",
    )
    parser.add_argument(
        "--licence", help="licence of the rows (default: that of the format's data set)"
    )
    parser.add_argument(
        "--workers",
        type=_positive,
        default=len(os.sched_getaffinity(0)),
        help="processes (default: one a core); the output is the same with any number",
    )


def run(arguments: argparse.Namespace) -> int:
    """Convert the file and say what became of its rows."""
    _check_paths(arguments)
    with closing(_lines(arguments.input)) as lines:
        first = _first(lines)
        if not first:
            raise DataFileError(f"{arguments.input} holds no rows")
        settings = _settings(arguments, first)
        counts = _convert(arguments, settings, chain(first, lines))
    say(f"{arguments.input}: {settings.format}, licence {settings.licence or 'unknown'}")
    for line in counts.lines():
        say(line)
    say(f"wrote {arguments.output} and {arguments.rejects}")
    return 0 if counts.accepted else NOTHING_ACCEPTED


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _check_paths(arguments: argparse.Namespace) -> None:
    paths = [Path(arguments.input), arguments.output, arguments.rejects]
    if len({path.resolve() for path in paths}) < len(paths):
        raise DataFileError("IN, OUT and the rejects must be three different files")


def _lines(name: str) -> Generator[RawLine, None, None]:
    """Return the lines of what is to be converted: a file, a folder or a data set of the hub."""
    path = Path(name)
    if path.is_dir() or (not path.exists() and not path.suffix and _HUB_ID.fullmatch(name)):
        # Not at the top of the file: it takes seconds, and most conversions do not need it.
        hub: Any = importlib.import_module("sft.data.hub")
        rows: Generator[RawLine, None, None] = hub.hub_lines(name)
        return rows
    return raw_lines(path)


def _first(lines: Iterator[RawLine]) -> list[RawLine]:
    """Return the lines by which the format is told."""
    first: list[RawLine] = []
    size = 0
    for line in lines:
        first.append(line)
        size += len(line.raw)
        if len(first) == LOOKED_AT or size > LOOKED_AT_BYTES:
            break
    return first


def _settings(arguments: argparse.Namespace, first: list[RawLine]) -> Settings:
    name = arguments.format
    if name == AUTO:
        rows = ((line.number, line.value) for line in map(parse_line, first))
        name = detect((number, row) for number, row in rows if row is not None)
    known = FORMATS[name]
    place = Path(arguments.input)
    return Settings(
        format=name,
        detected=arguments.format == AUTO,
        source=known.origin or (place.stem if place.exists() else arguments.input),
        stem=re.sub(r"[^\w.-]+", "-", place.stem if place.exists() else arguments.input),
        licence=known.licence if arguments.licence is None else arguments.licence,
        model="" if arguments.model == NO_MODEL else arguments.model,
    )


def _convert(arguments: argparse.Namespace, settings: Settings, lines: Iterator[RawLine]) -> Counts:
    counts = Counts()
    seen = SeenDigests()
    # The rejects are complete first, so that no whole output stands without them.
    with (
        WholeFile(arguments.output) as output,
        WholeFile(arguments.rejects) as rejects,
        _progress(arguments.input) as bar,
        closing(converted(lines, settings, arguments.workers)) as results,
    ):
        for file in (output, rejects):
            if file.found:
                sys.stderr.write(f"found {file.found} of an interrupted run; beginning anew\n")
        for end, outcomes in results:
            for outcome in outcomes:
                if isinstance(outcome, OtherFormat):
                    raise FormatNameError(
                        two_formats(outcome.number, outcome.formats, settings.format)
                    )
                if isinstance(outcome, Refused):
                    counts.refuse(outcome)
                    rejects.write_line(outcome.line)
                elif seen.add(outcome.digest):
                    counts.accept(outcome)
                    output.write_line(outcome.line)
                else:
                    counts.duplicates += 1
            bar.set_postfix(rows=counts.rows, rejected=counts.rejected.total(), refresh=False)
            bar.update(end - bar.n)
    return counts


def _progress(name: str) -> tqdm[Any]:
    path = Path(name)
    return tqdm(
        desc="convert",
        total=path.stat().st_size if path.is_file() else None,
        unit="B",
        unit_scale=True,
        disable=not sys.stderr.isatty(),
    )
