"""Calls of many episodes in one crossing to the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from envs.client import GRACE_S, Connection
from envs.errors import ClientError
from envs.event_loop import event_loop
from envs.results import fault
from rewards.episode import MODEL_STATUSES, ToolCall, ToolResult

Calls = Sequence[tuple[Connection, ToolCall]]
"""The calls of one episode's turn, each with the connection that it goes to."""

NOT_EXECUTED = "not executed, because an earlier call of the turn met an infrastructure fault"


class _Chain:
    """The calls of one turn that go to one connection; they run one after another."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.places: list[int] = []
        self.calls: list[ToolCall] = []
        self.answers: list[ToolResult] = []

    @property
    def longest(self) -> float:
        """Return how many seconds the calls may take."""
        return self.connection.deadlines.call * len(self.calls)

    def results(self) -> list[ToolResult]:
        """Return a result for every call, whether it was answered, or even sent, or not."""
        answers = list(self.answers)
        missing = len(self.calls) - len(answers)
        if missing and (not answers or answers[-1].status in MODEL_STATUSES):
            answers.append(self.connection.late())
        rest = [fault(answers[-1].status, NOT_EXECUTED)] * (len(self.calls) - len(answers))
        return answers + rest


def call_all(batches: Sequence[Calls]) -> list[list[ToolResult]]:
    """Run many batches of calls in one crossing.

    The calls of a batch that go to the same connection run one after another; everything else runs
    side by side.

    Args:
        batches: The calls of each episode.

    Returns:
        One result per call. The calls to a connection that come after an infrastructure fault
        share its status and are not executed.

    Raises:
        ClientError: If a connection was opened in another process.
    """
    chains = [_chains(batch) for batch in batches]
    every = [chain for of_batch in chains for chain in of_batch]
    if every:
        _run(every)
    return [_in_order(batch, of_batch) for batch, of_batch in zip(batches, chains, strict=True)]


def _chains(batch: Calls) -> list[_Chain]:
    chains: dict[int, _Chain] = {}
    for place, (connection, call) in enumerate(batch):
        chain = chains.setdefault(id(connection), _Chain(connection))
        chain.places.append(place)
        chain.calls.append(call)
    return list(chains.values())


def _run(chains: Sequence[_Chain]) -> None:
    loop = event_loop()
    if any(chain.connection.loop is not loop for chain in chains):
        raise ClientError("connections do not survive a fork; make the environment in the worker")
    longest = max(chain.longest for chain in chains)
    # A tool in this process may block the loop, and with it whoever runs the loop.
    may_block = any(chain.connection.in_process for chain in chains)
    run = loop.run if may_block else loop.run_here
    try:
        run(_finish(chains, longest + GRACE_S / 2), longest + GRACE_S)
    except TimeoutError:
        return  # a tool blocks the loop itself; what has no result is late


async def _finish(chains: Sequence[_Chain], limit: float) -> None:
    tasks = [chain.connection.start(chain.calls, chain.answers) for chain in chains]
    # A tool in a worker thread cannot be cancelled, so it is left behind.
    _, late = await asyncio.wait(tasks, timeout=limit)
    for chain, task in zip(chains, tasks, strict=True):
        if task in late:
            task.cancel()
        elif task.cancelled() or task.exception():
            error = None if task.cancelled() else task.exception()
            chain.answers.append(chain.connection.failed(error))


def _in_order(batch: Calls, chains: Sequence[_Chain]) -> list[ToolResult]:
    found = {
        place: result
        for chain in chains
        for place, result in zip(chain.places, chain.results(), strict=True)
    }
    return [found[place] for place in range(len(batch))]
