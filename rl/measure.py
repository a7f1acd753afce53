"""The measurement at the end of training: the policy plays the test tasks greedily.

Each task has a prompt of its own, which no other shares, so that fewer of them fit into memory side
by side than in training. As many are played as `--per_device_eval_batch_size` says (for each CPU
thread), and half as many where memory runs out.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from agents.engine import SamplingConfig
from agents.players import LanguagePlayer
from agents.repeated import RepeatedConversations, layout_fault
from agents.rollout import rollout
from agents.summary import record_stage
from rewards.episode import Episode, Task
from sft.flags import PolicyArguments, TaskArguments
from sft.train import evaluation_tasks

log = logging.getLogger(__name__)


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
    tasks = evaluation_tasks(play)
    while True:
        try:
            episodes = _played(stage, model, tokenizer, tasks, policy, play, side_by_side)
            break
        except torch.OutOfMemoryError:
            if side_by_side == 1:
                raise
        side_by_side //= 2
        log.warning("out of memory; the test tasks begin again, %d side by side", side_by_side)
    solved = sum(episode.success for episode in episodes)
    sys.stdout.write(f"{stage}: {solved} of {len(episodes)} test tasks solved\n")
    record_stage(Path(play.run_dir), stage, episodes)


def _played(
    stage: str,
    model: Any,
    tokenizer: Any,
    tasks: Sequence[Task],
    policy: PolicyArguments,
    play: TaskArguments,
    side_by_side: int,
) -> list[Episode]:
    sampling = SamplingConfig(
        temperature=0.0,
        max_turn_tokens=policy.max_turn_tokens,
        max_episode_tokens=policy.max_episode_tokens,
        max_length=policy.max_length_tokens,
    )
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    alone = RepeatedConversations(model, end, pad, sampling) if layout_fault(model) else None
    on_cpu = next(model.parameters()).device.type == "cpu"
    played = rollout(
        LanguagePlayer(
            model,
            tokenizer,
            sampling,
            stage,
            thinking=policy.enable_thinking,
            conversations=alone,  # type: ignore[arg-type]
        ),
        tasks,
        max_turns=play.max_turns,
        batch_size=side_by_side,
        workers=policy.threads if on_cpu and alone is None else 1,
        servers=play.servers or None,
        progress=True,
    )
    return [trajectory.episode for trajectory in played]
