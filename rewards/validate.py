"""Whether a task makes sense in itself, before anybody plays it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from rewards.answers import words
from rewards.episode import Task
from rewards.errors import GoalError, did_you_mean
from rewards.evaluators import check_op, parse_func
from rewards.evidence import parts
from rewards.findings import show
from rewards.folder_state import folder_problems
from rewards.goals import (
    AllOf,
    AnyOf,
    Custom,
    Evaluated,
    FinalAnswer,
    FinalState,
    FolderState,
    Goal,
    NoCall,
    NoCallNaming,
    Probe,
    ReturnedData,
)
from rewards.jsonpath import parse_path

SPLITS = ("train", "validation", "test")


def check_task(task: Task) -> None:
    """Check what can be checked without a server.

    Args:
        task: The task.

    Raises:
        GoalError: If the task can be neither played nor judged; the message names the field.
    """
    problem = next(_problems(task), "")
    if problem:
        raise GoalError(f'task "{task.id}": {problem}')


def check_offer(task: Task) -> None:
    """Check that a task's reference and goal use only tools that it offers.

    Args:
        task: The task, its tools by the names they are offered under.

    Raises:
        GoalError: If they use another one.
    """
    problem = next(_unoffered(task), "")
    if problem:
        raise GoalError(f'task "{task.id}": {problem}')


def _problems(task: Task) -> Iterator[str]:
    for field in ("id", "prompt"):
        if not getattr(task, field).strip():
            yield f"{field} is empty"
    if task.split not in SPLITS:
        yield f'split "{task.split}" is not one of {", ".join(SPLITS)}'
    repeated = {name for name in task.tools if task.tools.count(name) > 1}
    if repeated:
        yield f"tools names {min(repeated)} twice"
    # What a task offers that names no tool, or those of a server, is known where it is played.
    if task.tools and not any("/" in name for name in task.tools):
        yield from _unoffered(task)
    yield from _goal_problems(task.goal)
    if _holds_at_start(task.goal):
        yield "the goal holds before anything is done: it only asks that nothing changes"


def _unoffered(task: Task) -> Iterator[str]:
    used = [("reference", call.name) for turn in task.reference for call in turn.calls]
    used += [("goal", part.tool) for part in parts(task.goal) if isinstance(part, ReturnedData)]
    for where, name in used:
        if name not in task.tools:
            hint = did_you_mean(name, task.tools)
            yield f'{where} uses the tool "{name}", which is not offered{hint}'


def _goal_problems(goal: Goal) -> Iterator[str]:
    match goal:
        case FinalAnswer():
            yield from _answer_problems(goal)
        case ReturnedData():
            parse_path(goal.path)
        case Probe():
            yield from _probe_problems(goal)
        case FolderState():
            yield from (f"goal folder_state: {problem}" for problem in folder_problems(goal))
        case Evaluated():
            yield from _evaluator_problems(goal)
        case AllOf() | AnyOf():
            yield from _combination_problems(goal)
        case FinalState() | NoCall() | NoCallNaming() | Custom():
            yield from _empty_goal(goal)
        case _:
            assert_never(goal)


def _empty_goal(goal: FinalState | NoCall | NoCallNaming | Custom) -> Iterator[str]:
    match goal:
        case FinalState(changes={}, only=False, digest=None):
            yield "goal final_state wants nothing: name changes or a digest, or set only"
        case NoCallNaming() if not any(map(words, goal.missing)):
            yield "goal no_call_naming: missing holds no word"
        case Custom() if not all(goal.path.partition(":")):
            yield f'goal custom: "{goal.path}" is not an import path; write module:function'


def _holds_at_start(goal: Goal) -> bool:
    """Return whether a goal asks for nothing but that nothing changes."""
    match goal:
        case FolderState():
            return not goal.files
        case FinalState():
            return not goal.changes and goal.digest is None
        case AllOf():
            return all(map(_holds_at_start, goal.goals))
        case AnyOf():
            return any(map(_holds_at_start, goal.goals))
        case FinalAnswer() | ReturnedData() | Probe() | Evaluated() | Custom():
            return False
        case NoCall() | NoCallNaming():
            return False
        case _:
            assert_never(goal)


def _probe_problems(goal: Probe) -> Iterator[str]:
    parse_path(goal.path)
    if not goal.tool:
        yield "goal probe: tool is empty"
    if goal.compare == "contains" and goal.value == "":
        yield "goal probe: every text contains the empty text"


def _evaluator_problems(goal: Evaluated) -> Iterator[str]:
    for number, evaluator in enumerate(goal.evaluators, start=1):
        try:
            parse_func(evaluator.func)
            check_op(evaluator)
        except GoalError as error:
            yield f"goal evaluated: evaluator {number}: {error}"
    if not any(evaluator.op for evaluator in goal.evaluators):
        yield "goal evaluated compares nothing: give an evaluator an op and a value"


def _combination_problems(goal: AllOf | AnyOf) -> Iterator[str]:
    if not goal.goals:
        yield "goal: a combination of no goals"
    for part in goal.goals:
        yield from _goal_problems(part)


def _answer_problems(goal: FinalAnswer) -> Iterator[str]:
    value, match = goal.value, goal.match
    is_list = isinstance(value, tuple)
    if match == "number" and (is_list or isinstance(value, str)):
        yield f'goal final_answer: match "number" needs a number, not {show(value)}'
    elif match == "exact" and is_list:
        yield f'goal final_answer: match "exact" needs one value, not {show(value)}'
    elif match in ("set", "one_of") and not is_list:
        yield f'goal final_answer: match "{match}" needs a list, not {show(value)}'
    elif match != "number":
        values = value if isinstance(value, tuple) else (str(value),)
        if not values or not all(map(words, values)):
            yield f"goal final_answer: {show(value)} holds no word to look for"
    elif goal.tolerance < 0:
        yield "goal final_answer: tolerance is negative"
