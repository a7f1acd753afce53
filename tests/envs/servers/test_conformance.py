"""The same episodes over every transport: the environment cannot tell them apart.

Records must be equal to the last text: results, observations, outcomes, rewards, reasons, evidence.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from http_server import eventually, free_port

from envs.mcp_env import MCPGymEnv
from envs.policies import TextPolicy, make_policy
from envs.servers.config import ServerConfig
from envs.tasks.load import load_tasks
from envs.vector_env import MCPVectorEnv
from mock_mcp.handle import EPISODE_HEADER
from rewards.episode import Episode, Outcome, Task
from rewards.goals import AnyOf, FinalState
from rewards.judge import rescore
from tests.envs.servers.playing import PATIENT, nothing_left

ROOT = Path(__file__).parents[3]
SEED = 3
CANARIES = ("random_call", "list_all", "schema_example", "echo")
DIGEST = FinalState({}, digest="never")
"""A goal that makes the environment look at everything."""

SSE = """
import sys
from mock_mcp.handle import EpisodeWorlds
from mock_mcp.server import build_http_server
from mock_mcp.world import World

build_http_server(EpisodeWorlds(World.build(3))).run("sse", port=int(sys.argv[1]))
"""


@dataclass(frozen=True)
class Scripted:
    """Says these turns, whatever happens."""

    turns: tuple[str, ...]
    name: str = "scripted"

    def act(self, task: Task, tools: Any, messages: Any, rng: random.Random) -> str:
        done = sum(message["role"] == "assistant" for message in messages)
        return self.turns[done] if done < len(self.turns) else "That is all."


@dataclass(frozen=True)
class Play:
    """An episode to play."""

    task: Task
    policy: TextPolicy


def malformed(task: Task) -> Scripted:
    """Return a policy that makes one mistake of each kind, and then calls every tool wrongly."""
    good = json.dumps({"name": task.tools[0], "arguments": {}})
    every = "".join(
        f"<tool_call>{json.dumps({'name': name, 'arguments': {'wrong': 1}})}</tool_call>"
        for name in task.tools
    )
    return Scripted(
        (
            "<tool_call>{'name': 'x'}</tool_call>",
            '<tool_call>{"name": "no_such_tool", "arguments": {}}</tool_call>',
            good,
            "",
            f"<tool_call>{good}</tool_call>",
            every,
        )
    )


def tasks() -> list[Task]:
    """Return one task of each kind in the world of the seed, and two of the starter family."""
    found = [task for task in load_tasks("mock", "train") if task.seed == SEED and not task.faults]
    return list({(task.kind, task.starter): task for task in found}.values())


def plays(number: int) -> list[Play]:
    """Return a number of episodes, spread over kinds and families, and two with a digest."""
    rng = random.Random(0)
    chosen = rng.sample(tasks(), min(number - 2, len(tasks())))
    writing = [
        replace(task, goal=AnyOf((task.goal, DIGEST)))
        for task in tasks()
        if isinstance(task.goal, FinalState)
    ][:2]
    policies = ["oracle", "oracle", "malformed", *CANARIES]
    drawn = [policies[place % len(policies)] for place in range(len(chosen))]
    return [Play(task, make_policy("oracle")) for task in writing] + [
        Play(task, malformed(task) if name == "malformed" else make_policy(name))
        for task, name in zip(chosen, drawn, strict=True)
    ]


def played(
    plan: Sequence[Play], servers: Sequence[ServerConfig] | None
) -> list[tuple[Episode, str]]:
    """Play episodes one after another; return each with what a look at its world shows."""
    env = MCPGymEnv([one.task for one in plan], servers=servers, split=None, deadlines=PATIENT)
    found = []
    try:
        for place, one in enumerate(plan):
            _, info = env.reset(options={"task": one.task})
            rng, over = random.Random(place), False
            while not over:
                text = one.policy.act(one.task, info["tools"], info["messages"], rng)
                _, _, terminated, truncated, info = env.step(text)
                over = terminated or truncated
            [world] = env._backend.evidence([(0, DIGEST)])
            assert world.digest
            found.append((info["episode"], repr(world)))
    finally:
        env.close()
    return found


def played_side_by_side(
    plan: Sequence[Play], servers: Sequence[ServerConfig] | None
) -> list[Episode]:
    """Play episodes side by side."""
    env = MCPVectorEnv(
        len(plan), [one.task for one in plan], servers, split=None, deadlines=PATIENT
    )
    try:
        env.reset(options={"tasks": [one.task for one in plan]})
        rngs = [random.Random(place) for place in range(len(plan))]
        over = [False] * len(plan)
        while not all(over):
            actions = [
                None
                if over[place]
                else one.policy.act(one.task, info["tools"], info["messages"], rngs[place])
                for place, (one, info) in enumerate(zip(plan, env.infos, strict=True))
            ]
            _, _, terminated, truncated, _ = env.step(actions)
            over = list(terminated | truncated)
        return [info["episode"] for info in env.infos]
    finally:
        env.close()


@contextmanager
def serving(*arguments: str, port: int) -> Iterator[None]:
    """Run a server in a process of its own until it is not needed any more."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            eventually(lambda: listens(port), "the server does not listen")
            yield
        finally:
            process.kill()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return bool(probe.connect_ex(("127.0.0.1", port)) == 0)


