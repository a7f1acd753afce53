"""What the command lines of `agents` and above share: reading flags, writing lines."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from trl import TrlParser

from agents.errors import AgentError
from envs.errors import EnvsError
from rewards.errors import RewardsError, did_you_mean

Flags = TypeVar("Flags")

INTERRUPTED = 130
"""The exit code of a process that Ctrl-C ended."""

# Beginnings of warnings that no user can do anything about, and who gives them.
KNOWN_WARNINGS = (
    "`is_gradient_checkpointing` is deprecated",  # transformers to trl
    "You are using 'rollout_func'",  # trl; `rl/trainer.py` is the one place that does
    "Unable to fetch remote file",  # peft at checkpoints, for the embedded policy
    "Could not find a config file in",  # the same
)


def parse_flags(
    flags: type[Flags], program: str, description: str, arguments: Sequence[str] | None = None
) -> Flags:
    """Read a command line (and `--config FILE.yaml`, if given) into one dataclass.

    Args:
        flags: A dataclass with a `help` line in the metadata of each field. Its `__post_init__`
            may raise `ValueError`.
        program: How the command is called, for the help text.
        description: What the command does, for the help text.
        arguments: The command line; that of the process by default.

    Returns:
        The flags. A mistake in them ends the process with code 2 and one clear line.
    """
    parsed: Flags = parse_all_flags([flags], program, description, arguments)[0]
    return parsed


def parse_all_flags(
    dataclasses: Sequence[Any],
    program: str,
    description: str,
    arguments: Sequence[str] | None = None,
    default_config: Path | None = None,
) -> tuple[Any, ...]:
    """Read a command line into several dataclasses.

    Args:
        dataclasses: The dataclasses that the flags fill.
        program: As in `parse_flags`, like `description` and `arguments`.
        description: What the command does.
        arguments: The command line.
        default_config: The file that is used when no `--config` is given.

    Returns:
        One instance per dataclass.
    """
    arguments = _config_apart(sys.argv[1:] if arguments is None else arguments)
    if default_config is not None and "--config" not in arguments:
        arguments = ["--config", str(default_config), *arguments]
    parser = TrlParser(list(dataclasses), prog=program, description=description)
    known = [option for action in parser._actions for option in action.option_strings]
    for argument in arguments:
        name = argument.split("=")[0]
        if name.startswith("--") and name not in (*known, "--config"):
            parser.error(f"unknown flag {name}{did_you_mean(name, known)}")
    if "--config" in arguments:
        _check_config(parser, arguments[arguments.index("--config") + 1 :])
    try:
        return tuple(parser.parse_args_and_config(args=arguments))
    except ValueError as error:
        parser.error(" ".join(str(error).split()))
    raise AssertionError("argparse's error() ends the process")


def run(main: Callable[..., None], flags: Sequence[Any]) -> int:
    """Run a command and return its exit code; a foreseen error and Ctrl-C are one clear line."""
    for beginning in KNOWN_WARNINGS:
        warnings.filterwarnings("ignore", message=re.escape(beginning))
    try:
        main(*flags)
    except (AgentError, EnvsError, RewardsError) as error:
        return fail(error)
    except KeyboardInterrupt:
        return interrupted("what was saved before stays")
    return 0


def say(line: str = "") -> None:
    """Write one line to standard output."""
    sys.stdout.write(line + "\n")


def fail(error: Exception) -> int:
    """Write what went wrong to standard error and return the exit code."""
    sys.stderr.write(f"error: {error}\n")
    return 2


def interrupted(left: str) -> int:
    """Say that Ctrl-C was pressed and what it left, and return the exit code of shells for it."""
    sys.stderr.write(f"interrupted: {left}\n")
    return INTERRUPTED


def _config_apart(arguments: Sequence[str]) -> list[str]:
    """Split `--config=FILE`, which TRL's parser does not know, in two."""
    apart: list[str] = []
    for argument in arguments:
        apart += argument.split("=", 1) if argument.startswith("--config=") else [argument]
    return apart


def _check_config(parser: Any, rest: Sequence[str]) -> None:
    """End the process with one clear line if `rest` does not begin with a good config file."""
    if not rest:
        parser.error("--config needs the path of a YAML file")
    path = rest[0]
    try:
        config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        parser.error(f"cannot read the config file {path}: {error.strerror}")
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        parser.error(f"the config file {path} is not YAML: {' '.join(str(error).split())}")
    if not isinstance(config, dict):
        parser.error(f"the config file {path} must contain a YAML mapping of flags to values")
    known = [action.dest for action in parser._actions]
    for key in config:
        if key not in (*known, "env"):
            parser.error(f"{path}: unknown key {key}{did_you_mean(str(key), known)}")
