"""Tasks and episodes as JSON and as JSONL files (UTF-8, one object a line).

A task is an object with these keys; those with a default may be left out, unknown ones are errors:

    id         string    unique in the file
    prompt     string    the user's message
    goal       object    what must hold, see below
    tools      [string]  names of the offered tools, in the order they are shown; on servers of your
                         own also SERVER/TOOL or SERVER/*, and none for all that the config allows
    domain     string    domain of the mock world, or a label of yours
    kind       string    family of the task; success is reported per kind
    split      string    "train" (default), "validation" or "test"
    heldout    string    what training never shows: "phrasing", "tools", "depth" or "" (default)
    depth      integer   number of calls of the reference solution (default 0)
    seed       integer   seed of the world (default 0)
    faults     object    seeded faults of the episode (default none)
    reference  [turn]    a solution: {"calls": [{"name": ..., "arguments": {...}}]} or
                         {"text": ...} per turn (default none)
    starter    boolean   belongs to the starter family (default false)

A goal has a key `type`; the other keys are the fields of the class in `rewards/goals.py`:

    {"type": "final_answer", "value": "Rome", "match": "exact"}      a string or a number
    {"type": "final_answer", "value": 59, "match": "number", "tolerance": 0.005}
    {"type": "final_answer", "value": ["Ann", "Bo"], "match": "set"}  or "one_of"
    {"type": "returned_data", "tool": "get_order", "path": "rows[0].city", "value": "Rome"}
    {"type": "final_state", "changes": {"database.products": {"P27": {"stock": 5}}}, "only": true}
    {"type": "final_state", "changes": {"assistant.sms": {"+": {"phone": "...", "message": "..."}}}}
    {"type": "probe", "tool": "read_graph", "arguments": {}, "path": "entities[0].name",
     "value": "Ann", "compare": "equal"}                         or "contains"
    {"type": "folder_state", "only": true, "files": {
        "notes/todo.txt": {"text": "buy milk"},                   white space at the end is free
        "report.md": {"contains": ["Rome", "Oslo"]},
        "logo.png": {"sha256": "..."}, "archive": {"folder": true}, "old.txt": null}}
    {"type": "evaluated", "evaluators": [{"func": "json -> get(city)", "op": "=", "value": "Rome"}]}
    {"type": "all_of", "goals": [...]}      {"type": "any_of", "goals": [...]}
    {"type": "no_call"}                     {"type": "no_call_naming", "missing": ["customer"]}
    {"type": "custom", "path": "my_checks:is_done"}

A custom goal imports and runs code: load only task files that you trust.

An episode is an object with the fields of `rewards/episode.py`, its task in full. Reading back
what was written gives an equal record (lists inside of free JSON values stay lists).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from rewards.codec import decode, encode
from rewards.episode import Episode, Task
from rewards.errors import FormatError, RewardsError
from rewards.goals import Goal
from rewards.strict_json import parse_json
from rewards.validate import check_task

Record = TypeVar("Record")

_SURROGATE = re.compile("[\ud800-\udfff]")


def goal_to_json(goal: Goal) -> dict[str, Any]:
    """Return a goal as a JSON object with its `type`."""
    return _to_object(goal, "goal")


def goal_from_json(data: Mapping[str, Any]) -> Goal:
    """Return the goal that a JSON object stands for, or raise `FormatError`."""
    return cast(Goal, _from_object(Goal, data, "goal"))


def task_to_json(task: Task) -> dict[str, Any]:
    """Return a task as a JSON object."""
    return _to_object(task, "task")


def task_from_json(data: Mapping[str, Any]) -> Task:
    """Return the task that a JSON object stands for.

    Args:
        data: The object, in the schema of this module's docstring.

    Returns:
        The task.

    Raises:
        FormatError: If a key is unknown, missing or of the wrong type.
        GoalError: If the task can be neither played nor judged.
    """
    task = cast(Task, _from_object(Task, data, "task"))
    check_task(task)
    return task


def episode_to_json(episode: Episode) -> dict[str, Any]:
    """Return an episode as a JSON object."""
    return _to_object(episode, "episode")


def episode_from_json(data: Mapping[str, Any]) -> Episode:
    """Return the episode that a JSON object stands for, or raise `FormatError`."""
    return cast(Episode, _from_object(Episode, data, "episode"))


def read_tasks(path: str | Path) -> list[Task]:
    """Read a JSONL file of tasks.

    Args:
        path: The file.

    Returns:
        The tasks, in order.

    Raises:
        FormatError: If the file cannot be read, a line is not a task, or an id occurs twice; the
            message starts with `file:line`.
    """
    seen: dict[str, int] = {}
    tasks = []
    for number, task in _read(Path(path), task_from_json):
        if task.id in seen:
            raise FormatError(
                f'{path}:{number}: the id "{task.id}" was used on line {seen[task.id]} already'
            )
        seen[task.id] = number
        tasks.append(task)
    return tasks


def write_tasks(path: str | Path, tasks: Iterable[Task]) -> int:
    """Write tasks as JSONL, replacing the file, and return how many there were."""
    return _write(Path(path), map(task_to_json, tasks))


def read_episodes(path: str | Path) -> Iterator[Episode]:
    """Read a JSONL file of episodes one by one; errors are those of `read_tasks`."""
    for _, episode in _read(Path(path), episode_from_json):
        yield episode


def write_episodes(path: str | Path, episodes: Iterable[Episode]) -> int:
    """Write episodes as JSONL, replacing the file, and return how many there were."""
    return _write(Path(path), map(episode_to_json, episodes))


def to_line(data: Mapping[str, Any]) -> str:
    """Return one JSONL line with its newline; lone surrogates are escaped, so that it encodes."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False)
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


def _to_object(record: Any, where: str) -> dict[str, Any]:
    try:
        return cast(dict[str, Any], encode(record, where))
    except RecursionError as error:
        raise FormatError(f"{where}: nested too deeply to be written as JSON") from error


def _from_object(hint: Any, data: Any, where: str) -> Any:
    try:
        return decode(hint, dict(data) if isinstance(data, Mapping) else data, where)
    except RecursionError as error:
        raise FormatError(f"{where}: nested too deeply") from error


def _write(path: Path, objects: Iterable[dict[str, Any]]) -> int:
    count = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for data in objects:
            file.write(to_line(data))
            count += 1
    return count


def _read(path: Path, convert: Callable[[Any], Record]) -> Iterator[tuple[int, Record]]:
    for number, line in _lines(path):
        try:
            yield number, convert(parse_json(line.rstrip("\n")))
        except RewardsError as error:
            raise FormatError(f"{path}:{number}: {error}") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}:{number + 1}: not UTF-8 text: {error.reason}") from error
