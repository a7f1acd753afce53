"""Stands that are ready before an episode asks for one.

To start a server takes tenths of a second, to take a ready one a moment. So while an episode runs
its successor's stand is made, and the one it leaves is taken down behind its back.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from typing import Any

from envs.client import GRACE_S
from envs.errors import ClientError, ServerStartError
from envs.event_loop import event_loop
from envs.servers.stand import Stand

CLOSE_S = 5.0
"""How long the end of a pool waits for what is being made, and then for stands to be taken down."""


class Pool:
    """Keeps a number of stands ready.

    Args:
        make: Returns a new stand that is not open yet.
        spares: How many are kept ready, or in the making.
        deadline: Seconds that making one may take, its place in the queue not counted.
    """

    def __init__(self, make: Callable[[], Stand], spares: int, deadline: float) -> None:
        self._make = make
        self._spares = spares
        self._deadline = deadline
        self._loop = event_loop()
        self._waiting: deque[Future[Stand]] = deque()
        self._closed = False
        # Of the event loop: what is being made, and every stand that is not taken down yet.
        self._making: set[asyncio.Task[Any]] = set()
        self._stands: set[Stand] = set()
        # More servers starting at once than cores only start later, all of them.
        self._starting = asyncio.Semaphore(max(2, os.cpu_count() or 1))

    def take(self) -> Stand:
        """Return a stand, the first that is ready, and order its successor.

        Raises:
            ServerStartError: If it could not be made in time.
            ToolListError: If a server's tools could not be read.
            ClientError: If the pool is closed.
        """
        if self._closed:
            raise ClientError("the environment is closed; make another one")
        self._drop_spoilt()
        self._order(max(1, self._spares) - len(self._waiting))
        # Those before it in the queue may each take their time.
        limit = self._deadline * len(self._waiting) + GRACE_S
        ready, _ = wait(self._waiting, limit, return_when=FIRST_COMPLETED)
        if not ready:
            raise ServerStartError(f"no server was ready within {limit:g} s")
        first = next(future for future in self._waiting if future in ready)
        self._waiting.remove(first)
        self._order(self._spares - len(self._waiting))
        return first.result()

    def _drop_spoilt(self) -> None:
        """Forget what failed, or died, while nobody waited for it: it says nothing of now."""
        for future in [future for future in self._waiting if future.done()]:
            if future.exception() is not None:
                self._waiting.remove(future)
            elif not future.result().alive:
                self._waiting.remove(future)
                self.discard(future.result())

    def _order(self, number: int) -> None:
        for _ in range(number):
            self._waiting.append(self._loop.submit(self._opened()))

    async def _opened(self) -> Stand:
        task = asyncio.current_task()
        assert task is not None
        stand = self._make()
        self._making.add(task)
        try:
            async with self._starting:
                await stand.open()
            # Noted before the task ends, so that `close` finds it in one of the two sets.
            self._stands.add(stand)
        finally:
            self._making.discard(task)
        return stand

    def discard(self, stand: Stand) -> None:
        """Take a stand down; nobody waits for it."""
        self._loop.submit(self._left(stand))

    async def _left(self, stand: Stand) -> None:
        await stand.leave()
        self._stands.discard(stand)

    def close(self) -> None:
        """Take down every stand: taken or not, ready or in the making."""
        self._closed = True
        self._waiting.clear()
        if self._loop is not event_loop():
            return  # a fork has neither the loop nor the servers
        with suppress(TimeoutError):  # something blocks the loop; the reaper has the last word
            self._loop.run(self._end(), 2 * CLOSE_S + GRACE_S)

    async def _end(self) -> None:
        for task in self._making:
            task.cancel()  # and so it takes down what it has made
        await _all_done(self._making)
        await _all_done(map(self._left, self._stands))


async def _all_done(work: Iterable[asyncio.Task[Any] | Coroutine[Any, Any, None]]) -> None:
    tasks = [asyncio.ensure_future(one) for one in work]
    if tasks:
        await asyncio.wait(tasks, timeout=CLOSE_S)
