"""Traces: played episodes as chat messages, and as rows to train on."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from agents.players import ScriptedPlayer
from agents.rollout import Trajectory, rollout
from agents.template import ChatTemplate
from envs.policies import make_policy
from envs.vector_env import MCPVectorEnv
from rewards.episode import Episode, Outcome, Task, Turn
from sft.mistakes import Stumbler

Row = dict[str, Any]

BATCH_SIZE = 64

LICENCE = "apache-2.0"
"""Of traces of the mock world, which is a part of this project, by its id on the hub."""

FAILED = (Outcome.TOOL_ERROR, Outcome.INVALID_JSON)
"""Turns that nobody should learn from a policy, whatever the task."""

FEWEST_VALUES = 1.5
"""What a solution with one value, or without a call, counts when traces are dealt to the kinds."""

_WORD = re.compile(r"\w+")


def pick_tasks(tasks: Sequence[Task], count: int, seed: int) -> list[Task]:
    """Pick `count` tasks with a known solution: one of every sort, then the kinds by what they say.

    A sort is a kind of task; among those that must not be answered by calling, also what is
    answered: to ask for a customer is not to ask for a date, and one does not teach the other.
    Of a kind whose solutions hold more values there are more: each has to come from its place.
    Of a kind the request is picked that is worded least like those picked before it.
    """
    by_sort: dict[tuple[str, str], list[Task]] = defaultdict(list)
    for task in tasks:
        if task.reference:
            silent = not any(turn.calls for turn in task.reference)
            by_sort[task.kind, task.reference[-1].text if silent else ""].append(task)
    rng = random.Random(f"traces/{seed}")
    seen: dict[str, list[set[str]]] = defaultdict(list)
    picked: list[Task] = []
    by_kind: dict[str, list[Task]] = defaultdict(list)
    for (kind, _), sort in sorted(by_sort.items()):
        rng.shuffle(sort)
        picked.append(_take_newest(sort, seen[kind]))
        by_kind[kind] += sort
    weights = {kind: _values(tasks) for kind, tasks in by_kind.items()}
    while len(picked) < count and any(by_kind.values()):
        kind = min(
            (kind for kind in sorted(by_kind) if by_kind[kind]),
            key=lambda kind: len(seen[kind]) / weights[kind],
        )
        picked.append(_take_newest(by_kind[kind], seen[kind]))
    return picked[:count]


def _values(tasks: Sequence[Task]) -> float:
    """Return how many argument values a solution holds on average, at least `FEWEST_VALUES`."""
    solutions = [[call for turn in task.reference for call in turn.calls] for task in tasks]
    counts = [sum(len(call.arguments) for call in calls) for calls in solutions]
    return max(FEWEST_VALUES, sum(counts) / len(counts)) if counts else FEWEST_VALUES


def _take_newest(tasks: list[Task], seen: list[set[str]]) -> Task:
    """Take the task out whose words are least like any of `seen`, and note its words there.

    Alike is the share of common words among all of both (Jaccard); words with a digit, which are
    values, do not count.
    """

    def likeness(words: set[str]) -> float:
        return max((len(words & old) / len(words | old) for old in seen), default=0.0)

    words = [{w for w in _WORD.findall(task.prompt.lower()) if w.isalpha()} for task in tasks]
    best = min(range(len(tasks)), key=lambda place: likeness(words[place]))
    seen.append(words[best])
    return tasks.pop(best)


def reference_traces(
    tasks: Sequence[Task],
    max_turns: int,
    envs: Sequence[MCPVectorEnv] = (),
    licence: str = LICENCE,
) -> list[Row]:
    """Let the oracle play the tasks through the real server; return canonical rows.

    A trace that does not succeed (its solution is longer than the turn limit) is left out.

    Args:
        tasks: The tasks.
        max_turns: Turn limit of the environment.
        envs: Environments to play in; one on the mock world is made otherwise.
        licence: Licence of what their servers say; "" where it is not known.
    """
    oracle = ScriptedPlayer(make_policy("oracle"))
    played = rollout(oracle, tasks, max_turns=max_turns, batch_size=_width(envs), envs=envs)
    rows = [trace_row(trajectory) for trajectory in played if trajectory.episode.success]
    return [{**row, "licence": licence} for row in rows]


def recovery_traces(
    tasks: Sequence[Task],
    max_turns: int,
    seed: int,
    envs: Sequence[MCPVectorEnv] = (),
    licence: str = LICENCE,
) -> list[Row]:
    """Let the oracle play the tasks with one mistake each; return canonical rows.

    The mistake stands in the trace with `"weight": 0`: it is shown, and not trained. Tasks
    without a call, and those whose goal a mistake spoils, are left out.

    Args:
        tasks: The tasks.
        max_turns: Turn limit; a mistake takes one of these turns.
        seed: Seed of the mistakes.
        envs: Environments to play in; one on the mock world is made otherwise.
        licence: As in `reference_traces`.
    """
    stumbler = Stumbler(seed)
    found = {task.id: stumbler.place(task) for task in tasks}
    places = {name: place for name, place in found.items() if place is not None}
    tasks = [task for task in tasks if task.id in places]
    rows = []
    player = ScriptedPlayer(stumbler)
    played = rollout(player, tasks, max_turns=max_turns, batch_size=_width(envs), envs=envs)
    for trajectory in played:
        if trajectory.episode.success:
            row = trace_row(trajectory, source="reference with a mistake")
            turns = [message for message in row["messages"] if message["role"] == "assistant"]
            turns[places[row["id"]]]["weight"] = 0
            rows.append({**row, "licence": licence})
    return rows


def _width(envs: Sequence[MCPVectorEnv]) -> int:
    return envs[0].num_envs if envs else BATCH_SIZE


def turn_messages(turn: Turn) -> list[dict[str, Any]]:
    """Return a turn as messages: structured calls, never call text in the content.

    Only a turn without a readable call, which no structure can hold, stays as it was said.
    """
    if turn.fault is not None:
        return [
            {"role": "assistant", "content": turn.raw},
            {"role": "tool", "content": turn.observation},
        ]
    message: dict[str, Any] = {"role": "assistant", "content": turn.text}
    if turn.thought:
        message["reasoning_content"] = turn.thought
    if turn.calls:
        message["tool_calls"] = [
            {"type": "function", "function": {"name": c.name, "arguments": dict(c.arguments)}}
            for c in turn.calls
        ]
    return [message, *({"role": "tool", "content": result.text} for result in turn.results)]


def shown_only(messages: Sequence[dict[str, Any]], turns: Sequence[Turn], judged: bool) -> None:
    """Give turns that came to nothing `"weight": 0`: shown, so that what follows makes sense.

    Not for reference solutions, where a tool's error may be what has to be found out.

    Args:
        messages: The messages of an episode, which are changed.
        turns: Its turns.
        judged: The task has a goal, so that an answer may be wrong.
    """
    said = [message for message in messages if message["role"] == "assistant"]
    for message, turn in zip(said, turns, strict=True):
        wrong_answer = judged and turn.outcome is Outcome.STRUCTURAL_FAIL
        if wrong_answer or turn.fault is not None or turn.outcome in FAILED:
            message["weight"] = 0


def episode_messages(episode: Episode) -> list[dict[str, Any]]:
    """Return a whole episode as messages, ending with the last turn of the policy."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": episode.task.prompt}]
    for turn in episode.turns:
        messages += turn_messages(turn)
    while messages[-1]["role"] == "tool":
        messages.pop()
    return messages


def trace_row(trajectory: Trajectory, source: str = "reference", model: str = "oracle") -> Row:
    """Return a played episode as a canonical row."""
    episode = trajectory.episode
    return {
        "id": episode.task.id,
        "messages": episode_messages(episode),
        "tools": list(trajectory.tools),
        "source": source,
        "model": model,
        "truncated": False,
        "outcome": str(episode.turns[-1].outcome),
    }


def token_row(template: ChatTemplate, row: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return a canonical row as token ids and the mask of what is trained."""
    ids, mask = template.training_row(row["messages"], row["tools"])
    return {"input_ids": ids, "assistant_masks": mask}
