"""Every error of the rewards package.

    RewardsError
    ├── RecordError     the records of an episode contradict each other
    ├── GoalError       a goal that cannot be judged (bad path, value that does not fit its match)
    │   └── CheckError  a custom check cannot be found, or failed while it ran
    ├── PathNotFound    a JSON value has nothing at a path; the judge turns it into a reason
    └── FormatError     a file or a JSON value is not a task, a goal or an episode

A model's mistake is never one of these: it is an outcome.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RewardsError(Exception):
    """Base of every error of this package."""


class RecordError(RewardsError):
    """The records of an episode contradict each other; the environment that made them is wrong."""


class GoalError(RewardsError):
    """A goal cannot be judged as it is written."""


class CheckError(GoalError):
    """A custom check cannot be found, or failed while it ran."""


class PathNotFound(RewardsError):
    """A JSON value has nothing at a path; the message says where it stops."""


class FormatError(RewardsError):
    """A file or a JSON value is not what it should be; the message names line and key."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean "x"?` for the known name closest to `name`, else "".

    Args:
        name: What was written.
        known: What could have been written.

    Returns:
        The end of an error message.
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f'; did you mean "{close[0]}"?' if close else ""
