"""What a task wants, as data. `rewards/judge.py` decides whether it holds.

Goals:
    FinalAnswer     the text answer states a value
    ReturnedData    a named tool returned a value at a JSON path
    FinalState      the world changed in exactly this way
    AllOf, AnyOf    combinations
    NoCall          the right behaviour is a text answer without any call
    NoCallNaming    the same, and the answer asks for what is missing
    Custom          a function of the user's says so

Every goal survives `goal_from_json(goal_to_json(goal))` unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Match = Literal["exact", "number", "set", "one_of"]


@dataclass(frozen=True)
class FinalAnswer:
    """The final answer states `value`.

    Attributes:
        value: A string (`exact`), a number (`number`), or a list of strings (`set`: all of
            them, in any order; `one_of`: one of them).
        match: How the answer is compared.
        tolerance: Largest absolute difference accepted by `number`.
    """

    value: str | float | int | tuple[str, ...]
    match: Match = "exact"
    tolerance: float = 0.005


@dataclass(frozen=True)
class ReturnedData:
    """Some call of `tool` returned, at `path`, a value EQUAL to `value`.

    Attributes:
        tool: Name of the tool.
        path: Dotted JSON path into the structured result, such as `rows[0].city`; empty for all.
        value: The expected JSON value.
    """

    tool: str
    path: str
    value: Any


@dataclass(frozen=True)
class FinalState:
    """The world has changed in exactly this way since the episode began.

    Attributes:
        changes: Table -> row id -> expected fields of the row; `None` for a removed row. A row
            id starting with `+` stands for any new row. Fields that are not named are free.
        only: Nothing else may have changed.
        digest: If set, the state digest must equal it (changes may then be empty).
    """

    changes: Mapping[str, Mapping[str, Mapping[str, Any] | None]]
    only: bool = True
    digest: str | None = None


@dataclass(frozen=True)
class AllOf:
    """Every goal of `goals` holds."""

    goals: tuple[Goal, ...]


@dataclass(frozen=True)
class AnyOf:
    """At least one goal of `goals` holds."""

    goals: tuple[Goal, ...]


@dataclass(frozen=True)
class NoCall:
    """A text answer without any call in the whole episode."""


@dataclass(frozen=True)
class NoCallNaming:
    """A text answer without any call that names what is missing.

    Attributes:
        missing: The answer must contain one of these words (case-insensitive).
    """

    missing: tuple[str, ...]


@dataclass(frozen=True)
class Custom:
    """A function of the user's decides, from the records alone.

    Attributes:
        path: Import path `module:function`. The function takes the `Episode` up to and with the
            turn that is being judged, and returns a bool, or a bool and a sentence that says why.
        needs_call: An answer without any call is a structural fail, as for every other goal.
    """

    path: str
    needs_call: bool = True


Goal = FinalAnswer | ReturnedData | FinalState | AllOf | AnyOf | NoCall | NoCallNaming | Custom
