from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import anyio
import mcp.shared.exceptions
import mcp_types
import pytest
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ImageContent, TextContent

from envs import calls as calls_module
from envs.calls import call_all
from envs.client import Connection, Deadlines, close_all, connect
from envs.errors import ClientError, ServerStartError, ToolListError
from envs.event_loop import event_loop
from envs.results import normalised
from rewards.episode import MODEL_STATUSES, Status, ToolCall

PATIENT = Deadlines(start=60.0, call=60.0, close=5.0)
SHORT = Deadlines(start=60.0, call=1.0, close=0.2)
release = threading.Event()


def make_server() -> MCPServer:
    server = MCPServer("test", log_level="CRITICAL")
    seen: list[int] = []

    @server.tool()
    async def add(a: int, b: int) -> int:
        return a + b

    @server.tool()
    async def remember(number: int) -> list[int]:
        await asyncio.sleep(0)
        seen.append(number)
        return list(seen)

    @server.tool()
    async def refuse() -> str:
        raise ToolError("no such customer; use list_customers")

    @server.tool()
    async def crash() -> str:
        raise KeyError("secret")

    @server.tool()
    async def hang() -> str:
        await anyio.sleep_forever()
        return ""

    @server.tool()
    def hang_in_a_thread() -> str:
        release.wait()
        return ""

    @server.tool()
    async def protocol(code: int, message: str) -> str:
        raise MCPError(code, message)

    @server.tool()
    async def long() -> str:
        return "x" * 5_000_000

    return server


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    opened = connect(make_server(), PATIENT)
    yield opened
    opened.close()


def to(connection: Connection, calls: Sequence[ToolCall]) -> list[tuple[Connection, ToolCall]]:
    return [(connection, call) for call in calls]


def one(connection: Connection, name: str, **arguments: Any):
    return call_all([[(connection, ToolCall(name, arguments))]])[0][0]


def test_a_call_returns_text_and_structured_content(connection: Connection) -> None:
    result = one(connection, "add", a=1, b=2)
    assert (result.text, result.structured) == ("3", {"result": 3})
    assert (result.status, result.is_error) == (Status.OK, False)


def test_a_failing_tool_tells_the_model_what_to_do(connection: Connection) -> None:
    result = one(connection, "refuse")
    assert (result.status, result.is_error) == (Status.TOOL_ERROR, True)
    assert result.text.startswith("Error: ")
    assert result.text.endswith("no such customer; use list_customers")


def test_a_crashing_tool_is_a_tool_error_and_keeps_its_secrets(connection: Connection) -> None:
    result = one(connection, "crash")
    assert result.status is Status.TOOL_ERROR
    assert "secret" not in result.text


def test_a_tool_that_the_server_does_not_know_has_its_own_status(connection: Connection) -> None:
    assert one(connection, "ad").status is Status.UNKNOWN_TOOL


@pytest.mark.parametrize(
    ("code", "message", "status"),
    [
        (mcp_types.INVALID_PARAMS, "a must be an integer", Status.BAD_ARGUMENTS),
        (mcp_types.INVALID_PARAMS, "Unknown tool: x", Status.UNKNOWN_TOOL),
        (mcp_types.REQUEST_TIMEOUT, "too late", Status.TIMEOUT),
        (mcp_types.METHOD_NOT_FOUND, "no tools here", Status.PROTOCOL_ERROR),
        (mcp_types.INTERNAL_ERROR, "oops", Status.PROTOCOL_ERROR),
        (mcp_types.CONNECTION_CLOSED, "quota used up", Status.PROTOCOL_ERROR),
    ],
)
def test_every_refusal_of_the_protocol_has_a_status(
    connection: Connection, code: int, message: str, status: Status
) -> None:
    assert one(connection, "protocol", code=code, message=message).status is status
    assert connection.alive


def test_the_calls_of_a_batch_run_in_order_and_the_batches_side_by_side() -> None:
    connections = [connect(make_server(), PATIENT) for _ in range(3)]
    calls = [ToolCall("remember", {"number": n}) for n in range(4)]
    results = call_all([to(connection, calls) for connection in connections])
    for batch in results:
        assert [r.structured["result"] for r in batch] == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]
    close_all(connections)


@pytest.mark.parametrize("tool", ["hang", "hang_in_a_thread"])
def test_a_tool_that_never_answers_is_a_timeout_and_harms_nobody_else(tool: str) -> None:
    slow, quick = connect(make_server(), SHORT), connect(make_server(), PATIENT)
    one(quick, "add", a=0, b=0)  # the SDK imports more at its first call
    calls = [ToolCall("add", {"a": 1, "b": 1}), ToolCall(tool, {}), ToolCall("refuse", {})]
    release.clear()
    try:
        late, fine = call_all([to(slow, calls), to(quick, calls[:1])])
    finally:
        release.set()
    assert [result.status for result in late] == [Status.OK, Status.TIMEOUT, Status.TIMEOUT]
    assert fine[0].text == "2"
    assert one(quick, "add", a=2, b=2).text == "4"
    close_all([slow, quick])


