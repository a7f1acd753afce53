from __future__ import annotations

import asyncio
import multiprocessing
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from envs import event_loop as module
from envs.event_loop import EventLoopThread, event_loop
from tests.envs.servers.test_process import wait_for

FOR_EVER = 3600.0


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


# --- a loop that is lent to its callers -----------------------------------------------------------


async def who() -> threading.Thread:
    return threading.current_thread()


def borrows(loop: EventLoopThread) -> bool:
    """Return whether the calling thread is the one that runs its work."""
    return loop.run_here(who(), 60) is threading.current_thread()


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> Iterator[EventLoopThread]:
    """A loop that stays lent to its callers until somebody submits work."""
    monkeypatch.setattr(module, "LEND_S", FOR_EVER)
    loop = EventLoopThread()
    wait_for(lambda: borrows(loop))
    yield loop
    loop.shut_down()
    assert not loop._thread.is_alive()
    assert loop._loop.is_closed()


def test_the_first_call_is_run_by_the_thread_and_those_after_it_by_their_callers(
    lent: EventLoopThread,
) -> None:
    assert borrows(lent)
    assert borrows(lent)
    with ThreadPoolExecutor(1) as other:
        assert other.submit(borrows, lent).result(60)


def test_the_thread_takes_a_lent_loop_back_when_nobody_comes() -> None:
    loop, ticked = EventLoopThread(), threading.Event()
    wait_for(lambda: borrows(loop))

    async def leave_something() -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(0.05, ticked.set)

    loop.run_here(leave_something(), 60)
    assert ticked.wait(60)
    loop.shut_down()


def test_the_thread_takes_a_lent_loop_back_when_work_is_submitted(lent: EventLoopThread) -> None:
    assert lent.submit(who()).result(60) is lent._thread
    # It keeps the loop until the next caller has been served.
    assert lent.run_here(who(), 60) is lent._thread
    wait_for(lambda: borrows(lent))


def test_a_loop_is_not_lent_while_submitted_work_is_in_progress(lent: EventLoopThread) -> None:
    release = asyncio.Event()

    async def set_free() -> None:
        release.set()

    work = lent.submit(release.wait())
    assert [lent.run_here(who(), 60) for _ in range(3)] == [lent._thread] * 3
    lent.run_here(set_free(), 60)
    assert work.result(60)
    wait_for(lambda: borrows(lent))


def test_work_that_may_block_has_its_deadline_beside_a_lent_loop(lent: EventLoopThread) -> None:
    release = threading.Event()

    async def block() -> None:
        release.wait(60)

    with pytest.raises(TimeoutError):
        lent.run(block(), 0.1)
    with pytest.raises(TimeoutError):
        lent.run_here(add(1, 1), 0.1)
    release.set()
    assert lent.run_here(add(1, 2), 60) == 3


def test_an_error_of_the_work_reaches_its_caller_and_the_loop_stays_lent(
    lent: EventLoopThread,
) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError("mine")

    async def give_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(KeyError, match="mine"):
        lent.run_here(fail(), 60)
    with pytest.raises(asyncio.CancelledError):
        lent.run_here(give_up(), 60)
    assert borrows(lent)


def test_callers_in_several_threads_are_served_side_by_side(lent: EventLoopThread) -> None:
    # Nobody passes before all four are there.
    barrier = asyncio.Barrier(4)

    async def meet(number: int) -> int:
        await barrier.wait()
        return number

    def play(number: int) -> list[int]:
        return [lent.run_here(meet(number), 60) for _ in range(200)]

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(play, range(4))) == [[number] * 200 for number in range(4)]


def test_a_caller_who_is_inside_another_event_loop_does_not_run_this_one(
    lent: EventLoopThread,
) -> None:
    async def inside() -> threading.Thread:
        return lent.run_here(who(), 60)

    assert asyncio.run(inside()) is lent._thread


def interrupting(times: int) -> Any:
    """Return a task's work that presses Ctrl-C and goes on."""

    async def press() -> str:
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0)
        return "goes on"

    return press()


async def beside(other: Any, cancelled: threading.Event, kept: list[Any]) -> None:
    kept.append(asyncio.ensure_future(other))
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        cancelled.set()


def test_ctrl_c_cancels_the_callers_work_and_harms_nobody_else(lent: EventLoopThread) -> None:
    cancelled = threading.Event()
    kept: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        lent.run_here(beside(interrupting(1), cancelled, kept), 60)
    assert cancelled.is_set()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert lent.run_here(asyncio.wait_for(kept[0], 60), 60) == "goes on"
    assert borrows(lent)


def test_the_third_ctrl_c_ends_whatever_blocks_the_loop(lent: EventLoopThread) -> None:
    cancelled = threading.Event()
    kept: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        lent.run_here(beside(interrupting(3), cancelled, kept), 60)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert borrows(lent)
    assert cancelled.is_set()
    assert isinstance(kept[0].exception(), KeyboardInterrupt)


def test_a_handler_of_ctrl_c_that_somebody_else_installed_stays_in_force(
    lent: EventLoopThread,
) -> None:
    noted: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        assert lent.run_here(interrupting(1), 60) == "goes on"
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert noted == [signal.SIGINT]


def test_shutting_down_does_not_stop_what_a_caller_runs(lent: EventLoopThread) -> None:
    started, release = threading.Event(), asyncio.Event()

    async def wait() -> str:
        started.set()
        await release.wait()
        return "done"

    with ThreadPoolExecutor(1) as other:
        work = other.submit(lent.run_here, wait(), 60)
        assert started.wait(60)
        lent.shut_down()
        assert lent._thread.is_alive()
        lent._loop.call_soon_threadsafe(release.set)
        assert work.result(60) == "done"
    lent._thread.join(60)


def in_a_child(pipe: Any) -> None:
    pipe.send(event_loop().run_here(add(20, 22), 60))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_process_that_is_forked_by_a_borrower_has_a_loop_of_its_own() -> None:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    wait_for(lambda: borrows(event_loop()))
    child = context.Process(target=in_a_child, args=(there,))
    child.start()
    assert here.poll(240)
    assert here.recv() == 42
    child.join(240)
    assert child.exitcode == 0
