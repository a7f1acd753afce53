"""`python -m sft.data COMMAND`: from tool-calling data of any kind to rows to train on."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from agents.cli import fail, interrupted
from agents.errors import AgentError
from envs.errors import EnvsError
from rewards.errors import RewardsError, did_you_mean
from sft.data.errors import DataError

COMMANDS = {
    "convert": "make canonical rows of data in another format",
    "validate": "check rows against every rule; exit code 1 below a threshold",
    "filter": "keep rows by outcome, reward, calls, source or length",
    "unroll": "make n rows of a conversation of n rounds",
    "split": "divide rows into training and held-out ones, by conversation",
    "stats": "count what rows hold, with histograms",
    "show": "show one row as the model will see it, trained tokens coloured",
    "edit": "drop, merge or replace turns of a row, and check it again",
    "push": "publish rows with a dataset card, to the hub or a folder",
}
"""Command -> what it does; each is a module of `sft.data.commands`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = _command(words)
    # Only the one that was asked for: some of them load torch.
    module: Any = importlib.import_module(f"sft.data.commands.{command}")
    parser = argparse.ArgumentParser(prog=f"python -m sft.data {command}")
    module.add_arguments(parser)
    try:
        code: int = module.run(parser.parse_args(words[1:]))
    except (DataError, AgentError, EnvsError, RewardsError) as error:
        return fail(error)
    except KeyboardInterrupt:
        return interrupted("nothing was written")
    return code


def _command(words: Sequence[str]) -> str:
    """Return the command, or end the process with help or one clear line."""
    table = "\n".join(f"  {name:<10}{line}" for name, line in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m sft.data",
        description="Curate tool-calling data.",
        epilog=f"commands (each has its own --help):\n{table}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", metavar="COMMAND", help="one of those below")
    command: str = parser.parse_args(words[:1]).command
    if command not in COMMANDS:
        parser.error(f"there is no command {command}{did_you_mean(command, COMMANDS)}")
    return command


if __name__ == "__main__":
    sys.exit(main())
