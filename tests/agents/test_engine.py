from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import eager_to_call, generated_by_transformers

from agents.engine import Conversations, Opening, SamplingConfig
from agents.errors import NonFiniteLogitsError

END, PAD = 1511, 1509


def random_ids(rng: random.Random, low: int, high: int) -> list[int]:
    return [rng.randrange(1500) for _ in range(rng.randint(low, high))]


MORE_SEEDS = [pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3)]


def play(model: Any, seed: int, shared_prompts: bool) -> None:
    """Three turns of ragged conversations in which rows leave, checked against `generate`."""
    rng = random.Random(seed)
    prompts = [random_ids(rng, 1, 40) for _ in range(4)]
    contexts = [list(rng.choice(prompts)) for _ in range(6)] if shared_prompts else prompts
    engine = Conversations(model, END, PAD, SamplingConfig(max_turn_tokens=9))
    engine.start(contexts)
    contexts = [list(context) for context in contexts]
    for _ in range(3):
        for context, turn in zip(contexts, engine.generate(), strict=True):
            assert turn.ids == generated_by_transformers(model, context, 9, end=END, pad=PAD)
            context += turn.ids
        rows = sorted(rng.sample(range(len(contexts)), max(1, len(contexts) - 1)))
        observations = [random_ids(rng, 1, 12) for _ in rows]
        engine.extend(rows, observations)
        contexts = [[*contexts[row], *ids] for row, ids in zip(rows, observations, strict=True)]


@pytest.mark.parametrize("seed", [0, 1, *MORE_SEEDS])
@pytest.mark.parametrize("shared_prompts", [False, True])
def test_greedy_turns_equal_generate_on_the_full_context(
    any_tiny_model: Any, seed: int, shared_prompts: bool
) -> None:
    play(any_tiny_model, seed, shared_prompts)


@pytest.mark.parametrize("seed", [0, *MORE_SEEDS])
def test_greedy_turns_equal_generate_where_rows_end_their_turn_at_different_times(
    tiny_model: Any, seed: int
) -> None:
    """Rows leave the batch within a turn, one half after the other, and come back for the next."""
    rng = random.Random(seed)
    model = eager_to_call(tiny_model, END, 4.0)
    engine = Conversations(model, END, PAD, SamplingConfig(max_turn_tokens=30))
    contexts = [random_ids(rng, 1, 30) for _ in range(12)]
    engine.start(contexts)
    lengths = set()
    for _ in range(3):
        for context, turn in zip(contexts, engine.generate(), strict=True):
            assert turn.ids == generated_by_transformers(model, context, 30, end=END, pad=PAD)
            assert turn.ids[-1] == END or len(turn.ids) == 30
            context += turn.ids
            lengths.add(len(turn.ids))
        rows = sorted(rng.sample(range(len(contexts)), len(contexts) - 2))
        observations = [random_ids(rng, 1, 12) for _ in rows]
        engine.extend(rows, observations)
        contexts = [[*contexts[row], *ids] for row, ids in zip(rows, observations, strict=True)]
    assert len(lengths) > 5


