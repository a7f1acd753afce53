from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp_types import CONNECTION_CLOSED, JSONRPCRequest, TextContent

from envs.errors import ServerStartError
from envs.servers.stdio import (
    OVERSIZED_LINE,
    UNREADABLE_ANSWER,
    LineSplitter,
    StdioTransport,
    start_failure,
)
from tests.envs.servers.faulty_server import COMMAND, OLD_SERVER
from tests.envs.servers.test_process import eventually, play

SLACK_S = 20.0
"""Far above what anything here takes, and below the time in which a quadratic reader is done."""


def transport(*behaviours: str, **options: Any) -> StdioTransport:
    return StdioTransport(COMMAND[0], [*COMMAND[1:], *behaviours], {}, **options)


@asynccontextmanager
async def session(server: StdioTransport, mode: str = "legacy") -> AsyncIterator[Client]:
    """Open a session as `envs.client.Connection` does."""
    async with Client(server, cache=None, mode=mode) as client:
        yield client


async def call(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert isinstance(result.content[0], TextContent)
    return result.content[0].text


async def refused(client: Client, tool: str, **arguments: Any) -> MCPError:
    with pytest.raises(MCPError) as caught:
        await call(client, tool, **arguments)
    return caught.value


async def next_one_works() -> None:
    async with session(transport()) as client:
        assert await call(client, "echo", text="next") == "next"


def faulty(*behaviours: str, **options: Any) -> Any:
    """Run a test in a session with a server that behaves so, and then one with the next server."""

    def decorate(test: Callable[[Client, StdioTransport], Awaitable[None]]) -> Callable[[], None]:
        async def work() -> None:
            server = transport(*behaviours, **options)
            async with asyncio.timeout(SLACK_S), session(server) as client:
                await test(client, server)
            await next_one_works()

        def run() -> None:
            play(work())

        run.__name__ = test.__name__
        return run

    return decorate


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_a_server_of_the_handshake_era_answers(mode: str) -> None:
    async def work() -> None:
        async with session(transport(), mode) as client:
            assert client.protocol_version == "2025-11-25"
            assert "echo" in [tool.name for tool in (await client.list_tools()).tools]
            texts = await asyncio.gather(*(call(client, "echo", text=str(n)) for n in range(50)))
            assert texts == [str(n) for n in range(50)]

    play(work())


def test_a_server_of_the_present_era_answers() -> None:
    program = (
        "from mcp.server import MCPServer\n"
        "server = MCPServer('present')\n"
        "@server.tool()\n"
        "def add(a: int, b: int) -> int: return a + b\n"
        "server.run()"
    )

    async def work() -> None:
        server = StdioTransport(sys.executable, ["-c", program], {})
        async with session(server, "auto") as client:
            assert client.protocol_version == "2026-07-28"
            assert await call(client, "add", a=1, b=2) == "3"

    play(work())


@faulty()
async def test_a_server_that_is_killed_in_mid_call_ends_the_session(
    client: Client, server: StdioTransport
) -> None:
    waiting = asyncio.ensure_future(refused(client, "hangs"))
    await eventually(lambda: bool(server._in_flight))
    assert server.process
    os.kill(server.process.pid, signal.SIGKILL)
    assert (await waiting).code == CONNECTION_CLOSED
    await eventually(lambda: server.process is not None and not server.process.running)
    assert server.process.returncode == -signal.SIGKILL


@faulty()
async def test_a_server_that_dies_ends_the_session_although_a_child_holds_its_pipes(
    client: Client, server: StdioTransport
) -> None:
    assert (await refused(client, "leaves_a_child")).code == CONNECTION_CLOSED


@faulty()
async def test_a_call_that_is_never_answered_can_be_given_up(
    client: Client, server: StdioTransport
) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await call(client, "hangs")


@faulty()
async def test_a_line_without_an_end_can_be_given_up(
    client: Client, server: StdioTransport
) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await call(client, "half_line")


@faulty()
async def test_messages_longer_than_a_pipe_go_both_ways(
    client: Client, server: StdioTransport
) -> None:
    for letter in "ab":
        assert await call(client, "echo", text=letter * 1_000_000) == letter * 1_000_000


@faulty("stubborn", grace=0.1)
async def test_a_server_that_ignores_sigterm_is_killed(
    client: Client, server: StdioTransport
) -> None:
    assert await call(client, "echo", text="fine") == "fine"


@faulty("slow")
async def test_a_slow_start_is_waited_for(client: Client, server: StdioTransport) -> None:
    assert await call(client, "echo", text="at last") == "at last"


@faulty("banner")
async def test_lines_that_are_no_messages_are_counted_and_ignored(
    client: Client, server: StdioTransport
) -> None:
    before = server.ignored_lines
    assert before == 6  # one of them is empty
    assert await call(client, "greets", text="hello") == "hello"
    assert server.ignored_lines == 2 * before


@faulty()
async def test_invalid_utf8_is_replaced(client: Client, server: StdioTransport) -> None:
    assert await call(client, "invalid_utf8") == "caf\ufffd \ufffd"


@faulty()
async def test_an_answer_with_a_wrong_id_is_ignored(client: Client, server: StdioTransport) -> None:
    assert await call(client, "wrong_id") == "this is"


@faulty()
async def test_fifty_megabytes_are_refused_and_the_session_goes_on(
    client: Client, server: StdioTransport
) -> None:
    error = await refused(client, "huge")
    assert (error.code, server.oversized_lines) == (OVERSIZED_LINE, 1)
    assert "more than 4194304 bytes" in error.message
    assert await call(client, "echo", text="still here") == "still here"
    assert server.oversized_lines == 1


@faulty(max_line_bytes=3000)
async def test_the_cap_can_be_chosen(client: Client, server: StdioTransport) -> None:
    assert len(await call(client, "echo", text="x" * 2800)) == 2800
    assert (await refused(client, "echo", text="x" * 3000)).code == OVERSIZED_LINE


@faulty()
async def test_a_line_that_never_ends_is_refused(client: Client, server: StdioTransport) -> None:
    assert (await refused(client, "endless_line")).code == OVERSIZED_LINE


@pytest.mark.parametrize("tool", ["deep", "not_a_result"])
def test_an_answer_that_cannot_be_read_fails_its_call_and_no_other(tool: str) -> None:
    async def work() -> None:
        server = transport()
        async with session(server) as client:
            assert (await refused(client, tool)).code == UNREADABLE_ANSWER
            assert await call(client, "echo", text="still here") == "still here"
            assert server.ignored_lines == 0

    play(work())


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("flood", {"line": ""}),
        ("flood", {"line": "hello"}),
        ("flood", {"line": '{"level": "info"}'}),
        ("flood_of_notifications", {}),
        ("flood_of_requests", {}),
    ],
)
def test_a_flood_of_output_leaves_the_others_their_turn(
    tool: str, arguments: dict[str, Any]
) -> None:
    async def work() -> None:
        flooding = transport()
        async with session(flooding) as client, session(transport()) as other:
            drowned = asyncio.ensure_future(call(client, tool, **arguments))
            for number in range(100):
                assert await call(other, "echo", text=str(number)) == str(number)
            assert not drowned.done()
            # Nothing is piled up, neither data nor tasks.
            assert flooding.process
            assert len(flooding.process._unread) < 1_000_000
            assert len(asyncio.all_tasks()) < 200
            drowned.cancel()
            await asyncio.wait({drowned})
        await next_one_works()

    play(work())


