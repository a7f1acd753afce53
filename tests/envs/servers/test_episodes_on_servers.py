"""Episodes through MCP-v0 on servers in processes of their own: faults, resets, conformance."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import faulty_server
import pytest

from envs.client import Deadlines
from envs.errors import ConfigError, ServerStartError, TaskError
from envs.mcp_env import MCPGymEnv
from envs.policies import Oracle, make_policy, render_calls
from envs.servers.reaper import MARKER
from envs.tasks.load import load_tasks
from envs.tasks.prove import play
from envs.vector_env import MCPVectorEnv
from rewards.episode import Episode, Status, Task, ToolCall
from rewards.goals import FinalAnswer, FolderState, Probe, WantedEntry

ROOT = Path(__file__).parents[3]
DEADLINES = Deadlines(start=20.0, call=0.7, close=0.3)
TASK = Task("t", "Say it.", FinalAnswer("never"))
Config = Callable[..., str]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    def write(*behaviours: str, **extras: Any) -> str:
        command, *args = [*faulty_server.COMMAND, *behaviours]
        entry = {"command": command, "args": args, "mcpGym": {"era": "handshake", **extras}}
        file = tmp_path / "mcp.json"
        file.write_text(json.dumps({"mcpServers": {"faulty": entry}}), encoding="utf-8")
        return str(file)

    return write


@pytest.fixture(autouse=True)
def _nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Close what a test has opened, even one that failed, and look for what is left."""
    opened: list[Any] = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("episodes")))
    for kind in (MCPGymEnv, MCPVectorEnv):
        monkeypatch.setattr(kind, "reset", _noting(kind.reset, opened))
    yield
    for env in opened:
        env.close()
    end = time.monotonic() + 10
    while left := left_behind():
        assert time.monotonic() < end, left
        time.sleep(0.05)


def _noting(reset: Any, opened: list[Any]) -> Any:
    def noted(self: Any, **options: Any) -> Any:
        opened.append(self)
        return reset(self, **options)

    return noted


def left_behind() -> list[str]:
    folders = [str(path) for path in Path(tempfile.gettempdir()).glob("mcp-gym-*")]
    return [*folders, *processes()]


def processes() -> list[str]:
    """The servers of this process, and what they have started, by the marker that all inherit."""
    marker, found = f"{MARKER}={os.getpid()}-".encode(), []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if marker in (path / "environ").read_bytes():
                found.append((path / "cmdline").read_text(errors="replace"))
        except OSError:
            continue
    return [words for words in found if words]


def call(name: str, **arguments: Any) -> str:
    return render_calls([ToolCall(name, arguments)])


def one_call(env: MCPGymEnv, name: str, **arguments: Any) -> tuple[float, bool, Episode]:
    env.reset(options={"task": TASK})
    _, reward, _, truncated, info = env.step(call(name, **arguments))
    return float(reward), truncated, info["episode"]


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "status"),
    [
        ("dies", Status.SERVER_CRASHED),
        ("hangs", Status.TIMEOUT),
        pytest.param("half_line", Status.TIMEOUT, marks=pytest.mark.slow),
        ("huge", Status.RESULT_TRUNCATED),
        pytest.param("endless_line", Status.RESULT_TRUNCATED, marks=pytest.mark.slow),
        ("deep", Status.BAD_RESULT),
        pytest.param("not_a_result", Status.BAD_RESULT, marks=pytest.mark.slow),
        ("flood", Status.TIMEOUT),
        pytest.param("flood_of_notifications", Status.TIMEOUT, marks=pytest.mark.slow),
    ],
)
def test_a_fault_truncates_with_its_status_costs_nothing_and_the_next_episode_works(
    config: Config, tool: str, status: Status
) -> None:
    env = MCPGymEnv(tasks=[TASK], servers=config(), deadlines=DEADLINES)
    reward, truncated, episode = one_call(env, tool)
    assert (reward, truncated, episode.status) == (0.0, True, status)
    reward, truncated, episode = one_call(env, "echo")
    assert (reward, truncated, episode.status) == (0.0, False, Status.OK)
    env.close()


@pytest.mark.parametrize("behaviour", ["banner", "stubborn", "chatty", "slow"])
def test_what_a_server_does_beside_its_work_does_not_matter(config: Config, behaviour: str) -> None:
    env = MCPGymEnv(tasks=[TASK], servers=config(behaviour), deadlines=DEADLINES)
    assert one_call(env, "echo")[2].status is Status.OK
    env.close()


def test_answers_with_a_wrong_id_are_ignored(config: Config) -> None:
    env = MCPGymEnv(tasks=[TASK], servers=config(), deadlines=DEADLINES)
    assert one_call(env, "wrong_id")[2].turns[0].results[0].text == "this is"
    env.close()


def test_invalid_utf8_is_shown_with_marks_and_is_no_fault(config: Config) -> None:
    env = MCPGymEnv(tasks=[TASK], servers=config(), deadlines=DEADLINES)
    _, truncated, episode = one_call(env, "invalid_utf8")
    assert not truncated
    assert "\ufffd" in episode.turns[0].results[0].text
    env.close()


def test_a_server_that_ends_at_its_start_is_an_error_with_command_exit_code_and_stderr(
    config: Config,
) -> None:
    with pytest.raises(ServerStartError, match=r"faulty_server.py exits.*exit code") as caught:
        MCPGymEnv(tasks=[TASK], servers=config("exits"), deadlines=DEADLINES)
    assert "Hint" in str(caught.value)


