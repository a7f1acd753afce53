"""Slots over MCP servers of the user's: every episode has a state of its own.

Servers with the reset policy `restart`, and those over HTTP that take a handle per episode, belong
to a stand (`stand.py`), which a slot takes from the pool at each reset. Servers that outlive an
episode (`keep`, a reset tool, shared over HTTP) have a stand of their own per slot, which stays.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mcp_types import Tool

from envs.backend import NO_EVIDENCE, Evidence, ToolBox, answered_probes
from envs.calls import call_all
from envs.client import GRACE_S, Connection, Deadlines
from envs.errors import (
    ClientError,
    ConfigError,
    FolderError,
    OptionError,
    ServerStartError,
    TaskError,
    ToolListError,
)
from envs.event_loop import event_loop
from envs.evidence import FolderWatch
from envs.results import fault
from envs.servers.config import ServerConfig
from envs.servers.mount import Mount, changed_tools, mount
from envs.servers.pool import Pool
from envs.servers.stand import Eras, Stand
from envs.servers.worlds import read_worlds, shows_world
from rewards.episode import FileEvidence, Status, Task, ToolCall, ToolResult
from rewards.errors import did_you_mean
from rewards.evidence import parts, probes_of, wants_digest, wants_files, wants_state
from rewards.goals import FinalState, Goal

MOST_SPARES = 8
FOLDER = "working folder"
"""Where a fault of watching it stands among the probes."""

Files = Mapping[str, FileEvidence | None] | None

log = logging.getLogger(__name__)


class _Slot:
    """Where one episode is played."""

    def __init__(self) -> None:
        self.fresh: Stand | None = None
        self.lasting: Stand | None = None
        self.watch: FolderWatch | None = None
        self.broken: ToolResult | None = None  # why it has no servers

    def connection(self, server: str) -> Connection:
        """Return the connection to a server."""
        for stand in (self.fresh, self.lasting):
            if stand is not None and server in stand.connections:
                return stand.connections[server]
        raise ClientError("the episode has no servers yet; call reset() first")

    @property
    def folder(self) -> Stand:
        """Return the stand whose working folder is the episode's."""
        stand = self.fresh or self.lasting
        if stand is None:
            raise ClientError("the episode has no folder yet; call reset() first")
        return stand


