"""Flags that several commands share, and the types of their values."""

from __future__ import annotations

import argparse
import math


def share(text: str) -> float:
    """Read a share from 0 to 1."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share from 0 to 1")
    return number


def count(text: str) -> int:
    """Read a whole number from 0 on."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return number


def yes_or_no(text: str) -> bool:
    """Read `true` or `false`, as the flags of training are written."""
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text} is neither true nor false")
    return text == "true"


def finite(text: str) -> float:
    """Read a number that is not NaN or infinite."""
    number = float(text)
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text} is no number")
    return number


def add_rendering(parser: argparse.ArgumentParser, otherwise: str = "") -> None:
    """Add the flags of how rows become tokens: `--model` and `--enable_thinking`.

    Args:
        parser: Where they are added.
        otherwise: What `--model none` means; empty where there must be a model.
    """
    none = f", or 'none' to {otherwise}" if otherwise else ""
    parser.add_argument("--model", default="embedded",
                        help="whose tokenizer and chat template: a folder, a hub id, or "
                        f"'embedded' (the default){none}")  # fmt: skip
    parser.add_argument("--enable_thinking", type=yes_or_no, default=False, metavar="BOOL",
                        help="true: render `reasoning_content`, as training with the same flag "
                        "does (default: false)")  # fmt: skip
