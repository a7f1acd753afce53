"""The OpenEnv adapter against the real package: its server, its client, a process of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from peers import free_port, python_of, serving
from tiny_tasks import sum_task

from envs.mcp_env import MCPGymEnv
from envs.policies import render_calls
from rewards.episode import ToolCall
from rewards.serialise import write_tasks

TASKS = [sum_task(number) for number in (4, 25)]
CLIENT = Path(__file__).with_name("openenv_client.py")


def call(name: str, **arguments: Any) -> str:
    return render_calls([ToolCall(name, arguments)])


@pytest.mark.slow
def test_every_outcome_arrives_through_openenv_and_sessions_do_not_see_each_other(
    tmp_path: Path,
) -> None:
    python, port, tasks = python_of("openenv"), free_port(), tmp_path / "tasks.jsonl"
    write_tasks(tasks, TASKS)
    solved = [call("calculate", expression="17 + 4"), "The result is 21."]
    faulty = [
        "<tool_call>{'name': 1}</tool_call>",
        call("get_weather"),
        call("calculate", formula="1"),
        call("calculate", expression="17 + 25"),
        "The result is 7.",
    ]
    turns = {TASKS[0].id: solved, TASKS[1].id: faulty}
    order = {
        "url": f"http://127.0.0.1:{port}",
        "episodes": [{"task_id": task_id, "turns": played} for task_id, played in turns.items()],
    }
    command = [python, "examples/openenv_adapter.py", "--port", str(port), "--tasks", str(tasks)]
    with serving(command, port, tmp_path / "server.log"):
        client = subprocess.run(
            [python, CLIENT], input=json.dumps(order), capture_output=True, text=True, timeout=120
        )
    assert client.returncode == 0, client.stderr
    answer = json.loads(client.stdout)
    expected = [played_here(task_id, played) for task_id, played in turns.items()]
    assert answer["told"] == expected
    assert [told[-1]["observation"]["outcome"] for told in answer["told"]] == [
        "success",
        "structural_fail",
    ]
    assert [(state["task_id"], state["step_count"]) for state in answer["states"]] == [
        (task_id, len(played)) for task_id, played in turns.items()
    ]


def played_here(task_id: str, turns: list[str]) -> list[dict[str, Any]]:
    """Play the same turns in MCP-v0 itself; return what OpenEnv's client should have got."""
    env = MCPGymEnv(tasks=TASKS)
    _, info = env.reset(options={"task_id": task_id})
    told = [as_openenv(info, None, terminated=False, truncated=False)]
    for turn in turns:
        _, reward, terminated, truncated, info = env.step(turn)
        told.append(as_openenv(info, reward, terminated=terminated, truncated=truncated))
    env.close()
    return json.loads(json.dumps(told))  # type: ignore[no-any-return]


def as_openenv(
    info: dict[str, Any], reward: float | None, *, terminated: bool, truncated: bool
) -> dict[str, Any]:
    observation = {key: info[key] for key in ("tools", "outcome", "why", "status")}
    observation |= {"messages": info["new_messages"], "truncated": truncated}
    return {"observation": observation, "reward": reward, "done": terminated or truncated}
