"""vLLM does not run here: what it would return is made by transformers' own `generate`."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from tiny_models import eager_to_call

from agents.engine import Conversations, Opening, SamplingConfig
from agents.vllm_engine import VLLMConversations

END, PAD = 2, 0


class Generation:
    """Answers as `trl.generation.VLLMGeneration` does, greedily."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.max_completion_length = 0
        self.asked: list[int] = []

    @torch.no_grad()
    def generate(self, prompts: list[list[int]], images: None, num_generations: int) -> Any:
        assert images is None
        assert num_generations == 1
        self.asked.append(len(prompts))
        completions, scores = [], []
        for prompt in prompts:
            ids = list(prompt)
            said: list[int] = []
            values: list[list[float]] = []
            while len(said) < self.max_completion_length and END not in said:
                log_probs = self.model(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
                said.append(int(log_probs.argmax()))
                values.append([float(log_probs.max()), -9.0])
                ids.append(said[-1])
            completions.append(said)
            scores.append(values)
        return prompts, completions, scores, None


@pytest.mark.parametrize("episode_limit", [0, 14])
def test_it_says_what_the_engine_says(tiny_model: Any, episode_limit: int) -> None:
    rng = random.Random(3)
    model = eager_to_call(tiny_model, END, 4.0)
    config = SamplingConfig(max_turn_tokens=9, max_episode_tokens=episode_limit, max_length=60)
    mine: Any = VLLMConversations(Generation(model), END, config)
    engine = Conversations(model, END, PAD, config)
    prompts = [[rng.randrange(3, 900) for _ in range(rng.randint(2, 12))] for _ in range(6)]
    for one in (mine, engine):
        one.start(prompts)
    rows = list(range(len(prompts)))
    for _ in range(3):
        for found, expected in zip(mine.generate(), engine.generate(), strict=True):
            assert found.ids == expected.ids
            assert found.log_probs == pytest.approx(expected.log_probs, abs=1e-4)
        rows = sorted(rng.sample(range(len(rows)), len(rows) - 1))
        observations = [[rng.randrange(3, 900) for _ in range(4)] for _ in rows]
        for one in (mine, engine):
            one.extend(rows, observations)


def test_rows_without_a_budget_are_not_asked_for(tiny_model: Any) -> None:
    generation = Generation(eager_to_call(tiny_model, 5, 50.0))
    engine = VLLMConversations(generation, END, SamplingConfig(max_turn_tokens=4, max_length=8))
    engine.start([[5] * 8, [5, 5]])
    assert [len(turn.ids) for turn in engine.generate()] == [0, 4]
    assert generation.asked == [1]
    engine.extend([0], [[7]])
    assert engine.generate()[0].ids == []
    assert generation.asked == [1]


def test_a_first_token_cannot_be_held(tiny_model: Any) -> None:
    engine = VLLMConversations(Generation(tiny_model), END, SamplingConfig())
    engine.start([[1, 2]])
    with pytest.raises(ValueError, match="--guided 0"):
        engine.generate([Opening(5, wanted=True)])
