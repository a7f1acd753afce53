"""Greedy play of tasks, as stages are measured and validated.

Each task has a prompt of its own, which no other shares, so that fewer of them fit into memory side
by side than in training. As many are played as `--per_device_eval_batch_size` says (for each CPU
thread), and half as many where memory runs out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.engine import SamplingConfig
from agents.players import LanguagePlayer
from agents.rollout import Trajectory, fitting, rollout
from agents.summary import record_stage
from envs.tasks.load import load_tasks
from rewards.episode import Episode, Task
from sft.flags import PolicyArguments, TaskArguments


def thinned(tasks: list[Task], limit: int) -> list[Task]:
    """Return so many of the tasks, each kind in its share; all of them where the limit is 0."""
    if not limit or len(tasks) <= limit:
        return tasks
    by_kind = sorted(range(len(tasks)), key=lambda i: (tasks[i].heldout, tasks[i].kind))
    step = len(tasks) / limit
    return [tasks[place] for place in sorted(by_kind[int(i * step)] for i in range(limit))]


def evaluation_tasks(play: TaskArguments) -> list[Task]:
    """Return the tasks that stages are compared on, thinned if a limit is set."""
    tasks = load_tasks(play.tasks, play.eval_split, mock=not play.servers)
    return thinned(tasks, play.eval_limit)


def measure(
    stage: str,
    model: Any,
    tokenizer: Any,
    policy: PolicyArguments,
    play: TaskArguments,
    side_by_side: int,
) -> None:
    """Let a stage's policy play the test tasks, and record the episodes.

    Args:
        stage: Name of the stage in `summary.json`.
        model: The policy.
        tokenizer: Its tokenizer.
        policy: How long its turns may be.
        play: Which tasks.
        side_by_side: Most tasks of a batch.
    """
    player = greedy_player(stage, model, tokenizer, policy)
    tasks = evaluation_tasks(play)
    episodes = play_tasks(player, tasks, policy, play, side_by_side, progress=True)
    solved = sum(episode.success for episode in episodes)
    sys.stdout.write(f"{stage}: {solved} of {len(episodes)} test tasks solved\n")
    record_stage(Path(play.run_dir), stage, episodes)


def greedy_player(name: str, model: Any, tokenizer: Any, policy: PolicyArguments) -> LanguagePlayer:
    """Return a player that always says what is most likely."""
    sampling = SamplingConfig(
        temperature=0.0,
        max_turn_tokens=policy.max_turn_tokens,
        max_episode_tokens=policy.max_episode_tokens,
        max_length=policy.max_length_tokens,
        cuda_graphs=policy.cuda_graphs,
    )
    return LanguagePlayer(model, tokenizer, sampling, name=name, thinking=policy.enable_thinking)


def play_tasks(
    player: LanguagePlayer,
    tasks: Sequence[Task],
    policy: PolicyArguments,
    play: TaskArguments,
    side_by_side: int,
    *,
    progress: bool,
) -> list[Episode]:
    """Let a player play every task once, at most so many side by side (see above)."""
    on_cpu = next(player.model.parameters()).device.type == "cpu"

    def play_all(batch_size: int) -> list[Trajectory]:
        return rollout(
            player,
            tasks,
            max_turns=play.max_turns,
            batch_size=batch_size,
            workers=policy.threads if on_cpu else 1,
            servers=play.servers or None,
            progress=progress,
        )

    return [trajectory.episode for trajectory in fitting(play_all, side_by_side)]