class ServerBackend:
    """Slots over the servers of a config.

    Args:
        servers: The servers.
        slots: How many episodes run side by side.
        deadlines: How long waits may take where the config says nothing.

    Attributes:
        tools: The tools of all servers, under the names they are offered by.

    Raises:
        ServerStartError: If a server does not start.
        ToolListError: If its tools cannot be used, or do not go with the config.
    """

    def __init__(
        self, servers: Sequence[ServerConfig], slots: int, deadlines: Deadlines | None = None
    ) -> None:
        self._servers = {server.name: server for server in servers}
        self._deadlines = deadlines or Deadlines()
        self._eras = Eras()
        self._slots = [_Slot() for _ in range(slots)]
        fresh = [server for server in servers if _is_fresh(server)]
        lasting = [server for server in servers if not _is_fresh(server)]
        self._fresh = self._pool(fresh, min(slots, MOST_SPARES)) if fresh else None
        self._lasting = self._pool(lasting, 0) if lasting else None
        self._closed = False
        try:
            self._take(self._slots[0])
            self._listed = self._tools_of(self._slots[0])
            self._mount: Mount = mount(self._listed)
            self._offered = tuple(self._allowed())
            self._world_server = next(filter(self._shows_world, self._servers), "")
        except BaseException:
            self.close()
            raise
        self._untouched = True  # the first slot's servers have served nobody yet

    @property
    def tools(self) -> ToolBox:
        """Return the tools of all servers."""
        return self._mount.tools

    def _pool(self, servers: Sequence[ServerConfig], spares: int) -> Pool:
        starts = [server.start_timeout or self._deadlines.start for server in servers]
        # Reading the tool list has the same deadline as opening the session.
        return Pool(lambda: Stand(servers, self._deadlines, self._eras), spares, 2 * max(starts))

    # --- tools --------------------------------------------------------------------------------

    def _tools_of(self, slot: _Slot) -> dict[str, list[Tool]]:
        stands = [stand for stand in (slot.fresh, slot.lasting) if stand is not None]
        found = {name: tools for stand in stands for name, tools in stand.tools.items()}
        return {name: found[name] for name in self._servers}

    def _allowed(self) -> list[str]:
        """Return the offered names of the tools that the config allows."""
        for server in self._servers.values():
            _check_allowed(server, self._listed[server.name])
        return [
            offered
            for offered, (name, tool) in self._mount.routes.items()
            if (allowed := self._servers[name].tools) is None or tool in allowed
        ]

    def _check_unchanged(self, slot: _Slot) -> None:
        for name, tools in self._tools_of(slot).items():
            difference = changed_tools(self._listed[name], tools)
            if not difference:
                continue
            told = f"the tools of server {name!r} changed during the run ({difference})"
            if self._servers[name].on_tool_change == "error":
                raise ToolListError(f'{told}; "onToolChange": "warn" would go on with the old list')
            log.warning("%s; going on with the list as it was", told)

    def _shows_world(self, server: str) -> bool:
        return shows_world(self._slots[0].connection(server))

    def fitted(self, task: Task) -> Task:
        """Return a task that offers the tools of the config if it names none itself.

        Raises:
            TaskError: If a tool that it offers, or that its goal calls, is not there, or it wants
                faults, which only the mock world has.
        """
        if task.faults:
            raise TaskError(f"task {task.id}: faults can be seeded in the mock world only")
        for name in task.tools:
            self._check_there(task, name, self._offered, "the tool")
        for call in probes_of(task.goal):
            self._check_there(task, call.name, self.tools.schemas, "its goal's tool")
            if problem := self.tools.validators[call.name].problem(call.arguments):
                raise TaskError(f"task {task.id}: its goal's call: {problem}")
        states = any(isinstance(part, FinalState) for part in parts(task.goal))
        if states and not self._world_server:
            raise TaskError(
                f"task {task.id}: its goal is about the state of a world, which no server shows "
                "(see envs/servers/worlds.py); use probe or folder_state"
            )
        return task if task.tools else replace(task, tools=self._offered)

    def _check_there(self, task: Task, name: str, known: Collection[str], what: str) -> None:
        if name not in known:
            hint = did_you_mean(name, known)
            raise TaskError(f'task {task.id}: {what} "{name}" is not offered by the servers{hint}')

    # --- reset --------------------------------------------------------------------------------

    def reset(self, slot: int, task: Task, faults: Mapping[str, Any] | None = None) -> None:
        """Give a slot servers that no episode has used.

        A server that does not start, twice, leaves the slot broken: each call of the episode then
        ends with the status `server_start_failed`.

        Raises:
            ClientError: If the backend was closed.
            OptionError: If faults are to be seeded, which can be done in the mock world only.
            ToolListError: If a server's tools have changed, and the config makes that an error.
        """
        if self._closed:
            raise ClientError("the environment is closed; make another one")
        if faults:
            raise OptionError("faults can be seeded in the mock world only, not in servers")
        one = self._slots[slot]
        if not (slot == 0 and self._untouched):
            self._renew(one)
        self._untouched = False
        if one.broken is None:
            self._check_unchanged(one)
            one.watch = FolderWatch(one.folder.work) if wants_files(task.goal) else None

    def _renew(self, slot: _Slot) -> None:
        slot.broken = None
        for attempt in (1, 2):
            try:
                self._take(slot)
            except ServerStartError as error:
                log.warning("attempt %d to start the servers of an episode: %s", attempt, error)
                slot.broken = fault(Status.SERVER_START_FAILED, str(error))
            else:
                slot.broken = None
                return

    def _take(self, slot: _Slot) -> None:
        """Give a slot a new stand, and servers that outlive an episode where they are missing."""
        if self._fresh is not None:
            if slot.fresh is not None:
                self._fresh.discard(slot.fresh)
                slot.fresh = None
            slot.fresh = self._fresh.take()
        if self._lasting is not None:
            if slot.lasting is not None and not slot.lasting.alive:
                self._lasting.discard(slot.lasting)
                slot.lasting = None
            if slot.lasting is None:
                slot.lasting = self._lasting.take()
            else:
                self._relist(slot.lasting)
            self._call_reset_tools(slot)

    def _relist(self, stand: Stand) -> None:
        longest = 2 * self._deadlines.start
        event_loop().run(stand.relist(), longest + GRACE_S)

    def _call_reset_tools(self, slot: _Slot) -> None:
        calls = [
            (slot.connection(server.name), ToolCall(server.reset_tool, server.reset_arguments))
            for server in self._servers.values()
            if server.reset == "tool"
        ]
        for (_, call), result in zip(calls, call_all([calls])[0], strict=True):
            if result.status is not Status.OK:
                raise ServerStartError(f"the reset tool {call.name} failed: {result.text}")

    # --- turns --------------------------------------------------------------------------------

    def call_all(self, batches: Sequence[tuple[int, Sequence[ToolCall]]]) -> list[list[ToolResult]]:
        """Run the calls of several slots in one crossing.

        Raises:
            ClientError: If the backend was closed, or a slot was never reset.
        """
        if batches and self._closed:
            raise ClientError("the environment is closed; make another one")
        whole = [place for place, (slot, _) in enumerate(batches) if not self._slots[slot].broken]
        answers = iter(call_all([self._routed(*batches[place]) for place in whole]))
        return [
            [broken] * len(calls) if (broken := self._slots[slot].broken) else next(answers)
            for slot, calls in batches
        ]

    def _routed(self, slot: int, calls: Sequence[ToolCall]) -> list[tuple[Connection, ToolCall]]:
        routed = [self._mount.route(call) for call in calls]
        return [(self._slots[slot].connection(server), call) for server, call in routed]

    def evidence(self, wanted: Sequence[tuple[int, Goal]]) -> list[Evidence]:
        """Return what the goals of episodes are judged by, after a turn.

        Args:
            wanted: Slots, each with the goal of its task.
        """
        probes = [probes_of(goal) for _, goal in wanted]
        answers = self.call_all([(slot, of) for (slot, _), of in zip(wanted, probes, strict=True)])
        looked = [slot for slot, goal in wanted if self._looks_at_world(slot, goal)]
        worlds = dict(zip(looked, read_worlds([self._world(slot) for slot in looked]), strict=True))
        found = []
        for (slot, goal), of, results in zip(wanted, probes, answers, strict=True):
            world = worlds.get(slot, NO_EVIDENCE)
            files, unseen = self._files(slot)
            seen = {**answered_probes(of, results), **world.probes, **unseen}
            digest = world.digest if wants_digest(goal) else ""
            found.append(Evidence(world.state, digest, seen, files))
        return found

    def _looks_at_world(self, slot: int, goal: Goal) -> bool:
        there = bool(self._world_server) and not self._slots[slot].broken
        return there and wants_state(goal)

    def _world(self, slot: int) -> Connection:
        return self._slots[slot].connection(self._world_server)

    def _files(self, slot: int) -> tuple[Files, dict[str, ToolResult]]:
        """Return the changes of the working folder, or why they could not be seen."""
        watch = self._slots[slot].watch
        if watch is None:
            return None, {}
        try:
            return watch.changes(), {}
        except FolderError as error:
            return None, {FOLDER: fault(Status.BAD_RESULT, str(error))}

    def close(self) -> None:
        """Stop every server and remove every folder."""
        self._closed = True
        for slot in self._slots:
            for pool, stand in ((self._fresh, slot.fresh), (self._lasting, slot.lasting)):
                if pool is not None and stand is not None:
                    pool.discard(stand)
            slot.fresh = slot.lasting = None
        for pool in (self._fresh, self._lasting):
            if pool is not None:
                pool.close()


def _is_fresh(server: ServerConfig) -> bool:
    """Return whether every episode gets a connection of its own to a server."""
    return server.reset == "restart" or bool(server.episode_header)


def _check_allowed(server: ServerConfig, tools: Sequence[Tool]) -> None:
    """Check the allow-list of a server, and that a shared one offers nothing that writes.

    Raises:
        ToolListError: If a name is unknown.
        ConfigError: If a shared server offers a tool that it does not call read-only.
    """
    known = {tool.name: tool for tool in tools}
    for name in server.tools or ():
        if name not in known:
            hint = did_you_mean(name, known)
            raise ToolListError(f"server {server.name!r} has no tool {name!r} (mcpGym.tools){hint}")
    if not server.shared:
        return
    writing = [name for name in server.tools or known if not _only_reads(known[name])]
    if writing:
        raise ConfigError(
            f"server {server.name!r} is declared shared, and the server does not call its tools "
            f"{', '.join(writing)} read-only: episodes would see each other's changes; name the "
            'tools that only read in mcpGym.tools, or give "episodeHeader" or "reset"'
        )


def _only_reads(tool: Tool) -> bool:
    return tool.annotations is not None and tool.annotations.read_only_hint is True
