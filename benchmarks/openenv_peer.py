"""OpenEnv's in-process MCP environment, measured from outside by `env_speed.py`.

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

ENVIRONMENTS = 64
ACTION = CallToolAction(tool_name="get_customer", arguments={"customer_id": "C104"})


class Company(MCPEnvironment):
    """One look-up tool with a fixed answer: nothing but the cost of a call."""

    def __init__(self) -> None:
        server = FastMCP("company")

        @server.tool
        async def get_customer(customer_id: str) -> dict[str, str]:
            """Get a customer by id."""
            return {"customer_id": customer_id, "name": "Ada Berg", "city": "Rome"}

        super().__init__(server)

    def reset(self, seed=None, episode_id=None, **kwargs):
        """Start an episode."""
        return Observation()

    def _step_impl(self, action, timeout_s=None, **kwargs):
        raise NotImplementedError("only tool calls are measured, and the base class answers them")

    @property
    def state(self):
        """Return the episode's state."""
        return State()


async def gathered(environments: list[Company]) -> list[Observation]:
    """Step every environment at once."""
    return await asyncio.gather(*(one.step_async(ACTION) for one in environments))


async def with_open_sessions(environments: list[Company], steps: int) -> float:
    """Return the seconds that `steps` steps take while all sessions are open."""
    async with AsyncExitStack() as stack:
        for environment in environments:
            await stack.enter_async_context(environment.mcp_session())
        await gathered(environments)
        started = time.perf_counter()
        for _ in range(steps):
            check(await gathered(environments))
        return time.perf_counter() - started


def check(observations: list[Observation]) -> None:
    """Make sure that the tool really answered."""
    for observation in observations:
        if observation.error or observation.result.data["city"] != "Rome":
            raise RuntimeError(f"the call failed: {observation}")


def one_round(form: str, environments: list[Company]) -> tuple[int, float]:
    """Play one round of a form; return its number of steps and seconds."""
    if form == "open_sessions":
        return 4 * ENVIRONMENTS, asyncio.run(with_open_sessions(environments, 4))
    started = time.perf_counter()
    if form == "step":
        check([environment.step(ACTION) for environment in environments])
    elif form == "step_async":
        check(asyncio.run(gathered(environments)))
    else:
        raise ValueError(f"no such form: {form}")
    return ENVIRONMENTS, time.perf_counter() - started


def main() -> None:
    """Answer the lines on stdin."""
    logging.disable()
    environments = [Company() for _ in range(ENVIRONMENTS)]
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
