from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from envs.tasks.__main__ import main
from envs.tasks.load import load_tasks
from rewards.episode import Task
from rewards.goal_checks import needs_call
from rewards.goals import Probe
from rewards.serialise import write_tasks

EXAMPLE = Path(__file__).parents[2] / "examples" / "filesystem-memory"
TASKS = EXAMPLE / "tasks.jsonl"

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return load_tasks(TASKS, mock=False)


def called_servers(task: Task) -> set[str]:
    return {call.name.partition("_")[0] for turn in task.reference for call in turn.calls}


def test_the_tasks_need_either_server_both_and_none(tasks: list[Task]) -> None:
    needed = Counter("+".join(sorted(called_servers(task))) for task in tasks)
    assert needed == {"filesystem": 8, "memory": 8, "filesystem+memory": 2, "": 2}
    assert all(needs_call(task.goal) == bool(called_servers(task)) for task in tasks)


def test_the_tasks_are_split_and_every_split_needs_both_servers(tasks: list[Task]) -> None:
    assert Counter(task.split for task in tasks) == {"train": 12, "validation": 4, "test": 4}
    for split in ("train", "validation", "test"):
        needed = set().union(*(called_servers(task) for task in tasks if task.split == split))
        assert needed == {"filesystem", "memory"}


def test_the_task_file_is_what_its_program_writes(tmp_path: Path) -> None:
    program = [sys.executable, str(EXAMPLE / "make_tasks.py"), str(tmp_path / "tasks.jsonl")]
    subprocess.run(program, check=True, timeout=60, capture_output=True)
    assert (tmp_path / "tasks.jsonl").read_bytes() == TASKS.read_bytes()


def test_every_task_is_proven_on_the_servers(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["check", str(TASKS), "--servers", str(EXAMPLE / "mcp.json")])
    out = capsys.readouterr().out
    assert code == 0, out
    assert "20 of 20 tasks proven" in out


def test_a_goal_that_a_fresh_server_meets_is_not_proven(
    tasks: list[Task], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = next(task for task in tasks if task.kind == "add-person")
    met = Probe("memory_read_graph", {}, "entities[0].name", "Ann Lee")
    write_tasks(tmp_path / "met.jsonl", [replace(task, goal=met)])
    assert main(["check", str(tmp_path / "met.jsonl"), "--servers", str(EXAMPLE / "mcp.json")]) == 1
    assert "the goal holds at the start" in capsys.readouterr().out