@faulty("deaf")
async def test_a_server_that_does_not_read_cannot_hold_up_who_gives_it_up(
    client: Client, server: StdioTransport
) -> None:
    calls = [asyncio.ensure_future(call(client, "echo", text="x" * 100_000)) for _ in range(20)]
    await eventually(lambda: len(server._in_flight) == 20)
    assert server.process
    assert not server.process.writable
    for waiting in calls:
        waiting.cancel()
    # The session would wait 5 s for each call to tell the server that it was given up.
    async with asyncio.timeout(4):
        await asyncio.wait(calls)


@faulty()
async def test_a_call_to_a_server_that_is_gone_fails(
    client: Client, server: StdioTransport
) -> None:
    assert (await refused(client, "dies")).code == CONNECTION_CLOSED
    assert (await refused(client, "echo")).code == CONNECTION_CLOSED


def test_a_message_to_a_server_that_is_gone_is_refused() -> None:
    async def work() -> None:
        server = transport("exits")
        async with server as (_, to_server):
            assert server.process
            await eventually(lambda: server.process is not None and not server.process.running)
            await server.process.kill()
            request = JSONRPCRequest(jsonrpc="2.0", id=1, method="ping")
            with pytest.raises(anyio.BrokenResourceError):
                await to_server.send(SessionMessage(request))

    play(work())


