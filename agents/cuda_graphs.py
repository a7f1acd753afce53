"""Decoding as a CUDA graph: a GPU is told once what to do for a token, and then to do it again.

A forward of one token for a few rows is thousands of small kernels, and starting each of them from
Python takes longer than most of them run. A graph starts all of them at once. It repeats exactly
what was recorded: the same shapes at the same addresses, which `SteadyCache` sees to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
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
"""Models that could not be recorded, each with the graph that failed: PyTorch's allocator goes on
asking the graph whether it is recorded, so it must not go before the model does."""


class Recorder:
    """Makes recordings of what a model computes, of which only the latest can be replayed.

    They share one pool of memory. Where there is no GPU, and for a model that could not be recorded
    once, functions are only called.

    Args:
        model: The model.
        device: Where it is.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model = model
        self._on_gpu = device.type == "cuda"
        self._latest: torch.cuda.CUDAGraph | None = None

    def record(self, function: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """Return what does the same as a function does, and returns the same tensor each time.

        Args:
            function: Reads and writes the same tensors in each call, and does not look at them.
        """
        if not self._on_gpu or self._model in NOT_RECORDED:
            return function
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        pool = self._latest.pool() if self._latest else torch.cuda.graph_pool_handle()
        with torch.cuda.stream(stream):
            # Other threads, which serve tools, may do with the GPU what they like meanwhile.
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                result = function()
                graph.capture_end()
            except RuntimeError as error:
                self._give_up(graph, error)
                return function
        torch.cuda.current_stream().wait_stream(stream)
        self._latest = graph  # not before: while one of its graphs is there, a pool is kept

        def replay() -> torch.Tensor:
            graph.replay()
            return result

        return replay

    def _give_up(self, graph: torch.cuda.CUDAGraph, error: RuntimeError) -> None:
        """End a recording that failed, and make no other one of this model."""
        with suppress(RuntimeError):  # it has ended, or says that the recording is not valid
            graph.capture_end()
        # PyTorch leaves its generator as if it were still recorded, and would refuse to draw.
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        generator.graphsafe_set_state(generator.clone_state())
        NOT_RECORDED[self._model] = graph
        first = str(error).split("\n", 1)[0]
        log.warning("decoding is not recorded as a CUDA graph (%s); it goes on without", first)


class Steps:
    """The next tokens of a batch, one for each row at a time.

    Args:
        cache: What the batch remembers; not to be used until `settle`.
        count: How many tokens of each row there can be.
        logits: Returns the logits (rows, vocabulary) of one token of each row: given the tokens and
            which of them are real, both (rows, 1), and the layout.
        recorder: Records the second one, to replay it for all others.
    """

    def __init__(
        self,
        cache: RaggedCache,
        count: int,
        logits: Callable[[torch.Tensor, torch.Tensor, SteadyCache], torch.Tensor],
        recorder: Recorder,
    ) -> None:
        count = min(count, STRETCH)
        self.left = count
        self._count = count
        self._cache = SteadyCache(cache, count)
        rows, device = len(cache.lengths), cache.lengths.device
        ids = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self._inputs = (ids, torch.zeros_like(ids, dtype=torch.bool))
        self._step: Callable[[], torch.Tensor] = partial(logits, *self._inputs, self._cache)
        self._recorder = recorder if count >= WORTH else None

    def next(self, ids: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Feed one token of each row; return the logits, which the next call overwrites."""
        for mine, given in zip(self._inputs, (ids, real), strict=True):
            mine.copy_(given)
        if self._recorder is not None and self.left < self._count:
            self._step, self._recorder = self._recorder.record(self._step), None
        self.left -= 1
        return self._step()

    def settle(self) -> None:
        """Let the cache go on from here."""
        self._cache.settle(self._count - self.left)
