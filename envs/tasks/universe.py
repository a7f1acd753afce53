"""Task files of MCP-Universe (github.com/SalesforceAIResearch/MCP-Universe), read as they are.

One JSON object a file:

    category       a label (default "general"): the domain and the kind of the task
    question       the user's message
    output_format  what the JSON of the final answer looks like; becomes part of the prompt
    mcp_servers    [{"name": ..., "tools": [...]}]: servers by name, and which of their tools
                   (default all); without any, every tool of the environment is offered
    evaluators     [{"func": ..., "op": ..., "value": ..., "desc": ...}]: all of them must pass
    cleanups       not needed: every episode has a state of its own

What this reader cannot do is an error and never a pass: `prepares`, `op_args` (only the named
checks that MCP-Universe writes in Python take them), an op or func that `rewards/evaluators.py`
does not have, and `{{VARIABLE}}` in the question or in a value. Other keys are ignored, as there.

A task whose evaluators all pass on its own `output_format` is refused too: the answer to it is to
repeat the format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from envs.errors import TaskError
from rewards.codec import decode
from rewards.episode import Task
from rewards.errors import RewardsError
from rewards.evaluators import check_evaluated
from rewards.goals import Evaluated, Evaluator
from rewards.strict_json import parse_json
from rewards.validate import check_task

FORMAT_REQUEST = "Give the final answer as one JSON value in this format:"

_VARIABLE = re.compile(r"\{\{.*?\}\}", re.DOTALL)


@dataclass(frozen=True)
class _Server:
    name: str
    tools: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _Test:
    func: str
    op: str = ""
    value: Any = None
    op_args: Any = None
    desc: str = ""


@dataclass(frozen=True)
class _File:
    question: str
    evaluators: tuple[_Test, ...]
    category: str = "general"
    output_format: Mapping[str, Any] = field(default_factory=dict)
    mcp_servers: tuple[_Server, ...] = ()
    prepares: tuple[Any, ...] = ()


def read_universe(paths: Iterable[str | Path]) -> list[Task]:
    """Return the tasks of MCP-Universe task files.

    A task's id is the name of its file without `.json`; its split is `test`, since the files are a
    benchmark. It needs a call, as every task here that is not about not calling.

    Args:
        paths: Files, or folders whose `*.json` files are read in order of their names.

    Returns:
        The tasks, in order.

    Raises:
        TaskError: If a file cannot be read or judged; the message names the file, and the evaluator
            where it is one. Whether its servers are there is for the environment to say.
    """
    seen: dict[str, Path] = {}
    tasks = []
    for path in _files(paths):
        task = _read(path)
        if task.id in seen:
            raise TaskError(f'{path}: the id "{task.id}" was used by {seen[task.id]} already')
        seen[task.id] = path
        tasks.append(task)
    return tasks


def _files(paths: Iterable[str | Path]) -> Iterator[Path]:
    for path in map(Path, paths):
        found = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not found:
            raise TaskError(f"the folder {path} holds no .json file")
        yield from found


def _read(path: Path) -> Task:
    try:
        data = parse_json(path.read_text(encoding="utf-8-sig"))
        known = {one.name for one in fields(_File)}
        if isinstance(data, dict):
            data = {key: value for key, value in data.items() if key in known}
        return _task(path.stem, decode(_File, data, "task"))
    except OSError as error:
        raise TaskError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise TaskError(f"{path}: not UTF-8 text: {error.reason}") from error
    except (RewardsError, TaskError) as error:
        raise TaskError(f"{path}: {error}") from error


def _task(name: str, file: _File) -> Task:
    _check_supported(file)
    goal = Evaluated(tuple(Evaluator(test.func, test.op, test.value) for test in file.evaluators))
    task = Task(
        id=name,
        prompt=_prompt(file),
        goal=goal,
        tools=_tools(file.mcp_servers),
        domain=file.category,
        kind=file.category,
        split="test",
    )
    check_task(task)
    if file.output_format and check_evaluated(goal, json.dumps(file.output_format)).holds:
        raise TaskError("an answer that only repeats output_format passes every evaluator")
    return task


def _check_supported(file: _File) -> None:
    if not file.question.strip():
        raise TaskError("the question is empty")
    if file.prepares:
        raise TaskError('"prepares" is not supported; prepare the folder with a template instead')
    for number, test in enumerate(file.evaluators, start=1):
        if test.op_args is not None:
            raise TaskError(f'evaluator {number}: op "{test.op}" with op_args is not supported')
        _check_variables(json.dumps(test.value), f"the value of evaluator {number}")
    if file.mcp_servers and not _tools(file.mcp_servers):
        raise TaskError("its servers name no tool; leave out an empty list of tools")
    _check_variables(file.question, "the question")


def _check_variables(text: str, where: str) -> None:
    if found := _VARIABLE.search(text):
        raise TaskError(f"{where} holds {found[0]}; write its value into the file")


def _prompt(file: _File) -> str:
    if not file.output_format:
        return file.question
    shape = json.dumps(file.output_format, indent=2, ensure_ascii=False)
    return f"{file.question}\n\n{FORMAT_REQUEST}\n{shape}"


def _tools(servers: Sequence[_Server]) -> tuple[str, ...]:
    """Return the tools of a task as `SERVER/TOOL`; the environment knows what it offers them as."""
    return tuple(
        f"{server.name}/{tool}"
        for server in servers
        for tool in (("*",) if server.tools is None else server.tools)
    )
