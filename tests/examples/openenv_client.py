"""Plays turns through OpenEnv's own client, in OpenEnv's environment (see test_openenv_adapter.py).

stdin: {"url": ..., "episodes": [{"task_id": ..., "turns": [...]}, ...]}. All episodes are open at
once and take turns. stdout: for each the observations with reward and done, and the last state.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from itertools import zip_longest

from openenv.core.generic_client import GenericEnvClient


def main() -> None:
    """Answer stdin."""
    order = json.load(sys.stdin)
    with ExitStack() as stack:
        clients = [
            stack.enter_context(GenericEnvClient(base_url=order["url"]).sync())
            for _ in order["episodes"]
        ]
        told = [
            [record(client.reset(task_id=episode["task_id"]))]
            for client, episode in zip(clients, order["episodes"], strict=True)
        ]
        for turns in zip_longest(*(episode["turns"] for episode in order["episodes"])):
            for client, seen, turn in zip(clients, told, turns, strict=True):
                if turn is not None:
                    seen.append(record(client.step({"text": turn})))
        states = [client.state() for client in clients]
    json.dump({"told": told, "states": states}, sys.stdout)


def record(result):
    """Return a result as JSON."""
    return {"observation": result.observation, "reward": result.reward, "done": result.done}


if __name__ == "__main__":
    main()
