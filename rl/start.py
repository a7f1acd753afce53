"""What training by rollouts has in common, whatever learns from them: GRPO or PPO.

The flags of what is played, the policy it starts from, and the course of a run: train, save,
measure.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig
from trl.import_utils import is_vllm_available

from agents.engine import SamplingConfig
from agents.models import (
    add_adapter,
    cast_trainable_to_float32,
    check_adapter,
    load_model,
    load_tokenizer,
)
from agents.summary import write_stage_summary
from envs.tasks.load import load_tasks
from rl.curriculum import Curriculum
from rl.distributed import StopTogether, check_launcher, whole_adapter, with_whole_model
from rl.faults import StopOnFaults
from rl.step_log import rewind
from rl.trainer import ToolUseGRPOTrainer
from sft.checkpoints import STATE_FILE, last_checkpoint
from sft.flags import PolicyArguments, TaskArguments
from sft.playing import measure
from sft.recipe import Recipe, read_recipe, write_recipe
from sft.train import save_adapter


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


def train_policy(
    stage: str,
    make_trainer: Callable[..., ToolUseGRPOTrainer],
    policy: PolicyArguments,
    play: TaskArguments,
    rollouts: RolloutArguments,
    own: Any,
    config: GRPOConfig,
) -> ToolUseGRPOTrainer | None:
    """Train, save, measure.

    Args:
        stage: Name of the stage in `summary.json`.
        make_trainer: Makes the trainer, given its options; it knows what an episode is worth.
        policy: Which policy.
        play: Which tasks.
        rollouts: What is played in training.
        own: The flags of this stage alone.
        config: The trainer's configuration.

    Returns:
        The trainer, its policy saved and measured (by the first process); None if the run was
        interrupted.

    Raises:
        SystemExit: If a flag asks for what cannot be, or training stopped because servers kept
            failing.
    """
    torch.set_num_threads(policy.threads)
    check_launcher(stage, rollouts.tokens_per_forward)
    check_vllm(rollouts, config)
    check_thinking(policy, rollouts)
    model = starting_model(policy, rollouts, config.seed)
    tokenizer = load_tokenizer(policy.model_name_or_path)
    tasks = load_tasks(play.tasks, "train", mock=not play.servers)
    output = Path(str(config.output_dir))
    checkpoint = last_checkpoint(output, config.resume_from_checkpoint)
    if config.process_index == 0:
        write_recipe(output, f"rl.{stage}", (policy, play, rollouts, own, config))
    if checkpoint is None:
        for name in ("metrics.jsonl", "rollouts.jsonl"):
            (output / name).unlink(missing_ok=True)
    elif config.process_index == 0:
        rewind(output, steps_done(checkpoint))
    stop, faults = StopTogether(), StopOnFaults(rollouts.max_fault_share)
    curriculum = Curriculum(
        tasks,
        config.seed,
        rollouts.learnability,
        rollouts.no_call_share if rollouts.no_call_share >= 0 else None,
    )
    trainer = make_trainer(
        curriculum=curriculum,
        sampling=sampling(policy, config),
        max_turns=rollouts.rollout_turns or play.max_turns,
        guided=rollouts.guided,
        thinking=policy.enable_thinking,
        share_prompts=rollouts.share_prompts,
        tokens_per_forward=rollouts.tokens_per_forward,
        faults=faults,
        servers=play.servers or None,
        log_dir=output,
        workers=policy.threads if config.use_cpu and not config.use_vllm else 1,
        model=model,
        args=config,
        train_dataset=places(config, len(tasks)),
        processing_class=tokenizer,
        callbacks=[stop],
    )
    cast_trainable_to_float32(trainer.model)
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    finally:
        trainer.close()
    if faults.problem:
        raise SystemExit(
            f"error: {faults.problem}\ncheck the servers with `python -m envs.servers check`, then "
            f"go on from the checkpoint in {output} with --resume_from_checkpoint true"
        )
    if stop.interrupted:
        return None
    save_trained(trainer, tokenizer, output)
    side_by_side = config.per_device_eval_batch_size
    play_test = partial(measure, stage, trainer.model, tokenizer, policy, play, side_by_side)
    with_whole_model(trainer.model, play_test if trainer.is_world_process_zero() else nothing)
    if not trainer.is_world_process_zero():
        return trainer
    write_stage_summary(Path(play.run_dir))
    sys.stdout.write(
        f"wrote {output} (adapter, metrics.jsonl, rollouts.jsonl), {play.run_dir}/summary.json\n"
        f"next: python -m rl.report --run_dir {play.run_dir}\n"
    )
    return trainer


def save_trained(trainer: ToolUseGRPOTrainer, tokenizer: Any, folder: Path) -> None:
    """Write the adapter and the untouched tokenizer; every process comes here, the first writes."""
    model = trainer.model
    whole = whole_adapter(model)
    if trainer.is_world_process_zero() and whole is None:
        save_adapter(model, tokenizer, folder)
    elif trainer.is_world_process_zero():
        model.save_pretrained(
            folder, state_dict=whole, selected_adapters=["default"], save_embedding_layers=False
        )
        tokenizer.save_pretrained(folder)


def nothing() -> None:
    """What the other processes do meanwhile."""


def steps_done(checkpoint: str) -> int:
    """Return after how many steps a checkpoint was written."""
    state = json.loads((Path(checkpoint) / STATE_FILE).read_text(encoding="utf-8"))
    return int(state["global_step"])


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
    )


def starting_model(policy: PolicyArguments, rollouts: RolloutArguments, seed: int) -> Any:
    """Return the policy to train: the base with the warm start's adapter, or with a fresh one."""
    options: dict[str, Any] = {"load_in_4bit": policy.load_in_4bit, "precision": policy.precision}
    if rollouts.adapter != "none":
        check_adapter(rollouts.adapter)
        return load_model(
            policy.model_name_or_path, adapter=rollouts.adapter, trainable=True, **options
        )
    model = load_model(policy.model_name_or_path, **options)
    return add_adapter(model, rank=policy.lora_r, alpha=policy.lora_alpha, seed=seed)


def places(config: GRPOConfig, tasks: int) -> Dataset:
    """Return the rows that TRL goes through: numbered groups, to which the curriculum deals tasks.

    Args:
        config: Its `max_steps` decides how many; without it an epoch has one for each task.
        tasks: Number of training tasks.
    """
    groups = config.generation_batch_size // config.num_generations
    steps = config.max_steps if config.max_steps > 0 else max(1, tasks // groups)
    return Dataset.from_list(
        [{"prompt": [{"role": "user", "content": f"group {i}"}]} for i in range(groups * steps)]
    )
