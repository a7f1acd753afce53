"""What a run will do, read off its flags: how many tokens and rows are there at once."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agents.errors import ModelFileError


@dataclass(frozen=True)
class Plan:
    """What a run does with its model, as far as memory is concerned.

    Attributes:
        kind: sft, grpo or ppo.
        on_gpu: On a GPU attention is counted as plain products; its kernel was not measured.
        load_in_4bit: Linear layers in NF4.
        weight_bytes: Bytes of a weight that is not quantised, and of a hidden state.
        mixed: Trained under autocast to 16 bits.
        checkpointing: Activations of a layer are computed again in the backward pass.
        state_bytes: Optimizer state of one trained parameter.
        rank: Of the adapter.
        reference: A frozen copy of the adapter is kept.
        accumulates: Gradients are there when a batch begins, and `rl.trainer` keeps a copy of them.
        gathers: An optimizer step gathers gradients over several generations.
        scored: Whole generations are scored without gradients.
        prompt: Tokens of a prompt.
        completion: Most tokens of a completion, observations included.
        sampled: Most of them that the policy says.
        turns: Turn limit.
        group: Episodes of one prompt.
        rows: Episodes of a generation.
        batch: Rows that an update learns from.
        micro: Rows of one forward pass with gradients.
        row: Tokens of a padded row of sft.train.
        evaluated: Test tasks that are played side by side.
    """

    kind: str
    on_gpu: bool
    load_in_4bit: bool
    weight_bytes: int
    mixed: bool
    checkpointing: bool
    state_bytes: float
    rank: int
    reference: bool
    gathers: bool
    accumulates: bool
    scored: bool
    prompt: int
    completion: int
    sampled: int
    turns: int
    group: int
    rows: int
    batch: int
    micro: int
    row: int
    evaluated: int

    @property
    def compute_bytes(self) -> int:
        """Return the bytes of what a linear layer makes in training."""
        return 2 if self.mixed else self.weight_bytes

    @property
    def folds(self) -> bool:
        """Return whether `agents.merged` can fold the adapter into the weights."""
        return self.weight_bytes == 4 and not self.load_in_4bit

    @property
    def folds_update(self) -> bool:
        """Return whether it does so in the update."""
        return self.folds and not self.checkpointing


def plan_of(given: Sequence[Any], kind: str, prompt: int, on_gpu: bool, dtype: Any) -> Plan:
    """Return what the flags of a run come to.

    Args:
        given: The dataclasses of its command, filled (see `COMMANDS`).
        kind: sft, grpo or ppo.
        prompt: Tokens of a prompt; 0 for 4096, or three quarters of conversations up to that.
        on_gpu: Whether it runs on a GPU.
        dtype: The type of the model's weights on disk, which `--precision auto` keeps.

    Raises:
        ValueError: If the prompt leaves no room for a completion.
    """
    policy, play, config = given[0], given[1], given[-1]
    limit = policy.max_length_tokens
    prompt = prompt or (4096 if limit > 4096 else 3 * limit // 4)
    room = limit - prompt
    if room < 1:
        raise ValueError(
            f"a prompt of {prompt} tokens leaves no room in --max_length_tokens {limit}; "
            "raise it, or lower --tokens_per_prompt"
        )
    turns = play.max_turns
    precision = str(dtype or "float32") if policy.precision == "auto" else policy.precision
    plan = Plan(
        kind=kind,
        on_gpu=on_gpu,
        load_in_4bit=policy.load_in_4bit,
        weight_bytes=4 if "float32" in precision else 2,
        mixed=bool(config.fp16 or config.bf16),
        checkpointing=bool(config.gradient_checkpointing),
        state_bytes=state_bytes(str(getattr(config.optim, "value", config.optim))),
        rank=policy.lora_r,
        reference=False,
        gathers=False,
        accumulates=False,
        scored=False,
        prompt=prompt,
        completion=room,
        sampled=min(room, turns * policy.max_turn_tokens, policy.max_episode_tokens or sys.maxsize),
        turns=turns,
        group=1,
        rows=0,
        batch=config.per_device_train_batch_size,
        micro=config.per_device_train_batch_size,
        row=min(getattr(config, "max_length", None) or sys.maxsize, policy.max_length_tokens),
        evaluated=_evaluated(
            play.eval_limit, 1 if on_gpu else policy.threads, config.per_device_eval_batch_size
        ),
    )
    return plan if kind == "sft" else _with_rollouts(plan, given)


def _with_rollouts(plan: Plan, given: Sequence[Any]) -> Plan:
    """Return the plan of a run that plays, given what all runs have in common."""
    policy, play, rollouts, config = given[0], given[1], given[2], given[-1]
    turns = rollouts.rollout_turns or play.max_turns
    # TRL scores a generation beforehand where the policy that learns from it may be another one.
    often = config.steps_per_generation * config.num_iterations
    late = config.gradient_accumulation_steps % often != 0
    batch = config.per_device_train_batch_size
    if plan.kind == "ppo":
        batch = max(1, config.generation_batch_size // given[3].minibatches)
    # Pieces as `rl.pieces.divided` makes them.
    tokens = packed(plan, batch, config.num_generations)
    pieces = min(batch, math.ceil(tokens / (rollouts.tokens_per_forward or tokens)))
    return replace(
        plan,
        rank=_rank_of(rollouts.adapter, plan.rank),
        reference=config.beta != 0,
        gathers=config.gradient_accumulation_steps > config.steps_per_generation,
        accumulates=config.gradient_accumulation_steps > 1,
        scored=config.beta != 0 or late or plan.kind == "ppo",
        sampled=min(plan.sampled, turns * policy.max_turn_tokens),
        turns=turns,
        group=config.num_generations,
        rows=config.generation_batch_size,
        batch=batch,
        micro=math.ceil(batch / pieces),
    )


def packed(plan: Plan, rows: int, group: int) -> int:
    """Return the tokens of rows in one packed row: a prompt for each group, all completions."""
    return math.ceil(rows / group) * plan.prompt + rows * plan.completion


def _evaluated(limit: int, workers: int, batch: int) -> int:
    """Return how many test tasks are played side by side; `limit` 0 stands for many."""
    batches = min(workers, math.ceil(limit / batch) if limit else workers)
    return min(limit or sys.maxsize, batches * batch)


def _rank_of(adapter: str, rank: int) -> int:
    """Return the rank of an adapter folder; `rank` if there is none yet."""
    path = Path(adapter) / "adapter_config.json"
    if not path.is_file():
        return rank
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["r"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path} is damaged ({error}); train the adapter again") from error


def state_bytes(optimizer: str) -> float:
    """Return the optimizer's state in bytes for each trained parameter.

    Adam keeps two numbers; bitsandbytes' 8-bit Adam a byte for each, and a float32 constant for
    each block of 256 (Dettmers et al. 2022, arXiv:2110.02861). SGD keeps nothing.
    """
    if optimizer == "sgd":
        return 0
    return 2 * (1 + 4 / 256) if "8bit" in optimizer else 8
