"""State that a server shows of itself, so that `FinalState` goals can be judged on it.

A server may offer two resources, which no model sees:

    world://changes   JSON: table -> row id -> the row as it is now, or null; what differs from the
                      start of the episode
    world://digest    JSON: {"digest": a text that is the same for the same state}

The mock world does; a server of your own may.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence

from envs.backend import Evidence
from envs.client import GRACE_S, Connection
from envs.errors import ClientError
from envs.event_loop import event_loop
from envs.results import fault
from rewards.episode import Status, ToolResult

CHANGES = "world://changes"
DIGEST = "world://digest"

log = logging.getLogger(__name__)


def shows_world(connection: Connection) -> bool:
    """Return whether a server offers these resources; one that cannot say does not."""
    limit = connection.deadlines.call + GRACE_S
    try:
        return event_loop().run(connection.resources(), limit) >= {CHANGES, DIGEST}
    except (ClientError, TimeoutError, RuntimeError, ValueError) as error:
        log.warning("a server's resources cannot be listed: %s", error)
        return False


def read_worlds(connections: Sequence[Connection]) -> list[Evidence]:
    """Return the state of each server, in one crossing.

    A state that cannot be read is recorded like a probe that the server's fault ended.
    """
    if not connections:
        return []
    limit = max(connection.deadlines.call for connection in connections)
    try:
        return event_loop().run(_read_all(connections), 2 * limit + GRACE_S)
    except TimeoutError:  # something blocks the loop
        return [Evidence(probes={CHANGES: connection.late()}) for connection in connections]


async def _read_all(connections: Sequence[Connection]) -> list[Evidence]:
    return list(await asyncio.gather(*map(_read, connections)))


async def _read(connection: Connection) -> Evidence:
    changes, digest = [await connection.read(uri) for uri in (CHANGES, DIGEST)]
    for result in (changes, digest):
        if result.status is not Status.OK:
            return Evidence(probes={CHANGES: result})
    return _parsed(changes, digest)


def _parsed(changes: ToolResult, digest: ToolResult) -> Evidence:
    try:
        return Evidence(dict(json.loads(changes.text)), str(json.loads(digest.text)["digest"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        problem = f"the state of the world is not as it should be: {error}"
        return Evidence(probes={CHANGES: fault(Status.BAD_RESULT, problem)})
