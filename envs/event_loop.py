"""One event loop per process, in a thread of its own, for synchronous code that must await."""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import threading
import weakref
from collections.abc import Coroutine, Iterable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")
EXIT_S = 5.0
"""How long the end of the process waits for what still lives on the loop."""


class Resident(Protocol):
    """Something that lives on the loop and must leave it in an orderly way."""

    async def leave(self) -> None:
        """Leave; it must not take longer than the resident's own deadline."""


class EventLoopThread:
    """An event loop in a daemon thread.

    Attributes:
        residents: What must leave before the process ends.
    """

    def __init__(self) -> None:
        self.residents: weakref.WeakSet[Resident] = weakref.WeakSet()
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="mcp-gym-events", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        abandoned = asyncio.all_tasks(self._loop)
        for task in abandoned:
            task.cancel()
        if abandoned:
            self._loop.run_until_complete(asyncio.wait(abandoned))
        self._loop.close()

    def submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Start a coroutine on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, Result], deadline: float) -> Result:
        """Run a coroutine to its end.

        Raises:
            TimeoutError: If it is not done after `deadline` seconds; it is then cancelled.
        """
        future = self.submit(work)
        try:
            return future.result(deadline)
        except TimeoutError:
            future.cancel()
            raise

    def dismiss(self, residents: Iterable[Resident], deadline: float) -> None:
        """Let residents leave side by side; those that cannot in time are abandoned."""
        leaving = list(residents)
        for resident in leaving:
            self.residents.discard(resident)
        try:
            self.run(_leave(leaving), deadline)
        except TimeoutError:
            # Something blocks the loop; its thread is a daemon and ends with the process.
            return

    def shut_down(self) -> None:
        """Let everybody leave, then end the loop."""
        if os.getpid() != self._process or not self._thread.is_alive():
            return
        self.dismiss(self.residents, EXIT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=1.0)


async def _leave(residents: Iterable[Resident]) -> None:
    await asyncio.gather(*(resident.leave() for resident in residents))


def event_loop() -> EventLoopThread:
    """Return the process's event loop, started at the first use."""
    return _event_loop(os.getpid())


@functools.cache
def _event_loop(process: int) -> EventLoopThread:
    # A thread does not survive a fork, so a forked process needs a loop of its own.
    loop = EventLoopThread()
    atexit.register(loop.shut_down)
    return loop
