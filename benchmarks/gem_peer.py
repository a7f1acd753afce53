"""GEM's tool environments, measured from outside by `servers.py`.

    python gem_peer.py EPISODES memory
    python gem_peer.py EPISODES http://127.0.0.1:8000/mcp
    python gem_peer.py EPISODES COMMAND ARGUMENTS...

Runs under a Python of its own that has `gem-llm[mcp]` and nothing of this project. For every line
on stdin, the name of a form, it plays one step in every episode and writes one JSON line to stdout:

    sync    gem.make_vec(...): one environment after another
    async   gem.make_vec(..., async_mode=True): a thread for each environment

A step is a `<tool_call>` text that GEM parses; its `MCPTool` opens a session for every call, and
over stdio that starts the server. `MCPTool` takes URLs and commands only: `memory` puts a client
in memory in the place of its own, which no guide describes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from importlib.metadata import version

import gem
import gem.envs
from fastmcp import Client
from gem.tools.mcp_tool import MCPTool
from gem.tools.tool_env_wrapper import ToolEnvWrapper
from toy_server import make_server

GAME = "game:GuessTheNumber-v0-easy"
ACTION = '<tool_call><tool_name>add</tool_name><arguments>{"a": 1, "b": 2}</arguments></tool_call>'


def make_tool(place: list[str]) -> MCPTool:
    """Return a tool on the toy server."""
    if place == ["memory"]:
        tool = MCPTool("http://127.0.0.1/", validate_on_init=False)
        tool.client = Client(make_server())
        return tool
    if place[0].startswith("http"):
        return MCPTool.from_url(place[0], validate_on_init=False)
    server = {"command": place[0], "args": place[1:]}
    return MCPTool.from_local_command(server, validate_on_init=False)


def make_environments(episodes: int, place: list[str], form: str):
    """Return environments in one of the two vector forms, each with a tool of its own."""

    def wrapped(game):
        return ToolEnvWrapper(game, tools=[make_tool(place)], max_tool_uses=None)

    found = gem.make_vec([GAME] * episodes, wrappers=[wrapped], async_mode=form == "async")
    found.reset()
    return found


def one_step(environments, episodes: int) -> float:
    """Return the seconds that a step of all episodes takes."""
    started = time.perf_counter()
    observations = environments.step([ACTION] * episodes)[0]
    seconds = time.perf_counter() - started
    for observation in observations:
        if "3" not in observation or "error" in observation or "failed" in observation:
            raise RuntimeError(f"the call failed: {observation}")
    return seconds


def answer(record: dict[str, object]) -> None:
    """Write one JSON line."""
    assert sys.__stdout__ is not None
    sys.__stdout__.write(json.dumps(record) + "\n")
    sys.__stdout__.flush()


def main() -> None:
    """Answer the lines on stdin."""
    logging.disable()
    episodes, place = int(sys.argv[1]), sys.argv[2:]
    made = {}
    with contextlib.redirect_stdout(sys.stderr):  # GEM talks
        answer({"version": version("gem-llm")})
        for line in sys.stdin:
            form = line.strip()
            if form not in made:
                made[form] = make_environments(episodes, place, form)
            answer({"steps": episodes, "seconds": one_step(made[form], episodes)})


if __name__ == "__main__":
    main()
