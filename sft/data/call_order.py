"""The order of roles, and which result answers which call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sft.data.reasons import Problem, Reason

_MAY_FOLLOW: Mapping[str, tuple[str, ...]] = {
    "system": ("",),
    "user": ("", "system", "assistant"),
    "assistant": ("user", "tool"),
}
"""Role -> the roles that it may follow; "" is the beginning. Results follow calls."""


def order_problems(messages: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """Yield what is wrong with the order of messages.

    Results may be fewer than the calls they answer, because several formats answer all calls of a
    turn in one message, unless they name the call they answer. The last turn may be unanswered.

    Args:
        messages: Messages with known roles and calls of the right form.
    """
    previous = ""
    answers = _Answers({})
    for number, message in enumerate(messages, start=1):
        role = message["role"]
        if role == "tool":
            problem = answers.add(message)
        else:
            problem = _misplaced(role, previous) or answers.missing()
            answers = _Answers(message)
        if problem:
            yield Problem(problem.code, f"message {number}: {problem.message}")
        previous = role


def _misplaced(role: str, previous: str) -> Problem | None:
    if previous in _MAY_FOLLOW[role]:
        return None
    after = f"after {previous}" if previous else "at the beginning"
    return Problem(Reason.ROLE_ORDER, f"{role} {after}")


class _Answers:
    """The results that answer the calls of a turn."""

    def __init__(self, turn: Mapping[str, Any]) -> None:
        calls = turn.get("tool_calls", ())
        self._expected = len(calls)
        self._unanswered = [call["id"] for call in calls if "id" in call]
        self._given = 0
        self._by_id = False
        self._unchecked = turn.get("weight") == 0

    def add(self, result: Mapping[str, Any]) -> Problem | None:
        """Take a result; return what is wrong with it."""
        self._given += 1
        if self._unchecked:
            return None
        if self._given > self._expected:
            return Problem(Reason.RESULT_WITHOUT_CALL, "a result that answers no call")
        if "tool_call_id" not in result:
            return None
        self._by_id = True
        if result["tool_call_id"] not in self._unanswered:
            message = f'no unanswered call has the id "{str(result["tool_call_id"])[:60]}"'
            return Problem(Reason.UNKNOWN_CALL_ID, message)
        self._unanswered.remove(result["tool_call_id"])
        return None

    def missing(self) -> Problem | None:
        """Return that a call is unanswered, if the conversation must not go on."""
        if self._unchecked or self._given >= self._expected or (self._given and not self._by_id):
            return None
        return Problem(Reason.UNANSWERED_CALL, "the calls before it are not answered")
