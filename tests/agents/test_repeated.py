from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from odd_models import ODD, scaled_granite, windowed_qwen3
from tiny_models import generated_by_transformers, tiny_qwen3, with_adapter

from agents.engine import SamplingConfig
from agents.errors import NonFiniteLogitsError
from agents.repeated import RepeatedConversations, layout_fault, repeated_states
from agents.shared_prompt import completion_states

END, PAD = 1511, 1509
MODELS: list[Callable[[], Any]] = [tiny_qwen3, *ODD.values()]


@pytest.fixture(params=MODELS, ids=lambda make: make.__name__)
def any_model(request: pytest.FixtureRequest) -> Any:
    return request.param()


# --- whether a model can share prompts ------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_model_with_plain_attention_can_share_prompts(
    any_tiny_model: Any, dtype: torch.dtype
) -> None:
    assert layout_fault(any_tiny_model.to(dtype).train()) == ""
    assert any_tiny_model.training
    assert layout_fault(with_adapter(any_tiny_model, lora_dropout=0.5).train()) == ""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("why", ODD)
def test_a_model_that_cannot_says_why_and_keeps_its_attention(why: str, dtype: torch.dtype) -> None:
    model = ODD[why]().to(dtype)
    ids, before = torch.arange(24).view(2, 12), model.config._attn_implementation
    with torch.no_grad():
        expected = model(ids).logits
        assert why in layout_fault(model)
        assert model.config._attn_implementation == before
        assert torch.equal(model(ids).logits, expected)


def test_a_model_that_takes_no_layout_at_all_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_qwen3()
    forward = model.model.forward

    def plain(
        input_ids: Any, attention_mask: Any, use_cache: bool, position_ids: Any = None
    ) -> Any:
        return forward(input_ids, attention_mask, position_ids, use_cache=use_cache)

    monkeypatch.setattr(model.model, "forward", plain)
    monkeypatch.setattr(model, "forward", lambda logits_to_keep, **rest: _headed(model, rest))
    assert "layout" in layout_fault(model)


def _headed(model: Any, inputs: dict[str, Any]) -> Any:
    hidden = model.model(**inputs)
    hidden.logits = model.lm_head(hidden.last_hidden_state)
    return hidden


# --- the update -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_scores_states_and_gradients_are_those_of_one_plain_forward_per_row(
    any_model: Any, seed: int
) -> None:
    rng = random.Random(seed)
    model = any_model.double()
    prompts = [tuple(rng.randrange(1500) for _ in range(rng.randint(1, 20))) for _ in range(3)]
    completions = [[rng.randrange(1500) for _ in range(rng.randint(1, 9))] for _ in prompts]
    width = max(map(len, completions))
    wanted = torch.rand(3, width, generator=torch.Generator().manual_seed(seed)) < 0.7
    wanted &= torch.arange(width) < torch.tensor([[len(row)] for row in completions])

    states = repeated_states(model, prompts, completions, wanted)
    found, _ = states.scores(0.8)
    found.sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    expected = torch.zeros(3, width, dtype=found.dtype)
    hidden = []
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        ids = torch.tensor([[*prompt, *completion]])
        place = len(prompt) - 1
        logits = model(ids).logits[0, place:-1].float() / 0.8
        chosen = logits.log_softmax(-1).gather(-1, torch.tensor(completion)[:, None])[:, 0]
        expected[row, : len(completion)] = chosen * wanted[row, : len(completion)]
        last = model.get_decoder()(ids).last_hidden_state[0, place:-1]
        hidden.append(last[wanted[row, : len(completion)]])
    expected.sum().backward()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(states.hidden, torch.cat(hidden))
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-4)


def test_without_a_choice_every_token_is_scored_as_in_the_packed_row() -> None:
    model = tiny_qwen3()
    batch = ([(1, 2, 3), (1, 2, 3), (4,)], [[5, 6], [7], [8, 9, 10]])
    with torch.no_grad():
        one, other = (
            form(model, *batch).scores(1.0) for form in (repeated_states, completion_states)
        )
    for mine, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


# --- rollouts -------------------------------------------------------------------------------------


def test_greedy_turns_equal_generate_while_rows_end_and_leave(any_model: Any) -> None:
    rng, model = random.Random(3), any_model
    with torch.no_grad():
        model.get_output_embeddings().weight[END] *= 4.0  # some turns end early
    engine = RepeatedConversations(model, END, PAD, SamplingConfig(max_turn_tokens=10))
    contexts = [[rng.randrange(1500) for _ in range(rng.randint(1, 20))] for _ in range(7)]
    engine.start(contexts)
    lengths = set()
    for _ in range(2):
        for context, turn in zip(contexts, engine.generate(), strict=True):
            assert turn.ids == generated_by_transformers(model, context, 10, end=END, pad=PAD)
            context += turn.ids
            lengths.add(len(turn.ids))
        rows = sorted(rng.sample(range(len(contexts)), len(contexts) - 2))
        observations = [[rng.randrange(1500) for _ in range(rng.randint(1, 12))] for _ in rows]
        engine.extend(rows, observations)
        contexts = [[*contexts[row], *ids] for row, ids in zip(rows, observations, strict=True)]
    assert len(lengths) > 2


def test_log_probs_are_those_of_the_models_own_logits() -> None:
    model = scaled_granite()
    config = SamplingConfig(temperature=0.7, max_turn_tokens=6, seed=3)
    engine = RepeatedConversations(model, END, PAD, config)
    prompt = [5, 6, 7, 8]
    engine.start([prompt, [9, 10]])
    turn = engine.generate()[0]
    with torch.no_grad():
        logits = model(torch.tensor([prompt + turn.ids])).logits[0, len(prompt) - 1 : -1]
    expected = (logits.float() / 0.7).log_softmax(-1)
    found = expected.gather(-1, torch.tensor(turn.ids)[:, None])[:, 0]
    assert turn.log_probs == pytest.approx(found.tolist(), abs=1e-4)


def test_a_broken_model_is_not_sampled_from() -> None:
    model = windowed_qwen3()
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    engine = RepeatedConversations(model, END, PAD, SamplingConfig())
    engine.start([[1, 2]])
    with pytest.raises(NonFiniteLogitsError):
        engine.generate()
