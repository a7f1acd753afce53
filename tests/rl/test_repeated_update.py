"""Training a model that cannot share prompts: GRPO and PPO go through its own forward."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import pytest
import torch
from odd_models import scaled_granite, windowed_qwen3
from tiny_models import eager_to_call, tiny_qwen3, with_adapter
from trl import GRPOTrainer
from watched_trainer import PPO, Build, adapter, direct_log_probs, same

from rl.pieces import packed_tokens
from rl.ppo_objective import KLController
from rl.ppo_trainer import ToolUsePPOTrainer
from rl.trainer import ToolUseGRPOTrainer

pytestmark = pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")

ODD = [windowed_qwen3, scaled_granite]


def policy(tokenizer: Any, make: Any) -> Any:
    call = tokenizer.convert_tokens_to_ids("<tool_call>")
    return with_adapter(eager_to_call(make(), call))


@pytest.mark.parametrize("make", ODD)
@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_it_is_trained_all_the_same_and_one_line_names_the_architecture(
    algorithm: str, make: Any, build: Build, tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ppo = partial(ToolUsePPOTrainer, settings=PPO, kl=KLController(0.1))
    options = {"make_trainer": ppo} if algorithm == "ppo" else {}
    model = policy(tokenizer, make)
    with caplog.at_level(logging.WARNING, logger="rl"):
        trainer: Any = build(model=model, workers=2, learning_rate=0.01, **options)
        before = adapter(trainer.model)
        trainer.train()
    (line,) = caplog.messages
    assert line.startswith(f"{model.config.model_type} shares no prompts")
    assert not same(before, adapter(trainer.model))


def test_a_model_that_could_share_prompts_learns_the_same_without(
    build: Build, tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    adapters, counts = [], []
    for share_prompts in (True, False):
        make_trainer = partial(ToolUseGRPOTrainer, share_prompts=share_prompts)
        with caplog.at_level(logging.WARNING, logger="rl"):
            trainer: Any = build(
                model=policy(tokenizer, tiny_qwen3), make_trainer=make_trainer, learning_rate=0.01
            )
            trainer.train()
        adapters.append(adapter(trainer.model))
        counts.append(len(caplog.messages))
    assert counts == [0, 1]
    assert "--share_prompts false" in caplog.messages[0]
    for name, value in adapters[0].items():
        torch.testing.assert_close(adapters[1][name], value, atol=1e-4, rtol=1e-3)


def test_a_model_that_shares_prompts_says_nothing(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="rl"):
        build().train()
    assert caplog.messages == []


@pytest.mark.parametrize("make", ODD)
def test_what_was_sampled_and_what_is_learned_are_of_the_models_own_forward(
    make: Any, build: Build, tokenizer: Any
) -> None:
    trainer: Any = build(model=policy(tokenizer, make), temperature=1.0)
    batch = trainer.scored()
    said = (batch["completion_mask"] * batch["tool_mask"]).bool()
    trainer.model.eval()
    direct = direct_log_probs(trainer.model, batch)
    torch.testing.assert_close(
        batch["sampling_per_token_logps"][said], direct[said], atol=1e-3, rtol=1e-3
    )
    arguments = (
        trainer.model,
        torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
        torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
        batch["completion_ids"].shape[1],
    )
    results = []
    for owner in (ToolUseGRPOTrainer, GRPOTrainer):
        trainer.model.zero_grad()
        log_probs, *_ = owner._get_per_token_logps_and_entropies(trainer, *arguments)
        there = batch["completion_mask"].bool()
        (log_probs[there] * torch.linspace(0, 1, int(there.sum()))).sum().backward()
        gradients = [p.grad.ravel() for p in trainer.model.parameters() if p.grad is not None]
        results.append((log_probs[there], torch.cat(gradients)))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-4, rtol=2e-3)


def test_pieces_count_every_copy_of_a_prompt(build: Build, tokenizer: Any) -> None:
    alone: Any = build("alone", model=policy(tokenizer, windowed_qwen3))
    batch = alone.scored()
    tokens = int(batch["prompt_mask"].sum() + batch["completion_mask"].sum())
    assert tokens > packed_tokens(batch)
    alone._tokens_per_forward = tokens - 1
    assert alone._pieces(batch) == 2
    shared: Any = build("shared", model=policy(tokenizer, tiny_qwen3))
    shared._tokens_per_forward = tokens - 1
    assert shared._pieces(batch) == 1
