"""One event loop per process, for synchronous code that must await.

The loop has a thread of its own, so that connections live while nobody calls. To hand work over to
it and to take the result back are two thread switches, which cost half as much as a call to a fast
server. So after a call the loop is lent to the next caller, who runs it without a switch; the
thread takes it back when nobody has come for `LEND_S`, or somebody submits work.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import signal
import threading
import weakref
from collections.abc import Coroutine, Iterable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")
LEND_S = 0.01
"""How long the loop may stand still because its next caller is waited for."""

EXIT_S = 5.0
"""How long the end of the process waits for what still lives on the loop."""


class Resident(Protocol):
    """Something that lives on the loop and must leave it in an orderly way."""

    async def leave(self) -> None:
        """Leave; it must not take longer than the resident's own deadline."""


class EventLoopThread:
    """An event loop in a daemon thread, which lends it to callers.

    Attributes:
        residents: What must leave before the process ends.
    """

    def __init__(self) -> None:
        self.residents: weakref.WeakSet[Resident] = weakref.WeakSet()
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._submitted: set[Future[Any]] = set()
        self._lent = self._used = self._ended = False
        self._borrowing = threading.Lock()
        self._wanted_back = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mcp-gym-events", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._ended:
            self._loop.run_forever()
            self._lend()
        abandoned = asyncio.all_tasks(self._loop)
        for task in abandoned:
            task.cancel()
        if abandoned:
            self._loop.run_until_complete(asyncio.wait(abandoned))
        self._loop.close()

    def _lend(self) -> None:
        """Leave the loop to callers until they stay away, or somebody submits work."""
        self._lent = True
        while not self._submitted and not self._wanted_back.wait(LEND_S) and self._used:
            self._used = False
        with self._borrowing:
            self._lent = False
        self._wanted_back.clear()

    def submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Start a coroutine on the loop."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._submitted.add(future)
        future.add_done_callback(self._submitted.discard)
        if self._lent:
            self._wanted_back.set()
        return future

    def run(self, work: Coroutine[Any, Any, Result], deadline: float) -> Result:
        """Run a coroutine to its end.

        Raises:
            TimeoutError: If it is not done after `deadline` seconds; it is then cancelled.
        """
        return _result(self.submit(work), deadline)

    def run_here(self, work: Coroutine[Any, Any, Result], deadline: float) -> Result:
        """Do as `run`, but in the calling thread if the loop is lent and nobody else needs it.

        Args:
            work: Ends by itself within the deadline and does not block the loop: nobody else could
                end it here.
            deadline: As in `run`, for the case that the loop's thread runs it.

        Raises:
            TimeoutError: As in `run`.
            KeyboardInterrupt: On Ctrl-C; the work is then cancelled.
        """
        if not (self._submitted or self._borrowing.locked() or asyncio._get_running_loop()):
            # Unlike `acquire` and `try`, `with` cannot be parted from its release by Ctrl-C.
            with self._borrowing:
                if self._lent:
                    self._used = True
                    return _run_until_done(self._loop.create_task(work))
        future = self.submit(work)
        future.add_done_callback(self._start_lending)
        return _result(future, deadline)

    def _start_lending(self, _: Future[Any]) -> None:
        if not (self._submitted or self._ended):
            self._stop()

    def _stop(self) -> None:
        """End `run_forever`, but not what a caller runs."""
        if threading.current_thread() is self._thread:
            self._loop.stop()

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
        self._ended = True
        self._wanted_back.set()
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(timeout=1.0)


def _result(future: Future[Result], deadline: float) -> Result:
    try:
        return future.result(deadline)
    except TimeoutError:
        future.cancel()
        raise


def _run_until_done(task: asyncio.Task[Result]) -> Result:
    """Run a task's loop in this thread until the task is done.

    Ctrl-C cancels the task, because a KeyboardInterrupt would end whichever task happens to run;
    only the third one does, lest something that blocks the loop could not be ended.
    `asyncio.Runner` would do for that, but costs a tenth of a fast call.
    """
    loop, interrupts = task.get_loop(), 0

    def interrupt(*_: object) -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts > 2 and not task.done():
            raise KeyboardInterrupt
        task.cancel()
        loop.call_soon_threadsafe(int)  # it does nothing, but wakes the loop

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return loop.run_until_complete(task)
    signal.signal(signal.SIGINT, interrupt)
    try:
        return loop.run_until_complete(task)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if interrupts:
            raise KeyboardInterrupt from None


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
