"""What a family of tasks is: phrasings, the tools it needs, and a way to draw one from a world."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mock_mcp.world import World
from rewards.episode import ReferenceTurn, Task
from rewards.goals import Goal


@dataclass(frozen=True)
class Draft:
    """One drawn instance of a kind.

    Attributes:
        slots: Values for the placeholders of the phrasings.
        goal: What must hold.
        reference: The solution turn by turn; a last turn with text where an answer is needed.
        faults: Faults of the episode (see `mock_mcp/faults.py`).
    """

    slots: Mapping[str, str]
    goal: Goal
    reference: tuple[ReferenceTurn, ...]
    faults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Missing:
    """The minimal pair of a kind in which an argument is missing.

    Attributes:
        phrasings: Like the kind's, without the placeholder of the missing argument.
        names: Words one of which an answer that asks for it must contain.
        answer: A right answer, used by the reference ("Which customer do you mean?").
    """

    phrasings: tuple[str, ...]
    heldout_phrasings: tuple[str, ...]
    names: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Kind:
    """A family of tasks.

    Attributes:
        name: Unique; success is reported by it.
        domain: One of the world's domains, or `cross`.
        tools: The tools its reference solution calls.
        depth: Number of calls of the reference solution.
        phrasings: `str.format` templates used in training.
        heldout_phrasings: Templates that only the test split uses.
        build: Draws one instance from a world; an IndexError (a choice from nothing) says that
            this world has none.
        starter: The kind has a short form for the embedded policy.
        missing: Its minimal pair without an argument, if it has one.
        heldout: True if the whole kind is kept for the test split (unseen depth).
    """

    name: str
    domain: str
    tools: tuple[str, ...]
    depth: int
    phrasings: tuple[str, ...]
    heldout_phrasings: tuple[str, ...]
    build: Callable[[World, random.Random], Draft]
    starter: bool = False
    missing: Missing | None = None
    heldout: bool = False


@dataclass(frozen=True)
class Made:
    """A task that needs tools, with what it was made from (its minimal pairs are made from it)."""

    task: Task
    kind: Kind
    draft: Draft
