"""Whether a goal holds after the last turn of an episode, judged from the records alone."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, assert_never

from rewards.answers import check_answer, contains_phrase, words
from rewards.episode import Episode, ToolCall, Turn
from rewards.errors import CheckError, RecordError, did_you_mean
from rewards.evaluators import check_evaluated
from rewards.evidence import probe_key
from rewards.final_state import check_state
from rewards.findings import Finding, shorten, show
from rewards.folder_state import check_folder
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
from rewards.results import check_result, is_clean

Check = Callable[[Episode], bool | tuple[bool, str]]


def check_goal(goal: Goal, episode: Episode) -> Finding:
    """Return whether `goal` holds after the last turn of `episode`.

    Args:
        goal: The goal.
        episode: The episode with at least one turn; the last one is being judged.

    Returns:
        The finding.

    Raises:
        GoalError: If the goal cannot be judged as it is written.
        RecordError: If the environment recorded no evidence where the goal needs it.
    """
    match goal:
        case FinalAnswer() | Evaluated():
            return _check_final_answer(goal, episode)
        case ReturnedData():
            return _check_returned(goal, episode)
        case FinalState():
            return check_state(goal, *_world_now(episode))
        case Probe():
            return _check_probe(goal, episode)
        case FolderState():
            return _check_files(goal, episode)
        case AllOf() | AnyOf():
            return _check_combination(goal, episode)
        case NoCall() | NoCallNaming():
            return _check_no_call(goal, episode)
        case Custom():
            return _check_custom(goal, episode)
        case _:
            assert_never(goal)


def forbids_calls(goal: Goal) -> bool:
    """Return whether any call keeps the goal from ever holding."""
    match goal:
        case NoCall() | NoCallNaming():
            return True
        case AllOf():
            return any(map(forbids_calls, goal.goals))
        case AnyOf():
            return all(map(forbids_calls, goal.goals))
        case FinalAnswer() | ReturnedData() | FinalState() | Probe() | FolderState():
            return False
        case Evaluated() | Custom():
            return False
        case _:
            assert_never(goal)


def needs_call(goal: Goal) -> bool:
    """Return whether an answer without any call is a failure, however right it is."""
    match goal:
        case NoCall() | NoCallNaming():
            return False
        case AllOf():
            return not forbids_calls(goal) and any(map(needs_call, goal.goals))
        case AnyOf():
            return all(map(needs_call, goal.goals))
        case Custom():
            return goal.needs_call
        case FinalAnswer() | ReturnedData() | FinalState() | Probe() | FolderState() | Evaluated():
            return True
        case _:
            assert_never(goal)


def _check_final_answer(goal: FinalAnswer | Evaluated, episode: Episode) -> Finding:
    turn = episode.turns[-1]
    if turn.calls:
        return Finding(False, "no final answer was given yet")
    if isinstance(goal, Evaluated):
        return check_evaluated(goal, turn.text)
    return check_answer(goal, turn.text, episode.task.prompt)


def _check_returned(goal: ReturnedData, episode: Episode) -> Finding:
    why = f"{goal.tool} has not returned anything"
    for turn in reversed(episode.turns):
        for call, result in zip(turn.calls, turn.results, strict=False):
            if call.name != goal.tool or not is_clean(result):
                continue
            finding = check_result(goal, result)
            if finding.holds:
                return finding
            why = finding.why
    return Finding(False, why)


def _check_probe(goal: Probe, episode: Episode) -> Finding:
    result = episode.turns[-1].probes.get(probe_key(ToolCall(goal.tool, goal.arguments)))
    if result is None:
        raise RecordError(_unrecorded(episode, f"no result of the probe {goal.tool}"))
    if not is_clean(result):
        return Finding(False, f"the probe {goal.tool} failed: {shorten(result.text)}")
    finding = check_result(goal, result)
    return Finding(finding.holds, f"the probe {finding.why}")


def _check_files(goal: FolderState, episode: Episode) -> Finding:
    files = episode.turns[-1].files
    if files is None:
        raise RecordError(_unrecorded(episode, "no files of the working folder"))
    return check_folder(goal, files)


def _unrecorded(episode: Episode, what: str) -> str:
    return (
        f"turn {len(episode.turns)} of task {episode.task.id} has {what}; the environment records "
        "what rewards.evidence asks for, or cannot play this task"
    )


def _world_now(episode: Episode) -> tuple[Mapping[str, Any], str]:
    """Return the changes and the digest of the world after the last turn.

    A turn without calls changes nothing, so an environment may leave its evidence empty; the
    evidence of the turn before it holds then.
    """
    for turn in reversed(episode.turns):
        if turn.results or turn.state or turn.state_digest:
            return turn.state, turn.state_digest
    return {}, ""


def _check_combination(goal: AllOf | AnyOf, episode: Episode) -> Finding:
    findings = [check_goal(part, episode) for part in goal.goals]
    if isinstance(goal, AllOf):
        missing = next((finding for finding in findings if not finding.holds), None)
        return missing or Finding(True, "; ".join(finding.why for finding in findings))
    reached = next((finding for finding in findings if finding.holds), None)
    return reached or Finding(False, "; ".join(finding.why for finding in findings))


def _check_no_call(goal: NoCall | NoCallNaming, episode: Episode) -> Finding:
    turn = episode.turns[-1]
    if any(earlier.calls for earlier in episode.turns):
        return Finding(False, "the task must not be answered by calling a tool")
    if not turn.text.strip():
        return Finding(False, "no answer was given")
    if isinstance(goal, NoCall):
        return Finding(True, "the answer calls no tool")
    return _check_naming(goal, turn, episode.task.prompt)


def _check_naming(goal: NoCallNaming, turn: Turn, prompt: str) -> Finding:
    request, said = words(prompt), words(turn.text)
    if request and contains_phrase(said, request):
        return Finding(False, "the answer only repeats the request, it asks for nothing")
    answer = " ".join(said)
    for name in goal.missing:
        phrase = re.escape(" ".join(words(name)))
        if phrase and re.search(rf"(?<!\w){phrase}(?:'?s)?(?!\w)", answer):
            return Finding(True, f"the answer names what is missing: {show(name)}")
    wanted = " or ".join(map(show, goal.missing))
    return Finding(False, f"the answer names none of what is missing: {wanted}")


def _check_custom(goal: Custom, episode: Episode) -> Finding:
    check = load_check(goal.path)
    try:
        result = check(episode)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
        raise CheckError(f"the check {goal.path} failed: {problem}") from error
    holds, why = result if isinstance(result, tuple) else (result, "")
    if not isinstance(holds, bool):
        raise CheckError(
            f"the check {goal.path} returned {show(result)}; "
            "return a bool, or a bool and a sentence that says why"
        )
    return Finding(holds, why or f"{goal.path} says {'yes' if holds else 'no'}")


@lru_cache(maxsize=256)
def load_check(path: str) -> Check:
    """Import a custom check.

    Args:
        path: Import path `module:function`.

    Returns:
        The function.

    Raises:
        CheckError: If the path is malformed, or there is no such module or function.
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise CheckError(f'"{path}" is not an import path; write module:function')
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise CheckError(f'the check "{path}" cannot be imported: {error}') from error
    check = getattr(module, name, None)
    if not callable(check):
        hint = did_you_mean(name, dir(module))
        raise CheckError(f"{module_name} has no function {name}{hint}")
    function: Check = check
    return function
