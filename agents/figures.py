"""From stored episodes to figures: what a table or a `summary.json` says about a policy.

Tasks fall into three parts that are never mixed:

    success      tasks that need tools, of the kinds, phrasings and tool sets of training
    heldout      tasks that need tools and show what training never showed
    abstention   tasks whose right behaviour is not to call any tool

Episodes that an infrastructure fault ended are counted apart and enter no figure. Where a task
was attempted more than once, its first attempt counts (so that n is a number of tasks and the
interval is honest), and all attempts enter pass@k and pass^k.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NotRequired, TypedDict, TypeVar

from agents.stats import mcnemar_exact, pass_at_k, pass_hat_k, wilson
from envs.tasks.planted import is_shown, obeyed
from rewards.episode import MODEL_STATUSES, Episode, Fault, Outcome, Status, Task, Turn
from rewards.goal_checks import forbids_calls

Part = Literal["success", "abstention", "heldout"]
PARTS: tuple[Part, ...] = ("success", "abstention", "heldout")

Value = TypeVar("Value")

INVALID_CALLS = frozenset({Status.BAD_ARGUMENTS, Status.UNKNOWN_TOOL})
"""Statuses of calls that were wrong before they ran."""


class Count(TypedDict):
    """Successes out of n; `rate` is None where n is 0."""

    successes: int
    n: int
    rate: float | None


class Proportion(Count):
    """A count with its Wilson 95 % interval."""

    interval: list[float]


class AttemptsFigures(TypedDict):
    """Several attempts a task: the mean over tasks that need tools, of the training kinds."""

    k: int
    tasks: int
    pass_at_1: float
    pass_at_k: float
    pass_hat_k: float


class PolicyFigures(TypedDict):
    """What is said about one policy.

    Attributes:
        success: Tasks that need tools, in distribution.
        abstention: Tasks that must not use any tool.
        heldout: Tasks that need tools and show what training never showed.
        heldout_by: The same, split by what is new: phrasing, tools or depth.
        kinds: `success`, split by kind of task.
        abstention_kinds: `abstention`, split by kind of task.
        outcomes: Shares of all turns, by row of the reward matrix.
        outcomes_by: The same for each part.
        episodes: Episodes that were counted.
        infrastructure_faults: Episodes that were not, by status.
        turns_per_episode: Mean number of messages of the model.
        calls_per_episode: Mean number of attempted calls; a broken call counts as one.
        invalid_call_rate: Share of attempted calls that were broken, not offered, or against
            the tool's schema.
        cut_thoughts: Turns that end inside `<think>`.
        mean_return: Mean return of an episode.
        obedience: Only where instructions were planted in results that were shown: episodes that
            followed one (see `envs/tasks/planted.py`).
        attempts: Only where tasks were attempted more than once.
    """

    success: Proportion
    abstention: Proportion
    heldout: Proportion
    heldout_by: dict[str, Proportion]
    kinds: dict[str, Count]
    abstention_kinds: dict[str, Count]
    outcomes: dict[str, float]
    outcomes_by: dict[str, dict[str, float]]
    episodes: int
    infrastructure_faults: dict[str, int]
    turns_per_episode: float
    calls_per_episode: float
    invalid_call_rate: float
    cut_thoughts: int
    mean_return: float
    obedience: NotRequired[Proportion]
    attempts: NotRequired[AttemptsFigures]


class Paired(TypedDict):
    """Exact McNemar test on the `n` tasks that both policies played, of those `either` did."""

    n: int
    either: int
    only_first: int
    only_second: int
    p: float


Comparison = dict[str, Paired]
"""Part of the tasks -> its test."""


def part(task: Task) -> Part:
    """The part of the evaluation that a task belongs to."""
    if forbids_calls(task.goal):
        return "abstention"
    return "heldout" if task.heldout else "success"


def figures(episodes: Sequence[Episode]) -> PolicyFigures:
    """Figures of one policy, from all of its episodes."""
    counted = [episode for episode in episodes if episode.status in MODEL_STATUSES]
    by_part = _group(_first_attempts(counted), lambda episode: part(episode.task))
    tool_tasks, no_call, heldout = (by_part.get(name, []) for name in PARTS)
    calls = sum(attempted_calls(turn) for episode in counted for turn in episode.turns)
    invalid = sum(invalid_calls(turn) for episode in counted for turn in episode.turns)
    result: PolicyFigures = {
        "success": proportion(tool_tasks),
        "abstention": proportion(no_call),
        "heldout": proportion(heldout),
        "heldout_by": _split(heldout, lambda episode: episode.task.heldout, proportion),
        "kinds": _split(tool_tasks, lambda episode: episode.task.kind, count),
        "abstention_kinds": _split(no_call, lambda episode: episode.task.kind, count),
        "outcomes": outcome_shares(counted),
        "outcomes_by": {
            name: outcome_shares(episode for episode in counted if part(episode.task) == name)
            for name in PARTS
        },
        "episodes": len(counted),
        "infrastructure_faults": dict(
            Counter(e.status.value for e in episodes if e.status not in MODEL_STATUSES)
        ),
        "turns_per_episode": _mean(len(episode.turns) for episode in counted),
        "calls_per_episode": calls / len(counted) if counted else 0.0,
        "invalid_call_rate": invalid / calls if calls else 0.0,
        "cut_thoughts": sum(_cut_thought(turn) for e in counted for turn in e.turns),
        "mean_return": _mean(episode.total_reward for episode in counted),
    }
    shown = [episode for episode in counted if is_shown(episode)]
    if shown:
        result["obedience"] = _with_interval(_counted([obeyed(episode) for episode in shown]))
    attempts = _attempts(counted)
    if attempts:
        result["attempts"] = attempts
    return result


def compare(first: Sequence[Episode], second: Sequence[Episode]) -> Comparison:
    """Exact McNemar tests between two policies, one for each part of the tasks.

    Only tasks that both policies played without an infrastructure fault are compared.
    """
    before, after = _solved(first), _solved(second)
    parts = {episode.task.id: part(episode.task) for episode in (*first, *second)}
    return {
        name: _paired(
            {task: solved for task, solved in before.items() if parts[task] == name},
            {task: solved for task, solved in after.items() if parts[task] == name},
        )
        for name in PARTS
    }


def _paired(before: Mapping[str, bool], after: Mapping[str, bool]) -> Paired:
    pairs = [(before[task], after[task]) for task in before if task in after]
    lost, won = pairs.count((True, False)), pairs.count((False, True))
    return {
        "n": len(pairs),
        "either": len(before.keys() | after.keys()),
        "only_first": lost,
        "only_second": won,
        "p": mcnemar_exact(lost, won),
    }


def count(episodes: Sequence[Episode]) -> Count:
    """Successes out of n."""
    return _counted([episode.success for episode in episodes])


def _counted(hits: Sequence[bool]) -> Count:
    successes, n = sum(hits), len(hits)
    return {"successes": successes, "n": n, "rate": successes / n if n else None}


def proportion(episodes: Sequence[Episode]) -> Proportion:
    """Successes out of n with the Wilson 95 % interval."""
    return _with_interval(count(episodes))


def _with_interval(counted: Count) -> Proportion:
    return {**counted, "interval": list(wilson(counted["successes"], counted["n"]))}


def outcome_shares(episodes: Iterable[Episode]) -> dict[str, float]:
    """Share of turns by outcome, every row of the reward matrix named; all 0 without turns."""
    seen = Counter(turn.outcome for episode in episodes for turn in episode.turns)
    total = max(seen.total(), 1)
    return {outcome.value: seen[outcome] / total for outcome in Outcome}


def attempted_calls(turn: Turn) -> int:
    """Calls that a turn attempted; a turn whose form is broken attempted one, an empty one none."""
    if turn.fault is None:
        return len(turn.calls)
    return 0 if turn.fault is Fault.EMPTY else 1


def invalid_calls(turn: Turn) -> int:
    """Attempted calls that were broken, not offered, or against the tool's schema."""
    if turn.fault is None:
        return sum(result.status in INVALID_CALLS for result in turn.results)
    return attempted_calls(turn)


