"""Environments on the toy and the faulty server, and what must not be left of them."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from envs.client import Deadlines
from envs.event_loop import event_loop
from envs.mcp_env import MCPGymEnv
from envs.servers.config import ServerConfig
from envs.servers.reaper import reaper
from rewards.episode import Episode, Task
from rewards.goals import FinalAnswer, Goal
from tests.envs.servers import faulty_server, steered_server
from tests.envs.servers.test_process import left_behind, open_files, wait_for

PATIENT = Deadlines(start=60.0, call=60.0, close=2.0)
SHORT = Deadlines(start=60.0, call=1.0, close=0.5)
"""For what never answers."""

NEVER = FinalAnswer("this is never the answer")


@contextmanager
def nothing_left(folder: Path) -> Iterator[None]:
    """Check that nothing is left: no process, open file, task or temporary folder.

    Args:
        folder: Where temporary folders go in the meantime.
    """
    loop = event_loop()
    reaper().forget_folder(folder)  # starts the reaper, which stays
    folder.mkdir()
    files, tasks = open_files(), running_tasks()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        yield
        wait_for(lambda: left_behind() == [])
        wait_for(lambda: list(folder.iterdir()) == [])
        assert loop is event_loop()
        wait_for(lambda: running_tasks() <= tasks)
        # To collect garbage takes long beside all else, and there is seldom anything in it.
        wait_for(lambda: open_files() <= files or (gc.collect() >= 0 and open_files() <= files))


def running_tasks() -> int:
    return len(asyncio.all_tasks(event_loop()._loop))


def toy(folder: Path, name: str = "toy", **settings: Any) -> ServerConfig:
    """Return the config of a toy server that is steered by files in a folder."""
    folder.mkdir(exist_ok=True)
    args = ("-I", "-S", steered_server.__file__, str(folder))
    return ServerConfig(name, "stdio", command=sys.executable, args=args, **settings)


def faulty(*behaviours: str, **settings: Any) -> ServerConfig:
    """Return the config of a server that misbehaves."""
    program, *args = faulty_server.COMMAND
    args = [*args, *behaviours]
    return ServerConfig("faulty", "stdio", command=program, args=tuple(args), **settings)


def starts(folder: Path) -> list[int]:
    """Return the process ids of all toy servers that were started so far."""
    file = folder / "starts"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def task(goal: Goal = NEVER, *tools: str, **changes: Any) -> Task:
    return Task("mine", "Do it.", goal, tools, **changes)


Opener = Callable[..., MCPGymEnv]


def open_envs() -> Iterator[Opener]:
    """Yield what opens environments of one task on servers, and close them afterwards."""
    envs: list[MCPGymEnv] = []

    def open_one(
        *servers: ServerConfig,
        goal: Goal = NEVER,
        tools: Sequence[str] = (),
        deadlines: Deadlines = PATIENT,
        **settings: Any,
    ) -> MCPGymEnv:
        tasks = [task(goal, *tools)]
        envs.append(MCPGymEnv(tasks, servers=servers, deadlines=deadlines, **settings))
        return envs[-1]

    yield open_one
    for env in envs:
        env.close()


def turn(name: str, **arguments: Any) -> str:
    """Return the model's turn that makes a call."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def play(env: MCPGymEnv, *turns: str, options: dict[str, Any] | None = None) -> Episode:
    """Play the turns of an episode, as many as it lasts."""
    env.reset(options=options)
    for text in turns:
        _, _, terminated, truncated, info = env.step(text)
        if terminated or truncated:
            break
    episode: Episode = info["episode"]
    return episode
