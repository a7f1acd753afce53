"""MCP servers of the user's behind the interface that the environment knows."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from envs.backend import NO_EVIDENCE, Evidence, ToolBox, answered_probes, offering
from envs.calls import call_all
from envs.client import Connection, Deadlines
from envs.errors import (
    ClientError,
    FolderError,
    OptionError,
    ServerStartError,
    TaskError,
    ToolListError,
)
from envs.evidence import FolderWatch
from envs.results import fault
from envs.servers.allowed import allowed_tools
from envs.servers.config import ServerConfig
from envs.servers.mount import Mount, changed_tools, mount
from envs.servers.slots import Slot, Slots
from envs.servers.worlds import read_worlds, shows_world
from rewards.episode import (
    MODEL_STATUSES,
    FileEvidence,
    Status,
    Task,
    ToolCall,
    ToolResult,
)
from rewards.errors import did_you_mean
from rewards.evidence import parts, probes_of, wants_digest, wants_files
from rewards.goals import FinalState, FolderState, Goal

SERVERS = "servers"
FOLDER = "working folder"
"""Where it stands among the probes that there are no servers, or that a folder cannot be seen."""

Files = Mapping[str, FileEvidence | None] | None

log = logging.getLogger(__name__)


class ServerBackend:
    """Slots over the servers of a config; every episode has a state of its own (`slots.py`).

    Args:
        servers: The servers.
        slots: How many episodes run side by side.
        deadlines: How long waits may take where the config says nothing.

    Raises:
        ServerStartError: If a server does not start.
        ToolListError: If its tools cannot be used, or do not go with the config.
        ConfigError: If a server that all episodes share offers a tool that writes.
    """

    def __init__(
        self, servers: Sequence[ServerConfig], slots: int, deadlines: Deadlines | None = None
    ) -> None:
        self._servers = {server.name: server for server in servers}
        self._slots = Slots(servers, slots, deadlines or Deadlines())
        self._closed = False
        first = self._slots[0]
        try:
            self._slots.fill(first)
            self._listed = {name: first.tools[name] for name in self._servers}
            self._mount: Mount = mount(self._listed, self._allowed())
            worlds = (name for name in self._servers if shows_world(first.connection(name)))
            self._world_server = next(worlds, "")
        except BaseException:
            self.close()
            raise
        self._untouched = True  # the first slot's servers have served nobody yet

    @property
    def tools(self) -> ToolBox:
        """Return the tools of all servers, under the names they are offered by."""
        return self._mount.tools

    # --- tools and tasks ----------------------------------------------------------------------

    def _allowed(self) -> dict[str, list[str]]:
        servers = self._servers.items()
        return {name: allowed_tools(server, self._listed[name]) for name, server in servers}

    def _check_unchanged(self, slot: Slot) -> None:
        for name, tools in slot.tools.items():
            difference = changed_tools(self._listed[name], tools)
            if not difference:
                continue
            told = f"the tools of server {name!r} changed during the run ({difference})"
            if self._servers[name].on_tool_change == "error":
                raise ToolListError(f'{told}; "onToolChange": "warn" would go on with the old list')
            log.warning("%s; going on with the list as it was", told)

    def fitted(self, task: Task) -> Task:
        """Return a task as it is played here: its tools by the names they are offered under.

        One that names no tools offers all that the config allows.

        Raises:
            TaskError: If a tool that it offers, or that its goal calls, is not there, it uses one
                that it does not offer, its goal is about something that no server has, or it wants
                faults, which only the mock world has.
        """
        if task.faults:
            raise TaskError(f"task {task.id}: faults can be seeded in the mock world only")
        tools = tuple(dict.fromkeys(one for name in task.tools for one in self._named(task, name)))
        for call in probes_of(task.goal):
            if call.name not in self.tools.schemas:
                raise _no_tool(task, call.name, self.tools.schemas)
            if problem := self.tools.validators[call.name].problem(call.arguments):
                raise TaskError(f"task {task.id}: its goal's call: {problem}")
        for part in parts(task.goal):
            self._check_shown(task, part)
        return offering(replace(task, tools=tools or self._mount.offered))

    def _named(self, task: Task, name: str) -> tuple[str, ...]:
        found = self._mount.named(name)
        if not found:
            raise _no_tool(task, name, (*self._mount.offered, *(f"{s}/*" for s in self._servers)))
        return found

    def _check_shown(self, task: Task, part: Goal) -> None:
        if isinstance(part, FinalState) and not self._world_server:
            raise TaskError(
                f"task {task.id}: its goal is about the state of a world, which no server shows "
                "(see envs/servers/worlds.py); use probe or folder_state"
            )
        local = any(server.transport == "stdio" for server in self._servers.values())
        if isinstance(part, FolderState) and not local:
            raise TaskError(
                f"task {task.id}: its goal is about a working folder, and servers at a URL have "
                "none that we see; use probe"
            )

    # --- reset --------------------------------------------------------------------------------

    def reset(self, slot: int, task: Task, faults: Mapping[str, Any] | None = None) -> None:
        """Give a slot servers that no episode has used.

        A server that does not start, twice, leaves the slot broken: each call of the episode then
        ends with the status `server_start_failed`, and so does its judgement.

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
        if not (slot == 0 and self._untouched and one.alive):
            self._slots.renew(one)
        self._untouched = self._untouched and slot != 0
        if one.broken is None:
            self._check_unchanged(one)
            one.watch = _watch(one) if wants_files(task.goal) else None

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
            [broken] * len(calls)
            if (broken := self._slots[slot].broken)
            else self._looked_through(self._slots[slot], calls, next(answers))
            for slot, calls in batches
        ]

    def _routed(self, slot: int, calls: Sequence[ToolCall]) -> list[tuple[Connection, ToolCall]]:
        routed = [self._mount.route(call) for call in calls]
        return [(self._slots[slot].connection(server), call) for server, call in routed]

    def _looked_through(
        self, slot: Slot, calls: Sequence[ToolCall], results: list[ToolResult]
    ) -> list[ToolResult]:
        """Note infrastructure faults, and find those that look like a fault of the model's."""
        found = [
            self._unknown(slot, call, result) if result.status is Status.UNKNOWN_TOOL else result
            for call, result in zip(calls, results, strict=True)
        ]
        if any(result.status not in MODEL_STATUSES for result in found):
            slot.spoilt = True
        return found

    def _unknown(self, slot: Slot, call: ToolCall, result: ToolResult) -> ToolResult:
        """Return the result of a call of a tool that we offer and that the server does not know.

        It may have changed its tools in mid-run; or else these are the words of a tool about
        something of its own.
        """
        server, routed = self._mount.route(call)
        stand = slot.stand(server)
        try:
            self._slots.relist(stand)
        except (ServerStartError, ToolListError) as error:
            return fault(Status.PROTOCOL_ERROR, str(error))
        if any(tool.name == routed.name for tool in stand.tools[server]):
            return replace(result, status=Status.TOOL_ERROR)
        told = f"the tools of server {server!r} changed during the run (gone: {routed.name})"
        return fault(Status.PROTOCOL_ERROR, told)

    # --- evidence -----------------------------------------------------------------------------

    def evidence(self, wanted: Sequence[tuple[int, Goal]]) -> list[Evidence]:
        """Return what the goals of episodes are judged by, after a turn.

        Args:
            wanted: Slots, each with the goal of its task.
        """
        whole = [(slot, goal) for slot, goal in wanted if not self._slots[slot].broken]
        seen = dict(zip((slot for slot, _ in whole), self._evidence(whole), strict=True))
        # Without servers nothing is judged, not even an answer that needed none.
        unseen = {slot: why for slot, _ in wanted if (why := self._slots[slot].broken)}
        broken = {slot: Evidence(probes={SERVERS: why}) for slot, why in unseen.items()}
        return [{**seen, **broken}[slot] for slot, _ in wanted]

    def _evidence(self, wanted: Sequence[tuple[int, Goal]]) -> list[Evidence]:
        probes = [probes_of(goal) for _, goal in wanted]
        answers = self.call_all([(slot, of) for (slot, _), of in zip(wanted, probes, strict=True)])
        found = []
        for (slot, _), of, results, world in zip(
            wanted, probes, answers, self._worlds(wanted), strict=True
        ):
            files, unseen = _changes(self._slots[slot])
            seen = {**answered_probes(of, results), **world.probes, **unseen}
            found.append(Evidence(world.state, world.digest, seen, files))
        return found

    def _worlds(self, wanted: Sequence[tuple[int, Goal]]) -> list[Evidence]:
        """Return the states of the worlds of slots, as far as a server shows any."""
        if not self._world_server:
            return [NO_EVIDENCE] * len(wanted)
        connections = [self._slots[slot].connection(self._world_server) for slot, _ in wanted]
        digests = [wants_digest(goal) for _, goal in wanted]
        return read_worlds(list(zip(connections, digests, strict=True)))

    def close(self) -> None:
        """Stop every server and remove every folder."""
        self._closed = True
        self._slots.close()


def _no_tool(task: Task, name: str, known: Collection[str]) -> TaskError:
    hint = did_you_mean(name, known)
    return TaskError(f'task {task.id}: the tool "{name}" is not offered by the servers{hint}')


def _watch(slot: Slot) -> FolderWatch | ToolResult | None:
    """Return a watch over the working folder of a slot, or why there is none."""
    try:
        return FolderWatch(slot.work) if slot.work is not None else None
    except FolderError as error:
        return fault(Status.BAD_RESULT, str(error))


def _changes(slot: Slot) -> tuple[Files, dict[str, ToolResult]]:
    """Return the changes of the working folder of a slot, or why they cannot be seen."""
    if slot.watch is None:
        return None, {}
    if isinstance(slot.watch, ToolResult):
        return None, {FOLDER: slot.watch}
    try:
        return slot.watch.changes(), {}
    except FolderError as error:
        return None, {FOLDER: fault(Status.BAD_RESULT, str(error))}
