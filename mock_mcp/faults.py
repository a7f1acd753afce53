"""Seeded faults: what a world can do to a call besides answering it.

A fault description is a JSON object (`Task.faults`) with any of these keys:

    {"stale": {"P12": "P87"}}          calls that name P12 fail and are told to use P87
    {"transient": {"get_product": 1}}  the first call of get_product fails, the same call then works
    {"latency_s": 0.2}                 every call takes this much longer
    {"planted": {"open_page": "text"}} the text is appended to what open_page shows

Everything is counted, nothing is timed, so an episode with faults replays exactly.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from mock_mcp.errors import FaultsError, did_you_mean
from mock_mcp.toolspec import ToolFailure

MAX_LATENCY_S = 60.0
BUSY = "The service is busy. Try the same call again."


class Faults:
    """The faults of one episode; it counts, so every episode needs its own.

    Attributes:
        latency_s: Seconds that every call takes longer.
    """

    def __init__(self, description: Mapping[str, Any] | None = None) -> None:
        """Read a fault description.

        Args:
            description: See the module's docstring; None or empty means no faults.

        Raises:
            FaultsError: If a key is unknown or a value has the wrong form.
        """
        read = {key: _read(key, value) for key, value in (description or {}).items()}
        self._stale: Mapping[str, str] = read.get("stale", {})
        self._transient: dict[str, int] = read.get("transient", {})
        self._planted: Mapping[str, str] = read.get("planted", {})
        self.latency_s: float = read.get("latency_s", 0.0)
        self._rng: random.Random | None = None
        self._rate = 0.0
        self._failed_last = False

    @classmethod
    def seeded(cls, seed: int, rate: float) -> Self:
        """Return faults in which a call fails with probability `rate` and the next one never does.

        Never two calls in a row fail, so trying again always helps.

        Raises:
            FaultsError: If the rate is not between 0 and 1.
        """
        if not 0.0 <= rate <= 1.0:
            raise FaultsError(f"The fault rate must be between 0 and 1, not {rate}.")
        faults = cls()
        faults._rng = random.Random(f"{seed}/faults")
        faults._rate = rate
        return faults

    def before_call(self, tool: str, arguments: Mapping[str, Any]) -> None:
        """Fail the call if a fault is due.

        Raises:
            ToolFailure: With what the model is told.
        """
        if self._transient.get(tool, 0) > 0:
            self._transient[tool] -= 1
            raise ToolFailure(BUSY)
        if self._stale:
            self._refuse_stale(arguments)
        if self._rng is not None:
            self._failed_last = not self._failed_last and self._rng.random() < self._rate
            if self._failed_last:
                raise ToolFailure(BUSY)

    def after_call(self, tool: str, text: str) -> str:
        """Return the result's text as the model is shown it."""
        planted = self._planted.get(tool)
        return text if planted is None else f"{text}\n{planted}"

    def _refuse_stale(self, arguments: Mapping[str, Any]) -> None:
        for value in _texts_inside(arguments):
            if value in self._stale:
                new = self._stale[value]
                raise ToolFailure(
                    f"{value} is no longer valid: it was replaced by {new}. Call again with {new}."
                )


def _texts_inside(arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield every string value of a JSON object, however deep (without recursion)."""
    waiting: list[Any] = list(arguments.values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _read(key: str, value: Any) -> Any:
    reader = _READERS.get(key)
    if reader is None:
        known = ", ".join(_READERS)
        raise FaultsError(f"Unknown fault {key!r} (known: {known}).{did_you_mean(key, _READERS)}")
    return reader(key, value)


def _texts(key: str, value: Any) -> dict[str, str]:
    if isinstance(value, Mapping) and all(isinstance(text, str) for text in value.values()):
        return dict(value)
    raise FaultsError(f"Fault {key!r} must map names to texts, not {value!r}.")


def _counts(key: str, value: Any) -> dict[str, int]:
    if isinstance(value, Mapping) and all(
        type(count) is int and count >= 0 for count in value.values()
    ):
        return dict(value)
    raise FaultsError(f"Fault {key!r} must map tool names to counts of calls, not {value!r}.")


def _seconds(key: str, value: Any) -> float:
    if type(value) in (int, float) and 0 <= value <= MAX_LATENCY_S:
        return float(value)
    raise FaultsError(f"Fault {key!r} must be seconds from 0 to {MAX_LATENCY_S:g}, not {value!r}.")


_READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "stale": _texts,
    "transient": _counts,
    "planted": _texts,
    "latency_s": _seconds,
}
