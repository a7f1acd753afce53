"""The sides that `servers.py` measures, all of them on the toy server and on one event loop.

One connection per episode, the calls of all episodes of a step side by side:

    plain       mcp.Client, every step awaited on the event loop itself: the limit
    crossed     mcp.Client, every step one crossing from synchronous code to the event loop
    call_all    ours: the calls of a step through the environment's backend
    step        ours: MCPVectorEnv.step with text, parsing, validation, call, judging and reward

In memory the environment serves its mock world and not the toy server: there `step` calls the
world's `calculate`, and `call_all` goes to the toy server over connections that are made by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from mcp import Client, StdioServerParameters
from toy_server import make_server

from envs.calls import call_all
from envs.client import close_all, connect
from envs.event_loop import event_loop
from envs.policies import render_calls
from envs.vector_env import MCPVectorEnv
from rewards.episode import Outcome, Task, ToolCall
from rewards.goals import FinalAnswer

Result = TypeVar("Result")

HERE = Path(__file__).parent
PYTHON_SERVER, NODE_SERVER = HERE / "toy_server.py", HERE / "toy_server.mjs"
MEMORY, STDIO_PYTHON, STDIO_NODE, HTTP = "in memory", "stdio Python", "stdio node", "HTTP"
TRANSPORTS = (MEMORY, STDIO_PYTHON, STDIO_NODE, HTTP)

STEPS = 8
"""Steps of an episode; a longer one would mostly measure its own growing record."""
DEADLINE_S = 300.0
CALL = ToolCall("add", {"a": 1, "b": 2})
CALCULATE = ToolCall("calculate", {"expression": "1 + 2"})


# --- the toy server -----------------------------------------------------------------------------


def command_of(transport: str) -> tuple[str, str]:
    """Return the program and the argument of a stdio server."""
    if transport == STDIO_NODE:
        return "node", str(NODE_SERVER)
    return sys.executable, str(PYTHON_SERVER)


@contextlib.contextmanager
def http_server(transport: str) -> Iterator[tuple[str, int]]:
    """Run the toy server on loopback if the transport needs one; yield its URL and process id."""
    if transport != HTTP:
        yield "", 0
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    server = subprocess.Popen([sys.executable, PYTHON_SERVER, str(port)])
    try:
        wait_for(lambda: listens(port) or server.poll() is not None)
        yield f"http://127.0.0.1:{port}/mcp", server.pid
    finally:
        server.kill()
        server.wait()


def listens(port: int) -> bool:
    """Return whether somebody listens on a port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(holds: Callable[[], bool]) -> None:
    """Wait until something holds.

    Raises:
        SystemExit: If it does not within the deadline.
    """
    end = time.monotonic() + DEADLINE_S
    while not holds():
        if time.monotonic() > end:
            raise SystemExit("the toy server did not become ready")
        time.sleep(0.02)


# --- sides --------------------------------------------------------------------------------------


def on_loop(work: Coroutine[Any, Any, Result]) -> Result:
    """Cross to the event loop that the environments use."""
    return event_loop().run(work, DEADLINE_S)


class PlainClients:
    """The SDK's own clients, one per episode, each entered and left by a task of its own.

    Args:
        transport: One of `TRANSPORTS`.
        url: Of the toy server, over HTTP.
        episodes: How many.
    """

    def __init__(self, transport: str, url: str, episodes: int) -> None:
        self._clients = [Client(self._source(transport, url)) for _ in range(episodes)]
        on_loop(self._open())

    @staticmethod
    def _source(transport: str, url: str) -> Any:
        if transport == MEMORY:
            return make_server()
        if transport == HTTP:
            return url
        program, script = command_of(transport)
        return StdioServerParameters(command=program, args=[script])

    async def _open(self) -> None:
        self._stop = asyncio.Event()
        ready = [asyncio.get_running_loop().create_future() for _ in self._clients]
        self._owners = [
            asyncio.ensure_future(self._own(*pair))
            for pair in zip(self._clients, ready, strict=True)
        ]
        for owner, opened in zip(self._owners, ready, strict=True):
            await asyncio.wait((owner, opened), return_when=asyncio.FIRST_COMPLETED)
            if owner.done():
                raise SystemExit(f"the SDK's client did not open: {owner.exception()}")

    async def _own(self, client: Client, ready: asyncio.Future[None]) -> None:
        async with client:
            await client.list_tools()
            ready.set_result(None)
            await self._stop.wait()

    async def _one(self, client: Client) -> None:
        result = await client.call_tool(CALL.name, dict(CALL.arguments))
        if result.structured_content != {"result": 3}:
            raise SystemExit(f"the toy server answered {result}")

    async def _step(self) -> None:
        await asyncio.gather(*map(self._one, self._clients))

    async def _steps(self, number: int) -> float:
        started = time.perf_counter()
        for _ in range(number):
            await self._step()
        return time.perf_counter() - started

    def plain(self, steps: int) -> float:
        """Return the seconds of some steps, without the crossing to the event loop."""
        return on_loop(self._steps(steps))

    def crossed(self, steps: int) -> float:
        """Return the seconds of some steps, each with a crossing to the event loop."""
        started = time.perf_counter()
        for _ in range(steps):
            on_loop(self._step())
        return time.perf_counter() - started

    def close(self) -> None:
        """Leave every session."""
        on_loop(self._leave())

    async def _leave(self) -> None:
        self._stop.set()
        await asyncio.wait(self._owners)


