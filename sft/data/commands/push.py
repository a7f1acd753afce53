"""`push`: rows with a card, to a folder or to the hub."""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path

from agents.cli import say
from sft.data.card import DataFile, write_card
from sft.data.errors import DataError
from sft.data.measures import Tally, write_figures
from sft.data.progress import counted
from sft.data.rows import read_rows
from sft.data.whole_file import WholeFile
from sft.hub import HubError, hub_api, upload

DESCRIPTION = (
    "Put JSONL files of canonical rows and a card (README.md: counts, licences, sources, limits, "
    "and the metadata that the hub reads) into a folder or a data set on the hub. A file's name "
    "is its split."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.description = DESCRIPTION
    parser.add_argument(
        "inputs", type=Path, nargs="+", metavar="IN", help="files such as train.jsonl, test.jsonl"
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--folder", type=Path, help="folder to write into")
    where.add_argument("--hub_id", metavar="NAME/SET", help="data set on the hub")
    parser.add_argument("--private", action="store_true", help="make a new data set private")
    parser.add_argument("--name", default="", help="title of the card (default: the last part of "
                        "--folder or --hub_id)")  # fmt: skip
    parser.add_argument("--licence", default="", metavar="ID", help="licence of the whole, by its "
                        "id on the hub (default: that of the rows, or unknown)")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Write the folder, or upload it.

    Raises:
        DataError: If a line is no row, something cannot be written, or the hub does not take it.
    """
    _check_splits(arguments.inputs)
    name = arguments.name or (arguments.hub_id or str(arguments.folder)).rstrip("/").split("/")[-1]
    if arguments.folder:
        build(arguments.inputs, arguments.folder, name, arguments.licence)
        say(f"wrote {arguments.folder / 'README.md'}")
        return 0
    try:
        api = hub_api(arguments.hub_id, "--hub_id")
        with tempfile.TemporaryDirectory() as folder:
            build(arguments.inputs, Path(folder), name, arguments.licence)
            private = arguments.private
            place = upload(Path(folder), arguments.hub_id, api, "dataset", private=private)
    except HubError as error:
        raise DataError(str(error)) from error
    say(f"uploaded {place}")
    return 0


def build(inputs: list[Path], folder: Path, name: str, licence: str = "") -> None:
    """Write the files and the card of a data set; the card comes last.

    Args:
        inputs: JSONL files of canonical rows.
        folder: Where to write; it is made.
        name: Title of the card.
        licence: Licence of the whole, or "" for that of the rows.

    Raises:
        DataError: If a line is no row, or a file cannot be written.
    """
    card = folder / "README.md"
    if card.exists():
        if not card.read_text(encoding="utf-8", errors="replace").startswith("---"):
            raise DataError(f"{card} was not written by this command; choose another folder")
        card.unlink()
    tally = Tally()
    files = []
    for path in inputs:
        before = tally.rows
        target = folder / f"{path.stem}.jsonl"
        if target.resolve() == path.resolve():
            raise DataError(f"{path} is in the folder itself; push from another folder")
        with WholeFile(target) as file:
            for located in counted(read_rows([path]), path.stem):
                tally.add(located.row)
                file.write(located.row)
        files.append(DataFile(path.stem, target.name, tally.rows - before))
        say(f"{target.name}: {files[-1].rows:,} rows")
    write_figures(folder / "stats.json", tally.as_json())
    with WholeFile(card) as file:
        file.write_line(write_card(name, files, tally, licence).rstrip("\n").encode())


def _check_splits(inputs: list[Path]) -> None:
    """The hub takes words for names of splits only, each once."""
    stems = [path.stem for path in inputs]
    for path in inputs:
        if not re.fullmatch(r"\w+(\.\w+)*", path.stem):
            raise DataError(f"{path}: the hub takes letters, digits, _ and . in the name of a "
                            "split; rename the file")  # fmt: skip
        if stems.count(path.stem) > 1:
            raise DataError(f'two files are the split "{path.stem}"; rename one')
