"""Steps of the same shapes, which a graph repeats; the graphs themselves: tests/gpu."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from tiny_models import eager_to_call, tiny_qwen3

import agents.cuda_graphs
from agents.cuda_graphs import Recorder, Steps
from agents.engine import Conversations, GeneratedTurn, SamplingConfig
from agents.errors import NonFiniteLogitsError

END, PAD = 1511, 1509


def played(model: Any, config: SamplingConfig, steady: bool) -> list[GeneratedTurn]:
    """Three turns of conversations that share prompts, end at different times and leave."""
    rng = random.Random(0)
    prompts = [[rng.randrange(1500) for _ in range(rng.randint(1, 40))] for _ in range(3)]
    engine = Conversations(model, END, PAD, config)
    engine._steady = steady
    engine.start([prompts[row % 3] for row in range(12)])
    turns: list[GeneratedTurn] = []
    for left in (11, 9, 5):
        turns += engine.generate()
        rows = sorted(rng.sample(range(len(engine._pending)), left))
        heard = [[rng.randrange(1500) for _ in range(rng.randint(1, 12))] for _ in rows]
        engine.extend(rows, heard)
    return turns


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("stretch", [3, 10, 128])
def test_steps_of_the_same_shapes_say_what_growing_ones_do(
    temperature: float, stretch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents.cuda_graphs, "STRETCH", stretch)
    model = eager_to_call(tiny_qwen3(), END, 4.0)
    config = SamplingConfig(temperature, max_turn_tokens=30, seed=2)
    steady, growing = (played(model, config, how) for how in (True, False))
    assert [turn.ids for turn in steady] == [turn.ids for turn in growing]
    assert len({len(turn.ids) for turn in growing}) > 5
    for mine, theirs in zip(steady, growing, strict=True):
        assert mine.log_probs == pytest.approx(theirs.log_probs, abs=1e-4)


def test_all_steps_of_a_stretch_read_as_many_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents.cuda_graphs, "STRETCH", 20)
    shapes = set()
    append = agents.cuda_graphs.SteadyCache.append

    def noted(self: Any, real: torch.Tensor) -> torch.Tensor:
        positions = append(self, real)
        shapes.add((self._visible.shape, self._cache._own[0].buffers[0].shape))
        return positions

    monkeypatch.setattr(agents.cuda_graphs.SteadyCache, "append", noted)
    engine = Conversations(tiny_qwen3(), -1, PAD, SamplingConfig(max_turn_tokens=30))
    engine._steady = True
    engine.start([[1, 2, 3]] * 4)
    engine.generate()
    assert len(shapes) == 1
    # The last token of the prompt, and 29 of 30 tokens: a stretch of 20, and one of 9.
    assert engine._cache._own[0].used == 30
    assert engine._cache._visible.shape == (4, 30)


def test_only_a_gpu_computes_by_steps_of_the_same_shapes() -> None:
    assert not Conversations(tiny_qwen3(), END, PAD, SamplingConfig())._steady


class Recorded(Recorder):
    """Counts recordings; what it returns only calls."""

    def __init__(self) -> None:
        self.recorded = 0

    def record(self, function: Any) -> Any:
        self.recorded += 1
        return function


def test_nothing_is_recorded_where_there_is_no_gpu() -> None:
    recorder = Recorder(tiny_qwen3(), torch.device("cpu"))
    assert recorder.record(lambda: torch.zeros(1)) is None


@pytest.mark.parametrize(("count", "recordings"), [(7, 0), (8, 1), (40, 1)])
def test_the_second_step_is_recorded_if_it_pays(count: int, recordings: int) -> None:
    model, recorder = tiny_qwen3(), Recorded()
    engine = Conversations(model, END, PAD, SamplingConfig(max_turn_tokens=1))
    engine.start([[1, 2, 3]] * 2)
    engine.generate()
    steps = Steps(engine._cache, count, recorder)
    ids, real = torch.tensor([[5], [6]]), torch.tensor([[True], [True]])
    seen = []
    for _ in range(count):
        steps.next(ids, real, engine._steady_logits)
        seen.append(recorder.recorded)
    assert seen == [0] + [recordings] * (count - 1)
    assert steps.left == 0


def test_scores_that_are_no_numbers_are_an_error_in_steps_too() -> None:
    model = tiny_qwen3()
    engine = Conversations(model, -1, PAD, SamplingConfig(max_turn_tokens=5))
    engine._steady = True
    engine.start([[1, 2, 3]])
    feed = engine._feed

    def broken_afterwards(chunks: Any) -> torch.Tensor:
        logits = feed(chunks)
        with torch.no_grad():
            model.model.norm.weight.fill_(torch.nan)
        return logits

    engine._feed = broken_afterwards  # type: ignore[method-assign]
    with pytest.raises(NonFiniteLogitsError, match="NaN or infinite"):
        engine.generate()


def test_after_a_turn_that_failed_another_conversation_can_begin() -> None:
    model = tiny_qwen3()
    engine = Conversations(model, -1, PAD, SamplingConfig(max_turn_tokens=12))
    engine._steady = True
    engine.start([[1, 2, 3]] * 2)
    expected = [turn.ids for turn in engine.generate()]
    engine.start([[1, 2, 3]] * 2)
    norm, whole = model.model.norm, model.model.norm.forward
    calls = iter(range(5))
    norm.forward = lambda hidden: whole(hidden) if next(calls, None) is not None else 1 / 0
    with pytest.raises(ZeroDivisionError):
        engine.generate()
    del norm.forward
    engine.start([[1, 2, 3]] * 2)
    assert [turn.ids for turn in engine.generate()] == expected
