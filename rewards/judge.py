"""The one function that says what a turn came to and what it is worth.

It looks at records only, so that a stored episode is judged again to the same numbers. The rules
of `_RULES` are asked in order and the first that applies decides, which is the precedence of the
contract:

    infrastructure   the client or the server broke: never the model's fault, reward 0
    invalid JSON     a call was attempted and is not one valid JSON object
    forbidden call   a call where the task must not be answered by calling; ends the episode
    form             an unoffered tool, a wrong call format, an empty turn
    failed call      an offered tool was hit and failed
    guess            an answer without any call where the task needs one
    goal             success; else a final answer that is wrong, or calls that ran

Whatever the rule, the last allowed turn without success is a structural fail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from rewards.episode import MODEL_STATUSES, Episode, Fault, Outcome, Status, ToolCall, Turn
from rewards.errors import RecordError, did_you_mean
from rewards.findings import shorten
from rewards.goal_checks import check_goal, forbids_calls, needs_call
from rewards.matrix import DEFAULT_MATRIX, RewardMatrix
from rewards.results import is_clean


@dataclass(frozen=True)
class Judgement:
    """What one turn came to.

    Attributes:
        outcome: Row of the reward matrix.
        reward: Its value.
        why: One sentence: which call, which field, which rule.
        ends_episode: The episode is over.
        truncates: It is over only because of the turn limit or of an infrastructure fault.
    """

    outcome: Outcome
    reward: float
    why: str
    ends_episode: bool
    truncates: bool = False


@dataclass(frozen=True)
class _Verdict:
    """A judgement before the turn limit and the matrix are looked at."""

    outcome: Outcome
    why: str
    ends: bool = False
    infrastructure: bool = False


def judge_turn(
    episode: Episode, turn: Turn, last: bool, matrix: RewardMatrix = DEFAULT_MATRIX
) -> Judgement:
    """Judge one turn.

    Args:
        episode: The episode so far; `turns` are the EARLIER turns.
        turn: The turn to judge, with its calls, results and evidence.
        last: It is the last turn that the environment allows.
        matrix: What each outcome is worth.

    Returns:
        The judgement.

    Raises:
        RecordError: If the turn's calls and results do not go together, or evidence is missing.
        GoalError: If the task's goal cannot be judged as it is written.
    """
    verdict = _before_goal(episode, turn) or _goal(episode, turn)
    if verdict.infrastructure:
        return Judgement(verdict.outcome, 0.0, verdict.why, ends_episode=True, truncates=True)
    if last and not verdict.ends:
        why = f"the last allowed turn ended without success: {verdict.why}"
        reward = matrix.structural_fail
        return Judgement(Outcome.STRUCTURAL_FAIL, reward, why, ends_episode=True, truncates=True)
    return Judgement(verdict.outcome, matrix.value(verdict.outcome), verdict.why, verdict.ends)


def rescore(episode: Episode, matrix: RewardMatrix = DEFAULT_MATRIX) -> Episode:
    """Judge every turn of a stored episode again, from its records only.

    Args:
        episode: The episode; outcomes, rewards and reasons in it are ignored.
        matrix: What each outcome is worth.

    Returns:
        The episode with new outcomes, rewards and reasons.
    """
    judged: tuple[Turn, ...] = ()
    for turn in episode.turns:
        last = len(judged) + 1 >= episode.max_turns
        result = judge_turn(replace(episode, turns=judged), turn, last, matrix)
        turn = replace(turn, outcome=result.outcome, reward=result.reward, why=result.why)
        judged = (*judged, turn)
    return replace(episode, turns=judged)


def reaches_goal(episode: Episode, turn: Turn) -> bool:
    """Return whether judging a turn looks at the goal, so that its evidence has to be recorded.

    Args:
        episode: The episode so far; `turns` are the EARLIER turns.
        turn: The turn with its calls and results, still without probes and files.

    Raises:
        RecordError: If the turn's calls and results do not go together.
    """
    return _before_goal(episode, turn) is None


def _before_goal(episode: Episode, turn: Turn) -> _Verdict | None:
    verdicts = (rule(episode, turn) for rule in _RULES)
    return next((verdict for verdict in verdicts if verdict is not None), None)


def _infrastructure(episode: Episode, turn: Turn) -> _Verdict | None:
    for key, result in turn.probes.items():
        if result.status not in MODEL_STATUSES:
            why = f"probe {shorten(key)}: {result.status} is an infrastructure fault, not judged"
            return _Verdict(Outcome.TOOL_EXECUTION, why, infrastructure=True)
    for number, result in enumerate(turn.results, start=1):
        if result.status not in MODEL_STATUSES:
            why = f"{_named(turn, number)}: {result.status} is an infrastructure fault, not judged"
            return _Verdict(Outcome.TOOL_EXECUTION, why, infrastructure=True)
    if episode.status not in MODEL_STATUSES and len(turn.results) < len(turn.calls):
        why = f"calls not executed: {episode.status} is an infrastructure fault, not judged"
        return _Verdict(Outcome.TOOL_EXECUTION, why, infrastructure=True)
    return None


def _invalid_json(_: Episode, turn: Turn) -> _Verdict | None:
    if turn.fault is not Fault.INVALID_JSON:
        return None
    detail = shorten(turn.fault_detail) or "a call is not one valid JSON object"
    return _Verdict(Outcome.INVALID_JSON, f"invalid JSON, nothing executed: {detail}")


def _forbidden_call(episode: Episode, turn: Turn) -> _Verdict | None:
    called = bool(turn.calls) or turn.fault is Fault.UNOFFERED_TOOL
    if not called or not forbids_calls(episode.task.goal):
        return None
    which = _named(turn, 1) if turn.calls else "the turn calls an unoffered tool"
    why = f"{which}: the task must not be answered by calling a tool"
    return _Verdict(Outcome.STRUCTURAL_FAIL, why, ends=True)


def _unoffered_tool(episode: Episode, turn: Turn) -> _Verdict | None:
    offered = episode.task.tools
    for number, call in enumerate(turn.calls, start=1):
        refused = len(turn.results) >= number and (
            turn.results[number - 1].status is Status.UNKNOWN_TOOL
        )
        if call.name not in offered or refused:
            hint = did_you_mean(call.name, offered) if call.name not in offered else ""
            why = f"{_named(turn, number)} is not an offered tool{hint}"
            return _Verdict(Outcome.STRUCTURAL_FAIL, why)
    return None


def _bad_form(_: Episode, turn: Turn) -> _Verdict | None:
    if turn.fault is None and (turn.calls or turn.text.strip()):
        return None
    rule = {
        Fault.UNOFFERED_TOOL: "a tool that was not offered is called",
        Fault.WRONG_FORMAT: "wrong call format",
    }.get(turn.fault or Fault.EMPTY, "empty turn: neither a call nor an answer")
    detail = shorten(turn.fault_detail)
    return _Verdict(Outcome.STRUCTURAL_FAIL, f"{rule}: {detail}" if detail else rule)


def _failed_call(episode: Episode, turn: Turn) -> _Verdict | None:
    if len(turn.results) != len(turn.calls):
        raise RecordError(
            f"turn {len(episode.turns) + 1} of task {episode.task.id} has {len(turn.calls)} calls "
            f"but {len(turn.results)} results; record one result per call"
        )
    for number, result in enumerate(turn.results, start=1):
        if not is_clean(result):
            detail = shorten(result.text.removeprefix("Error: ")) or result.status
            return _Verdict(Outcome.TOOL_ERROR, f"{_named(turn, number)}: {detail}")
    return None


def _guess(episode: Episode, turn: Turn) -> _Verdict | None:
    if turn.calls or not needs_call(episode.task.goal) or _has_called(episode):
        return None
    why = "the answer came without any call, and the task needs one"
    return _Verdict(Outcome.STRUCTURAL_FAIL, why, ends=True)


def _goal(episode: Episode, turn: Turn) -> _Verdict:
    """Judge a turn without any fault: calls that all ran, or a final answer."""
    finding = check_goal(episode.task.goal, replace(episode, turns=(*episode.turns, turn)))
    if finding.holds:
        return _Verdict(Outcome.SUCCESS, finding.why, ends=True)
    if not turn.calls:
        return _Verdict(Outcome.STRUCTURAL_FAIL, f"wrong final answer: {finding.why}", ends=True)
    ran = "the call ran" if len(turn.calls) == 1 else f"all {len(turn.calls)} calls ran"
    return _Verdict(Outcome.TOOL_EXECUTION, f"{ran}, the goal does not hold yet: {finding.why}")


_RULES: tuple[Callable[[Episode, Turn], _Verdict | None], ...] = (
    _infrastructure,
    _invalid_json,
    _forbidden_call,
    _unoffered_tool,
    _bad_form,
    _failed_call,
    _guess,
)


def _has_called(episode: Episode) -> bool:
    """Return whether any call was executed; a refused or malformed one never reached a tool."""
    results = (result for turn in episode.turns for result in turn.results)
    return any(result.status is not Status.UNKNOWN_TOOL for result in results)


def _named(turn: Turn, number: int) -> str:
    call: ToolCall | None = turn.calls[number - 1] if number <= len(turn.calls) else None
    return f"call {number} {call.name}" if call else f"call {number}"
