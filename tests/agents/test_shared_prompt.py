from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from agents.shared_prompt import completion_log_probs


def repeated_form(
    model: Any, prompts: list[tuple[int, ...]], completions: list[list[int]], temperature: float
) -> list[torch.Tensor]:
    """One forward per row over prompt and completion, without padding or cache."""
    rows = []
    for prompt, completion in zip(prompts, completions, strict=True):
        ids = torch.tensor([[*prompt, *completion]])
        logits = model(ids).logits[0, len(prompt) - 1 : -1].to(torch.float32) / temperature
        rows.append(logits.log_softmax(-1).gather(-1, torch.tensor(completion)[:, None])[:, 0])
    return rows


@pytest.mark.parametrize("seed", range(3))
def test_log_probs_and_gradients_equal_those_of_the_repeated_form(
    any_tiny_model: Any, seed: int
) -> None:
    rng = random.Random(seed)
    model = any_tiny_model.double()
    pool = [tuple(rng.randrange(1500) for _ in range(rng.randint(1, 20))) for _ in range(3)]
    prompts = [rng.choice(pool) for _ in range(7)]
    completions = [[rng.randrange(1500) for _ in range(rng.randint(1, 9))] for _ in prompts]
    weights = torch.rand(7, 9, generator=torch.Generator().manual_seed(seed))

    log_probs, _ = completion_log_probs(model, prompts, completions, temperature=0.8)
    (log_probs * weights[:, : log_probs.shape[1]]).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    expected = repeated_form(model, prompts, completions, temperature=0.8)
    torch.stack(
        [(row * weights[i, : len(row)]).sum() for i, row in enumerate(expected)]
    ).sum().backward()

    for i, row in enumerate(expected):
        torch.testing.assert_close(log_probs[i, : len(row)], row, atol=1e-5, rtol=1e-5)
        assert log_probs[i, len(row) :].abs().sum() == 0
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-4)


def test_entropy_is_that_of_the_next_token_distribution(tiny_model: Any) -> None:
    _, entropy = completion_log_probs(tiny_model, [(1, 2, 3)], [[4, 5]])
    logits = tiny_model(torch.tensor([[1, 2, 3, 4]])).logits[0, 2:].float()
    expected = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(entropy[0], expected, atol=1e-4, rtol=1e-4)


def test_only_tokens_that_are_asked_for_are_scored(tiny_model: Any) -> None:
    prompts, completions = [(1, 2, 3), (4, 5), (1, 2, 3)], [[6, 7, 8], [9], [10, 11]]
    wanted = torch.tensor([[True, False, True], [False, False, False], [False, True, False]])
    every, _ = completion_log_probs(tiny_model, prompts, completions)
    some, entropies = completion_log_probs(tiny_model, prompts, completions, wanted=wanted)
    torch.testing.assert_close(some, every * wanted)
    assert (entropies != 0).equal(wanted)
