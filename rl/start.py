"""What training by rollouts has in common, whatever learns from them: GRPO or PPO.

The policy it starts from, and the course of a run: train, save, measure.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig

from agents.models import (
    add_adapter,
    cast_trainable_to_float32,
    check_adapter,
    load_model,
    load_tokenizer,
)
from agents.summary import write_stage_summary
from envs.tasks.load import load_tasks
from rewards.episode import Task
from rl.curriculum import Curriculum
from rl.distributed import StopTogether, check_launcher, whole_adapter, with_whole_model
from rl.faults import StopOnFaults
from rl.flags import RolloutArguments, check_thinking, check_vllm, sampling
from rl.step_log import rewind
from rl.trainer import ToolUseGRPOTrainer
from sft.checkpoints import STATE_FILE, last_checkpoint
from sft.flags import PolicyArguments, TaskArguments
from sft.playing import evaluation_tasks, measure
from sft.recipe import write_recipe
from sft.train import save_adapter


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
        SystemExit: If a flag asks for what cannot be, or servers kept failing.
    """
    torch.set_num_threads(policy.threads)
    check_flags(stage, policy, rollouts, config)
    model = starting_model(policy, rollouts, config)
    tokenizer = load_tokenizer(policy.model_name_or_path)
    tasks = load_tasks(play.tasks, "train", mock=not play.servers)
    evaluation_tasks(play)  # what cannot be played is said before anything is trained
    output = Path(str(config.output_dir))
    checkpoint = last_checkpoint(output, config.resume_from_checkpoint)
    if config.process_index == 0:
        write_recipe(output, f"rl.{stage}", (policy, play, rollouts, own, config))
        begin_logs(output, checkpoint)
    stop, faults = StopTogether(), StopOnFaults(rollouts.max_fault_share)
    trainer = make_trainer(
        **played(policy, play, rollouts, config, tasks),
        faults=faults,
        log_dir=output,
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
    check_servers(faults, output)
    if stop.interrupted:
        return None
    save_trained(trainer, tokenizer, output)
    measure_trained(stage, trainer, tokenizer, policy, play)
    return trainer


def check_flags(
    stage: str, policy: PolicyArguments, rollouts: RolloutArguments, config: GRPOConfig
) -> None:
    """Refuse what cannot be, before anything is loaded.

    Raises:
        SystemExit: If a flag asks for it.
    """
    check_launcher(stage, rollouts.tokens_per_forward)
    check_vllm(rollouts, config)
    check_thinking(policy, rollouts)


def check_servers(faults: StopOnFaults, output: Path) -> None:
    """Say how to go on where training stopped because servers kept failing.

    Raises:
        SystemExit: If it did.
    """
    if faults.problem:
        raise SystemExit(
            f"error: {faults.problem}\ncheck the servers with `python -m envs.servers check`, then "
            f"go on from the checkpoint in {output} with --resume_from_checkpoint true"
        )


def begin_logs(output: Path, checkpoint: str | None) -> None:
    """Leave in the logs of steps what a run that goes on has done; a new one begins empty."""
    if checkpoint is not None:
        rewind(output, steps_done(checkpoint))
        return
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        (output / name).unlink(missing_ok=True)


def played(
    policy: PolicyArguments,
    play: TaskArguments,
    rollouts: RolloutArguments,
    config: GRPOConfig,
    tasks: Sequence[Task],
) -> dict[str, Any]:
    """Return the options of a trainer that say what is played, and how."""
    no_calls = rollouts.no_call_share if rollouts.no_call_share >= 0 else None
    return {
        "curriculum": Curriculum(tasks, config.seed, rollouts.learnability, no_calls),
        "sampling": sampling(policy, config),
        "max_turns": rollouts.rollout_turns or play.max_turns,
        "guided": rollouts.guided,
        "thinking": policy.enable_thinking,
        "share_prompts": rollouts.share_prompts,
        "tokens_per_forward": rollouts.tokens_per_forward,
        "servers": play.servers or None,
        "workers": policy.threads if config.use_cpu and not config.use_vllm else 1,
    }


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


def measure_trained(
    stage: str,
    trainer: ToolUseGRPOTrainer,
    tokenizer: Any,
    policy: PolicyArguments,
    play: TaskArguments,
) -> None:
    """Play the test tasks and record them; every process comes here, the first plays."""
    side_by_side = trainer.args.per_device_eval_batch_size
    play_test = partial(measure, stage, trainer.model, tokenizer, policy, play, side_by_side)
    with_whole_model(trainer.model, play_test if trainer.is_world_process_zero() else nothing)
    if not trainer.is_world_process_zero():
        return
    write_stage_summary(Path(play.run_dir))
    sys.stdout.write(
        f"wrote {trainer.args.output_dir} (adapter, metrics.jsonl, rollouts.jsonl), "
        f"{play.run_dir}/summary.json\n"
        f"next: python -m rl.report --run_dir {play.run_dir}\n"
    )


def nothing() -> None:
    """What the other processes do meanwhile."""


def steps_done(checkpoint: str) -> int:
    """Return after how many steps a checkpoint was written."""
    state = json.loads((Path(checkpoint) / STATE_FILE).read_text(encoding="utf-8"))
    return int(state["global_step"])


def starting_model(policy: PolicyArguments, rollouts: RolloutArguments, config: GRPOConfig) -> Any:
    """Return the policy to train: the base with the warm start's adapter, or with a fresh one."""
    options: dict[str, Any] = {
        "load_in_4bit": policy.load_in_4bit,
        "precision": policy.precision,
        "use_cpu": config.use_cpu,
    }
    if rollouts.adapter != "none":
        check_adapter(rollouts.adapter)
        return load_model(
            policy.model_name_or_path, adapter=rollouts.adapter, trainable=True, **options
        )
    model = load_model(policy.model_name_or_path, **options)
    return add_adapter(model, rank=policy.lora_r, alpha=policy.lora_alpha, seed=config.seed)


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
