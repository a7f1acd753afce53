"""Flags of training by rollouts, whatever learns from them, and what they rule out together."""

from __future__ import annotations

from dataclasses import dataclass, field

from trl import GRPOConfig
from trl.import_utils import is_vllm_available

from agents.engine import SamplingConfig
from sft.flags import PolicyArguments
from sft.recipe import Recipe, read_recipe


@dataclass(frozen=True)
class RolloutArguments:
    """Flags of what is played in training: where from, which tasks, for how long."""

    adapter: str = field(
        default="runs/sft",
        metadata={"help": "Adapter of the warm start; 'none' starts from the base model."},
    )
    return_scale: float = field(
        default=0.1, metadata={"help": "The return of an episode is multiplied by it."}
    )
    rollout_turns: int = field(
        default=0,
        metadata={
            "help": "Turn limit of training episodes (0: --max_turns). What a failed episode says "
            "to its end costs time and teaches little."
        },
    )
    learnability: float = field(
        default=0.5,
        metadata={
            "help": "Share of the groups dealt to kinds of task by how mixed their results are "
            "(0: every kind equally often)."
        },
    )
    no_call_share: float = field(
        default=-1.0,
        metadata={
            "help": "Share of the groups dealt to tasks that must not be answered by calling "
            "(negative: what these kinds get beside the others)."
        },
    )

    guided: int = field(
        default=0,
        metadata={
            "help": "Episodes of each group whose first token is held to what the task needs: to "
            "open a call, or not to. Finds what the policy would never try."
        },
    )

    tokens_per_forward: int = field(
        default=0,
        metadata={
            "help": "Most tokens that the update takes through the model at once, a distinct "
            "prompt counted once; 0 for all. Changes no result; halved when memory runs out."
        },
    )

    share_prompts: bool = field(
        default=True,
        metadata={
            "help": "Compute a prompt once for its whole group and all turns. false computes every "
            "conversation by itself, in every turn: slower, to compare with."
        },
    )

    max_fault_share: float = field(
        default=0.5,
        metadata={
            "help": "Training stops, with a checkpoint, when more than this share of a step's "
            "episodes meets a fault of a server."
        },
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be played."""
        if self.no_call_share > 1:
            raise ValueError(f"--no_call_share is a share up to 1, not {self.no_call_share}")
        for name in ("guided", "rollout_turns", "tokens_per_forward"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name} must not be negative: {getattr(self, name)}")
        if not 0 <= self.learnability <= 1:
            raise ValueError(f"--learnability is a share from 0 to 1, not {self.learnability}")


def check_vllm(rollouts: RolloutArguments, config: GRPOConfig) -> None:
    """Refuse what vLLM cannot do, before anything is loaded.

    Raises:
        SystemExit: If it is not installed, or asked for what it cannot do.
    """
    if not config.use_vllm:
        return
    if not is_vllm_available():
        raise SystemExit(
            "error: --use_vllm needs vLLM, which is not installed: pip install 'trl[vllm]' on a "
            "machine with a GPU that it supports, or leave the flag out"
        )
    if rollouts.guided:
        raise SystemExit("error: vLLM cannot hold the first token of a turn; use --guided 0")


def check_thinking(policy: PolicyArguments, rollouts: RolloutArguments) -> None:
    """Refuse to let a policy think that was trained without, or the reverse, or is guided.

    An adapter without a recipe says nothing about it.

    Raises:
        SystemExit: If the adapter was trained otherwise, or a thought would be held to a call.
        ModelFileError: If the recipe of the adapter is damaged.
    """
    if policy.enable_thinking and rollouts.guided:
        raise SystemExit(
            "error: --guided holds the first token to a call, where --enable_thinking lets the "
            "policy think first; use --guided 0"
        )
    recipe = Recipe() if rollouts.adapter == "none" else read_recipe(rollouts.adapter)
    trained = bool(recipe.flags.get("enable_thinking", False))
    if recipe != Recipe() and trained != policy.enable_thinking:
        how = str(trained).lower()
        raise SystemExit(
            f"error: {rollouts.adapter} was trained with enable_thinking {how}; "
            f"use --enable_thinking {how}"
        )


def sampling(policy: PolicyArguments, config: GRPOConfig) -> SamplingConfig:
    """Return how training episodes are sampled; the trainer adds a seed for each step.

    Raises:
        SystemExit: If a flag asks for what the rollouts do not do.
    """
    for name, neutral in (("min_p", (None, 0.0)), ("repetition_penalty", (1.0,))):
        if getattr(config, name) not in neutral:
            raise SystemExit(f"error: --{name} is not applied to rollouts; use --top_p or --top_k")
    return SamplingConfig(
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        max_turn_tokens=policy.max_turn_tokens,
        max_episode_tokens=policy.max_episode_tokens,
        max_length=policy.max_length_tokens,
        seed=config.seed,
        cuda_graphs=policy.cuda_graphs,
    )