def test_greedy_turns_equal_generate_with_a_lora_adapter(tiny_model: Any) -> None:
    model = get_peft_model(tiny_model, LoraConfig(r=4, target_modules="all-linear"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    play(model.eval(), seed=7, shared_prompts=True)


def test_log_probs_are_those_of_the_tempered_distribution(tiny_model: Any) -> None:
    config = SamplingConfig(temperature=0.7, max_turn_tokens=6, seed=3)
    engine = Conversations(tiny_model, END, PAD, config)
    prompt = [5, 6, 7, 8]
    engine.start([prompt, [9, 10]])
    turn = engine.generate()[0]
    ids = torch.tensor([prompt + turn.ids])
    with torch.no_grad():
        expected = (tiny_model(ids).logits[0].float() / 0.7).log_softmax(-1)
    for place, (token, log_prob) in enumerate(zip(turn.ids, turn.log_probs, strict=True)):
        assert log_prob == pytest.approx(expected[len(prompt) - 1 + place, token].item(), abs=1e-4)


@pytest.mark.parametrize(("top_k", "top_p"), [(5, 1.0), (0, 0.3), (40, 0.5), (1, 1.0)])
def test_log_probs_are_those_of_the_tokens_that_may_be_sampled(
    tiny_model: Any, top_k: int, top_p: float
) -> None:
    config = SamplingConfig(temperature=2.0, top_k=top_k, top_p=top_p, max_turn_tokens=6, seed=3)
    engine = Conversations(tiny_model, END, PAD, config)
    prompt = [5, 6, 7, 8]
    engine.start([prompt, [9, 10]])
    turn = engine.generate()[0]
    with torch.no_grad():
        logits = tiny_model(torch.tensor([prompt + turn.ids])).logits[0].double() / 2.0
    for place, (token, log_prob) in enumerate(zip(turn.ids, turn.log_probs, strict=True)):
        shares = logits[len(prompt) - 1 + place].softmax(-1)
        by_rank = sorted(enumerate(shares.tolist()), key=lambda pair: -pair[1])
        by_rank = by_rank[: top_k or None]
        total, kept = sum(share for _, share in by_rank), {}
        for candidate, share in by_rank:
            if sum(kept.values()) >= top_p * total:
                break
            kept[candidate] = share
        assert token in kept
        assert log_prob == pytest.approx(math.log(kept[token] / sum(kept.values())), abs=1e-4)


def test_the_episode_limit_holds_over_all_turns(tiny_model: Any) -> None:
    config = SamplingConfig(max_turn_tokens=5, max_episode_tokens=7)
    engine = Conversations(eager_to_call(tiny_model, 3, 50.0), END, PAD, config)
    engine.start([[1, 2, 3], [4]])
    turns = [engine.generate()]
    for row in (1, 0):
        engine.extend([row], [[6, 7]])
        turns.append(engine.generate())
    assert [[len(turn.ids) for turn in played] for played in turns] == [[5, 5], [2], [0]]


def test_tokens_are_drawn_as_often_as_their_probability_says(tiny_model: Any) -> None:
    engine = Conversations(tiny_model, END, PAD, SamplingConfig(seed=4))
    shares = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0])
    drawn = engine._draw(shares.expand(20_000, -1)).bincount(minlength=6) / 20_000
    assert drawn[shares == 0].sum() == 0
    torch.testing.assert_close(drawn, shares, atol=0.015, rtol=0)  # over four standard deviations


def test_the_same_seed_samples_the_same_turns(tiny_model: Any) -> None:
    def sample(seed: int) -> list[list[int]]:
        config = SamplingConfig(temperature=1.0, max_turn_tokens=8, seed=seed)
        engine = Conversations(tiny_model, END, PAD, config)
        engine.start([[1, 2, 3], [4, 5]])
        return [turn.ids for turn in engine.generate()]

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_the_length_limit_ends_turns_and_then_conversations(tiny_model: Any) -> None:
    config = SamplingConfig(max_turn_tokens=50, max_length=10)
    engine = Conversations(tiny_model, END, PAD, config)
    engine.start([[1, 2, 3, 4], [5]])
    lengths = [len(turn.ids) for turn in engine.generate()]
    assert lengths[0] <= 6
    assert lengths[1] <= 9
    engine.extend([0], [[7] * 20])
    assert engine.generate()[0].ids == []


def test_non_finite_logits_are_an_error_that_says_what_to_do(tiny_model: Any) -> None:
    with torch.no_grad():
        tiny_model.model.norm.weight.fill_(float("nan"))
    engine = Conversations(tiny_model, END, PAD, SamplingConfig())
    engine.start([[1, 2]])
    with pytest.raises(NonFiniteLogitsError, match="learning rate"):
        engine.generate()


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_turn_opens_as_it_is_held_to_and_goes_on_freely(
    tiny_model: Any, temperature: float
) -> None:
    prompt = [5, 6, 7]

    def turns(*openings: Opening | None) -> list[Any]:
        config = SamplingConfig(temperature=temperature, max_turn_tokens=4, seed=3)
        engine = Conversations(tiny_model, END, PAD, config)
        engine.start([prompt] * 3)
        return engine.generate(openings)

    likely = turns()[0].ids[0]
    other = (likely + 1) % 1500
    held, banned, free = turns(Opening(other, True), Opening(likely, False), None)
    assert held.ids[0] == other
    assert held.log_probs[0] == 0.0
    assert banned.ids[0] != likely
    with torch.no_grad():
        logits = tiny_model(torch.tensor([prompt])).logits[0, -1] / (temperature or 1.0)
    logits[likely] = -torch.inf
    expected = logits.log_softmax(-1)[banned.ids[0]].item()
    assert banned.log_probs[0] == pytest.approx(expected, abs=1e-4)
    with torch.no_grad():
        after = tiny_model(torch.tensor([[*prompt, other]])).logits[0, -1] / (temperature or 1.0)
    assert held.log_probs[1] == pytest.approx(after.log_softmax(-1)[held.ids[1]].item(), abs=1e-4)
    assert temperature or free.ids[0] == likely
