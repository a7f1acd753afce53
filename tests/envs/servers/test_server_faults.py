"""What can go wrong with a server, seen from the environment.

Whatever it is: the call or the episode ends with the right status and without a reward, nothing is
left behind, and the next episode works.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from http_server import McpProcess

from envs.client import Deadlines
from envs.errors import ServerStartError
from envs.mcp_env import MCPGymEnv
from envs.servers.config import ServerConfig
from envs.vector_env import MCPVectorEnv
from rewards.episode import Episode, Outcome, Status
from tests.envs.servers.faulty_server import OLD_SERVER
from tests.envs.servers.playing import (
    NEVER,
    PATIENT,
    SHORT,
    Opener,
    faulty,
    play,
    starts,
    task,
    toy,
    turn,
)
from tests.envs.servers.test_process import alive, wait_for

ROOT = Path(__file__).parents[3]
QUICK = Deadlines(start=1.0, call=1.0, close=0.5)

FAULTS = {
    "dies": Status.SERVER_CRASHED,
    "leaves_a_child": Status.SERVER_CRASHED,
    "hangs": Status.TIMEOUT,
    "half_line": Status.TIMEOUT,
    "flood": Status.TIMEOUT,
    "endless_line": Status.RESULT_TRUNCATED,
    "huge": Status.RESULT_TRUNCATED,
    "deep": Status.BAD_RESULT,
    "not_a_result": Status.BAD_RESULT,
}
"""Tools of the faulty server that cannot be answered for. Other floods: test_stdio.py."""

HARMLESS = ("greets", "invalid_utf8", "wrong_id", "kin")

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def assert_dropped(episode: Episode, status: Status) -> None:
    """Check that an episode is one that a trainer leaves out."""
    assert episode.status is status
    assert (episode.truncated, episode.terminated) == (True, False)
    assert [one.reward for one in episode.turns] == [0.0] * len(episode.turns)


def assert_works(env: MCPGymEnv, name: str = "echo") -> None:
    assert play(env, turn(name)).turns[0].outcome is Outcome.TOOL_EXECUTION


# --- calls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "reset"),
    [*((tool, "restart") for tool in FAULTS), ("dies", "keep"), ("hangs", "keep")],
)
def test_a_call_that_cannot_be_answered_drops_the_episode(
    opened: Opener, tool: str, reset: Literal["restart", "keep"]
) -> None:
    env = opened(faulty(reset=reset), deadlines=SHORT)
    assert_dropped(play(env, turn("echo"), turn(tool)), FAULTS[tool])
    assert_works(env)


@pytest.mark.parametrize("tool", HARMLESS)
def test_what_a_server_writes_beside_its_answer_is_not_the_models_fault(
    opened: Opener, tool: str
) -> None:
    env = opened(faulty("banner"))
    assert_works(env, tool)
    assert_works(env)


def test_the_other_calls_of_a_turn_share_the_fault(opened: Opener) -> None:
    env = opened(faulty())
    episode = play(env, turn("echo") + turn("dies") + turn("echo"))
    assert_dropped(episode, Status.SERVER_CRASHED)
    statuses = [result.status for result in episode.turns[0].results]
    assert statuses == [Status.OK, Status.SERVER_CRASHED, Status.SERVER_CRASHED]


def test_a_server_that_is_killed_in_mid_call_drops_the_episode(
    opened: Opener, folder: Path
) -> None:
    env = opened(toy(folder))
    env.reset()
    place = json.loads(env.step(turn("where"))[4]["episode"].turns[0].results[0].text)
    with subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -9 {place['pid']}"]):
        *_, info = env.step(turn("nap", seconds=600))
    assert_dropped(info["episode"], Status.SERVER_CRASHED)
    assert_works(env, "recall")


def test_a_fault_in_one_episode_leaves_the_others_alone() -> None:
    env = MCPVectorEnv(4, [task(NEVER)], [faulty()], deadlines=SHORT)
    env.reset()
    faults = ["hangs", "huge", "dies"]
    _, rewards, terminated, truncated, _ = env.step([turn(name) for name in (*faults, "echo")])
    assert list(truncated) == [True, True, True, False]
    assert list(rewards) == [0.0] * 4
    assert not any(terminated)
    statuses = [info["status"] for info in env.infos]
    assert statuses == ["timeout", "result_truncated", "server_crashed", "ok"]
    env.reset(options={"reset_mask": truncated})
    *_, truncated, _ = env.step([turn("echo")] * 4)
    assert not any(truncated)
    assert [info["outcome"] for info in env.infos] == [Outcome.TOOL_EXECUTION] * 4
    env.close()


def test_a_result_of_fifty_megabytes_is_refused_long_before_its_deadline(opened: Opener) -> None:
    env = opened(faulty())
    env.reset()
    begun = time.monotonic()
    *_, info = env.step(turn("huge"))
    assert time.monotonic() - begun < 20  # it takes a tenth of a second; to read all of it, minutes
    assert_dropped(info["episode"], Status.RESULT_TRUNCATED)


def test_a_result_that_breaks_its_output_schema_drops_the_episode(opened: Opener) -> None:
    program = (
        "from mcp.server import MCPServer\n"
        "from mcp_types import CallToolResult, TextContent\n"
        "class Liar(MCPServer):\n"
        "    async def call_tool(self, name, arguments, context=None):\n"
        "        text = [TextContent(type='text', text='3')]\n"
        "        wrong = {'result': 'three' if name == 'lie' else 3}\n"
        "        return CallToolResult(content=text, structured_content=wrong)\n"
        "server = Liar('liar', log_level='CRITICAL')\n"
        "@server.tool()\n"
        "def lie() -> int: return 3\n"
        "@server.tool()\n"
        "def tell() -> int: return 3\n"
        "server.run()\n"
    )
    env = opened(
        ServerConfig("liar", "stdio", command=sys.executable, args=("-c", program)),
    )
    assert_dropped(play(env, turn("lie")), Status.BAD_RESULT)
    assert_works(env, "tell")


def test_calls_of_many_episodes_overlap(folder: Path) -> None:
    episodes, seconds = 64, 0.2
    env = MCPVectorEnv(episodes, [task(NEVER)], [toy(folder)], deadlines=PATIENT)
    env.reset()
    begun = time.monotonic()
    env.step([turn("nap", seconds=seconds)] * episodes)
    assert time.monotonic() - begun < episodes * seconds / 3
    assert [info["outcome"] for info in env.infos] == [Outcome.TOOL_EXECUTION] * episodes
    env.close()


# --- start and end --------------------------------------------------------------------------------


def test_a_server_that_exits_at_its_start_says_why(opened: Opener) -> None:
    with pytest.raises(ServerStartError, match="exit code 3") as caught:
        opened(faulty("exits"))
    assert OLD_SERVER.strip() in str(caught.value)
    assert "'mcp<2'" in str(caught.value)


@pytest.mark.parametrize("fault", ["broken", "silent"])
def test_a_server_that_stops_starting_drops_episodes_until_it_does(
    opened: Opener, folder: Path, fault: str
) -> None:
    env = opened(toy(folder), deadlines=replace(QUICK, start=1.5))
    assert_works(env, "recall")
    wait_for(lambda: len(starts(folder)) == 2)
    (folder / fault).touch()
    assert_works(env, "recall")  # on the spare
    assert_dropped(play(env, turn("recall")), Status.SERVER_START_FAILED)
    (folder / fault).unlink()
    assert_works(env, "recall")


def test_a_server_that_is_silent_at_its_start_is_an_error_after_its_deadline(
    opened: Opener,
) -> None:
    with pytest.raises(ServerStartError, match="did not answer"):
        opened(faulty("silent"), deadlines=QUICK)


def test_a_slow_start_is_waited_for(opened: Opener) -> None:
    env = opened(faulty("slow"))
    assert_works(env)


def test_a_server_that_ignores_sigterm_is_gone_at_the_end(opened: Opener) -> None:
    env = opened(faulty("stubborn", reset="keep"))
    assert_works(env)
    env.close()  # nothing_is_left


def test_what_a_server_started_is_gone_when_its_episode_is(opened: Opener) -> None:
    env = opened(faulty())
    pids = json.loads(play(env, turn("kin")).turns[0].results[0].text)
    assert all(map(alive, pids))
    env.reset()
    wait_for(lambda: not any(map(alive, pids)))


def test_a_disk_that_is_full_is_told_to_the_model_and_the_episode_goes_on(
    opened: Opener, folder: Path
) -> None:
    whole = toy(folder)
    # No file may grow beyond 2 or, where blocks have 1 KiB, 4 KiB.
    limited = ("-c", 'ulimit -f 4; exec "$0" "$@"', whole.command, *whole.args)
    env = opened(replace(whole, command="/bin/sh", args=limited))
    full, fits = turn("fill", path="a", size=100_000), turn("fill", path="a", size=1000)
    episode = play(env, full, fits)
    assert [one.outcome for one in episode.turns] == [Outcome.TOOL_ERROR, Outcome.TOOL_EXECUTION]
    assert "File too large" in episode.turns[0].results[0].text
    assert_works(env, "recall")


def test_a_disk_without_room_for_a_folder_drops_episodes_until_there_is(
    opened: Opener, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = opened(toy(folder))
    assert_works(env, "recall")
    wait_for(lambda: len(starts(folder)) == 2)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
        assert_works(env, "recall")  # on the spare
        assert_dropped(play(env, turn("recall")), Status.SERVER_START_FAILED)
    assert_works(env, "recall")


# --- HTTP -----------------------------------------------------------------------------------------


@pytest.fixture
def web() -> Iterator[McpProcess]:
    started = McpProcess("streamable-http-json")
    yield started
    started.stop()


def remote(web: McpProcess, keep: bool, era: str = "auto") -> ServerConfig:
    header = "" if keep else "mcp-episode"
    return ServerConfig("web", "http", url=web.url, reset="keep", episode_header=header, era=era)


@pytest.mark.parametrize(
    ("keep", "era"), [(True, "handshake"), (True, "2026-07-28"), (False, "handshake")]
)
def test_an_http_server_may_die_and_come_back(
    opened: Opener, web: McpProcess, keep: bool, era: str
) -> None:
    env = opened(remote(web, keep, era))
    add = turn("add", a=1, b=2)
    assert play(env, add).turns[0].results[0].text == "3"
    assert_dropped(play(env, turn("die")), Status.SERVER_CRASHED)
    assert_dropped(play(env, add), Status.SERVER_START_FAILED)
    web.stop()  # nothing but a zombie is left to stop
    web.start()
    assert play(env, add).turns[0].results[0].text == "3"
    # Nobody sees it go and come back between two episodes.
    web.stop()
    web.start()
    assert play(env, add).status is Status.OK


def test_an_http_server_that_is_gone_drops_the_episode_in_progress(
    opened: Opener, web: McpProcess
) -> None:
    env = opened(remote(web, keep=False))
    env.reset()
    web.stop()
    *_, info = env.step(turn("add", a=1, b=2))
    assert_dropped(info["episode"], Status.SERVER_CRASHED)
    web.start()
    assert play(env, turn("add", a=1, b=2)).turns[0].results[0].text == "3"


@pytest.mark.parametrize("keep", [True, False])
def test_an_http_tool_that_blocks_its_loop_is_given_up(
    opened: Opener, web: McpProcess, keep: bool
) -> None:
    env = opened(remote(web, keep), deadlines=replace(SHORT, start=30.0))
    assert_dropped(play(env, turn("block", seconds=2.0)), Status.TIMEOUT)
    # While it is blocked, so are those of the next episodes that were connected before.
    wait_for(lambda: play(env, turn("add", a=1, b=2)).status is Status.OK)


# --- the trainer ----------------------------------------------------------------------------------

TRAINER = """
import json, sys
from dataclasses import replace
from tests.envs.servers.playing import PATIENT, faulty, task, turn
from envs.vector_env import MCPVectorEnv

