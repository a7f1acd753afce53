"""Converting lines in several processes, with the results in the order of the lines."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import chain, islice
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


class _Worker:
    """What a worker process holds; it is set once, when the process starts."""

    settings: Settings
    round_trip: RoundTrip | None


def _in_processes(
    all_batches: Iterator[list[RawLine]], settings: Settings, workers: int
) -> Iterator[Results]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sft.data.render" if settings.model else __name__])
    executor = ProcessPoolExecutor(workers, context, _start_worker, (settings,))
    waiting: deque[Future[Results]] = deque()
    try:
        for batch in all_batches:
            waiting.append(executor.submit(_work, batch))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result(BATCH_DEADLINE_S)
        while waiting:
            yield waiting.popleft().result(BATCH_DEADLINE_S)
    except BrokenProcessPool as error:
        raise WorkerError("a worker process died; is there enough memory? (--workers 1)") from error
    except TimeoutError as error:
        raise WorkerError(f"a batch of rows took more than {BATCH_DEADLINE_S:.0f} s") from error
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _start_worker(settings: Settings) -> None:
    # Ctrl-C goes to every process of the terminal; the parent is the one that ends the work.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _Worker.settings = settings
    _Worker.round_trip = load_round_trip(settings.model)


def _end_with_parent() -> None:
    """End this process when the parent was killed: nobody else would."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(batch: Sequence[RawLine]) -> Results:
    return _convert_batch(batch, _Worker.settings, _Worker.round_trip)
