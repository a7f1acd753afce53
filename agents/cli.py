"""What the command lines of `agents` and above share: reading flags, writing lines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

from trl import TrlParser

from rewards.errors import did_you_mean

Flags = TypeVar("Flags")


def parse_flags(
    flags: type[Flags], program: str, description: str, arguments: Sequence[str] | None = None
) -> Flags:
    """Read a command line (and `--config FILE.yaml`, if given) into a dataclass.

    Args:
        flags: A dataclass with a `help` line in the metadata of each field. Its `__post_init__`
            may raise `ValueError`.
        program: How the command is called, for the help text.
        description: What the command does, for the help text.
        arguments: The command line; that of the process by default.

    Returns:
        The flags. A mistake in them ends the process with code 2 and one clear line.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = TrlParser([flags], prog=program, description=description)
    known = [f"--{field.name}" for field in fields(flags)]  # type: ignore[arg-type]
    options = [option for action in parser._actions for option in action.option_strings]
    for argument in arguments:
        name = argument.split("=")[0]
        if name.startswith("--") and name not in (*options, "--config"):
            parser.error(f"unknown flag {name}{did_you_mean(name, known)}")
    parsed: Flags = _parse(parser, arguments)
    return parsed


def say(line: str = "") -> None:
    """Write one line to standard output."""
    sys.stdout.write(line + "\n")


def fail(error: Exception) -> int:
    """Write what went wrong to standard error and return the exit code."""
    sys.stderr.write(f"error: {error}\n")
    return 2


def _parse(parser: Any, arguments: Sequence[str]) -> Any:
    try:
        return parser.parse_args_and_config(args=arguments)[0]
    except IndexError:
        parser.error("--config needs the path of a YAML file")
    except OSError as error:
        parser.error(f"cannot read the config file {error.filename}: {error.strerror}")
    except ValueError as error:
        parser.error(str(error))
