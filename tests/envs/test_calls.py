from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from mcp.server import MCPServer

from envs import calls as module
from envs.calls import call_all
from envs.client import Connection, Deadlines, close_all, connect
from envs.event_loop import event_loop
from envs.servers.connection import ServerConnection
from envs.servers.stdio import StdioTransport
from rewards.episode import Status, ToolCall, ToolResult
from tests.envs.servers.faulty_server import COMMAND
from tests.envs.servers.playing import PATIENT, SHORT
from tests.envs.servers.test_process import wait_for


def opened(deadlines: Deadlines = PATIENT) -> Connection:
    """Open a session with a server in a process of its own."""
    transport = StdioTransport(COMMAND[0], COMMAND[1:], {})
    connection = ServerConnection(transport, deadlines, "legacy")
    event_loop().run(connection.open(), 60)
    return connection


@pytest.fixture
def outside() -> Iterator[Connection]:
    connection = opened()
    yield connection
    connection.close()


def one(connection: Connection, name: str, **arguments: Any) -> ToolResult:
    return call_all([[(connection, ToolCall(name, arguments))]])[0][0]


def runner_of_a_call(connection: Connection) -> threading.Thread:
    """Return the thread that runs the next call, which is answered."""
    threads: list[threading.Thread] = []
    call = connection.call

    async def noted(*args: ToolCall) -> ToolResult:
        threads.append(threading.current_thread())
        return await call(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "call", noted)
        assert one(connection, "echo", text="hm").text == "hm"
    return threads[0]


def wait_until_borrowed(connection: Connection) -> None:
    wait_for(lambda: runner_of_a_call(connection) is threading.current_thread())


def test_calls_to_another_process_are_run_by_their_caller(outside: Connection) -> None:
    wait_until_borrowed(outside)


def test_a_call_that_its_caller_runs_keeps_its_deadline_and_harms_nobody_else(
    outside: Connection,
) -> None:
    late = opened(SHORT)
    echo = ToolCall("echo", {"text": "fine"})
    wait_until_borrowed(outside)
    answers = call_all([[(late, ToolCall("hangs", {})), (late, echo)], [(outside, echo)]])
    assert [result.status for result in answers[0]] == [Status.TIMEOUT] * 2
    assert answers[1][0].text == "fine"
    late.close()


def test_a_server_that_dies_in_a_call_that_its_caller_runs_is_a_crashed_server() -> None:
    connection = opened()
    wait_until_borrowed(connection)
    assert one(connection, "dies").status is Status.SERVER_CRASHED
    connection.close()


def test_a_tool_in_this_process_that_blocks_the_loop_never_blocks_its_caller(
    outside: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.1)
    server, release, done = (
        MCPServer("blocker", log_level="CRITICAL"),
        threading.Event(),
        threading.Event(),
    )

    @server.tool()
    async def block() -> str:
        release.wait(60)
        done.set()
        return ""

    inside = connect(server, SHORT)
    wait_until_borrowed(outside)
    assert one(inside, "block").status is Status.TIMEOUT
    assert not done.is_set()
    release.set()
    assert done.wait(60)
    close_all([inside])


def test_environments_in_several_threads_call_their_servers_side_by_side() -> None:
    connections = [opened() for _ in range(3)]

    def play(connection: Connection) -> list[str]:
        return [one(connection, "echo", text=str(number)).text for number in range(100)]

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(play, connections)) == [[str(n) for n in range(100)]] * 3
    close_all(connections)