def _cut_thought(turn: Turn) -> bool:
    return turn.raw.rfind("<think>") > turn.raw.rfind("</think>")


def _first_attempts(episodes: Iterable[Episode]) -> list[Episode]:
    first: dict[str, Episode] = {}
    for episode in episodes:
        first.setdefault(episode.task.id, episode)
    return list(first.values())


def _solved(episodes: Iterable[Episode]) -> dict[str, bool]:
    counted = (episode for episode in episodes if episode.status in MODEL_STATUSES)
    return {episode.task.id: episode.success for episode in _first_attempts(counted)}


def _attempts(counted: Iterable[Episode]) -> AttemptsFigures | None:
    """pass@k and pass^k over the tasks that kept all k attempts; None where k is one."""
    tool_tasks = (episode for episode in counted if part(episode.task) == "success")
    tasks = _group(tool_tasks, lambda episode: episode.task.id).values()
    k = max((len(attempts) for attempts in tasks), default=1)
    if k < 2:
        return None
    complete = [attempts for attempts in tasks if len(attempts) == k]
    scores = [(k, sum(episode.success for episode in attempts)) for attempts in complete]
    return {
        "k": k,
        "tasks": len(scores),
        "pass_at_1": _mean(pass_at_k(n, c, 1) for n, c in scores),
        "pass_at_k": _mean(pass_at_k(n, c, k) for n, c in scores),
        "pass_hat_k": _mean(pass_hat_k(n, c, k) for n, c in scores),
    }


def _group(episodes: Iterable[Episode], key: Callable[[Episode], str]) -> dict[str, list[Episode]]:
    groups: dict[str, list[Episode]] = defaultdict(list)
    for episode in episodes:
        groups[key(episode)].append(episode)
    return groups


def _split(
    episodes: Iterable[Episode],
    key: Callable[[Episode], str],
    value: Callable[[Sequence[Episode]], Value],
) -> dict[str, Value]:
    return {name: value(group) for name, group in sorted(_group(episodes, key).items())}


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else 0.0
