from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from http_server import McpProcess, Script, Scripted, answer, eventually, free_port, scripted

from envs.calls import call_all
from envs.client import Connection, Deadlines, connect
from envs.errors import ClientError, ServerStartError
from envs.event_loop import event_loop
from envs.servers.http import HttpTransport, is_too_long
from rewards.episode import MODEL_STATUSES, Status, ToolCall, ToolResult

PATIENT = Deadlines(start=60.0, call=60.0, close=5.0)
SHORT = Deadlines(start=60.0, call=0.5, close=1.0)
MODES = ("auto", pytest.param("legacy", marks=pytest.mark.slow))
TRANSPORTS = ("streamable-http", "streamable-http-json", "sse")


@pytest.fixture(scope="module", params=TRANSPORTS)
def server(request: pytest.FixtureRequest) -> Iterator[McpProcess]:
    started = McpProcess(request.param)
    yield started
    started.stop()


@pytest.fixture
def mortal() -> Iterator[Callable[[str], McpProcess]]:
    """Starts servers that a test may kill."""
    started: list[McpProcess] = []

    def start(transport: str) -> McpProcess:
        started.append(McpProcess(transport))
        return started[-1]

    yield start
    for process in started:
        process.stop()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def tasks() -> int:
    return len(asyncio.all_tasks(event_loop()._loop))


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    event_loop()  # it has files of its own
    files, running = open_files(), tasks()
    yield
    eventually(lambda: open_files() <= files, "a socket is left")
    eventually(lambda: tasks() <= running, "a task is left")


def reach(server: McpProcess, deadlines: Deadlines = PATIENT, mode: str = "auto", **more: Any):
    return connect(
        HttpTransport(server.url, sse=server.transport == "sse", **more), deadlines, mode
    )


def one(connection: Connection, name: str, **arguments: Any) -> ToolResult:
    return call_all([[(connection, ToolCall(name, arguments))]])[0][0]


def works(server: McpProcess, mode: str = "auto") -> bool:
    connection = reach(server, mode=mode)
    try:
        return one(connection, "add", a=1, b=2).text == "3"
    finally:
        connection.close()


# --- a server that behaves ----------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_tools_are_listed_and_called_in_both_eras(server: McpProcess, mode: str) -> None:
    connection = reach(server, mode=mode)
    assert "add" in [tool.name for tool in connection.list_tools()]
    assert one(connection, "add", a=1, b=2).text == "3"
    connection.close()


def test_every_connection_sends_headers_of_its_own(server: McpProcess) -> None:
    connections = [reach(server, headers={"mcp-episode": name}) for name in ("first", "second")]
    calls = [[(c, ToolCall("header", {"name": "mcp-episode"}))] for c in connections]
    assert [batch[0].text for batch in call_all(calls)] == ["first", "second"]
    for connection in connections:
        connection.close()


def test_a_result_below_the_cap_comes_whole(server: McpProcess) -> None:
    connection = reach(server)
    assert len(one(connection, "long", size=200_000).text) == 200_000
    connection.close()


# --- a server that does not ---------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("transport", ["streamable-http", "streamable-http-json"])
def test_an_answer_above_the_cap_is_refused_and_the_session_lives(
    mortal: Callable[[str], McpProcess], transport: str, mode: str
) -> None:
    server = mortal(transport)
    connection = reach(server, mode=mode, max_body_bytes=100_000)
    result = one(connection, "long", size=50_000_000)
    assert result.status not in MODEL_STATUSES
    assert "exceeded the 100000 byte limit." in result.text
    assert one(connection, "add", a=1, b=2).text == "3"
    connection.close()


def test_an_answer_above_the_cap_of_old_servers_ends_the_session(
    mortal: Callable[[str], McpProcess],
) -> None:
    server = mortal("sse")
    connection = reach(server)
    assert one(connection, "long", size=2_000_000).status not in MODEL_STATUSES
    owner = connection._owner
    assert owner is not None
    eventually(owner.done, "the session lives on")
    assert is_too_long(owner.exception())
    connection.close()
    assert works(server)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_server_that_dies_in_mid_call_has_crashed_and_the_next_session_works(
    mortal: Callable[[str], McpProcess], transport: str, mode: str
) -> None:
    server = mortal(transport)
    connection = reach(server, mode=mode)
    assert one(connection, "die").status is Status.SERVER_CRASHED
    assert not connection.alive
    assert one(connection, "add", a=1, b=2).status is Status.SERVER_CRASHED
    connection.close()
    server.stop()
    server.start()
    assert works(server, mode)


@pytest.mark.parametrize("transport", ["streamable-http", "streamable-http-json"])
def test_a_session_that_a_restarted_server_has_forgotten_is_over(
    mortal: Callable[[str], McpProcess], transport: str
) -> None:
    server = mortal(transport)
    connection = reach(server, mode="legacy")
    assert one(connection, "add", a=1, b=2).text == "3"
    server.stop()
    server.start()
    assert one(connection, "add", a=1, b=2).status is Status.SERVER_CRASHED
    assert not connection.alive
    connection.close()
    assert works(server, "legacy")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_tool_that_never_answers_is_a_timeout_and_the_session_lives(
    server: McpProcess, mode: str
) -> None:
    connection = reach(server, SHORT, mode)
    assert one(connection, "hang").status is Status.TIMEOUT
    connection.deadlines = PATIENT
    assert one(connection, "add", a=1, b=2).text == "3"
    connection.close()


