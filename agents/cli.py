"""What the command lines of `agents` and above share: reading flags, writing lines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from trl import TrlParser

from rewards.errors import did_you_mean

Flags = TypeVar("Flags")


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
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if default_config is not None and not any(a.split("=")[0] == "--config" for a in arguments):
        arguments = ["--config", str(default_config), *arguments]
    parser = TrlParser(list(dataclasses), prog=program, description=description)
    known = [option for action in parser._actions for option in action.option_strings]
    for argument in arguments:
        name = argument.split("=")[0]
        if name.startswith("--") and name not in (*known, "--config"):
            parser.error(f"unknown flag {name}{did_you_mean(name, known)}")
    return _parse(parser, arguments)


def say(line: str = "") -> None:
    """Write one line to standard output."""
    sys.stdout.write(line + "\n")


def fail(error: Exception) -> int:
    """Write what went wrong to standard error and return the exit code."""
    sys.stderr.write(f"error: {error}\n")
    return 2


def _parse(parser: Any, arguments: Sequence[str]) -> tuple[Any, ...]:
    try:
        return tuple(parser.parse_args_and_config(args=arguments))
    except IndexError:
        parser.error("--config needs the path of a YAML file")
    except OSError as error:
        parser.error(f"cannot read the config file {error.filename}: {error.strerror}")
    except ValueError as error:
        parser.error(str(error))
    raise AssertionError("argparse's error() ends the process")
