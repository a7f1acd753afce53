from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from envs.errors import ServerStartError
from envs.servers.process import STDERR_BYTES, STDOUT_BYTES, ServerProcess
from envs.servers.reaper import MARKER, reaper
from tests.envs.servers.faulty_server import COMMAND

DEADLINE_S = 60.0
AT_ONCE, POLITELY = 0.0, 30.0


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def left_behind() -> list[str]:
    """Return the living processes that servers of this process left behind."""
    mark = f"{MARKER}={os.getpid()}-".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
        except OSError:
            continue  # it is somebody else's, or ended while we looked
    return found


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


def play(work: Coroutine[Any, Any, None]) -> None:
    """Run a test on a loop of its own; no process, file, task or warning may be left."""
    reaper().forget("nobody")  # starts the reaper, which stays
    gc.collect()
    files = open_files()

    async def watched() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await work
        await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})
        await eventually(lambda: open_files() <= files + 3)  # the loop has files of its own

    asyncio.run(watched())
    gc.collect()
    assert left_behind() == []
    assert open_files() == files


async def start(*behaviours: str, **options: Any) -> ServerProcess:
    return await ServerProcess.start(COMMAND[0], [*COMMAND[1:], *behaviours], **options)


async def send(server: ServerProcess, tool: str, **arguments: Any) -> None:
    params = {"name": tool, "arguments": arguments}
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    await server.write(json.dumps(request).encode() + b"\n")


async def call(server: ServerProcess, tool: str, **arguments: Any) -> Any:
    await send(server, tool, **arguments)
    return json.loads(json.loads(await server.read())["result"]["content"][0]["text"])


def test_a_server_gets_the_variables_it_is_given_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "secret")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")

    async def work() -> None:
        server = await start(env={"HOME": str(tmp_path), "GIVEN": "yes"}, cwd=tmp_path)
        seen = await call(server, "surroundings")
        await server.kill(AT_ONCE)
        assert seen["cwd"] == str(tmp_path)
        assert seen["env"].keys() - {"LANG"} == {"PATH", "LC_ALL", "HOME", "GIVEN", MARKER}
        assert (seen["env"]["HOME"], seen["env"]["GIVEN"]) == (str(tmp_path), "yes")

    play(work())


def test_the_program_is_looked_up_in_the_path_of_the_server(tmp_path: Path) -> None:
    (tmp_path / "my-server").symlink_to("/bin/cat")

    async def work() -> None:
        server = await ServerProcess.start("my-server", env={"PATH": str(tmp_path)})
        await server.write(b"hello")
        assert await server.read() == b"hello"
        await server.kill(AT_ONCE)

    play(work())


def test_a_server_that_cannot_be_run_says_why(tmp_path: Path) -> None:
    plain, script = tmp_path / "plain.txt", tmp_path / "script"
    plain.write_text("hello")
    script.write_text("print(1)")
    script.chmod(0o755)
    missing = tmp_path / "missing"

    async def work() -> None:
        for command, cwd, words in [
            ("no-such-program", None, "there is no such program"),
            (str(plain), None, "may not be executed"),
            (str(script), None, "is not a program"),
            ("bad\0name", None, "null byte"),
            (sys.executable, missing, f"its working folder {missing} is not a folder"),
        ]:
            with pytest.raises(ServerStartError, match=words) as caught:
                await ServerProcess.start(command, cwd=cwd)
            assert f'cannot start the server "{command}"' in str(caught.value)

    play(work())


def test_a_server_that_exits_leaves_its_code_and_its_last_words() -> None:
    async def work() -> None:
        server = await start("exits")
        assert await server.read() == b""
        await server.kill()
        assert (server.running, server.returncode) == (False, 3)
        assert "No module named 'mcp.server.fastmcp'" in server.stderr_tail
        with pytest.raises(BrokenPipeError):
            await server.write(b"hello\n")

    play(work())


def test_a_server_that_writes_a_long_log_is_not_blocked_and_its_end_is_kept() -> None:
    async def work() -> None:
        server = await start("chatty")
        assert await call(server, "echo", text="1") == 1
        await eventually(lambda: "line 19999 of" in server.stderr_tail)
        await server.kill(AT_ONCE)
        assert len(server.stderr_tail) <= STDERR_BYTES

    play(work())


def test_output_that_nobody_reads_makes_the_server_wait() -> None:
    async def work() -> None:
        server = await start()
        await send(server, "flood")
        await eventually(lambda: len(server._unread) >= STDOUT_BYTES)
        assert STDOUT_BYTES <= len(await server.read()) <= 2 * STDOUT_BYTES
        assert await server.read()
        await server.kill(AT_ONCE)

    play(work())


def test_a_writer_waits_for_a_server_that_does_not_read_and_is_told_of_its_end() -> None:
    async def work() -> None:
        server = await ServerProcess.start("sleep", ["600"])
        await server.write(b"x" * 1_000_000)
        assert not server.writable
        waiting = asyncio.ensure_future(server.write(b"more"))
        await asyncio.sleep(0)
        assert not waiting.done()
        await server.kill(AT_ONCE)
        with pytest.raises(BrokenPipeError):
            await waiting

    play(work())


@pytest.mark.parametrize(
    ("behaviours", "grace", "codes"),
    [
        ([], POLITELY, {0, -signal.SIGTERM}),
        ([], AT_ONCE, {-signal.SIGKILL}),
        (["stubborn"], 0.1, {-signal.SIGKILL}),
    ],
)
def test_a_server_has_its_grace_and_no_more(
    behaviours: list[str], grace: float, codes: set[int]
) -> None:
    async def work() -> None:
        server = await start(*behaviours)
        assert await call(server, "echo", text="1") == 1
        await server.kill(grace)
        assert server.returncode in codes

    play(work())


@pytest.mark.parametrize("grace", [AT_ONCE, POLITELY])
def test_what_a_server_started_dies_with_it_also_outside_of_its_session(grace: float) -> None:
    async def work() -> None:
        server = await start()
        pids = await call(server, "kin")
        assert all(alive(pid) for pid in pids)
        await server.kill(grace)
        assert not any(alive(pid) for pid in pids)

    play(work())


def test_the_death_of_a_server_ends_its_output_although_a_child_holds_the_pipe() -> None:
    async def work() -> None:
        server = await start()
        await send(server, "leaves_a_child")
        assert await server.read() == b""
        assert server.returncode == -signal.SIGKILL
        assert left_behind() != []
        await server.kill()

    play(work())


def test_a_kill_goes_on_when_its_caller_is_cancelled() -> None:
    async def work() -> None:
        server = await start("stubborn")
        assert await call(server, "echo", text="1") == 1
        killing = asyncio.ensure_future(server.kill(0.2))
        await asyncio.sleep(0)
        killing.cancel()
        await eventually(lambda: not server.running)
        await server.kill()

    play(work())


def test_a_start_that_is_cancelled_leaves_nothing() -> None:
    async def work() -> None:
        starting = asyncio.ensure_future(start())
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    play(work())
