from __future__ import annotations

from typing import Any

import pytest
import torch
from trl import GRPOTrainer
from watched_trainer import TASKS, Build, adapter

import rl.trainer
from agents.rollout import Trajectory
from agents.shared_prompt import completion_states
from rewards.episode import Episode
from rl.step_log import sampled_entropy
from rl.trainer import ToolUseGRPOTrainer

pytestmark = pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")


@pytest.mark.parametrize("bf16", [False, True])
def test_shared_prompts_give_the_log_probs_and_gradients_of_trl(build: Build, bf16: bool) -> None:
    trainer = build(temperature=0.7, bf16=bf16)
    batch = trainer.scored()
    trainer.model.eval()
    arguments = (
        trainer.model,
        torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
        torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
        batch["completion_ids"].shape[1],
    )
    there = batch["completion_mask"].bool()
    results = []
    for method in (
        ToolUseGRPOTrainer._get_per_token_logps_and_entropies,
        GRPOTrainer._get_per_token_logps_and_entropies,
    ):
        trainer.model.zero_grad()
        log_probs, entropies, _ = method(trainer, *arguments, compute_entropy=True)
        (log_probs[there] * torch.linspace(0, 1, int(there.sum()))).sum().backward()
        gradients = [p.grad.clone() for p in trainer.model.parameters() if p.grad is not None]
        results.append(
            (log_probs[there], entropies[there], torch.cat([*map(torch.ravel, gradients)]))
        )
    for mine, theirs in zip(*results, strict=True):
        if bf16:
            likeness = torch.nn.functional.cosine_similarity(mine.float(), theirs.float(), dim=0)
            assert likeness > 0.98
        else:
            torch.testing.assert_close(mine, theirs, atol=2e-4, rtol=2e-3)


def loss_and_gradient(trainer: Any, batch: dict[str, Any], cls: Any) -> tuple[Any, torch.Tensor]:
    trainer.model.zero_grad()
    trainer.model.eval()
    loss = cls._compute_loss(trainer, trainer.model, batch)
    loss.backward()
    gradients = [p.grad.ravel() for p in trainer.model.parameters() if p.grad is not None]
    return loss.detach(), torch.cat(gradients)


@pytest.mark.parametrize("loss_type", ["bnpo", "dr_grpo", "grpo"])
def test_rows_without_signal_are_not_computed_and_would_change_nothing(
    build: Build, loss_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = build(beta=0.0, loss_type=loss_type)
    batch = trainer.scored()
    batch["advantages"] = torch.tensor([0.0, 0.0, 0.3, -0.3])
    computed: list[int] = []

    def count(model: Any, prompts: Any, *args: Any) -> Any:
        computed.append(len(prompts))
        return completion_states(model, prompts, *args)

    monkeypatch.setattr(rl.trainer, "completion_states", count)
    mine = loss_and_gradient(trainer, batch, ToolUseGRPOTrainer)
    theirs = loss_and_gradient(trainer, batch, GRPOTrainer)
    assert computed == [2, 4]
    assert (mine[1] != 0).any()
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_the_entropy_that_trl_logs_is_over_the_rows_that_were_computed(build: Build) -> None:
    trainer = build(beta=0.0)
    batch = trainer.scored()
    batch["advantages"] = torch.tensor([0.0, 0.0, 0.3, -0.3])
    loss_and_gradient(trainer, batch, ToolUseGRPOTrainer)
    arguments = (
        torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
        torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
        batch["completion_ids"].shape[1],
    )
    _, entropies, _ = GRPOTrainer._get_per_token_logps_and_entropies(
        trainer, trainer.model, *arguments, compute_entropy=True
    )
    said = (batch["completion_mask"] * batch["tool_mask"])[2:].bool()
    expected = float(entropies.detach()[2:][said].mean())
    assert trainer._metrics["eval"]["entropy"][-1] == pytest.approx(expected, rel=1e-3)


def test_a_step_without_any_signal_has_a_gradient_of_zero(build: Build) -> None:
    trainer = build(beta=0.0)
    batch = trainer.scored()
    batch["advantages"] = torch.zeros(4)
    loss, gradient = loss_and_gradient(trainer, batch, ToolUseGRPOTrainer)
    assert loss == 0
    assert (gradient == 0).all()


def test_rows_without_signal_still_feel_the_kl_term(build: Build) -> None:
    trainer = build(beta=0.1)
    batch = trainer.scored()
    batch["advantages"] = torch.zeros(4)
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if "lora_B.default" in name:
                parameter.normal_(0, 0.1)
    _, gradient = loss_and_gradient(trainer, batch, ToolUseGRPOTrainer)
    assert (gradient != 0).any()


def test_the_entropy_of_a_step_is_the_mean_surprise_of_sampled_tokens() -> None:
    one = Trajectory(Episode(TASKS[0], max_turns=3), (1,), (2, 3, 4), (1, 0, 1), (-1.0, -9.0, -2.0))
    other = Trajectory(Episode(TASKS[0], max_turns=3), (1,), (2,), (1,), (-3.0,))
    assert sampled_entropy([one, other]) == pytest.approx(2.0)
    assert sampled_entropy([]) == 0.0


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_disable. is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated:FutureWarning")
def test_checkpointed_activations_train_the_same_with_shared_prompts(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared: list[int] = []

    def count(model: Any, prompts: Any, *args: Any) -> Any:
        shared.append(len(prompts))
        return completion_states(model, prompts, *args)

    monkeypatch.setattr(rl.trainer, "completion_states", count)
    plain, checkpointed = (
        build(activation_checkpointing=checkpointing, steps=1) for checkpointing in (False, True)
    )
    for trainer in (plain, checkpointed):
        trainer.train()
    assert shared[: len(shared) // 2] == shared[len(shared) // 2 :]
    after = adapter(checkpointed.model)
    for name, weight in adapter(plain.model).items():
        torch.testing.assert_close(weight, after[name], atol=1e-3, rtol=1e-2)  # steps of 0.05
