"""PPO with execution rewards: `python -m rl.ppo`.

Starts from the adapter of `python -m sft.train`. Actor, critic and reference share one set of base
weights: the actor is the adapter, the critic a value head on its hidden states, the reference a
frozen copy of the adapter as it was. Each turn's reward stands at the last token of the turn, and
advantages go over the policy's own tokens only (`rl/ppo_objective.py`).

Writes OUTPUT_DIR/ (adapter, value head, checkpoints, metrics.jsonl, rollouts.jsonl),
RUN_DIR/episodes/ppo.jsonl and RUN_DIR/summary.json.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import partial

from trl import GRPOConfig

from agents.cli import run
from agents.value_head import save_value_head
from rewards.trl_rewards import scaled_return
from rl.flags import RolloutArguments
from rl.ppo_objective import Clipping, KLController
from rl.ppo_trainer import PPOSettings, ToolUsePPOTrainer
from rl.start import train_policy
from sft.flags import PolicyArguments, TaskArguments, read_flags

DESCRIPTION = (
    "PPO over episodes of MCP-v0 from the adapter of sft.train. "
    "Without --config: configs/starter-ppo.yaml. --epsilon clips the ratio, --beta is the "
    "coefficient of the KL penalty."
)


@dataclass(frozen=True)
class PPOArguments:
    """Flags of PPO itself."""

    epochs: int = field(default=4, metadata={"help": "Most passes over the episodes of a step."})
    minibatches: int = field(
        default=1, metadata={"help": "Parts of a pass; each is one optimizer step."}
    )
    discount: float = field(
        default=1.0, metadata={"help": "Discount of rewards, for each token of the policy."}
    )
    gae_lambda: float = field(
        default=1.0,
        metadata={"help": "GAE: 0 trusts the critic alone, 1 the returns alone."},
    )
    value_clip: float = field(
        default=0.2, metadata={"help": "A value may move so far in one step (scaled rewards)."}
    )
    value_weight: float = field(
        default=0.1, metadata={"help": "Weight of the value loss beside the policy's."}
    )
    value_trains_policy: bool = field(
        default=False,
        metadata={
            "help": "Let the gradients of the values reach the adapter, which then serves both."
        },
    )
    stop_kl: float = field(
        default=0.03,
        metadata={
            "help": "The passes of a step end when the policy has moved this far from the one "
            "that played, in nats per token; 0 for no limit."
        },
    )
    group_baseline: bool = field(
        default=False,
        metadata={
            "help": "Also take from an episode's advantages what the others of its group have in "
            "the mean: a critic that sees a prompt once cannot know how hard it is."
        },
    )
    per_episode: bool = field(
        default=False,
        metadata={"help": "Every episode counts the same in the loss, however long it is."},
    )
    whiten: bool = field(
        default=True,
        metadata={"help": "Give the advantages of a step mean 0 and standard deviation 1."},
    )
    target_kl: float = field(
        default=0.0,
        metadata={
            "help": "Adapt --beta so that the KL to the reference comes near this, in nats per "
            "token; 0 keeps it."
        },
    )
    kl_horizon: float = field(
        default=10.0, metadata={"help": "Steps over which --beta is adapted."}
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        for name in ("epochs", "minibatches"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, not {getattr(self, name)}")
        for name in ("discount", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"--{name} lies between 0 and 1, not {getattr(self, name)}")
        for name in ("value_clip", "kl_horizon"):
            if getattr(self, name) <= 0:
                raise ValueError(f"--{name} must be above 0, not {getattr(self, name)}")
        for name in ("value_weight", "stop_kl", "target_kl"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name} must not be negative: {getattr(self, name)}")


def main(
    policy: PolicyArguments,
    play: TaskArguments,
    rollouts: RolloutArguments,
    ppo: PPOArguments,
    config: GRPOConfig,
) -> None:
    """Train, save, measure."""
    if ppo.target_kl and not config.beta:
        raise SystemExit(
            "error: --target_kl adapts --beta, which is 0; give it a start such as 0.01"
        )
    low = config.epsilon
    high = config.epsilon if config.epsilon_high is None else config.epsilon_high
    settings = PPOSettings(
        epochs=ppo.epochs,
        minibatches=ppo.minibatches,
        discount=ppo.discount,
        gae_lambda=ppo.gae_lambda,
        clip=Clipping(low, high, ppo.value_clip),
        value_weight=ppo.value_weight,
        value_trains_policy=ppo.value_trains_policy,
        stop_kl=ppo.stop_kl,
        reward_scale=rollouts.return_scale,
        group_baseline=ppo.group_baseline,
        whiten=ppo.whiten,
        per_episode=ppo.per_episode,
    )
    kl = KLController(config.beta, ppo.target_kl, ppo.kl_horizon)
    reward = scaled_return(rollouts.return_scale)  # logged; what is learned from is each turn's
    make = partial(ToolUsePPOTrainer, settings=settings, kl=kl, reward=reward)
    trainer = train_policy("ppo", make, policy, play, rollouts, ppo, config)
    if trainer and trainer.is_world_process_zero():
        save_value_head(trainer.model, str(config.output_dir))


if __name__ == "__main__":
    given = read_flags(
        (PolicyArguments, TaskArguments, RolloutArguments, PPOArguments, GRPOConfig),
        default_config="starter-ppo.yaml",
        program="rl.ppo",
        description=DESCRIPTION,
    )
    sys.exit(run(main, given))