def test_a_tool_that_blocks_the_event_loop_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls_module, "GRACE_S", 0.1)
    server, done = make_server(), threading.Event()

    @server.tool()
    async def block() -> str:
        release.wait(30)
        done.set()
        return ""

    connection = connect(server, SHORT)
    release.clear()
    assert one(connection, "block").status is Status.TIMEOUT
    release.set()
    assert done.wait(30)
    connection.close()


def test_a_session_that_ends_during_a_call_is_a_crashed_server() -> None:
    server, owner = make_server(), []

    @server.tool()
    async def kill() -> str:
        owner[0].cancel()
        await anyio.sleep_forever()
        return ""

    connection = connect(server, PATIENT)
    owner.append(connection._owner)
    result = call_all([to(connection, [ToolCall("kill", {}), ToolCall("add", {"a": 1, "b": 1})])])
    assert [r.status for r in result[0]] == [Status.SERVER_CRASHED] * 2
    assert not connection.alive
    assert one(connection, "refuse").status is Status.SERVER_CRASHED


def test_a_result_that_is_far_too_long_is_an_infrastructure_fault(connection: Connection) -> None:
    result = one(connection, "long")
    assert result.status is Status.RESULT_TRUNCATED
    assert len(result.text) < 200


def test_an_answer_that_breaks_its_own_output_schema_is_a_bad_result() -> None:
    class Liar(MCPServer):
        async def call_tool(self, name: str, arguments: Any, context: Any = None) -> CallToolResult:
            text = TextContent(type="text", text="three")
            return CallToolResult(content=[text], structured_content={"result": "three"})

    server = Liar("liar", log_level="CRITICAL")

    @server.tool()
    async def add(a: int, b: int) -> int:
        return a + b

    connection = connect(server, PATIENT)
    assert one(connection, "add", a=1, b=2).status is Status.BAD_RESULT
    connection.close()


def exceptions() -> list[Exception]:
    found: list[Exception] = [
        OSError("pipe"), EOFError(), anyio.BrokenResourceError(), anyio.ClosedResourceError(),
        anyio.EndOfStream(), TimeoutError(), ValueError("x"), RuntimeError("x"), KeyError("x"),
        ExceptionGroup("two", [OSError("inner")]),
    ]  # fmt: skip
    for name, kind in vars(mcp.shared.exceptions).items():
        if isinstance(kind, type) and issubclass(kind, MCPError):
            made = kind.__new__(kind)
            MCPError.__init__(made, mcp_types.INTERNAL_ERROR, name)
            found.append(made)
    return found


@pytest.mark.parametrize("error", exceptions(), ids=lambda error: type(error).__name__)
def test_every_exception_of_the_layers_below_becomes_an_infrastructure_status(
    connection: Connection, error: Exception
) -> None:
    result = connection.failed(error)
    assert result.is_error
    assert result.status not in MODEL_STATUSES


def test_blocks_that_are_no_text_are_named() -> None:
    image = ImageContent(type="image", data="AAAA", mime_type="image/png")
    answer = CallToolResult(content=[TextContent(type="text", text="see"), image])
    assert normalised(answer).text == "see\n[image]"


def test_structured_content_alone_is_shown_as_json() -> None:
    assert normalised(CallToolResult(content=[], structured_content={"a": 1})).text == '{"a": 1}'


class Paged(MCPServer):
    def __init__(self, pages: int) -> None:
        super().__init__("paged", log_level="CRITICAL")
        self.pages = pages
        self._lowlevel_server.add_request_handler(
            "tools/list", mcp_types.PaginatedRequestParams, self.page
        )

    async def page(self, _: Any, params: Any) -> mcp_types.ListToolsResult:
        number = int(params.cursor or 0) if params else 0
        tool = mcp_types.Tool(name=f"t{number}", input_schema={"type": "object"})
        following = str(number + 1) if number + 1 < self.pages else None
        return mcp_types.ListToolsResult(tools=[tool], next_cursor=following)


def test_all_pages_of_the_tool_list_are_read() -> None:
    connection = connect(Paged(3), PATIENT)
    assert [tool.name for tool in connection.list_tools()] == ["t0", "t1", "t2"]
    connection.close()


def test_a_tool_list_that_never_ends_is_an_error() -> None:
    connection = connect(Paged(10**9), PATIENT)
    with pytest.raises(ToolListError, match="more than 100 pages"):
        connection.list_tools()
    connection.close()


class BrokenList(MCPServer):
    async def list_tools(self) -> list[mcp_types.Tool]:
        raise KeyError("broken")


class SilentList(MCPServer):
    async def list_tools(self) -> list[mcp_types.Tool]:
        await anyio.sleep_forever()
        return []


@pytest.mark.parametrize(
    ("kind", "told"), [(BrokenList, "cannot be read"), (SilentList, "no tool list within")]
)
def test_a_tool_list_that_does_not_come_is_an_error(kind: type[MCPServer], told: str) -> None:
    connection = connect(kind("list", log_level="CRITICAL"), SHORT)
    # A deadline that a busy machine could miss must not hold for opening the session.
    connection.deadlines = Deadlines(start=10.0 if kind is BrokenList else 0.2, close=0.2)
    with pytest.raises(ToolListError, match=told):
        connection.list_tools()
    connection.close()