# Stubborn: a server that ends by itself, before the reaper looks, leaves its `_bare` child unknown.
servers = [faulty("stubborn"), replace(faulty("stubborn", reset="keep"), name="kept")]
env = MCPVectorEnv(2, [task()], servers, deadlines=PATIENT)
env.reset()
env.step([turn("faulty_kin"), turn("kept_kin")])
print(json.dumps([json.loads(info["episode"].turns[0].results[0].text) for info in env.infos]))
sys.stdout.flush()
if "stay" in sys.argv:
    sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["killed", "ended without close"])
def test_nothing_is_left_of_a_trainer_that_is(end: str, tmp_path: Path) -> None:
    temporary = tmp_path / "of the trainer"
    temporary.mkdir()
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    with subprocess.Popen(
        [sys.executable, "-c", TRAINER, *(["stay"] if end == "killed" else [])],
        env={**os.environ, "PYTHONPATH": paths, "TMPDIR": str(temporary)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as trainer:
        assert trainer.stdout
        pids = [pid for of_server in json.loads(trainer.stdout.readline()) for pid in of_server]
        if end == "killed":
            assert all(map(alive, pids))
            assert list(temporary.iterdir())
            trainer.send_signal(signal.SIGKILL)
        assert trainer.wait(60) == (-signal.SIGKILL if end == "killed" else 0)
        mine = str(temporary).encode()
        wait_for(lambda: not any(map(alive, pids)) and not list(temporary.iterdir()))
        wait_for(lambda: not any(mine in variables for variables in environments()))


def environments() -> Iterator[bytes]:
    """Yield the variables of every process; the reaper has those of its trainer."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield (process / "environ").read_bytes()
        except OSError:
            continue  # it ended while we looked
