from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from mock_mcp.faults import Faults
from mock_mcp.handle import EpisodeWorlds
from mock_mcp.toolspec import ToolFailure
from mock_mcp.world import World

DEADLINE_S = 60.0
ROOT = Path(__file__).parents[2]
NOTE = {"title": "Mine", "content": "x"}


@pytest.fixture(scope="module")
def world() -> World:
    return World.build(0)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server process on a free loopback port, killed at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--transport", "streamable-http", "--port", str(port), "--domains", "assistant"]
    server = subprocess.Popen(
        [sys.executable, "-m", "mock_mcp", *words], stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        _wait_until_it_answers(server, port)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        server.kill()
        server.communicate(timeout=DEADLINE_S)


def _wait_until_it_answers(server: subprocess.Popen[str], port: int) -> None:
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    server.kill()
    raise AssertionError(f"the server did not start: {server.communicate(timeout=DEADLINE_S)[1]}")


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine with a deadline."""
    return asyncio.run(asyncio.wait_for(coroutine, DEADLINE_S))


def connect(url: str, http: httpx2.AsyncClient, mode: str = "auto") -> Client:
    return Client(streamable_http_client(url, http_client=http), mode=mode)


def episode(name: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(headers={"mcp-episode": name}, timeout=DEADLINE_S)


async def digest(client: Client) -> str:
    contents = (await client.read_resource("world://digest")).contents
    return str(json.loads(contents[0].text)["digest"])


def test_two_episodes_never_see_each_others_state(url: str, world: World) -> None:
    async def play() -> tuple[Any, ...]:
        async with (
            episode("first") as one,
            episode("second") as two,
            connect(url, one) as first,
            connect(url, two) as second,
        ):
            written = await first.call_tool("create_note", NOTE)
            seen = await second.call_tool("open_note", {"title": "Mine"})
            own = await first.call_tool("open_note", {"title": "Mine"})
            return written, seen, own, await digest(first), await digest(second)

    written, seen, own, first_digest, second_digest = run(play())

    assert not written.is_error
    assert seen.is_error
    assert seen.content[0].text == "No note named Mine."
    assert own.structured_content == NOTE
    assert second_digest == world.digest() != first_digest


def test_an_episode_keeps_its_world_over_connections(url: str) -> None:
    async def visit(tool: str, arguments: dict[str, str]) -> Any:
        async with episode("kept") as http, connect(url, http) as client:
            return await client.call_tool(tool, arguments)

    run(visit("create_note", NOTE))

    assert run(visit("open_note", {"title": "Mine"})).structured_content == NOTE


def test_clients_with_a_session_get_a_world_per_session(url: str) -> None:
    async def play() -> tuple[Any, Any, Any]:
        async with (
            httpx2.AsyncClient(timeout=DEADLINE_S) as one,
            httpx2.AsyncClient(timeout=DEADLINE_S) as two,
            connect(url, one, "legacy") as first,
            connect(url, two, "legacy") as second,
        ):
            written = await first.call_tool("create_note", NOTE)
            seen = await second.call_tool("open_note", {"title": "Mine"})
            own = await first.call_tool("open_note", {"title": "Mine"})
            return written, seen, own

    written, seen, own = run(play())

    assert not written.is_error
    assert seen.is_error
    assert own.structured_content == NOTE


def test_a_client_without_an_episode_may_read_but_not_write(url: str, world: World) -> None:
    async def play() -> tuple[Any, Any, str]:
        async with Client(url) as client:
            name = next(iter(world.assistant.contacts))
            read = await client.call_tool("get_phone_number", {"name": name})
            written = await client.call_tool("create_note", NOTE)
            return read, written, await digest(client)

    read, written, seen = run(play())

    assert not read.is_error
    assert written.is_error
    assert "Send the HTTP header mcp-episode" in written.content[0].text
    assert seen == world.digest()


def test_the_number_of_worlds_is_bounded_and_the_longest_unused_goes_first(world: World) -> None:
    worlds = EpisodeWorlds(world, limit=2)
    first = worlds({"mcp-episode": "a"}, False)
    worlds({"mcp-episode": "b"}, False)
    assert worlds({"mcp-episode": "a"}, False) is first

    worlds({"mcp-episode": "c"}, False)

    assert worlds({"mcp-episode": "a"}, False) is first
    with pytest.raises(ToolFailure, match="was dropped"):
        worlds({"mcp-episode": "b"}, True)


def test_a_session_and_an_episode_of_the_same_name_are_different(world: World) -> None:
    worlds = EpisodeWorlds(world)

    by_episode = worlds({"mcp-episode": "a"}, False)

    assert worlds({"mcp-session-id": "a"}, False) is not by_episode
    assert worlds({"mcp-episode": "a", "mcp-session-id": "b"}, False) is by_episode


def test_an_overlong_episode_name_is_refused(world: World) -> None:
    with pytest.raises(ToolFailure, match="longer than 200 characters"):
        EpisodeWorlds(world)({"mcp-episode": "x" * 201}, False)


def test_each_episode_counts_its_own_faults(world: World) -> None:
    worlds = EpisodeWorlds(world, lambda: Faults({"transient": {"get_x": 1}}))

    for name in ("a", "b"):
        with pytest.raises(ToolFailure, match="busy"):
            worlds({"mcp-episode": name}, True).faults.before_call("get_x", {})
    worlds({"mcp-episode": "a"}, True).faults.before_call("get_x", {})
