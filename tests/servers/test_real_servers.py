from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium.vector import VectorEnv

from envs.policies import Oracle
from envs.servers.__main__ import main
from envs.tasks.prove import play, problems
from rewards.episode import Episode, Task
from tests.servers.real_servers import PROGRAMS, REAL_SERVERS, RealServer, memory_task

pytestmark = pytest.mark.servers


@pytest.fixture(params=REAL_SERVERS, ids=lambda server: server.name)
def server(request: pytest.FixtureRequest) -> RealServer:
    chosen: RealServer = request.param
    return chosen


@pytest.fixture
def config(server: RealServer, tmp_path: Path) -> str:
    return written({server.name: server.entry(tmp_path)}, tmp_path)


def written(servers: dict[str, Any], folder: Path) -> str:
    path = folder / "mcp.json"
    path.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")
    return str(path)


def make(config: str, *tasks: Task) -> Any:
    return closing(gymnasium.make("envs:MCP-v0", servers=config, tasks=tasks, split=None))


def play_side_by_side(env: VectorEnv, tasks: Sequence[Task]) -> list[Episode]:
    """Play one episode of each task, turn by turn together."""
    env.reset(options={"tasks": tasks})
    infos, rng = env.unwrapped.infos, random.Random(0)
    over = [False] * len(tasks)
    while not all(over):
        actions = [
            None if over[row] else Oracle().act(task, info["tools"], info["messages"], rng)
            for row, (task, info) in enumerate(zip(tasks, infos, strict=True))
        ]
        _, _, terminated, truncated, _ = env.step(actions)
        over = list(terminated | truncated)
    return [info["episode"] for info in infos]


def outcome(episode: Episode) -> str:
    return "solved" if episode.success else f"{episode.status}: {episode.turns[-1].why}"


def test_check_starts_it_and_lists_its_tools(
    server: RealServer, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", config]) == 0
    row = rf"{server.name} +[\d.]+ s +20\d\d-\d\d-\d\d \(\w+\) +[1-9]\d* .* restart +[0-9a-f]{{12}}"
    assert re.search(row, capsys.readouterr().out)


def test_a_task_is_solved_by_its_reference_and_not_by_doing_nothing(
    server: RealServer, config: str, site: str
) -> None:
    task = server.task(1, site)
    with make(config, task) as env:
        assert problems(env, task) == []


def test_an_episode_starts_in_a_state_that_none_before_it_has_touched(
    server: RealServer, config: str, site: str
) -> None:
    tasks = [server.task(mark, site) for mark in (1, 2)]
    with make(config, *tasks) as env:
        assert [outcome(play(env, task, Oracle())) for task in tasks] == ["solved"] * 2


def test_two_episodes_side_by_side_do_not_see_each_other(
    server: RealServer, config: str, site: str
) -> None:
    tasks = [server.task(mark, site) for mark in (1, 2)]
    vector = gymnasium.make_vec("envs:MCP-v0", num_envs=2, servers=config, tasks=tasks, split=None)
    with closing(vector) as envs:
        assert [*map(outcome, play_side_by_side(envs, tasks))] == ["solved"] * 2


def test_the_goals_do_notice_what_another_episode_has_left(tmp_path: Path) -> None:
    lasting = {
        "command": str(PROGRAMS / "mcp-server-memory"),
        "env": {"MEMORY_FILE_PATH": str(tmp_path / "memory.json")},
        "mcpGym": {"reset": "keep"},
    }
    tasks = [memory_task(mark, "") for mark in (1, 2)]
    with make(written({"memory": lasting}, tmp_path), *tasks) as env:
        first, second = (play(env, task, Oracle()) for task in tasks)
    assert first.success
    assert not second.success
