"""Views of the traces of a warm start: what one executed trace can show more than once.

other order     the tools of the prompt stand in another order. A policy that learns from few
                traces learns where a tool stood in them; in another order the same trace says
                that only the tool's own text matters.
mistake         one call is wrong first, and the trace goes on from the server's error. The
                mistake is shown and not trained (`sft/mistakes.py`).
withheld tool   a tool that the trace calls is not offered, and the policy says so. The same
                request with and without its tool: what differs is what decides.
other values    names, ids, numbers, texts and fields are replaced by others wherever they stand
                (`sft/other_values.py`): what is learned is where they come from. Drawn for every
                view after the first, those with a mistake or without a tool too.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agents.rollout import open_envs
from envs.backends import ServerSource
from envs.tasks.no_call import CANNOT
from envs.tasks.substitutes import substitutes
from envs.vector_env import MCPVectorEnv
from rewards.episode import ReferenceTurn, Task
from rewards.goals import NoCall
from sft.other_values import with_other_values
from sft.traces import BATCH_SIZE, LICENCE, Row, recovery_traces, reference_traces

WITHHELD = "reference with a tool withheld"


@dataclass(frozen=True)
class Views:
    """How the traces are shown.

    Attributes:
        count: How often each trace is shown.
        mistakes: Share of the views after the first with a mistake (0 to 1).
        withheld: Share of the views after the first with a withheld tool (0 to 1).
        other_values: Share of the views after the first with other values (0 to 1).
    """

    count: int = 1
    mistakes: float = 0.0
    withheld: float = 0.0
    other_values: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers that leave nothing to train on."""
        if self.count < 1:
            raise ValueError(f"--views must be at least 1, not {self.count}")
        for name in ("mistakes", "withheld", "other_values"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"--{name} is a share from 0 to 1, not {getattr(self, name)}")
        if self.mistakes + self.withheld > 1:
            raise ValueError("--mistakes and --withheld are shares of the same views: at most 1")


def demonstrations(
    tasks: Sequence[Task],
    max_turns: int,
    views: Views,
    seed: int,
    servers: ServerSource | None = None,
) -> list[Row]:
    """Return what the warm start is shown: every task's trace in several views.

    The first view is the reference trace as it was played.

    Args:
        tasks: The tasks.
        max_turns: Turn limit of the environment.
        views: How often each trace is shown, and how.
        seed: Seed of the views.
        servers: MCP servers to play on; None for the mock world.

    Returns:
        Canonical rows; `ID/N` is view N of the trace of task ID.
    """
    width = min(BATCH_SIZE, len(tasks))
    with (
        open_envs(1, width, tasks, max_turns=max_turns, servers=servers) as envs,
        # A mistake takes a turn.
        open_envs(1, width, tasks, max_turns=max_turns + 1, servers=servers) as longer,
    ):
        licence = LICENCE if servers is None else ""
        return _shown(tasks, max_turns, views, seed, envs, longer, licence)


def _shown(
    tasks: Sequence[Task],
    max_turns: int,
    views: Views,
    seed: int,
    envs: Sequence[MCPVectorEnv],
    longer: Sequence[MCPVectorEnv],
    licence: str,
) -> list[Row]:
    traces = reference_traces(tasks, max_turns, envs, licence)
    solved = {trace["id"] for trace in traces}
    tasks = [task for task in tasks if task.id in solved]
    rng = random.Random(f"views/{seed}")
    rows = list(traces)
    for number in range(1, views.count):
        draws = [rng.random() for _ in tasks]
        some = [task for task, draw in zip(tasks, draws, strict=True) if draw < views.mistakes]
        stumbled = recovery_traces(some, max_turns + 1, seed * 1_000_003 + number, longer, licence)
        refused = [
            without_a_tool(task, rng)
            for task, draw in zip(tasks, draws, strict=True)
            if views.mistakes <= draw < views.mistakes + views.withheld
        ]
        withheld = reference_traces([t for t in refused if t is not None], max_turns, envs, licence)
        for row in withheld:
            row["source"] = WITHHELD
        instead = {row["id"]: row for row in (*stumbled, *withheld)}
        for trace in traces:
            row = instead.get(trace["id"], trace)
            if rng.random() < views.other_values:
                row = with_other_values(row, rng)
            tools = rng.sample(list(row["tools"]), len(row["tools"]))
            rows.append({**row, "id": f"{row['id']}/{number}", "tools": tools})
    return rows


def without_a_tool(task: Task, rng: random.Random) -> Task | None:
    """Return the task without one of the tools that its solution calls; None if it calls none.

    What could stand in for the tool is not offered either.
    """
    called = sorted({call.name for turn in task.reference for call in turn.calls})
    if not called:
        return None
    removed = rng.choice(called)
    unwanted = {removed, *substitutes(removed)}
    return replace(
        task,
        tools=tuple(name for name in task.tools if name not in unwanted),
        goal=NoCall(),
        reference=(ReferenceTurn(text=CANNOT),),
        depth=0,
        faults={},
    )
