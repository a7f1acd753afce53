"""`filter`: some rows of a file; stored episodes are judged again first."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from agents.cli import say
from agents.tables import aligned
from rewards.episode import Outcome
from sft.data.arguments import add_rendering, count, finite
from sft.data.criteria import Criteria
from sft.data.episodes import EpisodeReader, is_episode
from sft.data.errors import DataError
from sft.data.jsonl import read_lines
from sft.data.measures import TokenCounter
from sft.data.progress import counted
from sft.data.rows import Located, read_rows
from sft.data.whole_file import WholeFile

DESCRIPTION = (
    "Keep the rows that meet all criteria. An input may also be stored episodes (such as "
    "runs/episodes/sft.jsonl): each is judged again by the rewards of today, from its records, "
    "and becomes a canonical row in which turns that failed are shown and not trained."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.description = DESCRIPTION
    parser.add_argument(
        "inputs", type=Path, nargs="+", metavar="IN", help="JSONL files of rows or of episodes"
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="file to write")
    parser.add_argument("--outcome", action="append", default=[], choices=[str(o) for o in Outcome],
                        help="outcome to keep; may be given several times")  # fmt: skip
    parser.add_argument("--source", action="append", default=[], metavar="NAME",
                        help="source to keep; may be given several times")  # fmt: skip
    for name, kind, what in (
        ("reward", finite, "return (`reward`) of a row"),
        ("calls", count, "calls of a row"),
        ("turns", count, "turns of the assistant"),
        ("tokens", count, "tokens of a row"),
    ):
        for end, word in (("min", "least"), ("max", "most")):
            parser.add_argument(
                f"--{end}_{name}", type=kind, metavar="N", help=f"{word} allowed: {what}"
            )
    add_rendering(parser)
    parser.add_argument("--servers", default="", metavar="FILE",
                        help="config of the MCP servers that the episodes were played on; without "
                        "it, the mock world")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Write the rows that are kept."""
    criteria = _criteria(arguments)
    counter = None
    if criteria.need_tokens:
        counter = TokenCounter(arguments.model, thinking=arguments.enable_thinking)
    source = _Inputs(arguments.servers)
    dropped: Counter[str] = Counter()
    kept = 0
    with WholeFile(arguments.output) as file:
        for located in counted(source.rows(arguments.inputs), "filter"):
            failed = criteria.failed(located.row, partial(_length, counter, located))
            dropped[failed] += 1
            if not failed:
                kept += 1
                file.write(located.row)
        total = sum(dropped.values()) + source.faults
        say(_table(kept, dropped, source, total))
        if not kept:
            raise DataError(f"no row is left; {arguments.output} was not written")
    say(f"\nwrote {arguments.output}: {kept:,} of {total:,} rows")
    return 0


def _length(counter: TokenCounter | None, located: Located) -> int:
    return counter.count_at(located).total if counter else 0


class _Inputs:
    """Rows of files of both kinds.

    Attributes:
        episodes: The reader of episodes, from the first file of them on.
    """

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self.episodes: EpisodeReader | None = None

    @property
    def faults(self) -> int:
        """Episodes without a row."""
        return self.episodes.faults if self.episodes else 0

    def rows(self, paths: list[Path]) -> Iterator[Located]:
        """Yield the rows of all files, in order."""
        for path in paths:
            first = next(read_lines(path), None)
            if first and first.value and is_episode(first.value):
                self.episodes = self.episodes or EpisodeReader(self._servers)
                for number, row in enumerate(self.episodes.rows(path), start=1):
                    yield Located(path, number, row)
            else:
                yield from read_rows([path])


def _criteria(arguments: argparse.Namespace) -> Criteria:
    for name in ("reward", "calls", "turns", "tokens"):
        least, most = getattr(arguments, f"min_{name}"), getattr(arguments, f"max_{name}")
        if least is not None and most is not None and least > most:
            raise DataError(f"--min_{name} {least:g} is above --max_{name} {most:g}: no row fits")
    return Criteria(
        outcomes=tuple(arguments.outcome),
        sources=tuple(arguments.source),
        min_reward=arguments.min_reward,
        max_reward=arguments.max_reward,
        min_calls=arguments.min_calls,
        max_calls=arguments.max_calls,
        min_turns=arguments.min_turns,
        max_turns=arguments.max_turns,
        min_tokens=arguments.min_tokens,
        max_tokens=arguments.max_tokens,
    )


def _table(kept: int, dropped: Counter[str], source: _Inputs, total: int) -> str:
    lines = [["", "rows"], ["read", f"{total:,}"], ["kept", f"{kept:,}"]]
    if source.faults:
        lines.append(["dropped: infrastructure fault", f"{source.faults:,}"])
    lines += [[f"dropped: {why}", f"{rows:,}"] for why, rows in dropped.most_common() if why]
    if source.episodes:
        lines.append(["judged to another return than stored", f"{source.episodes.changed:,}"])
    return aligned(lines)
