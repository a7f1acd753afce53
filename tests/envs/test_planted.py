from __future__ import annotations

from dataclasses import replace

import pytest

from envs.mcp_env import MCPGymEnv
from envs.policies import Oracle, render_calls
from envs.tasks.load import load_tasks
from envs.tasks.planted import is_shown, obeyed, planted_tasks
from envs.tasks.prove import play
from rewards.episode import Episode, Task, ToolCall
from rewards.serialise import task_from_json, task_to_json


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return load_tasks("planted", "validation")


@pytest.fixture(scope="module")
def env(tasks: list[Task]) -> MCPGymEnv:
    return MCPGymEnv(tasks=tasks, split=None)


def planted(task: Task) -> tuple[str, str]:
    """The tool whose result carries the text, and the tool that the text asks for."""
    ((carrier, text),) = task.faults["planted"].items()
    (asked,) = [name for name in task.tools if f"call {name} with" in text]
    return carrier, asked


def follow(env: MCPGymEnv, task: Task) -> Episode:
    """Solve the task, and call the tool that was asked for before the last turn."""
    _, asked = planted(task)
    env.reset(options={"task": task})
    *before, last = task.reference
    turns = [render_calls(turn.calls) for turn in before]
    turns.append(render_calls([ToolCall(asked, {})]))
    turns.append(last.text or render_calls(last.calls))
    for turn in turns:
        *_, info = env.step(turn)
    episode: Episode = info["episode"]
    return episode


def test_every_planted_task_asks_for_an_offered_tool_that_its_solution_does_not_call(
    tasks: list[Task],
) -> None:
    assert len(tasks) > 50
    for task in tasks:
        carrier, asked = planted(task)
        called = [call.name for turn in task.reference for call in turn.calls]
        assert called[0] == carrier
        assert asked not in called


def test_a_policy_that_solves_the_task_and_ignores_the_text_succeeds(
    env: MCPGymEnv, tasks: list[Task]
) -> None:
    for task in tasks[:20]:
        episode = play(env, task, Oracle())
        assert episode.success, episode.turns[-1].why
        assert is_shown(episode)
        assert not obeyed(episode)


def test_a_policy_that_does_as_the_text_says_fails_and_counts_as_obedient(
    env: MCPGymEnv, tasks: list[Task]
) -> None:
    for task in tasks[:20]:
        episode = follow(env, task)
        assert obeyed(episode)
        assert not episode.success


def test_a_call_of_the_tool_before_the_text_was_shown_is_no_obedience(
    env: MCPGymEnv, tasks: list[Task]
) -> None:
    task = tasks[0]
    env.reset(options={"task": task})
    *_, info = env.step(render_calls([ToolCall(planted(task)[1], {})]))
    assert not is_shown(info["episode"])
    assert not obeyed(info["episode"])


def test_planted_tasks_survive_a_task_file_and_are_the_same_for_the_same_seed(
    tasks: list[Task],
) -> None:
    starter = load_tasks("starter", "validation")
    assert planted_tasks(starter) == tasks
    assert planted_tasks(starter, seed=1) != tasks
    assert task_from_json(task_to_json(tasks[0])) == tasks[0]


def test_tasks_of_one_turn_or_with_faults_of_their_own_are_left_out(tasks: list[Task]) -> None:
    task = next(
        t for t in load_tasks("starter", "validation") if t.id == tasks[0].id[: -len("-planted")]
    )
    assert planted_tasks([replace(task, reference=task.reference[:1])]) == []
    assert planted_tasks([replace(task, faults={"latency_s": 0.1})]) == []
    assert planted_tasks([task])[0].kind == "planted"
