"""A folder, and servers that were started in it.

    FOLDER/work   working folder of the servers, filled from the templates of the config
    FOLDER/home   their HOME; their temporary files go below it

An episode has a stand for itself and throws it away, whatever happened in it; or a slot has one
with the servers that outlive an episode (see `slots.py`).
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mcp_types import Tool
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from envs.client import Connection, Deadlines
from envs.errors import ServerStartError
from envs.event_loop import event_loop
from envs.servers.config import ServerConfig
from envs.servers.connection import ServerConnection
from envs.servers.http import WAIT_S, HttpTransport
from envs.servers.process import GRACE_S
from envs.servers.reaper import reaper
from envs.servers.stdio import StdioTransport

LONGEST_REASON = 300
"""How many characters are told of what the system said; copying a folder may fail at each file."""


class Eras:
    """Remembers which protocol era each server speaks, so that it is asked only once.

    To ask an old server costs up to 10 s, the fixed wait of the SDK's probe.
    """

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def mode(self, server: ServerConfig) -> str:
        """Return how `mcp.Client` is to open a connection to the server."""
        if server.era == "auto":
            return self._known.get(server.name, "auto")
        return "legacy" if server.era == "handshake" else server.era

    def note(self, server: ServerConfig, version: str) -> None:
        """Remember the protocol version that a connection came to."""
        self._known[server.name] = version if version in MODERN_PROTOCOL_VERSIONS else "legacy"


class Stand:
    """A folder, and an open connection to each of some servers.

    Args:
        servers: These servers.
        deadlines: How long waits may take where the config says nothing.
        eras: What is known of the servers' protocol.

    Attributes:
        connections: Open connections, by the name of the server.
        tools: The tools each server lists.
    """

    def __init__(self, servers: Sequence[ServerConfig], deadlines: Deadlines, eras: Eras) -> None:
        self.connections: dict[str, Connection] = {}
        self.tools: dict[str, list[Tool]] = {}
        self._servers = servers
        self._deadlines = deadlines
        self._eras = eras
        self._root: Path | None = None
        self._filling: asyncio.Future[None] | None = None
        self._leaving: asyncio.Future[None] | None = None

    @property
    def work(self) -> Path:
        """Return the working folder."""
        if self._root is None:
            raise ServerStartError("the folder of the episode is not there (any more)")
        return self._root / "work"

    @property
    def local(self) -> bool:
        """Return whether a server works in the folder; one at a URL does not."""
        return any(server.transport == "stdio" for server in self._servers)

    @property
    def alive(self) -> bool:
        """Return whether every connection is open."""
        return all(connection.alive for connection in self.connections.values())

    async def open(self) -> None:
        """Make the folder, start the servers side by side and read their tools (on the loop).

        Raises:
            ServerStartError: If the folder cannot be made, or a server does not start; nothing is
                left behind.
            ToolListError: If its tool list cannot be read.
        """
        event_loop().residents.add(self)
        try:
            self._filling = asyncio.ensure_future(asyncio.to_thread(self._make_folder))
            await asyncio.shield(self._filling)
            async with asyncio.TaskGroup() as group:
                for server in self._servers:
                    group.create_task(self._start(server))
        except BaseException as error:
            await self.leave()
            if isinstance(error, BaseExceptionGroup):
                raise error.exceptions[0] from None
            if isinstance(error, OSError):
                told = f"the folder of an episode cannot be made: {str(error)[:LONGEST_REASON]}"
                raise ServerStartError(told) from error
            raise

    async def _start(self, server: ServerConfig) -> None:
        connection = open_connection(server, self.work, self._deadlines, self._eras)
        self.connections[server.name] = connection
        await connection.open()
        self._eras.note(server, connection.version)
        self.tools[server.name] = await connection.tools()

    async def relist(self) -> None:
        """Read the servers' tools again (on the loop)."""
        names = list(self.connections)
        lists = await asyncio.gather(*(self.connections[name].tools() for name in names))
        self.tools = dict(zip(names, lists, strict=True))

    def _make_folder(self) -> None:
        # Known to `leave` before anything can go wrong.
        self._root = Path(tempfile.mkdtemp(prefix="mcp-gym-"))
        reaper().watch_folder(self._root)
        for name in ("work", "home", "home/tmp"):
            (self._root / name).mkdir()
        for server in self._servers:
            if server.template is not None:
                shutil.copytree(server.template, self.work, symlinks=True, dirs_exist_ok=True)

    async def leave(self) -> None:
        """Stop the servers and remove the folder (on the loop).

        A caller who is cancelled does not stop it.
        """
        if self._leaving is None:
            self._leaving = asyncio.ensure_future(self._leave())
        await asyncio.shield(self._leaving)

    async def _leave(self) -> None:
        leaving = [connection.leave() for connection in self.connections.values()]
        await asyncio.gather(*leaving)
        if self._filling is not None:  # a thread cannot be stopped
            await asyncio.gather(self._filling, return_exceptions=True)
        if self._root is not None:
            root, self._root = self._root, None
            await _removed(root)
            reaper().forget_folder(root)


async def _removed(folder: Path) -> None:
    try:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    except RuntimeError:  # at the end of the process there are no threads to be had any more
        shutil.rmtree(folder, ignore_errors=True)


def open_connection(
    server: ServerConfig, work: Path, deadlines: Deadlines, eras: Eras
) -> Connection:
    """Return a connection to a server that is not open yet.

    Args:
        server: The server.
        work: Working folder of the episode; its HOME lies beside it.
        deadlines: How long waits may take where the config says nothing.
        eras: What is known of the server's protocol.
    """
    own = replace(
        deadlines,
        start=server.start_timeout or deadlines.start,
        call=server.call_timeout or deadlines.call,
    )
    return ServerConnection(_transport(server, work, own), own, eras.mode(server))


def _transport(
    server: ServerConfig, work: Path, deadlines: Deadlines
) -> HttpTransport | StdioTransport:
    if server.transport != "stdio":
        headers = dict(server.headers)
        if server.episode_header:
            headers[server.episode_header] = secrets.token_hex(16)
        return HttpTransport(
            server.url,
            headers=headers,
            sse=server.transport == "sse",
            max_body_bytes=server.max_result_bytes,
            wait_s=max(WAIT_S, 2 * deadlines.start, 2 * deadlines.call),
            own_network=server.own_network,
        )
    placed = server.placed(work)
    home = work.parent / "home"
    return StdioTransport(
        placed.command,
        placed.args,
        {"HOME": str(home), "TMPDIR": str(home / "tmp"), **placed.env},
        placed.cwd or work,
        max_line_bytes=server.max_result_bytes,
        grace=0 if server.reset == "restart" else GRACE_S,  # nobody wants a discarded one's state
    )
