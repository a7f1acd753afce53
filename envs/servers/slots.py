"""The servers of each slot: renewed for every episode, replaced when they are not to be trusted.

Servers with the reset policy `restart`, and those over HTTP that take a handle per episode, belong
to a stand that a slot takes from the pool at each reset. Servers that outlive an episode (`keep`, a
reset tool, shared over HTTP) have a stand of their own per slot. It stays until one of its servers
dies or meets an infrastructure fault: what hung in one episode would hang in the next.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mcp_types import Tool

from envs.calls import call_all
from envs.client import GRACE_S, Connection, Deadlines
from envs.errors import ClientError, ServerStartError, ToolListError
from envs.event_loop import event_loop
from envs.evidence import FolderWatch
from envs.results import fault
from envs.servers.config import ServerConfig
from envs.servers.pool import Pool
from envs.servers.stand import Eras, Stand
from rewards.episode import Status, ToolCall, ToolResult

MOST_SPARES = 8
ATTEMPTS = 2
"""How often servers are started for an episode before it goes without."""

log = logging.getLogger(__name__)


@dataclass
class Slot:
    """Where one episode is played.

    Attributes:
        fresh: Servers that were started for this episode alone.
        lasting: Servers that outlive an episode.
        spoilt: The lasting ones have met an infrastructure fault.
        broken: Why there are no servers, as the result of any call; None if there are.
        watch: What changes in the working folder, or why nobody can see it; None if nobody looks.
    """

    fresh: Stand | None = None
    lasting: Stand | None = None
    spoilt: bool = False
    broken: ToolResult | None = None
    watch: FolderWatch | ToolResult | None = None

    @property
    def stands(self) -> list[Stand]:
        """Return the stands that there are."""
        return [stand for stand in (self.fresh, self.lasting) if stand is not None]

    @property
    def alive(self) -> bool:
        """Return whether there are servers, and every connection to them is open."""
        return bool(self.stands) and all(stand.alive for stand in self.stands)

    @property
    def tools(self) -> dict[str, list[Tool]]:
        """Return what each server lists."""
        return {name: tools for stand in self.stands for name, tools in stand.tools.items()}

    @property
    def work(self) -> Path | None:
        """Return the working folder; None if no server works in one."""
        return next((stand.work for stand in self.stands if stand.local), None)

    def connection(self, server: str) -> Connection:
        """Return the connection to a server.

        Raises:
            ClientError: If the slot was never reset.
        """
        return self.stand(server).connections[server]

    def stand(self, server: str) -> Stand:
        """Return the stand that a server belongs to.

        Raises:
            ClientError: If the slot was never reset.
        """
        for stand in self.stands:
            if server in stand.connections:
                return stand
        raise ClientError("the episode has no servers yet; call reset() first")


class Slots:
    """The slots of an environment.

    Args:
        servers: The servers of each slot.
        count: How many slots there are.
        deadlines: How long waits may take where the config says nothing.
    """

    def __init__(self, servers: Sequence[ServerConfig], count: int, deadlines: Deadlines) -> None:
        self._slots = [Slot() for _ in range(count)]
        self._servers = servers
        self._deadlines = deadlines
        self._eras = Eras()
        starts = [server.start_timeout or deadlines.start for server in servers]
        # Reading the tool list has the same deadline as opening the session.
        self._longest_start = 2 * max(starts)
        fresh = [server for server in servers if _is_fresh(server)]
        lasting = [server for server in servers if not _is_fresh(server)]
        self._fresh = self._pool(fresh, min(count, MOST_SPARES)) if fresh else None
        self._lasting = self._pool(lasting, 0) if lasting else None

    def _pool(self, servers: Sequence[ServerConfig], spares: int) -> Pool:
        def make() -> Stand:
            return Stand(servers, self._deadlines, self._eras)

        return Pool(make, spares, self._longest_start)

    def __getitem__(self, slot: int) -> Slot:
        return self._slots[slot]

    def renew(self, slot: Slot) -> None:
        """Give a slot servers without a past; if that fails twice, it is `broken` until the next.

        A slot that is broken has no servers, and the reason as the result of every call.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self.fill(slot)
            except (ServerStartError, ToolListError) as error:
                log.warning("attempt %d to start the servers of an episode: %s", attempt, error)
                slot.broken = fault(Status.SERVER_START_FAILED, str(error))
            else:
                slot.broken = None
                return

    def fill(self, slot: Slot) -> None:
        """Give a slot servers without a past.

        Raises:
            ServerStartError: If a server does not start, or its reset tool fails.
            ToolListError: If its tools cannot be read.
        """
        if self._fresh is not None:
            if slot.fresh is not None:
                self._fresh.discard(slot.fresh)
                slot.fresh = None
            slot.fresh = self._fresh.take()
        if self._lasting is not None:
            self._fill_lasting(slot, self._lasting)

    def _fill_lasting(self, slot: Slot, pool: Pool) -> None:
        if slot.lasting is not None and (slot.spoilt or not slot.lasting.alive):
            pool.discard(slot.lasting)
            slot.lasting = None
        slot.spoilt = True  # until what follows has shown that it is not
        if slot.lasting is None:
            slot.lasting = pool.take()
        else:
            self.relist(slot.lasting)
        self._call_reset_tools(slot)
        slot.spoilt = False

    def relist(self, stand: Stand) -> None:
        """Read the tools of the servers of a stand again.

        Raises:
            ServerStartError: If that takes too long.
            ToolListError: If they cannot be read.
        """
        try:
            event_loop().run(stand.relist(), self._longest_start + GRACE_S)
        except TimeoutError as error:  # something blocks the loop
            raise ServerStartError("the tool lists were not read in time") from error

    def _call_reset_tools(self, slot: Slot) -> None:
        calls = [
            (slot.connection(server.name), ToolCall(server.reset_tool, server.reset_arguments))
            for server in self._servers
            if server.reset == "tool"
        ]
        for (_, call), result in zip(calls, call_all([calls])[0], strict=True):
            if result.status is not Status.OK:
                raise ServerStartError(f"the reset tool {call.name} failed: {result.text}")

    def close(self) -> None:
        """Stop every server and remove every folder."""
        for slot in self._slots:
            slot.fresh = slot.lasting = None
        for pool in (self._fresh, self._lasting):
            if pool is not None:
                pool.close()


def _is_fresh(server: ServerConfig) -> bool:
    """Return whether every episode gets a connection of its own to a server."""
    return server.reset == "restart" or bool(server.episode_header)
