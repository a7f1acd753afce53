"""Where tasks come from: the generated suite of the mock world, files, or a list in memory.

The schema of a task file is documented in `rewards/serialise.py`; `python -m envs.tasks write`
makes one, and `python -m envs.tasks check FILE` proves it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from envs.errors import TaskError
from envs.tasks.planted import planted_tasks
from envs.tasks.suite import SPLITS, generate
from envs.tasks.universe import read_universe
from mock_mcp.server import served_tools
from mock_mcp.world import DOMAINS
from rewards.episode import Task
from rewards.errors import FormatError, did_you_mean
from rewards.serialise import read_tasks

TaskSource = str | os.PathLike[str] | Sequence[Task]

SUITES = ("mock", "starter", "planted")
TASK_DOMAINS = (*DOMAINS, "cross")


def load_tasks(
    source: TaskSource,
    split: str | None = None,
    domains: Collection[str] | None = None,
    seed: int = 0,
    *,
    mock: bool = True,
) -> list[Task]:
    """Return tasks.

    Args:
        source: `"mock"`, `"starter"`, `"planted"` (`planted.py`), the path of a JSONL file, or
            tasks (taken as they are, whatever their split). Not for the mock world: also a JSON
            file of MCP-Universe, or a folder of them, whose tasks are all taken.
        split: Only tasks of this split; None for all.
        domains: Only tasks of these domains; None for all.
        seed: Seed of the suite, where the source is one.
        mock: They are for the mock world, whose tools they must name. Whether others can be played
            is for the environment to say, when it knows the tools of its servers.

    Returns:
        At least one task, in the order of the source.

    Raises:
        TaskError: If there is no such source, split or domain, a line of the file is not a task,
            a task names a tool that does not exist, or no task is left.
    """
    if split is not None and split not in SPLITS:
        raise TaskError(f'unknown split "{split}" (known: {_listed(SPLITS, split)}')
    if isinstance(source, str | os.PathLike):
        tasks, name = _named(source, split, seed, mock), str(source)
    else:
        tasks, name = list(source), "the given tasks"
        if mock:
            _check_tools(tasks, [f"task {task.id}" for task in tasks])
    if domains is not None:
        tasks = _of_domains(tasks, domains, name)
    if not tasks:
        raise TaskError(f"{name} holds no task")
    return tasks


def _named(source: str | os.PathLike[str], split: str | None, seed: int, mock: bool) -> list[Task]:
    if source in SUITES:
        if not mock:
            raise TaskError(
                f'the suite "{source}" is for the mock world; give the tasks of your servers: '
                "tasks=FILE.jsonl (--tasks FILE.jsonl)"
            )
        tasks = [task for one in (split,) if one for task in _suite(seed, one)]
        tasks = tasks or [task for one in SPLITS for task in _suite(seed, one)]
        tasks = [task for task in tasks if task.starter or source == "mock"]
        return planted_tasks(tasks, seed) if source == "planted" else tasks
    if not mock and (Path(source).is_dir() or Path(source).suffix == ".json"):
        return read_universe([Path(source)])
    return _of_file(Path(source), split, mock)


@functools.lru_cache(maxsize=8)
def _suite(seed: int, split: str) -> tuple[Task, ...]:
    return tuple(generate(seed, (split,)))


def _of_file(path: Path, split: str | None, mock: bool) -> list[Task]:
    if not path.exists():
        raise TaskError(
            f'no task source "{path}": neither a suite ({_listed(SUITES, str(path))} nor a file'
        )
    try:
        tasks = read_tasks(path)
    except FormatError as error:
        raise TaskError(str(error)) from error
    if mock:
        _check_tools(tasks, _places(path))
    found = [task for task in tasks if split in (None, task.split)]
    if tasks and not found:
        there = ", ".join(sorted({task.split for task in tasks}))
        raise TaskError(f'{path} holds no task of split "{split}" (its tasks are of: {there})')
    return found


def _places(path: Path) -> list[str]:
    """Return `file:line` of every task (blank lines are none)."""
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    return [f"{path}:{number}" for number, line in enumerate(lines, start=1) if line.strip()]


def _check_tools(tasks: Iterable[Task], places: Iterable[str]) -> None:
    known = served_tools()
    for task, place in zip(tasks, places, strict=True):
        for name in task.tools:
            if name not in known:
                hint = did_you_mean(name, known)
                raise TaskError(f'{place}: the tool "{name}" does not exist{hint}')


def _of_domains(tasks: Sequence[Task], domains: Collection[str], name: str) -> list[Task]:
    known = {*TASK_DOMAINS, *(task.domain for task in tasks)}
    for domain in domains:
        if domain not in known:
            raise TaskError(f'unknown domain "{domain}" (known: {_listed(sorted(known), domain)}')
    found = [task for task in tasks if task.domain in domains]
    if not found:
        raise TaskError(f"{name} holds no task of the domains {', '.join(domains)}")
    return found


def _listed(known: Collection[str], name: str) -> str:
    return f"{', '.join(known)}){did_you_mean(name, known)}"
