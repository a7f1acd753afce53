"""What an environment has to record so that a goal can be judged from the records alone.

The evidence of a turn belongs to that turn: it is taken after the turn's calls, whether or not
there were any, since a real server may change by itself. It is needed only where
`rewards.judge.reaches_goal` says that the goal is going to be judged. A `Probe` whose result, or a
`FolderState` whose folder, was not recorded then is a `RecordError` and never a verdict.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from rewards.episode import ToolCall
from rewards.goals import AllOf, AnyOf, Custom, FinalState, FolderState, Goal, Probe


def probes_of(goal: Goal) -> tuple[ToolCall, ...]:
    """Return the calls of read tools that the environment has to make, each once."""
    probes = (part for part in parts(goal) if isinstance(part, Probe))
    calls = (ToolCall(probe.tool, probe.arguments) for probe in probes)
    return tuple({probe_key(call): call for call in calls}.values())


def probe_key(call: ToolCall) -> str:
    """Return the key of a call in `Turn.probes`: equal for equal calls, and readable."""
    arguments = json.dumps(dict(call.arguments), sort_keys=True, ensure_ascii=False)
    return f"{call.name} {arguments}"


def wants_files(goal: Goal) -> bool:
    """Return whether the goal may look at the working folder.

    A `Custom` check may; it has to bear that an environment without a folder records none.
    """
    return any(isinstance(part, FolderState | Custom) for part in parts(goal))


def wants_digest(goal: Goal) -> bool:
    """Return whether the goal may look at the digest of a world."""
    return any(
        isinstance(part, Custom) or (isinstance(part, FinalState) and part.digest is not None)
        for part in parts(goal)
    )


def parts(goal: Goal) -> Iterator[Goal]:
    """Yield the goals that a goal is made of, in order; a goal that combines none yields itself."""
    if isinstance(goal, AllOf | AnyOf):
        for part in goal.goals:
            yield from parts(part)
    else:
        yield goal
