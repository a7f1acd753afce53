"""Stands that are ready before an episode asks for one.

To start a server takes tenths of a second, to take a ready one a moment. So while an episode runs
its successor's stand is made, and the one it leaves is taken down behind its back.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager

from envs.client import GRACE_S
from envs.errors import ClientError, ServerStartError
from envs.event_loop import event_loop
from envs.servers.stand import Stand

CLOSE_S = 10.0
"""How long the end of a pool waits for its stands to be taken down."""


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
        self._busy: set[asyncio.Task[object]] = set()  # of the loop: stands made, or taken down
        self._closed = False
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

    def _order(self, number: int) -> None:
        for _ in range(number):
            self._waiting.append(self._loop.submit(self._opened()))

    async def _opened(self) -> Stand:
        with self._noted():
            stand = self._make()
            async with self._starting:
                await stand.open()
            return stand

    def discard(self, stand: Stand) -> None:
        """Take a stand down; nobody waits for it."""
        self._loop.submit(self._left(stand))

    async def _left(self, stand: Stand) -> None:
        with self._noted():
            await stand.leave()

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Keep the running task where `close` finds it."""
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        try:
            yield
        finally:
            self._busy.discard(task)

    def close(self) -> None:
        """Take down every stand that nobody took, also those in the making."""
        self._closed = True
        waiting, self._waiting = list(self._waiting), deque()
        for future in waiting:
            # What is being made takes itself down when it is cancelled.
            if not future.cancel() and future.exception() is None:
                self.discard(future.result())
        self._loop.run(self._idle(), CLOSE_S + GRACE_S)

    async def _idle(self) -> None:
        """Wait until nothing is made or taken down any more."""
        others = self._busy - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=CLOSE_S)
