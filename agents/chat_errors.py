"""What can go wrong with an endpoint, and what its refusals say.

`EndpointError` and `UnansweredError` stand in the tree of `agents/errors.py`.
`NotNowError` stays inside of the client: another try may succeed.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2

from agents.errors import AgentError

RETRIED = frozenset({408, 409, 425, 429})
"""Beside 5xx: statuses that say "not now"."""

LONGEST_QUOTE = 300

_SECONDS = re.compile(r"\d{1,9}(\.\d+)?")


class EndpointError(AgentError):
    """The endpoint cannot be used as it was asked for.

    Something in the command, the environment or the server has to change; the message says what.
    """


class UnansweredError(EndpointError):
    """A request got no answer in time, or after all retries; its episode is lost."""


class NotNowError(Exception):
    """A request may succeed at another time.

    Args:
        problem: What happened.
        after_s: Seconds that the endpoint wants to be left alone; None where it does not say.
    """

    def __init__(self, problem: str, after_s: float | None = None) -> None:
        super().__init__(problem)
        self.after_s = after_s


def is_not_now(response: httpx2.Response) -> bool:
    """Return whether a refusal may be over at another time; a quota that is used up is not."""
    status = response.status_code
    return (status in RETRIED or status >= 500) and "insufficient_quota" not in response.text


def quoted(response: httpx2.Response) -> str:
    """Return the status of a refusal and what the server says about it, in one line."""
    try:
        body = response.json()
        error = body.get("error") or body.get("detail") or body.get("message") or body
        said = error.get("message", error) if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        said = response.text
    line = " ".join(str(said).split()) or response.reason_phrase
    return f"{response.status_code} {line[:LONGEST_QUOTE]}"


def retry_after_s(response: httpx2.Response) -> float | None:
    """Return the seconds of a `Retry-After`, which may be a number or a date; None without one."""
    value = response.headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def cause(error: Exception) -> str:
    """Return what an error of a library says, or what it is called where it says nothing."""
    return str(error) or type(error).__name__
