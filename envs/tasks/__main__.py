"""`python -m envs.tasks`: prove, show and write tasks, of the mock suite or of your own servers."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from envs.errors import EnvsError
from envs.mcp_env import MCPGymEnv
from envs.tasks.catalogue import mock_catalogue
from envs.tasks.load import load_tasks
from envs.tasks.prove import problems
from envs.tasks.report import count, shortfalls
from envs.tasks.suite import SPLITS
from rewards.episode import Task
from rewards.errors import did_you_mean
from rewards.serialise import task_to_json, write_tasks

SHOWN_PROBLEMS = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except EnvsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m envs.tasks",
        description="The tasks of the mock world: prove them, look at one, write them to a file.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check = commands.add_parser(
        "check",
        help="prove every task through the real server and count them",
        description="Plays every task: its reference must succeed, a fixed text must not, and "
        "its goal must not hold at the start. Exit code 1 if a proof or a number fails.",
    )
    check.add_argument(
        "source", nargs="?", default="mock", help="mock (default), starter, or a JSONL file"
    )
    check.add_argument("--split", choices=SPLITS, help="only this split")
    check.add_argument(
        "--servers", type=Path, metavar="mcp.json", help="prove on these MCP servers, not the mock"
    )
    check.add_argument("--json", type=Path, metavar="FILE", help="write the counts to FILE")
    check.set_defaults(run=_check)
    show = commands.add_parser("show", help="print one task with its reference solution")
    show.add_argument("task", metavar="ID|N", help="id of a task, or its number from 0")
    show.add_argument("--source", default="mock", help="mock (default), starter, or a JSONL file")
    show.add_argument("--split", choices=SPLITS, help="count N within this split")
    show.set_defaults(run=_show)
    write = commands.add_parser("write", help="write tasks as JSONL")
    write.add_argument("file", type=Path, metavar="OUT.jsonl")
    write.add_argument("--source", default="mock", help="mock (default) or starter")
    write.add_argument("--split", choices=SPLITS, help="only this split")
    write.set_defaults(run=_write)
    for command in (check, show, write):
        command.add_argument("--seed", type=int, default=0, help="seed of the suite (default 0)")
    return parser


def _check(options: argparse.Namespace) -> int:
    mock = options.servers is None
    tasks = load_tasks(options.source, options.split, seed=options.seed, mock=mock)
    failed = _prove(tasks, options.servers)
    missing: list[str] = []
    if options.source == "mock":  # never with servers: `load_tasks` refuses that
        splits = [options.split] if options.split else list(SPLITS)
        missing = shortfalls(tasks, mock_catalogue(), splits)
    counts = count(tasks)
    _print_counts(counts)
    for task_id, problem in list(failed.items())[:SHOWN_PROBLEMS]:
        _say(f"NOT PROVEN  {task_id}: {problem}")
    for problem in missing:
        _say(f"FALLS SHORT  {problem}")
    _say(f"{len(tasks) - len(failed)} of {len(tasks)} tasks proven")
    if options.json:
        report = {
            "source": str(options.source),
            "seed": options.seed,
            "tasks": len(tasks),
            "proven": len(tasks) - len(failed),
            "not_proven": failed,
            "shortfalls": missing,
            "splits": counts,
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        _say(f"wrote {options.json}")
    _say("next: python -m envs.tasks show 0")
    return 1 if failed or missing else 0


def _prove(tasks: Sequence[Task], servers: Path | None) -> dict[str, str]:
    env = MCPGymEnv(tasks=tasks, servers=servers, split=None)
    try:
        found = {
            task.id: "; ".join(problems(env, task))
            for task in tqdm(tasks, desc="proving", unit="task", disable=None)
        }
    finally:
        env.close()
    return {task_id: problem for task_id, problem in found.items() if problem}


def _print_counts(counts: Mapping[str, Any]) -> None:
    for split, of_split in counts.items():
        _say(
            f"{split}: {of_split['tasks']} tasks, {of_split['starter']} of the starter family, "
            f"{of_split['no_call']} without calls ({of_split['minimal_pairs']} minimal pairs)"
        )
    for what in ("domains", "depths", "heldout", "kinds", "tools"):
        _print_table(what, {split: of_split[what] for split, of_split in counts.items()})


def _print_table(what: str, columns: Mapping[str, Mapping[str, int]]) -> None:
    labels: Iterable[str] = dict.fromkeys(label for column in columns.values() for label in column)
    rows = [(what, *columns)]
    rows += [
        (label, *(str(column.get(label, 0)) for column in columns.values()))
        for label in sorted(labels)
    ]
    width = max(len(row[0]) for row in rows)
    _say("")
    for label, *cells in rows:
        _say(f"  {label:<{width}}" + "".join(f"{cell:>12}" for cell in cells))
    if what == "tools":
        _say("")


def _show(options: argparse.Namespace) -> int:
    tasks = load_tasks(options.source, options.split, seed=options.seed)
    task = _find(tasks, options.task)
    if task is None:
        known = [task.id for task in tasks]
        hint = did_you_mean(options.task, known) or f"; there are {len(tasks)} tasks, from 0"
        sys.stderr.write(f'error: no task "{options.task}"{hint}\n')
        return 2
    _say(json.dumps(task_to_json(task), indent=2, ensure_ascii=False))
    return 0


def _find(tasks: Sequence[Task], wanted: str) -> Task | None:
    if wanted.isdecimal():
        number = int(wanted)
        return tasks[number] if number < len(tasks) else None
    return next((task for task in tasks if task.id == wanted), None)


def _write(options: argparse.Namespace) -> int:
    tasks = load_tasks(options.source, options.split, seed=options.seed)
    number = write_tasks(options.file, tasks)
    _say(f"wrote {number} tasks to {options.file}")
    _say(f"next: python -m envs.tasks check {options.file}")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
