"""What a suite holds, counted, and where it falls short of what the project promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from envs.tasks.catalogue import Catalogue
from envs.tasks.no_call import MINIMAL_PAIRS
from envs.tasks.suite import SPLITS
from rewards.episode import Task
from rewards.goal_checks import needs_call

FEWEST_TASKS = {"train": 2_000, "validation": 300, "test": 1_000}
FEWEST_STARTER = {"train": 600, "validation": 150, "test": 600}
FEWEST_HELDOUT = {"phrasing": 100, "tools": 100, "depth": 60}
FEWEST_STARTER_SUCCESS = 300
FEWEST_STARTER_NO_CALL = 100
FEWEST_PHRASINGS = 8
NO_CALL_SHARE = (0.15, 0.30)
OFFERED = {False: (8, 14), True: (4, 6)}
"""Fewest and most offered tools of a full task (False) and of a starter task (True)."""


def count(tasks: Iterable[Task]) -> dict[str, Any]:
    """Return the counts of a suite by split: domain, depth, kind, needed tool, held-out part."""
    tasks = list(tasks)
    return {
        split: _split_counts([task for task in tasks if task.split == split])
        for split in SPLITS
        if any(task.split == split for task in tasks)
    }


def shortfalls(
    tasks: Sequence[Task],
    catalogue: Catalogue,
    splits: Sequence[str] = SPLITS,
) -> list[str]:
    """Return what a generated suite lacks, one sentence each; empty where all is well.

    Args:
        tasks: The suite.
        catalogue: What it was generated from.
        splits: The splits that should be there.
    """
    phrasings: Counter[str] = Counter()
    for kind in catalogue.kinds:
        phrasings[kind.domain] += len(set(kind.phrasings))
    found = [
        f"domain {domain}: {number} phrasings, at least {FEWEST_PHRASINGS} wanted"
        for domain, number in phrasings.items()
        if number < FEWEST_PHRASINGS
    ]
    names = Counter(kind.name for kind in catalogue.kinds)
    found += [f"{number} kinds are called {name}" for name, number in names.items() if number > 1]
    found += _shared(tasks)
    tools = {name for names in catalogue.tools.values() for name in names}
    for split in splits:
        part = [task for task in tasks if task.split == split]
        wanted = [kind.name for kind in catalogue.kinds if split == "test" or not kind.heldout]
        there = {task.kind for task in part}
        missing = [f"no task of the kind {name}" for name in wanted if name not in there]
        missing += _split_shortfalls(split, part, tools)
        found += [f"{split}: {problem}" for problem in missing]
    return found


def _split_counts(tasks: Sequence[Task]) -> dict[str, Any]:
    needing = [task for task in tasks if needs_call(task.goal)]
    return {
        "tasks": len(tasks),
        "starter": sum(task.starter for task in tasks),
        "no_call": len(tasks) - len(needing),
        "minimal_pairs": sum(task.kind in MINIMAL_PAIRS for task in tasks),
        "domains": _tally(tasks, lambda task: [task.domain]),
        "depths": _tally(tasks, lambda task: [task.depth]),
        "kinds": _tally(tasks, lambda task: [task.kind]),
        "tools": _tally(needing, needed_tools),
        "heldout": _tally(tasks, lambda task: [task.heldout] if task.heldout else []),
    }


def _tally(tasks: Iterable[Task], labels: Callable[[Task], Iterable[Any]]) -> dict[str, int]:
    counter = Counter(label for task in tasks for label in labels(task))
    return {str(label): number for label, number in sorted(counter.items())}


def needed_tools(task: Task) -> set[str]:
    """Return the tools that the reference solution calls."""
    return {call.name for turn in task.reference for call in turn.calls}


def _shared(tasks: Sequence[Task]) -> Iterator[str]:
    """Yield what two splits share, or what occurs twice in one."""
    repeated = [name for name, number in Counter(task.id for task in tasks).items() if number > 1]
    if repeated:
        yield f"the id {repeated[0]} occurs twice"
    worlds: dict[int, str] = {}
    for task in tasks:
        if worlds.setdefault(task.seed, task.split) != task.split:
            yield f"world {task.seed} is in {worlds[task.seed]} and in {task.split}"
            return


def _split_shortfalls(split: str, tasks: Sequence[Task], tools: set[str]) -> Iterator[str]:
    needing = [task for task in tasks if needs_call(task.goal)]
    yield from _fewer("tasks", len(tasks), FEWEST_TASKS[split])
    yield from _fewer("starter tasks", sum(task.starter for task in tasks), FEWEST_STARTER[split])
    share = 1 - len(needing) / max(1, len(tasks))
    if not NO_CALL_SHARE[0] <= share <= NO_CALL_SHARE[1]:
        yield f"{share:.1%} no-call tasks, wanted {NO_CALL_SHARE[0]:.0%} to {NO_CALL_SHARE[1]:.0%}"
    pairs = sum(task.kind in MINIMAL_PAIRS for task in tasks)
    yield from _fewer("minimal pairs", pairs, (len(tasks) - len(needing) + 1) // 2)
    if split != "validation":
        usual = [task for task in needing if not task.heldout]
        unneeded = tools - {name for task in usual for name in needed_tools(task)}
        if unneeded:
            yield f"no task needs {', '.join(sorted(unneeded))}"
    if split == "test":
        yield from _test_shortfalls([task for task in tasks if task.starter])
    for task in tasks:
        fewest, most = OFFERED[task.starter]
        if not fewest <= len(task.tools) <= most:
            yield f"{task.id} offers {len(task.tools)} tools, wanted {fewest} to {most}"
            return


def _test_shortfalls(starter: Sequence[Task]) -> Iterator[str]:
    needing = [task for task in starter if needs_call(task.goal)]
    usual = sum(not task.heldout for task in needing)
    yield from _fewer("starter tasks in distribution", usual, FEWEST_STARTER_SUCCESS)
    yield from _fewer("starter no-call tasks", len(starter) - len(needing), FEWEST_STARTER_NO_CALL)
    for heldout, fewest in FEWEST_HELDOUT.items():
        number = sum(task.heldout == heldout for task in needing)
        yield from _fewer(f"starter tasks held out by {heldout}", number, fewest)


def _fewer(what: str, number: int, wanted: int) -> Iterator[str]:
    if number < wanted:
        yield f"{number} {what}, at least {wanted} wanted"
