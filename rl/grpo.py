"""GRPO with execution rewards: `python -m rl.grpo`.

Starts from the adapter of `python -m sft.train`, plays groups of episodes of MCP-v0 and fine-tunes
with TRL's `GRPOTrainer`. The reference of the KL term is the SFT policy (a frozen copy of its
adapter), returns are scaled by a constant and not by the group, every step holds every kind of
task, and more of those that can still be learned (`rl/curriculum.py`).

Writes OUTPUT_DIR/ (adapter, checkpoints, recipe.yaml, metrics.jsonl, rollouts.jsonl),
RUN_DIR/episodes/grpo.jsonl and RUN_DIR/summary.json.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from trl import GRPOConfig

from agents.cli import run
from rewards.trl_rewards import scaled_return, scaled_success
from rl.flags import RolloutArguments
from rl.start import train_policy
from rl.trainer import ToolUseGRPOTrainer
from sft.flags import PolicyArguments, TaskArguments, read_flags

DESCRIPTION = (
    "GRPO over episodes of MCP-v0 from the adapter of sft.train. "
    "Without --config: configs/starter-grpo.yaml."
)


@dataclass(frozen=True)
class GroupArguments:
    """Flags of GRPO itself."""

    gate_groups: bool = field(
        default=False, metadata={"help": "No gradient from groups without any success."}
    )
    reward: Literal["turns", "outcome"] = field(
        default="turns",
        metadata={
            "help": "What an episode is worth: the sum of its turns' rewards, or whether it ended "
            "in success alone."
        },
    )
    credit: Literal["episode", "turn"] = field(
        default="episode",
        metadata={
            "help": "What a turn is credited with: the whole episode, or what came from it on "
            "(compared with the same turn of the group's other episodes)."
        },
    )

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.credit == "turn" and self.reward == "outcome":
            raise ValueError(
                "--credit turn gives every turn its own reward, --reward outcome none: use "
                "--credit episode with it"
            )


def main(
    policy: PolicyArguments,
    play: TaskArguments,
    rollouts: RolloutArguments,
    groups: GroupArguments,
    config: GRPOConfig,
) -> None:
    """Train, save, measure."""
    if groups.credit == "turn" and config.scale_rewards not in ("none", False):
        raise SystemExit(
            "error: --credit turn is not scaled by groups; use --scale_rewards none, or "
            "--credit episode"
        )
    worth = {"turns": scaled_return, "outcome": scaled_success}
    trainer = partial(
        ToolUseGRPOTrainer,
        gate_groups=groups.gate_groups,
        reward=worth[groups.reward](rollouts.return_scale),
        turn_credit=rollouts.return_scale if groups.credit == "turn" else None,
    )
    train_policy("grpo", trainer, policy, play, rollouts, groups, config)


if __name__ == "__main__":
    given = read_flags(
        (PolicyArguments, TaskArguments, RolloutArguments, GroupArguments, GRPOConfig),
        default_config="starter-grpo.yaml",
        program="rl.grpo",
        description=DESCRIPTION,
    )
    sys.exit(run(main, given))
