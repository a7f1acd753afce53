"""GRPO with execution rewards: `python -m rl.grpo`.

Starts from the adapter of `python -m sft.train`, plays groups of episodes of MCP-v0 and fine-tunes
with TRL's `GRPOTrainer`. The reference of the KL term is the SFT policy (a frozen copy of its
adapter), returns are scaled by a constant and not by the group, every step holds every kind of
task, and more of those that can still be learned (`rl/curriculum.py`).

Writes OUTPUT_DIR/ (adapter, checkpoints, metrics.jsonl, rollouts.jsonl),
RUN_DIR/episodes/grpo.jsonl and RUN_DIR/summary.json.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig

from agents.cli import run
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
from rewards.trl_rewards import scaled_return
from rl.curriculum import Curriculum
from rl.faults import StopOnFaults
from rl.trainer import ToolUseGRPOTrainer
from sft.checkpoints import last_checkpoint
from sft.flags import PolicyArguments, TaskArguments, read_flags
from sft.interrupt import StopOnInterrupt
from sft.train import evaluate_stage, evaluation_tasks, save_adapter

DESCRIPTION = (
    "GRPO over episodes of MCP-v0 from the adapter of sft.train. "
    "Without --config: configs/starter-grpo.yaml."
)


@dataclass(frozen=True)
class ReinforceArguments:
    """Flags of GRPO itself."""

    adapter: str = field(
        default="runs/sft",
        metadata={"help": "Adapter of the warm start; 'none' starts from the base model."},
    )
    return_scale: float = field(
        default=0.1, metadata={"help": "The return of an episode is multiplied by it."}
    )
    gate_groups: bool = field(
        default=False, metadata={"help": "No gradient from groups without any success."}
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
        if self.guided < 0:
            raise ValueError(f"--guided must not be negative: {self.guided}")
        if self.rollout_turns < 0:
            raise ValueError(f"--rollout_turns must not be negative: {self.rollout_turns}")
        if not 0 <= self.learnability <= 1:
            raise ValueError(f"--learnability is a share from 0 to 1, not {self.learnability}")


def main(
    policy: PolicyArguments, play: TaskArguments, reinforce: ReinforceArguments, config: GRPOConfig
) -> None:
    """Train, save, measure."""
    torch.set_num_threads(policy.threads)
    model = starting_model(policy, reinforce, config.seed)
    tokenizer = load_tokenizer(policy.model_name_or_path)
    tasks = load_tasks(play.tasks, "train", mock=not play.servers)
    output = Path(str(config.output_dir))
    checkpoint = last_checkpoint(output, config.resume_from_checkpoint)
    if checkpoint is None:
        for name in ("metrics.jsonl", "rollouts.jsonl"):
            (output / name).unlink(missing_ok=True)
    stop, faults = StopOnInterrupt(), StopOnFaults(reinforce.max_fault_share)
    curriculum = Curriculum(
        tasks,
        config.seed,
        reinforce.learnability,
        reinforce.no_call_share if reinforce.no_call_share >= 0 else None,
    )
    trainer = ToolUseGRPOTrainer(
        curriculum=curriculum,
        reward=scaled_return(reinforce.return_scale),
        sampling=SamplingConfig(
            max_turn_tokens=policy.max_turn_tokens,
            max_length=policy.max_length_tokens,
            seed=config.seed,
        ),
        max_turns=reinforce.rollout_turns or play.max_turns,
        gate_groups=reinforce.gate_groups,
        guided=reinforce.guided,
        faults=faults,
        servers=play.servers or None,
        log_dir=output,
        workers=policy.threads if config.use_cpu else 1,
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
        return
    save_adapter(trainer.model, tokenizer, output)
    evaluate_stage("grpo", trainer.model, tokenizer, evaluation_tasks(play), policy, play)
    write_stage_summary(Path(play.run_dir))
    sys.stdout.write(
        f"wrote {output} (adapter, metrics.jsonl, rollouts.jsonl), {play.run_dir}/summary.json\n"
        f"next: python -m rl.report --run_dir {play.run_dir}\n"
    )


def starting_model(policy: PolicyArguments, reinforce: ReinforceArguments, seed: int) -> Any:
    """Return the policy to train: the base with the warm start's adapter, or with a fresh one."""
    options: dict[str, Any] = {"load_in_4bit": policy.load_in_4bit, "precision": policy.precision}
    if reinforce.adapter != "none":
        check_adapter(reinforce.adapter)
        return load_model(
            policy.model_name_or_path, adapter=reinforce.adapter, trainable=True, **options
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


if __name__ == "__main__":
    given = read_flags(
        (PolicyArguments, TaskArguments, ReinforceArguments, GRPOConfig),
        default_config="starter-grpo.yaml",
        program="rl.grpo",
        description=DESCRIPTION,
    )
    sys.exit(run(main, given))
