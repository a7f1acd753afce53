"""Flags shared by the training commands, and how they are read.

Flags are dataclasses read by TRL's `TrlParser`: every field is a flag, `--config FILE.yaml` sets
any of them, flags given on the command line win, and every flag of TRL's own configuration works.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from agents.cli import parse_all_flags

CONFIGS = Path(__file__).parent.parent / "configs"


@dataclass(frozen=True)
class PolicyArguments:
    """Which policy is trained."""

    model_name_or_path: str = field(
        default="embedded",
        metadata={"help": "Model folder, hub id such as Qwen/Qwen3-1.7B, or 'embedded'."},
    )
    load_in_4bit: bool = field(
        default=False, metadata={"help": "Load the base model in NF4 with double quantisation."}
    )
    precision: Literal["float32", "float16", "bfloat16", "auto"] = field(
        default="float32",
        metadata={"help": "Compute type: float32, float16 (T4), bfloat16 or auto."},
    )
    lora_r: int = field(default=16, metadata={"help": "Rank of a new adapter."})
    lora_alpha: int = field(default=32, metadata={"help": "Scale of a new adapter."})
    max_turn_tokens: int = field(
        default=96, metadata={"help": "Most tokens that the policy may sample in one turn."}
    )
    max_episode_tokens: int = field(
        default=0,
        metadata={
            "help": "Most tokens that it may sample in all turns of an episode; 0: no limit."
        },
    )
    max_length_tokens: int = field(
        default=2048, metadata={"help": "Most tokens of a whole conversation, prompt included."}
    )
    enable_thinking: bool = field(
        default=False,
        metadata={
            "help": "Let the policy think before it speaks, and render `reasoning_content` of "
            "rows; the same for every stage of a policy."
        },
    )
    cuda_graphs: bool = field(
        default=True,
        metadata={"help": "On a GPU, record how a token is decoded and replay it."},
    )
    threads: int = field(default=2, metadata={"help": "CPU threads of torch."})


@dataclass(frozen=True)
class TaskArguments:
    """Which tasks are played."""

    tasks: str = field(
        default="starter", metadata={"help": "starter, mock, or a JSONL file of tasks."}
    )
    servers: str = field(
        default="",
        metadata={
            "help": "Config file of MCP servers to play on, such as mcp.json; empty for the mock "
            "world."
        },
    )
    max_turns: int = field(default=6, metadata={"help": "Turn limit of an episode."})
    eval_limit: int = field(
        default=0, metadata={"help": "Test tasks played before and after training; 0 for all."}
    )
    eval_split: Literal["validation", "test"] = field(
        default="test", metadata={"help": "Split to play; recipes are tuned on validation."}
    )
    run_dir: str = field(default="runs", metadata={"help": "Folder of the whole run's results."})


def read_flags(
    dataclasses: Sequence[Any], default_config: str, program: str, description: str
) -> tuple[Any, ...]:
    """Read the command line of a training command.

    Args:
        dataclasses: The dataclasses that the flags fill.
        default_config: Name of the file in `configs/` that is used when no `--config` is given.
        program: How the command is called, for the help text.
        description: What it does, for the help text.

    Returns:
        One instance per dataclass.
    """
    return parse_all_flags(
        dataclasses, f"python -m {program}", description, default_config=CONFIGS / default_config
    )
