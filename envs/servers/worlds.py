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
from collections.abc import Mapping, Sequence

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


def read_worlds(wanted: Sequence[tuple[Connection, bool]]) -> list[Evidence]:
    """Return the state of each server, in one crossing.

    A state that cannot be read is recorded like a probe that the server's fault ended.

    Args:
        wanted: Connections, each with whether the digest is asked for as well.
    """
    if not wanted:
        return []
    limit = max(connection.deadlines.call for connection, _ in wanted)
    try:
        return event_loop().run(_read_all(wanted), 2 * limit + GRACE_S)
    except TimeoutError:  # something blocks the loop
        return [Evidence(probes={CHANGES: connection.late()}) for connection, _ in wanted]


async def _read_all(wanted: Sequence[tuple[Connection, bool]]) -> list[Evidence]:
    return list(await asyncio.gather(*(_read(*one) for one in wanted)))


async def _read(connection: Connection, with_digest: bool) -> Evidence:
    uris = (CHANGES, DIGEST) if with_digest else (CHANGES,)
    results = {uri: await connection.read(uri) for uri in uris}
    failed = (result for result in results.values() if result.status is not Status.OK)
    broken = next(failed, None)
    return Evidence(probes={CHANGES: broken}) if broken else _parsed(results)


def _parsed(results: Mapping[str, ToolResult]) -> Evidence:
    try:
        changes = dict(json.loads(results[CHANGES].text))
        read = DIGEST in results
        return Evidence(changes, str(json.loads(results[DIGEST].text)["digest"]) if read else "")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        problem = f"the state of the world is not as it should be: {error}"
        return Evidence(probes={CHANGES: fault(Status.BAD_RESULT, problem)})
