"""OpenEnv's in-process MCP environment, measured from outside.

    python openenv_peer.py              64 environments with a look-up tool, for `env_speed.py`
    python openenv_peer.py EPISODES     environments with the toy server, for `servers.py`

Runs under a Python of its own that has `openenv-core` and nothing of this project. For every line
on stdin, the name of a form, it plays one round and writes one JSON line to stdout:

    step            env.step(CallToolAction) one environment after another, as its guides do
    step_async      the same action through step_async, all environments under one asyncio.gather
    open_sessions   step_async with every environment's mcp_session() held open, which its own
                    WebSocket server does inside and no guide describes
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from contextlib import AsyncExitStack
from importlib.metadata import version

from fastmcp import FastMCP
from openenv.core.env_server.mcp_environment import MCPEnvironment
from openenv.core.env_server.mcp_types import CallToolAction
from openenv.core.env_server.types import Observation, State
from toy_server import make_server

ENVIRONMENTS = 64
LOOK_UP = CallToolAction(tool_name="get_customer", arguments={"customer_id": "C104"})
ADD = CallToolAction(tool_name="add", arguments={"a": 1, "b": 2})


def company() -> FastMCP:
    """Return a server with one look-up tool and a fixed answer: nothing but the cost of a call."""
    server = FastMCP("company")

    @server.tool
    async def get_customer(customer_id: str) -> dict[str, str]:
        """Get a customer by id."""
        return {"customer_id": customer_id, "name": "Ada Berg", "city": "Rome"}

    return server


class Environment(MCPEnvironment):
    """An environment with one tool, and the call of it that is measured."""

    def __init__(self, server, action: CallToolAction, wanted: dict[str, object]) -> None:
        super().__init__(server)
        self.action = action
        self.wanted = wanted

    def reset(self, seed=None, episode_id=None, **kwargs):
        """Start an episode."""
        return Observation()

    def _step_impl(self, action, timeout_s=None, **kwargs):
        raise NotImplementedError("only tool calls are measured, and the base class answers them")

    @property
    def state(self):
        """Return the episode's state."""
        return State()


def make_environments() -> list[Environment]:
    """Return what the command line asks for."""
    if len(sys.argv) == 1:
        wanted = {"customer_id": "C104", "name": "Ada Berg", "city": "Rome"}
        return [Environment(company(), LOOK_UP, wanted) for _ in range(ENVIRONMENTS)]
    return [Environment(make_server(), ADD, {"result": 3}) for _ in range(int(sys.argv[1]))]


async def stepped(environment: Environment) -> Observation:
    """Make the call and check that the tool really answered."""
    return checked(environment, await environment.step_async(environment.action))


def checked(environment: Environment, observation: Observation) -> Observation:
    """Make sure that the tool really answered."""
    if observation.error or observation.result.structured_content != environment.wanted:
        raise RuntimeError(f"the call failed: {observation}")
    return observation


async def gathered(environments: list[Environment]) -> list[Observation]:
    """Step every environment at once."""
    return await asyncio.gather(*map(stepped, environments))


async def with_open_sessions(environments: list[Environment], steps: int) -> float:
    """Return the seconds that `steps` steps take while all sessions are open."""
    async with AsyncExitStack() as stack:
        for environment in environments:
            await stack.enter_async_context(environment.mcp_session())
        await gathered(environments)
        started = time.perf_counter()
        for _ in range(steps):
            await gathered(environments)
        return time.perf_counter() - started


def one_round(form: str, environments: list[Environment]) -> tuple[int, float]:
    """Play one round of a form; return its number of steps and seconds."""
    if form == "open_sessions":
        return 4 * len(environments), asyncio.run(with_open_sessions(environments, 4))
    started = time.perf_counter()
    if form == "step":
        for environment in environments:
            checked(environment, environment.step(environment.action))
    elif form == "step_async":
        asyncio.run(gathered(environments))
    else:
        raise ValueError(f"no such form: {form}")
    return len(environments), time.perf_counter() - started


def main() -> None:
    """Answer the lines on stdin."""
    logging.disable()
    environments = make_environments()
    answer({"version": version("openenv-core")})
    for line in sys.stdin:
        steps, seconds = one_round(line.strip(), environments)
        answer({"steps": steps, "seconds": seconds})


def answer(record: dict[str, object]) -> None:
    """Write one JSON line."""
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
