"""MCP-v0 behind OpenEnv: a server whose sessions are episodes, for any OpenEnv client.

    python examples/openenv_adapter.py --port 8000       # needs openenv-core, see README.md

    from openenv.core.generic_client import GenericEnvClient
    with GenericEnvClient(base_url="http://127.0.0.1:8000").sync() as env:
        result = env.reset(seed=0)                       # or task_id="..."
        result = env.step({"text": "the model's raw turn"})

An action is the model's raw turn, so that every outcome of the reward matrix is seen: OpenEnv's
own `CallToolAction` is a call that was parsed. `observation["messages"]` go to the end of the
conversation; a trainer drops episodes whose `observation["status"]` is not "ok".
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import gymnasium as gym
import uvicorn
from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

import envs  # noqa: F401 - registers MCP-v0


class Turn(Action):
    """The model's raw turn."""

    text: str


class Told(Observation):
    """What the model is told next, and how its last turn was judged (see MCP-v0's `info`)."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    outcome: str
    why: str
    status: str
    truncated: bool = False


class OpenEnvEpisode(Environment[Turn, Told, State]):
    """One session of the server: an MCP-v0 of its own, made with `options`."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._env = gym.make("MCP-v0", **options)
        self._state = State()

    def reset(self, seed: int | None = None, episode_id: str | None = None, **options: Any) -> Told:
        """Start an episode; `options` are those of MCP-v0's `reset` (`task_id`)."""
        _, info = self._env.reset(seed=seed, options=options)
        self._state = State(episode_id=episode_id, task_id=info["task"].id)
        return _told(info)

    def step(self, action: Turn, timeout_s: float | None = None, **kwargs: Any) -> Told:
        """Play one turn; the deadlines are MCP-v0's own."""
        _, reward, terminated, truncated, info = self._env.step(action.text)
        self._state.step_count += 1
        done = terminated or truncated
        return _told(info, reward=float(reward), done=done, truncated=truncated)

    @property
    def state(self) -> State:
        """Return the task's id and the number of turns played."""
        return self._state

    def close(self) -> None:
        """Close the connections to the servers."""
        self._env.close()


def _told(info: dict[str, Any], **rest: Any) -> Told:
    judged = {key: info[key] for key in ("tools", "outcome", "why", "status")}
    return Told(messages=info["new_messages"], **judged, **rest)


def main() -> None:
    """Serve on localhost."""
    parser = argparse.ArgumentParser(description="Serve MCP-v0 to OpenEnv clients.")
    parser.add_argument("--tasks", default="starter", help="a suite or a JSONL file")
    parser.add_argument("--servers", help="a config file of MCP servers (default: the mock world)")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--sessions", type=int, default=16, help="episodes side by side")
    options = parser.parse_args()
    make = partial(OpenEnvEpisode, tasks=options.tasks, servers=options.servers)
    app = create_app(make, Turn, Told, max_concurrent_envs=options.sessions)
    uvicorn.run(app, port=options.port)


if __name__ == "__main__":
    main()