class Ours:
    """The public environment on the toy server.

    Args:
        transport: One of `TRANSPORTS`.
        url: Of the toy server, over HTTP.
        episodes: How many.
        fresh: Every episode gets a server (over HTTP: a session) of its own; otherwise they stay,
            because the toy server has no state.
    """

    def __init__(self, transport: str, url: str, episodes: int, fresh: bool) -> None:
        self._episodes = episodes
        in_memory = transport == MEMORY
        self._connections = [connect(make_server()) for _ in range(episodes if in_memory else 0)]
        call = CALCULATE if in_memory else CALL
        task = Task("toy", "Add 1 and 2.", FinalAnswer("never said"), (call.name,))
        with tempfile.TemporaryDirectory() as folder:
            servers = None if in_memory else write_config(Path(folder), transport, url, fresh)
            self._env = MCPVectorEnv(episodes, tasks=[task], servers=servers, max_turns=STEPS + 1)
        self._turns = [render_calls([call])] * episodes

    def reset(self) -> float:
        """Start an episode in every row; return the seconds that it took."""
        started = time.perf_counter()
        self._env.reset()
        return time.perf_counter() - started

    def reset_row(self, row: int) -> float:
        """Start an episode in one row; return the seconds that it took."""
        mask = [place == row for place in range(self._episodes)]
        started = time.perf_counter()
        self._env.reset(options={"reset_mask": mask})
        return time.perf_counter() - started

    def call_all(self, steps: int) -> float:
        """Return the seconds of some steps through the backend."""
        started = time.perf_counter()
        for _ in range(steps):
            results = self._call_once()
        seconds = time.perf_counter() - started
        if any(result.text != "3" for result in results):
            raise SystemExit(f"a call did not run as the benchmark expects: {results}")
        return seconds

    def _call_once(self) -> list[Any]:
        if self._connections:
            answers = call_all([[(connection, CALL)] for connection in self._connections])
        else:
            # What `step` itself calls; the environment has no public name for it.
            answers = self._env._backend.call_all([(row, [CALL]) for row in range(self._episodes)])
        return [result for answer in answers for result in answer]

    def step(self, steps: int) -> float:
        """Return the seconds of some steps through `MCPVectorEnv.step`, resets not counted."""
        seconds = 0.0
        for number in range(steps):
            if number % STEPS == 0:
                self._env.reset()
            started = time.perf_counter()
            self._env.step(self._turns)
            seconds += time.perf_counter() - started
        if any(info["outcome"] != Outcome.TOOL_EXECUTION for info in self._env.infos):
            raise SystemExit(f"a turn did not run as the benchmark expects: {self._env.infos}")
        return seconds

    def close(self) -> None:
        """Stop the servers."""
        self._env.close()
        close_all(self._connections)


def write_config(folder: Path, transport: str, url: str, fresh: bool) -> Path:
    """Write a config file in the usual format; return its path."""
    if transport == HTTP:
        own = {"episodeHeader": "X-Episode"} if fresh else {"shared": True}
        entry: dict[str, Any] = {"url": url, "mcpGym": own}
    else:
        program, script = command_of(transport)
        own = {"reset": "restart" if fresh else "keep"}
        entry = {"command": program, "args": [script], "mcpGym": own}
    file = folder / "mcp.json"
    file.write_text(json.dumps({"mcpServers": {"toy": entry}}), encoding="utf-8")
    return file