def test_the_tool_list_of_a_closed_connection_is_an_error() -> None:
    connection = connect(make_server(), SHORT)
    connection.close()
    with pytest.raises(ClientError, match="is closed"):
        connection.list_tools()


def test_a_closed_connection_in_the_sdks_own_words_is_a_crashed_server() -> None:
    connection = connect(make_server(), SHORT)
    arguments = {"code": mcp_types.CONNECTION_CLOSED, "message": "Connection closed"}
    assert one(connection, "protocol", **arguments).status is Status.SERVER_CRASHED
    assert not connection.alive
    connection.close()


def test_the_text_of_an_embedded_resource_is_shown() -> None:
    contents = mcp_types.TextResourceContents(uri="file:///a.txt", text="inside")
    block = mcp_types.EmbeddedResource(type="resource", resource=contents)
    assert normalised(CallToolResult(content=[block])).text == "inside"


def failing_lifespan(enter: Callable[[], Any]) -> MCPServer:
    class Lifespan:
        def __init__(self, _: object) -> None: ...

        async def __aenter__(self) -> None:
            await enter()

        async def __aexit__(self, *_: object) -> None: ...

    return MCPServer("broken", lifespan=Lifespan, log_level="CRITICAL")


def test_a_server_that_fails_at_the_start_is_named_with_its_reason() -> None:
    async def fail() -> None:
        raise OSError("no such database")

    with pytest.raises(ServerStartError, match="OSError: no such database"):
        connect(failing_lifespan(fail), PATIENT)


def test_a_server_that_never_starts_is_given_up() -> None:
    with pytest.raises(ServerStartError, match="within"):
        connect(failing_lifespan(anyio.sleep_forever), Deadlines(start=0.2))


def test_closing_twice_is_allowed_and_a_closed_connection_answers_with_a_status() -> None:
    connection = connect(make_server(), PATIENT)
    connection.close()
    connection.close()
    assert not connection.alive
    assert one(connection, "add", a=1, b=1).status is Status.SERVER_CRASHED


def test_closing_does_not_wait_for_a_session_that_will_not_leave() -> None:
    class Stubborn:
        def __init__(self, _: object) -> None: ...

        async def __aenter__(self) -> None: ...

        async def __aexit__(self, *_: object) -> None:
            await anyio.sleep_forever()

    stubborn = MCPServer("stubborn", lifespan=Stubborn, log_level="CRITICAL")
    connections = [connect(stubborn, SHORT) for _ in range(5)]
    close_all(connections)
    assert not any(connection.alive for connection in connections)
    assert not set(connections) & set(event_loop().residents)


def test_sixty_four_connections_are_called_side_by_side() -> None:
    connections = [connect(make_server(), PATIENT) for _ in range(64)]
    batches = [
        to(connection, [ToolCall("remember", {"number": number})])
        for number, connection in enumerate(connections)
    ]
    results = call_all(batches)
    assert [r.structured["result"] for [r] in results] == [[number] for number in range(64)]
    close_all(connections)
    assert not any(connection.alive for connection in connections)


def test_a_server_whose_code_raises_anything_at_all_fails_only_its_own_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    odd, fine = connect(make_server(), PATIENT), connect(make_server(), PATIENT)

    async def raise_odd(*_: object) -> None:
        raise KeyError("odd")

    monkeypatch.setattr(odd._client, "call_tool", raise_odd)
    call = ToolCall("add", {"a": 1, "b": 1})
    broken, whole = call_all([to(odd, [call, call]), to(fine, [call, call])])
    assert [r.status for r in broken] == [Status.PROTOCOL_ERROR] * 2
    assert "not executed" in broken[1].text
    assert [r.status for r in whole] == [Status.OK] * 2
    close_all([odd, fine])


def test_there_is_one_event_loop_per_process() -> None:
    assert event_loop() is event_loop()
    assert sum(thread.name == "mcp-gym-events" for thread in threading.enumerate()) == 1


def in_a_child(connection: Connection, pipe: Any) -> None:
    try:
        call_all([to(connection, [ToolCall("add", {"a": 1, "b": 1})])])
    except ClientError as error:
        pipe.send(str(error))
    own = connect(make_server(), PATIENT)
    pipe.send(one(own, "add", a=20, b=22).text)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_forked_process_refuses_its_parents_sessions_and_opens_its_own(
    connection: Connection,
) -> None:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=in_a_child, args=(connection, there))
    child.start()
    assert here.poll(240)
    assert "fork" in here.recv()
    assert here.poll(240)
    assert here.recv() == "42"
    child.join(240)
    assert child.exitcode == 0


def test_a_process_that_forgets_to_close_still_ends() -> None:
    code = (
        "from mcp.server import MCPServer\n"
        "from envs.client import connect\n"
        "kept = connect(MCPServer('x'))\n"
        "print('open' if kept.alive else 'dead')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=240
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "open\n", "")
