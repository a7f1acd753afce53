"""Decoding as a CUDA graph: a GPU is told once what to do for a token, and then to do it again.

A forward of one token for a few rows is thousands of small kernels, and starting each of them from
Python takes longer than most of them run. A graph starts all of them at once. It repeats exactly
what was recorded: the same shapes at the same addresses, which `SteadyCache` sees to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from threading import get_ident
from typing import Any
from weakref import WeakKeyDictionary

import torch

from agents.kv_cache import RaggedCache, SteadyCache

log = logging.getLogger(__name__)

STRETCH = 128
"""Most tokens that a graph is recorded for: slots that are not used yet are read as well."""
WORTH = 8
"""Least tokens for which it pays: recording costs about as much as two tokens without a graph."""


NOT_RECORDED: WeakKeyDictionary[Any, torch.cuda.CUDAGraph] = WeakKeyDictionary()
"""Models that could not be recorded, each with the graph that failed: PyTorch's allocator may go on
asking the graph whether it is recorded, so it must not go before the model does."""


@cache
def stream_of(device: torch.device, thread: int) -> torch.cuda.Stream:
    """Return the stream on which a thread records.

    Always the same: memory is kept for each stream, also within a pool of graphs. What cuBLAS works
    in is allocated here, or the first recording would take it from the pool of its graph for good.
    """
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        torch.cuda.current_blas_handle()
    return stream


class Recorder:
    """Makes recordings of what a model computes, of which only the latest can be replayed.

    They share one pool of memory. There are none where there is no GPU, and of a model that could
    not be recorded once.

    Args:
        model: The model.
        device: Where it is.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model = model
        self._device = device
        self._latest: torch.cuda.CUDAGraph | None = None

    def record(self, function: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor] | None:
        """Return what does the same as a function does, and returns the same tensor each time.

        Args:
            function: Reads and writes the same tensors in each call, and does not look at them.

        Returns:
            The replay; None if there is none.
        """
        if self._device.type != "cuda" or self._model in NOT_RECORDED:
            return None
        with torch.cuda.device(self._device):
            return self._recorded(function)

    def _recorded(self, function: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor] | None:
        if self._latest:
            pool = self._latest.pool()
        else:
            torch.cuda.empty_cache()  # of what the allocator keeps, a recording gets nothing
            pool = torch.cuda.graph_pool_handle()
        graph, stream = torch.cuda.CUDAGraph(), stream_of(self._device, get_ident())
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            try:
                # Other threads, which serve tools, may do with the GPU what they like meanwhile.
                graph.capture_begin(pool=pool, capture_error_mode="thread_local")
                result = function()
                graph.capture_end()
            except BaseException as error:
                _end(graph, pool)
                if not isinstance(error, RuntimeError):
                    raise
                self._give_up(graph, error)
                return None
        torch.cuda.current_stream().wait_stream(stream)
        self._latest = graph  # not before: while one of its graphs is there, a pool is kept

        def replay() -> torch.Tensor:
            graph.replay()
            return result

        return replay

    def _give_up(self, graph: torch.cuda.CUDAGraph, error: RuntimeError) -> None:
        """Say why there is no recording, and make no other one of this model."""
        if isinstance(error, torch.OutOfMemoryError):
            return  # the next one may have more room
        NOT_RECORDED[self._model] = graph
        first = str(error).split("\n", 1)[0]
        log.warning("decoding is not recorded as a CUDA graph (%s); it goes on without", first)


def _end(graph: torch.cuda.CUDAGraph, pool: Any) -> None:
    """End a recording that failed, and what PyTorch leaves undone where it is not valid."""
    try:
        graph.capture_end()
    except RuntimeError:
        device = torch.cuda.current_device()
        # The allocator goes on as if it were recorded; it says so if it does not.
        with suppress(RuntimeError):
            torch._C._cuda_endAllocateToPool(device, pool)
            torch._C._cuda_releasePool(device, pool)
        # So does the generator of random numbers, which then refuses to draw.
        generator = torch.cuda.default_generators[device]
        generator.graphsafe_set_state(generator.clone_state())


Logits = Callable[[torch.Tensor, torch.Tensor, SteadyCache], torch.Tensor]
"""Returns the logits (rows, vocabulary) of one token of each row: given the tokens, which of them
are real, both (rows, 1), and the layout."""


class Steps:
    """The next tokens of a batch, one for each row at a time.

    Args:
        cache: What the batch remembers; not to be used until `settle`.
        count: How many tokens of each row there can be.
        recorder: Records the second one, to replay it for all others.
    """

    def __init__(self, cache: RaggedCache, count: int, recorder: Recorder) -> None:
        count = min(count, STRETCH)
        self.left = count
        self._count = count
        self._cache = SteadyCache(cache, count)
        rows, device = len(cache.lengths), cache.lengths.device
        ids = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self._inputs = (ids, torch.zeros_like(ids, dtype=torch.bool))
        self._recorder = recorder if count >= WORTH else None
        self._replay: Callable[[], torch.Tensor] | None = None

    def next(self, ids: torch.Tensor, real: torch.Tensor, logits: Logits) -> torch.Tensor:
        """Feed one token of each row; return the logits, which the next call overwrites.

        Args:
            ids: The tokens (rows, 1).
            real: Which of them are real, of the same shape.
            logits: Computes the logits, in the same way each time.
        """
        for mine, given in zip(self._inputs, (ids, real), strict=True):
            mine.copy_(given)
        if self._recorder is not None and self.left < self._count:
            self._replay = self._recorder.record(partial(logits, *self._inputs, self._cache))
            self._recorder = None
        self.left -= 1
        return self._replay() if self._replay else logits(*self._inputs, self._cache)

    def settle(self) -> None:
        """Let the cache go on from here."""
        self._cache.settle(self._count - self.left)
