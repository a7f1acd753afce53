from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from watched_trainer import PPO, Build, adapter, direct_log_probs, policy, same

from agents.errors import ModelFileError
from agents.value_head import FILE, add_value_head, load_value_head
from rl.pieces import packed_tokens
from rl.ppo_objective import KLController, without_group
from rl.ppo_trainer import ToolUsePPOTrainer

pytestmark = pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")

BuildPPO = Callable[..., Any]


@pytest.fixture
def build_ppo(build: Build) -> BuildPPO:
    def make(
        folder: str = "ppo",
        *,
        kl: KLController | None = None,
        settings: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        trainer = partial(
            ToolUsePPOTrainer,
            settings=replace(PPO, **(settings or {})),
            kl=kl or KLController(options.get("beta", 0.1)),
        )
        return build(folder, make_trainer=trainer, **options)

    return make


def scored(trainer: Any) -> dict[str, Any]:
    """One generation, played and judged by a policy and a critic that have some opinion."""
    trainer.model.train()
    with torch.no_grad():
        trainer.model.value_head.outer.weight.normal_(0, 0.1)
        for name, parameter in trainer.model.named_parameters():
            if "lora_B.default" in name:
                parameter.normal_(0, 0.02)
    rows = next(iter(trainer.get_train_dataloader()))
    batch: dict[str, Any] = trainer._generate_and_score_completions(rows)
    return batch


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


# --- what is judged -------------------------------------------------------------------------------


def test_the_old_log_probs_are_those_that_were_sampled_from(build_ppo: BuildPPO) -> None:
    trainer = build_ppo()
    batch = scored(trainer)
    said = batch["said"]
    assert (batch["completion_mask"].bool() & ~said).any()
    torch.testing.assert_close(
        batch["old_log_probs"][said], batch["sampling_per_token_logps"][said], atol=1e-3, rtol=1e-3
    )
    torch.testing.assert_close(
        batch["old_log_probs"][said],
        direct_log_probs(trainer.model, batch)[said],
        atol=1e-4,
        rtol=1e-4,
    )


def test_the_value_is_read_in_front_of_each_token(build_ppo: BuildPPO) -> None:
    trainer = build_ppo()
    batch = scored(trainer)
    row = 0
    prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
    completion = batch["completion_ids"][row][batch["completion_mask"][row].bool()]
    ids = torch.cat([prompt, completion])[None]
    with torch.no_grad():
        hidden = trainer.model.get_decoder()(ids).last_hidden_state[0]
        values = trainer.model.value_head(hidden)[len(prompt) - 1 : -1]
    said = batch["said"][row]
    found = batch["old_values"][row]
    torch.testing.assert_close(found[said], values[said[: len(values)]], atol=1e-4, rtol=1e-4)
    assert not found[~said].any()


def test_the_penalty_takes_the_distance_to_the_warm_start_from_the_reward(
    build_ppo: BuildPPO,
) -> None:
    free, held = (
        scored(build_ppo(name, kl=KLController(coefficient), settings={"gae_lambda": 1.0}))
        for name, coefficient in (("free", 0.0), ("held", 0.5))
    )
    said = free["said"]
    assert torch.equal(free["completion_ids"], held["completion_ids"])
    distance = torch.where(said, free["old_log_probs"] - free["ref_per_token_logps"], 0.0)
    assert (distance != 0).any()
    still_to_come = distance.flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(
        held["returns"][said], (free["returns"] - 0.5 * still_to_come)[said], atol=1e-4, rtol=1e-4
    )


def test_whitened_advantages_have_mean_zero_and_deviation_one(build_ppo: BuildPPO) -> None:
    batch = scored(build_ppo(settings={"whiten": True}))
    advantages = batch["advantages"][batch["said"]]
    assert advantages.mean().item() == pytest.approx(0, abs=1e-5)
    assert advantages.std(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert not batch["advantages"][~batch["said"]].any()


def test_the_group_is_a_second_baseline_where_it_is_asked_to_be(build_ppo: BuildPPO) -> None:
    alone, group = (
        scored(build_ppo(name, settings={"group_baseline": asked}))
        for name, asked in (("alone", False), ("group", True))
    )
    assert torch.equal(alone["returns"], group["returns"])
    expected = without_group(alone["advantages"], alone["said"], 2)
    torch.testing.assert_close(group["advantages"], expected)
    assert not torch.equal(alone["advantages"], expected)


# --- what is learned ------------------------------------------------------------------------------


@pytest.mark.parametrize("per_episode", [False, True])
def test_the_gradient_is_that_of_one_plain_forward_per_row(
    build_ppo: BuildPPO, per_episode: bool
) -> None:
    trainer = build_ppo(settings={"per_episode": per_episode})
    batch = scored(trainer)
    with torch.no_grad():  # as if the policy had moved: some ratios are clipped, some are not
        batch["old_log_probs"] += 0.3 * torch.randn_like(batch["old_log_probs"])
    trainer._learn(trainer.model, batch)
    mine = gradients(trainer.model)

    losses = []
    for row in range(len(batch["said"])):
        prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
        there = batch["completion_mask"][row].bool()
        completion, said = batch["completion_ids"][row][there], batch["said"][row][there]
        ids = torch.cat([prompt, completion])[None]
        hidden = trainer.model.get_decoder()(ids).last_hidden_state[0, len(prompt) - 1 : -1]
        logits = trainer.model.get_output_embeddings()(hidden).float()
        chosen = logits.log_softmax(-1).gather(-1, completion[:, None])[:, 0]
        old, wanted, advantage, was = (
            batch[name][row][there]
            for name in ("old_log_probs", "returns", "advantages", "old_values")
        )
        ratio = (chosen - old).exp()
        actor = torch.max(-ratio * advantage, -ratio.clamp(0.8, 1.2) * advantage)
        value = trainer.model.value_head(hidden)
        near = was + (value - was).clamp(-0.2, 0.2)
        critic = 0.5 * torch.max((value - wanted) ** 2, (near - wanted) ** 2)
        losses.append((actor + 0.5 * critic)[said])
    means = torch.stack([row.mean() for row in losses])
    (means if per_episode else torch.cat(losses)).mean().backward()
    plain = gradients(trainer.model)
    assert mine.keys() == plain.keys()
    assert any("value_head" in name for name in mine)
    for name, gradient in plain.items():
        torch.testing.assert_close(mine[name], gradient, atol=1e-5, rtol=1e-3)


def test_the_critic_leaves_the_policy_alone_unless_it_is_told_otherwise(
    build_ppo: BuildPPO,
) -> None:
    found = {}
    for trains_policy in (False, True):
        trainer = build_ppo(str(trains_policy), settings={"value_trains_policy": trains_policy})
        batch = scored(trainer)
        batch["advantages"] = torch.zeros_like(batch["advantages"])  # nothing for the actor
        trainer._learn(trainer.model, batch)
        found[trains_policy] = gradients(trainer.model)
    assert found[False]["value_head.outer.weight"].any()
    adapters = {
        trains_policy: any(g.any() for name, g in every.items() if "lora_" in name)
        for trains_policy, every in found.items()
    }
    assert adapters == {False: False, True: True}


@pytest.mark.parametrize("per_episode", [False, True])
def test_fewer_tokens_at_once_give_the_same_gradient(
    build_ppo: BuildPPO, per_episode: bool
) -> None:
    trainer = build_ppo(settings={"per_episode": per_episode})
    batch = scored(trainer)
    assert trainer._pieces(batch) == 1
    whole = trainer._learn(trainer.model, batch)
    expected = gradients(trainer.model)
    trainer._tokens_per_forward = packed_tokens(batch) // 2
    assert trainer._pieces(batch) > 1
    parts = trainer._learn(trainer.model, batch)
    found = gradients(trainer.model)
    torch.testing.assert_close(parts[0], whole[0])
    assert parts[1] == pytest.approx(whole[1], abs=1e-6)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize(("stop_kl", "steps"), [(0.0, 4), (1e-9, 2)])
def test_the_passes_end_where_the_policy_has_moved_too_far(
    build_ppo: BuildPPO, stop_kl: float, steps: int
) -> None:
    trainer = build_ppo(settings={"stop_kl": stop_kl}, steps=1)
    trainer.train()
    # The first minibatch is learned by the policy that played: it has not moved yet.
    assert trainer.state.log_history[0]["ppo/optimizer_steps"] == steps


def test_actor_and_critic_are_trained_and_the_reference_is_not(build_ppo: BuildPPO) -> None:
    trainer = build_ppo()
    before, reference = adapter(trainer.model), adapter(trainer.model, "ref")
    trainer.train()
    after = adapter(trainer.model)
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert same(reference, adapter(trainer.model, "ref"))
    assert trainer.model.value_head.outer.weight.any()


def test_rows_are_not_divided_by_trl(build_ppo: BuildPPO) -> None:
    with pytest.raises(ValueError, match="--tokens_per_forward and --minibatches"):
        build_ppo(gradient_accumulation_steps=2)


# --- checkpoints ----------------------------------------------------------------------------------


def test_a_resumed_run_ends_with_the_parameters_of_an_uninterrupted_one(
    build_ppo: BuildPPO, tokenizer: Any, tmp_path: Path
) -> None:
    saving = {"save_strategy": "steps", "save_steps": 1}

    def make(folder: str) -> Any:
        kl = KLController(0.1, target=0.01)
        return build_ppo(folder, model=policy(tokenizer), kl=kl, steps=2, **saving)

    whole = make("whole")
    whole.train()
    again = make("again")
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-1"))
    assert same(adapter(whole.model), adapter(again.model))
    for one, other in zip(
        whole.model.value_head.parameters(), again.model.value_head.parameters(), strict=True
    ):
        assert torch.equal(one, other)
    assert whole._kl.coefficient == again._kl.coefficient != 0.1
    kept = load_file(tmp_path / "whole" / "checkpoint-2" / FILE)
    assert torch.equal(kept["outer.weight"], whole.model.value_head.outer.weight)


def test_a_missing_value_head_says_which_command_writes_it(tokenizer: Any, tmp_path: Path) -> None:
    model = policy(tokenizer)
    add_value_head(model, seed=0)
    with pytest.raises(ModelFileError, match=r"value_head\.safetensors.*rl\.ppo"):
        load_value_head(model, tmp_path)
