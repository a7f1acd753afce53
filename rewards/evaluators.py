"""The evaluators of MCP-Universe: tests of the JSON in a final answer.

`func` is a pipe of steps, joined by `->`, that starts with the text of the answer:

    json       the JSON value in the text: the whole text, or what stands from its first { or [ to
               its last } or ], so that prose and a fence around ONE value are allowed
    get(key)   the value of a key of an object
    len        the length of a list
    foreach    every item of a list; what follows is done to each, and all of them must pass
    list       a list with the value in it
    raw        the value as it is

`op` compares the outcome with `value`:

    "" (none)          `func` works on the answer
    = !=               EQUAL as JSON values, or not
    < <= > >=          both are numbers, or both are texts
    in                 the outcome is an item of the list `value`, or part of the text `value`
    contain            the outcome is a list with the item `value`, or a text with `value` in it

Any other step or op, such as the named checks that MCP-Universe writes in Python, is a `GoalError`:
what cannot be judged never passes. An answer on which a step fails does not pass.

Stricter than the original, where a model could pass without an answer: a missing key is not null,
`foreach` over nothing does not pass, true is not 1, "" is not part of a text, and an object with a
repeated key is no JSON.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from rewards.episode import Episode
from rewards.errors import FormatError, GoalError, did_you_mean
from rewards.findings import Finding, same_json, show
from rewards.goals import Evaluated, Evaluator
from rewards.strict_json import parse_json


class _Unfit(Exception):
    """A step cannot be taken, or a comparison made, on this answer; the message says why."""


Step = tuple[str, str]

_STEP = re.compile(r"(?P<name>\w+)\s*(?:\((?P<argument>.*)\))?", re.DOTALL)


def evaluate(evaluator: Evaluator, answer: str) -> Finding:
    """Return whether a final answer passes an evaluator.

    Raises:
        GoalError: If the evaluator has an unknown step or op, or a value that does not fit its op.
    """
    steps = parse_func(evaluator.func)
    check_op(evaluator)
    try:
        values: list[Any] = [answer]
        for step in steps:
            values = [found for value in values for found in _take(step, value)]
        wrong = [value for value in values if not _OPS[evaluator.op](value, evaluator.value)]
    except _Unfit as error:
        return Finding(False, f"{evaluator.func}: {error}")
    if wrong:
        wanted = f"{evaluator.op} {show(evaluator.value)}"
        return Finding(False, f"{evaluator.func} is {show(wrong[0])}, the goal wants {wanted}")
    return Finding(True, f"{evaluator.func} is {show(values[0])}")


def check_evaluated(goal: Evaluated, answer: str) -> Finding:
    """Return whether a final answer passes every evaluator of `goal`; errors as `evaluate`."""
    for number, evaluator in enumerate(goal.evaluators, start=1):
        finding = evaluate(evaluator, answer)
        if not finding.holds:
            return Finding(False, f"evaluator {number}: {finding.why}")
    return Finding(True, f"the answer passes all {len(goal.evaluators)} evaluators")


def evaluator_score(episode: Episode) -> float:
    """Return the share of evaluators that the final answer of an episode passes.

    The mean over the episodes of a benchmark is its average evaluator score. As there, an answer
    counts whether or not a call came before it, which success does not.

    Args:
        episode: An episode whose task's goal is `Evaluated`.

    Returns:
        From 0 to 1; 0 where no final answer was given.

    Raises:
        GoalError: If the goal is another one, or an evaluator cannot be judged.
    """
    goal = episode.task.goal
    if not isinstance(goal, Evaluated) or not goal.evaluators:
        raise GoalError(f"the goal of task {episode.task.id} has no evaluators")
    last = episode.turns[-1] if episode.turns else None
    if last is None or last.calls or last.fault is not None:
        return 0.0
    passed = sum(evaluate(evaluator, last.text).holds for evaluator in goal.evaluators)
    return passed / len(goal.evaluators)


@lru_cache(maxsize=4096)
def parse_func(func: str) -> tuple[Step, ...]:
    """Return the steps of a pipe, each a name and its argument ("" for none).

    Raises:
        GoalError: If a step is unknown or malformed; the message names it.
    """
    return tuple(_parse_step(piece.strip(), func) for piece in func.split("->"))


def check_op(evaluator: Evaluator) -> None:
    """Check that an evaluator can be judged.

    Raises:
        GoalError: If its op is unknown, or its value does not fit the op.
    """
    op, value = evaluator.op, evaluator.value
    if op not in _OPS:
        known = " ".join(filter(None, _OPS))
        raise GoalError(f'unknown op "{op}" (known: {known}){did_you_mean(op, _OPS)}')
    if op in _ORDERS and not _is_number(value) and not isinstance(value, str):
        raise GoalError(f'op "{op}" needs a number or a text, not {show(value)}')
    if op == "in" and not isinstance(value, str | list | tuple):
        raise GoalError(f'op "in" needs a list or a text, not {show(value)}')
    if op == "contain" and value == "":
        raise GoalError('op "contain" with an empty text passes every text')


def _parse_step(piece: str, func: str) -> Step:
    match = _STEP.fullmatch(piece)
    name = match["name"] if match else piece
    if match is None or name not in _STEPS:
        known = ", ".join(_STEPS)
        hint = did_you_mean(name, _STEPS)
        raise GoalError(f'unknown func "{name}" in "{func}" (known: {known}){hint}')
    argument = (match["argument"] or "").strip()
    if (name == "get") != bool(argument):
        raise GoalError(f'"{piece}" in "{func}" {"needs a key" if name == "get" else "takes none"}')
    return name, argument


def _take(step: Step, value: Any) -> list[Any]:
    name, argument = step
    return _STEPS[name](value, argument)


def _json(value: Any, _: str) -> list[Any]:
    if not isinstance(value, str):
        raise _Unfit(f"json needs a text, not {show(value)}")
    for text in (value, _from_first_to_last_bracket(value)):
        try:
            return [parse_json(text)]
        except FormatError as error:
            problem = str(error)
    raise _Unfit(f"the answer is not one JSON value: {problem}")


def _from_first_to_last_bracket(text: str) -> str:
    starts = [place for place in map(text.find, "{[") if place >= 0]
    return text[min(starts, default=0) : max(map(text.rfind, "}]")) + 1]


def _get(value: Any, key: str) -> list[Any]:
    if not isinstance(value, dict):
        raise _Unfit(f"get needs an object, not {show(value)}")
    if key not in value:
        raise _Unfit(f'there is no "{key}"')
    return [value[key]]


def _items(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _Unfit(f"a list is needed, not {show(value)}")
    return value


def _foreach(value: Any, _: str) -> list[Any]:
    if not _items(value):
        raise _Unfit("foreach over an empty list")
    return _items(value)


_STEPS: dict[str, Callable[[Any, str], list[Any]]] = {
    "json": _json,
    "get": _get,
    "len": lambda value, _: [len(_items(value))],
    "foreach": _foreach,
    "list": lambda value, _: [[value]],
    "raw": lambda value, _: [value],
}

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _ordered(order: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(left: Any, right: Any) -> bool:
        both_texts = isinstance(left, str) and isinstance(right, str)
        if not both_texts and not (_is_number(left) and _is_number(right)):
            raise _Unfit(f"{show(left)} cannot be ordered with {show(right)}")
        return order(left, right)

    return compare


def _holds(whole: Any, part: Any) -> bool:
    if isinstance(whole, str):
        return isinstance(part, str) and part != "" and part in whole
    if isinstance(whole, list | tuple):
        return any(same_json(item, part) for item in whole)
    raise _Unfit(f"a list or a text is needed, not {show(whole)}")


_OPS: dict[str, Callable[[Any, Any], bool]] = {
    "": lambda value, wanted: True,
    "=": same_json,
    "!=": lambda value, wanted: not same_json(value, wanted),
    **{op: _ordered(order) for op, order in _ORDERS.items()},
    "in": lambda value, wanted: _holds(wanted, value),
    "contain": _holds,
}