def test_a_server_that_is_silent_at_its_start_is_an_error_in_time(config: Config) -> None:
    with pytest.raises(ServerStartError, match="did not answer"):
        MCPGymEnv(tasks=[TASK], servers=config("silent"), deadlines=replace(DEADLINES, start=0.5))


def test_what_a_server_has_started_goes_with_it(config: Config) -> None:
    env = MCPGymEnv(tasks=[TASK], servers=config(), deadlines=DEADLINES)
    one_call(env, "kin")
    assert processes()
    env.close()  # the fixture looks for what is left


# --- resets and evidence --------------------------------------------------------------------------


def test_every_episode_has_a_folder_filled_from_the_template(
    config: Config, tmp_path: Path
) -> None:
    (tmp_path / "template").mkdir()
    (tmp_path / "template" / "a.txt").write_text("from the template", encoding="utf-8")
    env = MCPGymEnv(
        tasks=[TASK],
        servers=config(template="template"),
        deadlines=DEADLINES,
        max_result_chars=9999,
    )
    folders = []
    for _ in range(2):
        episode = one_call(env, "surroundings")[2]
        seen = json.loads(episode.turns[0].results[0].text)
        folders.append(seen["cwd"])
        assert Path(seen["cwd"], "a.txt").read_text(encoding="utf-8") == "from the template"
        assert seen["env"]["HOME"] != os.environ.get("HOME")
        Path(seen["cwd"], "a.txt").write_text("changed", encoding="utf-8")
    assert folders[0] != folders[1]
    env.close()


def test_a_probe_is_asked_by_the_environment_and_decides(config: Config) -> None:
    task = replace(TASK, goal=Probe("invalid_utf8", {}, "", "caf\ufffd \ufffd"))
    env = MCPGymEnv(tasks=[task], servers=config(), deadlines=DEADLINES)
    env.reset(options={"task": task})
    *_, info = env.step(call("echo"))
    assert info["episode"].success
    env.close()


def test_a_changed_folder_is_evidence(config: Config) -> None:
    task = replace(TASK, goal=FolderState({"new.txt": WantedEntry(text="42")}))
    env = MCPGymEnv(tasks=[task], servers=config(), deadlines=DEADLINES, max_result_chars=9999)
    env.reset(options={"task": task})
    *_, info = env.step(call("surroundings"))
    assert not info["episode"].success
    folder = json.loads(info["episode"].turns[0].results[0].text)["cwd"]
    Path(folder, "new.txt").write_text("42\n", encoding="utf-8")
    *_, info = env.step(call("echo"))
    assert info["episode"].success
    env.close()


def test_tasks_that_cannot_be_played_on_the_servers_are_refused_with_their_names(
    config: Config,
) -> None:
    with pytest.raises(TaskError, match=r'task t: the tool "ecko" .* did you mean "echo"'):
        MCPGymEnv(tasks=[replace(TASK, tools=("ecko",))], servers=config(), deadlines=DEADLINES)
    with pytest.raises(TaskError, match="is for the mock world"):
        MCPGymEnv(tasks="starter", servers=config(), deadlines=DEADLINES)


def test_an_allow_list_is_what_tasks_offer_that_name_no_tools(config: Config) -> None:
    env = MCPGymEnv(tasks=[TASK], servers=config(tools=["echo"]), deadlines=DEADLINES)
    _, info = env.reset()
    assert [tool["function"]["name"] for tool in info["tools"]] == ["echo"]
    env.close()


def test_a_config_that_cannot_be_read_says_where(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.json"):
        MCPGymEnv(tasks=[TASK], servers=str(tmp_path / "missing.json"))


def test_calls_of_side_by_side_episodes_overlap(config: Config) -> None:
    """Each waits for its own deadline; one after another they would take the sum."""
    patient = Deadlines(start=20.0, call=1.5, close=0.3)
    env = MCPVectorEnv(6, tasks=[TASK], servers=config(), deadlines=patient)
    env.reset(seed=0)
    started = time.monotonic()
    env.step([call("hangs")] * 6)
    assert time.monotonic() - started < 6 * 1.5
    assert {info["status"] for info in env.infos} == {"timeout"}
    env.close()


# --- conformance ----------------------------------------------------------------------------------


def mock_config(folder: Path) -> str:
    args = ["-m", "mock_mcp", "--seed", "3"]
    entry = {"command": sys.executable, "args": args, "cwd": str(ROOT)}
    file = folder / "mock.json"
    file.write_text(json.dumps({"mcpServers": {"mock": entry}}), encoding="utf-8")
    return str(file)


@pytest.mark.parametrize("count", [5, pytest.param(24, marks=pytest.mark.slow)])
def test_episodes_over_stdio_are_those_in_memory_record_by_record(
    tmp_path: Path, count: int
) -> None:
    every = [task for task in load_tasks("mock", None) if task.seed == 3 and not task.faults]
    by_kind: Mapping[str, Task] = {task.kind: task for task in every}
    tasks = list(by_kind.values())[:count]
    assert len(tasks) == count
    over = MCPGymEnv(tasks=tasks, servers=mock_config(tmp_path), split=None)
    memory = MCPGymEnv(tasks=tasks, split=None)
    for task in tasks:
        assert play(over, task, Oracle()) == play(memory, task, Oracle())
    for task in tasks[: count // 4]:
        for name in ("random_call", "repeat"):
            policy = make_policy(name)
            assert play(over, task, policy) == play(memory, task, policy)
    over.close()
    memory.close()
