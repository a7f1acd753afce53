"""What a task wants, as data. `rewards/judge.py` decides whether it holds.

Goals:
    FinalAnswer     the text answer states a value
    ReturnedData    a named tool returned a value at a JSON path
    FinalState      the mock world changed in exactly this way
    Probe           a read tool of the server returns a value at a JSON path
    FolderState     the working folder changed in exactly this way
    Evaluated       the JSON in the final answer passes the evaluators of an MCP-Universe task
    AllOf, AnyOf    combinations
    NoCall          the right behaviour is a text answer without any call
    NoCallNaming    the same, and the answer asks for what is missing
    Custom          a function of the user's says so

Each docstring says which policy would pass the goal without doing the task, where there is one.
`rewards/validate.py` refuses what holds before anything is done, as far as the definition shows it;
`python -m envs.tasks check` finds the rest by playing.

Every goal survives `goal_from_json(goal_to_json(goal))` unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Match = Literal["exact", "number", "set", "one_of"]
Comparison = Literal["equal", "contains"]


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
class Probe:
    """A read tool of the server, called by the environment, returns a value.

    The environment makes the call after every turn in which the goal is judged; the model neither
    sees it nor has to be offered the tool. The tool must change nothing.

    Passed for nothing if the value is there from the start: then any call that runs is a success.
    `contains` is also passed by a model that writes everything it can think of; prefer `equal`.

    Attributes:
        tool: Name of the tool, as the environment would offer it.
        arguments: Its arguments.
        path: Dotted JSON path into the result, as in `ReturnedData`.
        value: The expected JSON value.
        compare: `equal`: the value there is EQUAL; `contains`: it is a text with `value` in it,
            or a list with an EQUAL item.
    """

    tool: str
    arguments: Mapping[str, Any]
    path: str
    value: Any
    compare: Comparison = "equal"


@dataclass(frozen=True)
class WantedEntry:
    """What an entry of the working folder must be: one of text, contains, sha256 and folder.

    `contains` is passed by a model that writes everything it can think of; prefer `text`.

    Attributes:
        text: The file holds this text. White space at the end of both is ignored, since editors
            and models differ on the last newline.
        exact: White space at the end of `text` counts as well.
        contains: The file holds each of these texts somewhere.
        sha256: Hash of the file's bytes, in lower-case hexadecimal digits.
        folder: It is a folder.
    """

    text: str | None = None
    exact: bool = False
    contains: tuple[str, ...] = ()
    sha256: str | None = None
    folder: bool = False


@dataclass(frozen=True)
class FolderState:
    """The working folder has changed in exactly this way since the episode began.

    Every entry that is named must have CHANGED: a file that was right from the start, or was
    absent all along, is not success. With `only` a model that writes the answer into every file,
    or removes the rest, fails. A folder on the way to a named entry may appear or vanish with it.
    A symbolic link is never read, so that it is never a wanted file.

    Attributes:
        files: Path -> what it must be; `None` where it must have been removed. Paths are relative
            to the folder, with `/`, without `.` and `..`.
        only: Nothing else may have changed.
    """

    files: Mapping[str, WantedEntry | None]
    only: bool = True


@dataclass(frozen=True)
class Evaluator:
    """One test of the final answer, as MCP-Universe writes it: `func(answer) op value`.

    Attributes:
        func: What is looked at, such as `json -> get(routes) -> foreach -> get(stops) -> len`.
        op: How it is compared with `value`; "" only asks that `func` works on the answer.
        value: What it is compared with.
    """

    func: str
    op: str = ""
    value: Any = None


@dataclass(frozen=True)
class Evaluated:
    """The final answer passes every evaluator (see `rewards/evaluators.py`).

    Passed for nothing, after any call, where the evaluators ask only for what the question says.
    """

    evaluators: tuple[Evaluator, ...]


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


Goal = (
    FinalAnswer
    | ReturnedData
    | FinalState
    | Probe
    | FolderState
    | Evaluated
    | AllOf
    | AnyOf
    | NoCall
    | NoCallNaming
    | Custom
)
