"""Converting lines in several processes, with the results in the order of the lines."""

from __future__ import annotations

import importlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any

from sft.data.conversion import Outcome, RoundTrip, Settings, convert_line
from sft.data.errors import WorkerError
from sft.data.jsonl import parse_line
from sft.data.raw_lines import RawLine

BATCH_LINES = 256
BATCH_BYTES = 1 << 20
BATCH_DEADLINE_S = 600.0

Results = tuple[int, list[Outcome]]
"""Where a batch ends in the file, in bytes, and what became of its rows."""


def converted(
    lines: Iterable[RawLine], settings: Settings, workers: int
) -> Generator[Results, None, None]:
    """Convert lines batch by batch, in order; the results do not depend on `workers`.

    Args:
        lines: The lines.
        settings: What is the same for all.
        workers: Processes; with one, or where one batch is all, this one does the work.

    Raises:
        WorkerError: If a process died, or was not done with a batch in time.
    """
    all_batches = batches(lines)
    first = list(islice(all_batches, 2))
    if workers == 1 or len(first) < 2:
        round_trip = load_round_trip(settings.model)
        for batch in chain(first, all_batches):
            yield _convert_batch(batch, settings, round_trip)
    else:
        yield from _in_processes(chain(first, all_batches), settings, workers)


def batches(lines: Iterable[RawLine]) -> Iterator[list[RawLine]]:
    """Cut lines into batches that are neither long nor large."""
    batch: list[RawLine] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line.raw)
        if len(batch) == BATCH_LINES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def load_round_trip(model: str) -> RoundTrip | None:
    """Return what renders a row with a model's template and parses it back; None for no model."""
    if not model:
        return None
    # Not at the top of the file: it takes ten seconds and half a gigabyte.
    render: Any = importlib.import_module("sft.data.render")
    round_trip: RoundTrip = partial(render.parses_back, render.load_template(model))
    return round_trip


def _convert_batch(
    batch: Sequence[RawLine], settings: Settings, round_trip: RoundTrip | None
) -> Results:
    outcomes = [
        outcome
        for line in batch
        for outcome in convert_line(parse_line(line), settings, round_trip)
    ]
    return batch[-1].end, outcomes


def _in_processes(
    all_batches: Iterator[list[RawLine]], settings: Settings, number: int
) -> Iterator[Results]:
    workers = _Workers(settings, number)
    threads = ThreadPoolExecutor(number)
    waiting: deque[Future[Results]] = deque()
    try:
        for batch in all_batches:
            waiting.append(threads.submit(workers.convert, batch))
            if len(waiting) > 2 * number:
                yield waiting.popleft().result(BATCH_DEADLINE_S)
        while waiting:
            yield waiting.popleft().result(BATCH_DEADLINE_S)
    except TimeoutError as error:
        raise WorkerError(f"a batch of rows took more than {BATCH_DEADLINE_S:.0f} s") from error
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        workers.kill()


class _Workers:
    """Worker processes, each with a pipe of its own, for as many threads that wait for them.

    The end of a worker is the end of its pipe. So nothing waits for one that died with half a
    result written, as an executor of processes would, and one that is stuck can be killed.
    """

    def __init__(self, settings: Settings, number: int) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["sft.data.render" if settings.model else __name__])
        self._free: SimpleQueue[Connection] = SimpleQueue()
        self._processes: list[BaseProcess] = []
        for _ in range(number):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, settings))
            process.start()
            theirs.close()
            self._processes.append(process)
            self._free.put(ours)

    def convert(self, batch: Sequence[RawLine]) -> Results:
        """Let a free worker convert a batch.

        Raises:
            WorkerError: If it dies; the others are then killed.
        """
        worker = self._free.get()
        try:
            worker.send(batch)
            results: Results = worker.recv()
        except (EOFError, ConnectionError) as error:
            self.kill()
            raise WorkerError(
                "a worker process died; is there enough memory? (--workers 1)"
            ) from error
        finally:
            self._free.put(worker)
        return results

    def kill(self) -> None:
        """End all of them, whatever they are doing."""
        for process in self._processes:
            process.kill()


def _serve(parent: Connection, settings: Settings) -> None:
    """Convert batches in a worker process, for as long as there is a parent."""
    # Ctrl-C goes to every process of the terminal; the parent is the one that ends the work.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    round_trip = load_round_trip(settings.model)
    with suppress(EOFError, ConnectionError):
        while True:
            parent.send(_convert_batch(parent.recv(), settings, round_trip))