def test_a_tool_that_blocks_the_servers_loop_is_a_timeout(
    mortal: Callable[[str], McpProcess],
) -> None:
    server = mortal("streamable-http")
    connection = reach(server, SHORT)
    assert one(connection, "block", seconds=300.0).status is Status.TIMEOUT
    connection.close()


def test_a_server_that_falls_silent_is_a_timeout_of_the_transport_too() -> None:
    def silent(handler: BaseHTTPRequestHandler, _: bytes, seen: Scripted) -> None:
        seen.release.wait()

    with scripted(silent) as script, pytest.raises(ServerStartError, match=r"nothing for 0\.2 s"):
        connect(HttpTransport(script.url, wait_s=0.2), PATIENT)


# --- a server that cannot be reached or is no MCP server ----------------------------------------


def failure(url: str, deadlines: Deadlines = PATIENT, **more: Any) -> str:
    with pytest.raises(ServerStartError) as raised:
        connect(HttpTransport(url, **more), deadlines)
    return str(raised.value)


@pytest.mark.parametrize("sse", [False, True])
def test_a_refused_connection_names_the_url_and_asks_whether_the_server_runs(sse: bool) -> None:
    url = f"http://127.0.0.1:{free_port()}/mcp"
    told = failure(url, sse=sse)
    assert url in told
    assert "is it running?" in told


@pytest.mark.parametrize("sse", [False, True])
def test_a_server_that_never_answers_is_given_up_at_the_deadline(sse: bool) -> None:
    def silent(handler: BaseHTTPRequestHandler, _: bytes, seen: Scripted) -> None:
        seen.release.wait()

    with scripted(silent) as script:
        told = failure(script.url, Deadlines(start=0.3, close=0.2), sse=sse)
    assert "did not answer within 0.3 s" in told


def with_status(status: int, kind: str = "text/plain", body: bytes = b"no luck today") -> Script:
    return lambda handler, _, __: answer(handler, status, kind, body)


@pytest.mark.parametrize("sse", [False, True])
@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (401, "put an Authorization header in the config"),
        (403, "check the token"),
        (404, "check the path of the URL"),
        (405, 'an old server needs "type": "sse"'),
        (429, "fewer episodes"),
        (500, "500 Internal Server Error: no luck today"),
    ],
)
def test_an_error_of_http_says_where_what_and_what_to_do(status: int, hint: str, sse: bool) -> None:
    with scripted(with_status(status)) as script:
        told = failure(script.url, sse=sse)
    assert f"{script.url} answered {status}" in told
    assert hint in told


def test_an_error_page_is_called_one() -> None:
    with scripted(with_status(502, "text/html", b"<html>Bad gateway</html>")) as script:
        told = failure(script.url)
    assert "answered 502 Bad Gateway with an HTML page" in told


def test_a_web_page_is_not_taken_for_an_mcp_server() -> None:
    with scripted(with_status(200, "text/html", b"<html>Welcome</html>")) as script:
        told = failure(script.url)
    assert f"{script.url} answered with text/html, which is not MCP" in told


@pytest.mark.parametrize("body", [b"{", b"[" * 50_000, b'{"error": 1}', b"\xff"])
def test_json_that_is_no_answer_of_the_protocol_is_an_error_at_the_start(body: bytes) -> None:
    for status in (200, 400):
        with scripted(with_status(status, "application/json", body)) as script:
            assert failure(script.url)


def test_an_error_of_the_protocol_keeps_its_words_whatever_its_http_status() -> None:
    def refuse(handler: BaseHTTPRequestHandler, body: bytes, _: Scripted) -> None:
        error = {"code": -32000, "message": "the quota is used up"}
        told = {"jsonrpc": "2.0", "id": None, "error": error}
        answer(handler, 400, "application/json", json.dumps(told).encode())

    with scripted(refuse) as script:
        assert "the quota is used up" in failure(script.url)


def test_a_session_that_a_server_in_typescript_has_forgotten_is_over() -> None:
    forgetful = {"error": {"code": -32000, "message": "Bad Request: No valid session ID provided"}}

    def play(handler: BaseHTTPRequestHandler, body: bytes, _: Scripted) -> None:
        request = json.loads(body or b"{}")
        if request.get("method") == "initialize":
            result = {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "forgetful", "version": "1"},
            }
            told = {"jsonrpc": "2.0", "id": request["id"], "result": result}
            kept = {"mcp_session_id": "s"}
            answer(handler, 200, "application/json", json.dumps(told).encode(), **kept)
        elif "id" in request:
            told = {"jsonrpc": "2.0", "id": None, **forgetful}
            answer(handler, 400, "application/json", json.dumps(told).encode())
        else:
            answer(handler, 405 if handler.command == "GET" else 202)

    with scripted(play) as script:
        connection = connect(HttpTransport(script.url), PATIENT, "legacy")
        assert one(connection, "add", a=1, b=2).status is Status.SERVER_CRASHED
        assert not connection.alive
        connection.close()


@pytest.mark.parametrize(
    "url", ["", "mcp.example/mcp", "ftp://mcp.example/", "http://", "http://a:b/"]
)
def test_a_url_that_cannot_be_used_is_refused_at_once(url: str) -> None:
    with pytest.raises(ClientError, match="is no URL"):
        HttpTransport(url)
