from __future__ import annotations

import asyncio
import threading

import pytest

from envs import event_loop as module
from envs.event_loop import EventLoopThread


class Guest:
    def __init__(self) -> None:
        self.left = False

    async def leave(self) -> None:
        self.left = True


class Blocker:
    def __init__(self) -> None:
        self.release = threading.Event()

    async def leave(self) -> None:
        self.release.wait(60)


async def add(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


def test_work_runs_in_another_thread_and_its_result_comes_back() -> None:
    loop = EventLoopThread()
    assert loop.run(add(1, 2), 60) == 3
    loop.shut_down()


def test_work_that_is_late_is_cancelled() -> None:
    loop, cancelled = EventLoopThread(), threading.Event()

    async def never() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError):
        loop.run(never(), 0.1)
    assert cancelled.wait(60)
    loop.shut_down()


def test_shutting_down_lets_everybody_leave_and_ends_the_thread() -> None:
    loop, guests = EventLoopThread(), [Guest(), Guest()]
    loop.residents.update(guests)
    loop.shut_down()
    assert [guest.left for guest in guests] == [True, True]
    assert not loop._thread.is_alive()
    loop.shut_down()


def test_one_that_blocks_the_loop_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXIT_S", 0.1)
    loop, blocker = EventLoopThread(), Blocker()
    loop.residents.add(blocker)
    loop.shut_down()
    # Nobody waited: the blocker is not released yet, and the loop still hangs.
    assert loop._thread.is_alive()
    blocker.release.set()
    loop._thread.join(60)
    assert not loop._thread.is_alive()


def test_what_still_runs_at_the_end_is_cancelled() -> None:
    loop, cancelled = EventLoopThread(), threading.Event()
    ready = threading.Event()

    async def for_ever() -> None:
        try:
            ready.set()
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    loop.submit(for_ever())
    assert ready.wait(60)
    loop.shut_down()
    loop._thread.join(60)
    assert cancelled.is_set()
    assert loop._loop.is_closed()
