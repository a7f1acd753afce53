"""Proof that a task is fair, by playing it through the real servers.

solvable    the reference solution succeeds, in as many turns and calls as it says
earned      a fixed text without calls fails (or is right, where no tool must be called)
open        the goal does not hold at the start
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from envs.mcp_env import MCPGymEnv
from envs.policies import FixedText, Oracle, TextPolicy
from rewards.episode import Episode, Task
from rewards.goal_checks import check_goal
from rewards.goals import AnyOf, NoCall

FIXED_TEXT = FixedText("fixed_text", "I cannot help with that.")


def problems(env: MCPGymEnv, task: Task) -> list[str]:
    """Return what is wrong with a task, one sentence each; empty where it is proven.

    Args:
        env: Any environment over the servers that the task uses.
        task: The task, with its reference solution.
    """
    return [*_solvable(env, task), *_earned(env, task), *_open(env, task)]


def play(env: MCPGymEnv, task: Task, policy: TextPolicy) -> Episode:
    """Play one episode of `task` and return its records."""
    rng = random.Random(0)
    _, info = env.reset(seed=0, options={"task": task})
    over = False
    while not over:
        action = policy.act(task, info["tools"], info["messages"], rng)
        _, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
    episode: Episode = info["episode"]
    return episode


def _solvable(env: MCPGymEnv, task: Task) -> Iterator[str]:
    episode = play(env, task, Oracle())
    turns, wanted = len(episode.turns), len(task.reference)
    if not episode.success:
        yield f"the reference fails: {episode.turns[-1].why or episode.status}"
    elif turns != wanted:
        yield f"the reference succeeds after {turns} of its {wanted} turns"
    calls = sum(len(turn.calls) for turn in task.reference)
    if calls != task.depth:
        yield f"the reference makes {calls} calls, the task says {task.depth}"


def _earned(env: MCPGymEnv, task: Task) -> Iterator[str]:
    right = isinstance(task.goal, NoCall)
    if play(env, task, FIXED_TEXT).success != right:
        yield f"a fixed text without calls {'fails' if right else 'succeeds'}"


def _open(env: MCPGymEnv, task: Task) -> Iterator[str]:
    """Judge what the environment sees of a fresh state, as if nothing had been said."""
    # A text is right here beside the goal, so that the goal is looked at although nobody called.
    either = replace(task, goal=AnyOf((task.goal, NoCall())))
    start = play(env, either, FIXED_TEXT).turns[-1]
    nothing = replace(start, raw="", text="")
    if check_goal(task.goal, Episode(task, turns=(nothing,))).holds:
        yield "the goal holds at the start"