@faulty()
async def test_children_that_left_the_session_die_with_the_server(
    client: Client, server: StdioTransport
) -> None:
    assert len(json.loads(await call(client, "kin"))) == 4


def test_a_server_that_exits_at_its_start_says_why() -> None:
    async def work() -> None:
        server = transport("exits")
        with pytest.raises(BaseException):  # noqa: B017, PT011 - groups of whatever the SDK makes
            async with session(server):
                pass
        assert server.process
        assert server.process.returncode == 3
        assert OLD_SERVER.strip() in server.process.stderr_tail.strip()
        await next_one_works()

    play(work())


def test_a_server_that_is_silent_at_its_start_can_be_given_up() -> None:
    async def work() -> None:
        server = transport("silent")
        opening = asyncio.ensure_future(session(server).__aenter__())
        await eventually(lambda: bool(server._in_flight))
        opening.cancel()
        await asyncio.wait({opening})
        assert server.process
        assert not server.process.running
        await next_one_works()

    play(work())


def test_a_server_whose_program_is_missing_cannot_be_started() -> None:
    async def work() -> None:
        with pytest.raises(ServerStartError, match="there is no such program"):
            async with session(StdioTransport("no-such-program")):
                pass

    play(work())


def test_lines_are_cut_wherever_the_pieces_end() -> None:
    data = b"one\ntwo\r\n\n" + b"x" * 10 + b"\n" + b"y" * 11 + b"\nthree\nrest"
    expected = [b"one", b"two\r", b"", b"x" * 10, None, b"three"]
    for size in range(1, len(data) + 1):
        lines = LineSplitter(10)
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        assert [line for piece in pieces for line in lines.feed(piece)] == expected


def test_a_line_is_refused_as_soon_as_it_crosses_the_cap_and_not_stored() -> None:
    lines = LineSplitter(100)
    assert list(lines.feed(b"x" * 100)) == []
    assert list(lines.feed(b"x")) == [None]
    assert list(lines.feed(b"x" * 1000)) == []
    assert len(lines._line) == 0
    assert list(lines.feed(b"x\nnext\n")) == [b"next"]


@pytest.mark.parametrize(
    ("stderr", "hint"),
    [
        (OLD_SERVER, "'mcp<2'"),
        ("ImportError: cannot import name 'FastMCP' from 'mcp.server' (x.py)", "'mcp<2'"),
        ("AttributeError: 'Server' object has no attribute 'list_tools'", "'mcp<2'"),
        ("ModuleNotFoundError: No module named 'mcp'", "lacks the package"),
        ("Error: Cannot find module '/x/index.js'", "npm install"),
        ("sh: 1: foo: not found", "is missing"),
    ],
)
def test_a_failure_to_start_comes_with_a_hint(stderr: str, hint: str) -> None:
    sentence = start_failure(["python", "my server.py"], 1, stderr)
    assert sentence.startswith("the server `python 'my server.py'` did not start: ")
    assert "exit code 1; the end of its stderr:" in sentence
    assert stderr.strip() in sentence
    assert hint in sentence.partition("\nHint: ")[2]


def test_a_failure_to_start_without_a_known_cause_has_no_hint() -> None:
    assert start_failure(["x"], None, "").endswith("it runs, but did not answer")
    assert start_failure(["x"], -9, "oops").endswith(
        "signal 9 ended it (Killed); the end of its stderr:\noops"
    )
    assert "mcp<2" not in start_failure(["x"], 1, "ImportError: cannot import name 'a' from 'b'")
