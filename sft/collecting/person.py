"""A person at the terminal: confirms calls, and speaks as the user."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from agents.cli import say
from envs.backend import Backend, Evidence, ToolBox
from rewards.episode import Status, Task, ToolCall, ToolResult, Turn
from rewards.goals import Goal

REFUSED = "Error: the user refused this call; it was not run"


class QuitError(Exception):
    """The person wants to stop."""


class Person:
    """Asks at the terminal, one question at a time; the end of the input means to quit."""

    def __init__(self) -> None:
        self._always: set[str] = set()

    def confirms(self, call: ToolCall) -> bool:
        """Ask whether a call may run.

        Raises:
            QuitError: The person wants to stop.
        """
        if call.name in self._always:
            return True
        say(f"call {_shown(call)}")
        while True:
            answer = _ask("run it? y(es), n(o), a(lways this tool), q(uit): ").strip().lower()
            if answer in ("y", "yes", "n", "no"):
                return answer.startswith("y")
            if answer in ("a", "always"):
                self._always.add(call.name)
                return True
            if answer in ("q", "quit"):
                raise QuitError

    def speaks(self) -> str:
        """Return the next message of the user, "" to end the episode.

        Raises:
            QuitError: The input has ended.
        """
        return _ask("you (an empty line ends the episode): ").strip()

    def watches(self, turn: Turn) -> None:
        """Show what the model said and what the tools answered."""
        if turn.text:
            say(f"model: {printable(turn.text)}")
        for call, result in zip(turn.calls, turn.results, strict=False):
            say(f"call {_shown(call)}")
            say(f"  -> {printable(result.text)}")
        if turn.fault_detail:
            say(f"  -> {printable(turn.fault_detail)}")


class ApprovingBackend:
    """A backend whose calls a person confirms.

    A refused call is answered like one that failed, so the model is told, and the episode is judged
    without it. Calls that the environment makes itself, to judge, are not asked for.

    Args:
        backend: Where confirmed calls run.
        person: Who confirms.
    """

    def __init__(self, backend: Backend, person: Person) -> None:
        self._backend = backend
        self._person = person

    @property
    def tools(self) -> ToolBox:
        """Return the tools of the servers."""
        return self._backend.tools

    def fitted(self, task: Task) -> Task:
        """Return a task as it is played here."""
        return self._backend.fitted(task)

    def reset(self, slot: int, task: Task, faults: Any = None) -> None:
        """Give a slot a state that no episode has touched."""
        self._backend.reset(slot, task, faults)

    def call_all(self, batches: Sequence[tuple[int, Sequence[ToolCall]]]) -> list[list[ToolResult]]:
        """Run the calls that the person confirms."""
        confirmed = [[self._person.confirms(call) for call in calls] for _, calls in batches]
        wanted = [
            (slot, [call for call, yes in zip(calls, answers, strict=True) if yes])
            for (slot, calls), answers in zip(batches, confirmed, strict=True)
        ]
        running = [(slot, calls) for slot, calls in wanted if calls]
        ran = iter([r for results in self._backend.call_all(running) for r in results])
        return [[next(ran) if yes else _refused() for yes in answers] for answers in confirmed]

    def evidence(self, wanted: Sequence[tuple[int, Goal]]) -> list[Evidence]:
        """Return what the goals of episodes are judged by, after a turn."""
        return self._backend.evidence(wanted)

    def close(self) -> None:
        """Close every connection."""
        self._backend.close()


def printable(text: str) -> str:
    """Return a text with everything escaped that could make a terminal show something else."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )


def _shown(call: ToolCall) -> str:
    return printable(f"{call.name} {json.dumps(dict(call.arguments), ensure_ascii=False)}")


def _refused() -> ToolResult:
    return ToolResult(REFUSED, is_error=True, status=Status.TOOL_ERROR)


def _ask(question: str) -> str:
    sys.stdout.write(question)
    sys.stdout.flush()
    line = sys.stdin.readline()
    if not line:
        say()
        raise QuitError
    return line
