"""Rows to train on as token ids: what of them is rendered, what is trained, what is lost.

Everything goes through `agents/template.py`, the same place that rollouts use, which also decides
whether `reasoning_content` is rendered (`--enable_thinking`). Here is decided:

    loss        on what the policy says (`assistant`), or on every token (`conversation`), as it is
                for rows that were rendered to plain text; only to compare with
    packing     several rows in one, each seeing only itself
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from jinja2 import TemplateError
from trl import SFTConfig

from agents.cli import say
from agents.template import ChatTemplate
from sft.traces import Row, token_row

LossOn = Literal["assistant", "conversation"]
TokenRow = dict[str, list[int]]

REFUSALS = (TemplateError, ValueError, TypeError, KeyError)
"""What a chat template raises for a row that it was not made for."""


def tokenised(
    template: ChatTemplate,
    rows: Sequence[Row],
    max_length: int | None,
    loss_on: LossOn = "assistant",
) -> list[TokenRow]:
    """Return token rows; count and report those that the length limit would rob of tokens.

    Args:
        template: The chat template.
        rows: Canonical rows.
        max_length: Tokens that training keeps of a row; None for all.
        loss_on: What is trained.

    Raises:
        SystemExit: If there is no row, or the chat template refuses one.
    """
    if not rows:
        raise SystemExit("no task of the training split has a reference solution to train on")
    rendered = [_rendered(template, row, loss_on) for row in rows]
    cut = [row for row in rendered if max_length and 1 in row["assistant_masks"][max_length:]]
    empty = [row for row in rendered if 1 not in row["assistant_masks"][:max_length]]
    longest = max(len(row["input_ids"]) for row in rendered)
    trained = sum(sum(row["assistant_masks"]) for row in rendered)
    say(
        f"{len(rows)} rows, {trained} trained tokens, longest row {longest} tokens, "
        f"{len(cut)} rows lose trained tokens at max_length {max_length}"
    )
    if empty:
        say(f"{len(empty)} rows keep no trained token (long tool lists?) and teach nothing")
    silenced = 0 if template.thinking else sum(map(_thinks, rows))
    if silenced:
        say(f"{silenced} rows have reasoning, which only --enable_thinking true renders")
    return rendered


def check_packing(config: SFTConfig) -> None:
    """Refuse packing that is not exact: every row must see itself, whole, and nothing else.

    `bfd` gives every row positions of its own from 0 on, from which the mask of `sdpa` keeps rows
    apart: losses and gradients are those of the rows by themselves.

    Raises:
        SystemExit: If rows would see each other, or be cut in pieces.
    """
    if not config.packing:
        return
    why = {
        "wrapped": "lets rows that were packed together see each other",
        "bfd_split": "trains on pieces of rows without what stands before them",
    }.get(config.packing_strategy)
    if why:
        raise SystemExit(
            f"error: --packing_strategy {config.packing_strategy} {why}; use --packing_strategy bfd"
        )
    if config.max_length is None:
        raise SystemExit("error: --packing fills rows up to --max_length; give it a number")


def _rendered(template: ChatTemplate, row: Row, loss_on: LossOn) -> TokenRow:
    try:
        tokens = token_row(template, row)
    except REFUSALS as error:
        raise SystemExit(
            f'error: the chat template refuses the row "{row["id"]}": {error}'
        ) from error
    if loss_on == "conversation":
        tokens["assistant_masks"] = [1] * len(tokens["input_ids"])
    return tokens


def _thinks(row: Row) -> bool:
    return any(message.get("reasoning_content") for message in row["messages"])
