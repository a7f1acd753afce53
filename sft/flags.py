"""Flags shared by the training commands, and how they are read.

Flags are dataclasses read by TRL's `TrlParser`: every field is a flag, `--config FILE.yaml` sets
any of them, flags given on the command line win, and every flag of TRL's own configuration works.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trl import TrlParser

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
    precision: str = field(
        default="float32",
        metadata={"help": "Compute type: float32, float16 (T4), bfloat16 or auto."},
    )
    max_turn_tokens: int = field(
        default=96, metadata={"help": "Most tokens that the policy may sample in one turn."}
    )
    max_length_tokens: int = field(
        default=2048, metadata={"help": "Most tokens of a whole conversation, prompt included."}
    )
    threads: int = field(default=2, metadata={"help": "CPU threads of torch."})


@dataclass(frozen=True)
class TaskArguments:
    """Which tasks are played."""

    tasks: str = field(
        default="starter", metadata={"help": "starter, mock, or a JSONL file of tasks."}
    )
    max_turns: int = field(default=6, metadata={"help": "Turn limit of an episode."})
    eval_limit: int = field(
        default=0, metadata={"help": "Test tasks played before and after training; 0 for all."}
    )
    run_dir: str = field(default="runs", metadata={"help": "Folder of the whole run's results."})


def read_flags(dataclasses: Sequence[Any], default_config: str, program: str) -> tuple[Any, ...]:
    """Read the command line.

    Args:
        dataclasses: The dataclasses that the flags fill.
        default_config: Name of the file in `configs/` that is used when no `--config` is given.
        program: How the command is called, for the help text.

    Returns:
        One instance per dataclass.
    """
    parser = TrlParser(list(dataclasses), prog=f"python -m {program}")
    arguments = sys.argv[1:]
    if not any(a == "--config" or a.startswith("--config=") for a in arguments):
        arguments = ["--config", str(CONFIGS / default_config), *arguments]
    place = arguments.index("--config") + 1 if "--config" in arguments else -1
    if place > 0 and (place >= len(arguments) or not Path(arguments[place]).is_file()):
        given = arguments[place] if place < len(arguments) else ""
        parser.error(f"no config file {given!r}{_suggest_config(given)}")
    known = [option for action in parser._actions for option in action.option_strings]
    for argument in arguments:
        flag = argument.split("=")[0]
        if flag.startswith("--") and flag not in known and flag != "--config":
            parser.error(f"unknown flag {flag}{did_you_mean(flag, known)}")
    parsed: tuple[Any, ...] = parser.parse_args_and_config(args=arguments)
    return parsed


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return `; did you mean X?` for the closest known word, or an empty string."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _suggest_config(given: str) -> str:
    names = sorted(str(path) for path in CONFIGS.glob("*.yaml"))
    return did_you_mean(given, names) or f"; shipped ones: {', '.join(names)}"
