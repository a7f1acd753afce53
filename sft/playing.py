"""Greedy play of tasks, as stages are measured and validated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agents.engine import SamplingConfig
from agents.players import LanguagePlayer
from agents.rollout import rollout
from rewards.episode import Episode, Task
from sft.flags import PolicyArguments, TaskArguments


def thinned(tasks: list[Task], limit: int) -> list[Task]:
    """Return so many of the tasks, at even distances; all of them where the limit is 0."""
    if not limit or len(tasks) <= limit:
        return tasks
    step = len(tasks) / limit
    return [tasks[int(i * step)] for i in range(limit)]


def greedy_player(name: str, model: Any, tokenizer: Any, policy: PolicyArguments) -> LanguagePlayer:
    """Return a player that always says what is most likely."""
    sampling = SamplingConfig(
        temperature=0.0,
        max_turn_tokens=policy.max_turn_tokens,
        max_episode_tokens=policy.max_episode_tokens,
        max_length=policy.max_length_tokens,
    )
    return LanguagePlayer(model, tokenizer, sampling, name=name, thinking=policy.enable_thinking)


def play_tasks(
    player: LanguagePlayer,
    tasks: Sequence[Task],
    policy: PolicyArguments,
    play: TaskArguments,
    *,
    progress: bool,
) -> list[Episode]:
    """Let a player play every task once."""
    on_cpu = next(player.model.parameters()).device.type == "cpu"
    played = rollout(
        player,
        tasks,
        max_turns=play.max_turns,
        workers=policy.threads if on_cpu else 1,
        servers=play.servers or None,
        progress=progress,
    )
    return [trajectory.episode for trajectory in played]