@pytest.fixture(scope="module")
def http() -> Iterator[ServerConfig]:
    port = free_port()
    flags = ("--seed", str(SEED), "--transport", "streamable-http", "--port", str(port))
    with serving("-m", "mock_mcp", *flags, port=port):
        url = f"http://127.0.0.1:{port}/mcp"
        yield ServerConfig("mock", "http", url=url, reset="keep", episode_header=EPISODE_HEADER)


@pytest.fixture(scope="module")
def sse() -> Iterator[ServerConfig]:
    port = free_port()
    with serving("-c", SSE, str(port), port=port):
        url = f"http://127.0.0.1:{port}/sse"
        yield ServerConfig("mock", "sse", url=url, reset="keep", episode_header=EPISODE_HEADER)


@pytest.fixture(scope="module")
def stdio() -> ServerConfig:
    args = ("-m", "mock_mcp", "--seed", str(SEED))
    env = {"PYTHONPATH": str(ROOT)}
    return ServerConfig("mock", "stdio", command=sys.executable, args=args, env=env)


@pytest.fixture(autouse=True)
def nothing_is_left(
    tmp_path: Path, http: ServerConfig, sse: ServerConfig, stdio: ServerConfig
) -> Iterator[None]:
    with nothing_left(tmp_path / "temporary"):
        yield


@pytest.fixture
def server(request: pytest.FixtureRequest) -> ServerConfig:
    config: ServerConfig = request.getfixturevalue(request.param)
    return config


FAST = [("stdio", 4), ("http", 16), ("sse", 8)]
ALL = [
    pytest.param(name, 200, marks=pytest.mark.slow, id=f"{name}-all")
    for name in ("stdio", "http", "sse")
]


@pytest.mark.parametrize(("server", "number"), [*FAST, *ALL], indirect=["server"])
def test_episodes_are_the_same_as_in_memory(server: ServerConfig, number: int) -> None:
    plan = plays(number)
    expected, found = played(plan, None), played(plan, [server])
    for (in_memory, world), (here, world_here) in zip(expected, found, strict=True):
        assert here == in_memory
        assert world_here == world
        assert rescore(here) == here


@pytest.mark.parametrize(
    ("server", "number"), [("stdio", 4), ("http", 24), ("sse", 8)], indirect=["server"]
)
def test_episodes_side_by_side_are_the_same_as_one_by_one(
    server: ServerConfig, number: int
) -> None:
    plan = plays(number)
    assert played_side_by_side(plan, [server]) == [episode for episode, _ in played(plan, None)]


def test_the_episodes_that_are_compared_differ_in_what_happens() -> None:
    episodes = [episode for episode, _ in played(plays(40), None)]
    outcomes = {turn.outcome for episode in episodes for turn in episode.turns}
    assert outcomes == set(Outcome)
    assert any(turn.state for episode in episodes for turn in episode.turns)
    assert any(turn.state_digest for episode in episodes for turn in episode.turns)
    assert len({episode.task.domain for episode in episodes}) >= 5
    assert {episode.task.starter for episode in episodes} == {True, False}
