from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import save_base, tiny_qwen3, with_adapter
from watched_trainer import Build, adapter, direct_log_probs, policy, same

import rl.rollouts
from agents.engine import SamplingConfig
from agents.models import cast_trainable_to_float32, load_model
from agents.players import LanguagePlayer
from agents.rollout import Trajectory, rollout
from agents.template import ChatTemplate
from rewards.episode import Status
from rewards.judge import rescore
from rewards.serialise import episode_from_json
from rewards.trl_rewards import scaled_return
from rl.faults import StopOnFaults

pytestmark = pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")


# --- what is trained ----------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_the_gradient_is_exactly_zero_at_observation_tokens(build: Build, beta: float) -> None:
    trainer = build(beta=beta, learning_rate=0.01)
    trainer.train()
    assert len(trainer.batches) == len(trainer.log_probs) == 2
    observed = 0
    for batch, log_probs in zip(trainer.batches, trainer.log_probs, strict=True):
        said = (batch["tool_mask"] * batch["completion_mask"]).bool()
        assert log_probs.grad is not None
        assert (log_probs.grad[~said] == 0).all()
        assert (log_probs.grad[said] != 0).any()
        observed += int((batch["completion_mask"].bool() & ~said).sum())
    assert observed > 20


def test_the_masked_tokens_are_the_observations_and_no_other(build: Build, tokenizer: Any) -> None:
    trainer = build(steps=1)
    played: list[Trajectory] = []
    original = rl.rollouts.trl_rows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            rl.rollouts, "trl_rows", lambda rows, fill: played.extend(rows) or original(rows, fill)
        )
        batch = trainer.scored()
    for row, trajectory in enumerate(played):
        there = batch["completion_mask"][row].bool()
        said = there & batch["tool_mask"][row].bool()
        assert batch["completion_ids"][row][there].tolist() == list(trajectory.completion_ids)
        turns = "".join(turn.raw for turn in trajectory.episode.turns)
        text = tokenizer.decode(batch["completion_ids"][row][said])
        assert text.replace("<|im_end|>", "") == turns
    assert len(played) == 4


def test_only_the_adapter_is_trained_and_it_changes(build: Build) -> None:
    trainer = build()
    before = adapter(trainer.model)
    base = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if "lora" not in n}
    trainer.train()
    after = adapter(trainer.model)
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert len(changed) == len(before) == 2 * 2 * 7
    for name, parameter in trainer.model.named_parameters():
        if "lora" not in name:
            assert torch.equal(parameter, base[name]), name
    trained = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    default = {id(p) for n, p in trainer.model.named_parameters() if ".default." in n}
    assert trained == default


def test_a_four_bit_policy_is_trained_in_float32(build: Build, tmp_path: Path) -> None:
    base = load_model(save_base(tmp_path / "base"), load_in_4bit=True)
    trainer = build(model=with_adapter(base), steps=1)
    cast_trainable_to_float32(trainer.model)
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}
    before = adapter(trainer.model)
    trainer.train()
    assert not same(before, adapter(trainer.model))
    assert all(torch.isfinite(p).all() for p in trained)


# --- the rollout's policy -----------------------------------------------------------------------


def test_rollouts_are_sampled_without_dropout(build: Build, tokenizer: Any) -> None:
    trainer = build(model=policy(tokenizer, lora_dropout=0.5), beta=0.0)
    batch = trainer.scored()
    assert trainer.model.training
    said = (batch["tool_mask"] * batch["completion_mask"]).bool()
    trainer.model.eval()
    expected = direct_log_probs(trainer.model, batch)
    torch.testing.assert_close(
        batch["sampling_per_token_logps"][said], expected[said], atol=1e-3, rtol=1e-3
    )


@pytest.mark.slow
def test_each_step_samples_with_a_seed_of_its_own_and_each_run_with_the_same(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []

    class Noted(LanguagePlayer):
        def __init__(
            self, model: Any, tokenizer: Any, config: SamplingConfig, *rest: Any, **options: Any
        ) -> None:
            seeds.append(config.seed)
            super().__init__(model, tokenizer, config, *rest, **options)

    monkeypatch.setattr(rl.rollouts, "LanguagePlayer", Noted)
    for seed in (5, 5, 6):
        build(seed=seed).train()
    assert seeds[:2] == seeds[2:4]
    assert len(set(seeds)) == 4
    build(seed=5, steps=1, gradient_accumulation_steps=2, steps_per_generation=1).train()
    assert seeds[6] == seeds[0]
    assert len(set(seeds)) == 5  # a second generation of the same step draws other numbers


# --- the reference policy -----------------------------------------------------------------------


def test_the_reference_of_the_kl_is_the_policy_that_training_started_from(build: Build) -> None:
    trainer = build()
    batch = trainer.scored()
    there = batch["completion_mask"].bool()
    started, reference = direct_log_probs(trainer.model, batch), batch["ref_per_token_logps"]
    torch.testing.assert_close(reference[there], started[there], atol=1e-3, rtol=1e-3)
    with trainer.model.disable_adapter():
        base = direct_log_probs(trainer.model, batch)
    assert (reference[there] - base[there]).abs().max() > 0.1


def test_the_kl_is_zero_at_first_and_the_reference_never_moves(
    build: Build, tmp_path: Path
) -> None:
    trainer = build(steps=3)
    started = adapter(trainer.model)
    assert same(adapter(trainer.model, "ref"), started)
    trainer.train()
    assert same(adapter(trainer.model, "ref"), started)
    kl = [step["kl"] for step in metrics(tmp_path)]
    assert kl[0] == 0.0
    assert kl[1] > 1e-4
    assert kl[2] > 1e-4


# --- returns ------------------------------------------------------------------------------------


OK, CRASHED = Status.OK, Status.SERVER_CRASHED


def test_parts_of_a_generation_play_side_by_side_and_keep_their_places(build: Build) -> None:
    trainers = [build(workers=workers, seed=3) for workers in (2, 2, 3)]
    batches = [trainer.scored() for trainer in trainers]
    for trainer, batch in zip(trainers, batches, strict=True):
        assert len(batch["completion_ids"]) == 4
        prompts = batch["prompt_ids"]
        assert torch.equal(prompts[0], prompts[1])  # a group stays together
        assert torch.equal(prompts[2], prompts[3])
        trainer.close()
    assert torch.equal(batches[0]["completion_ids"], batches[1]["completion_ids"])


def test_no_group_is_parted_so_that_its_prompt_is_computed_once(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[tuple[int, int]] = []

    def play(*args: Any, **kwargs: Any) -> list[Trajectory]:
        shares.append((kwargs["batch_size"], kwargs["workers"]))
        return rollout(*args, **kwargs)

    monkeypatch.setattr(rl.rollouts, "rollout", play)
    for options in (
        {"workers": 3},
        {"workers": 2, "num_generations": 4},
        {"workers": 2, "per_device_train_batch_size": 12, "num_generations": 4},
    ):
        build(**options).scored()
    assert shares == [(2, 2), (4, 1), (8, 2)]


def test_returns_are_scaled_by_a_constant_and_not_by_their_group(
    build: Build, judged: Callable[..., None]
) -> None:
    judged((10.0, OK), (-1.0, OK), (-1.0, OK), (-1.8, OK))
    batch = build(reward=scaled_return(0.1)).scored()
    assert batch["advantages"].tolist() == pytest.approx([0.55, -0.55, 0.04, -0.04], abs=1e-6)


def test_a_gated_group_without_success_gives_no_gradient(
    build: Build, judged: Callable[..., None]
) -> None:
    judged((10.0, OK), (-1.0, OK), (-1.0, OK), (-1.8, OK))
    batch = build(reward=scaled_return(0.1), gate_groups=True).scored()
    assert batch["advantages"].tolist() == pytest.approx([0.55, -0.55, 0.0, 0.0], abs=1e-6)


def test_an_episode_that_the_infrastructure_ended_is_dropped_and_counted(
    build: Build, judged: Callable[..., None], tmp_path: Path
) -> None:
    judged((10.0, OK), (-1.0, OK), (-1.0, CRASHED), (-1.8, OK))
    trainer = build(reward=scaled_return(0.1), steps=1, beta=0.1)
    trainer.train()
    (batch,) = trainer.batches
    trained = (batch["tool_mask"] * batch["completion_mask"]).sum(1)
    lost = [row for row in range(4) if trained[row] == 0]
    assert len(lost) == 1
    assert batch["advantages"][lost[0]] == 0
    assert (trainer.log_probs[0].grad[lost[0]] == 0).all()
    # Its partner has nobody left to be compared with; the other group is as it was.
    assert sorted(batch["advantages"].tolist()) == pytest.approx([-0.55, 0.0, 0.0, 0.55], abs=1e-6)
    (step,) = metrics(tmp_path)
    assert step["infrastructure_faults"] == 1.0
    assert step["success"] == pytest.approx(1 / 3)
    assert step["groups_without_signal"] == 0.5


def test_a_step_in_which_everything_was_lost_changes_nothing(
    build: Build, judged: Callable[..., None]
) -> None:
    judged(*[(-1.0, CRASHED)] * 4)
    trainer = build(reward=scaled_return(0.1), steps=1)
    before = adapter(trainer.model)
    trainer.train()
    assert same(before, adapter(trainer.model))


# --- logs ---------------------------------------------------------------------------------------


def metrics(folder: Path, run: str = "grpo") -> list[dict[str, Any]]:
    lines = (folder / run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def rollouts(folder: Path, run: str = "grpo") -> list[dict[str, Any]]:
    lines = (folder / run / "rollouts.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_each_step_is_logged_with_its_figures_and_some_of_its_rollouts(
    build: Build, tmp_path: Path
) -> None:
    trainer = build()
    trainer.train()
    steps = metrics(tmp_path)
    assert [step["step"] for step in steps] == [1, 2]
    for step in steps:
        assert {"loss", "kl", "entropy", "grad_norm", "learning_rate"} <= step.keys()
        assert step["kinds"] == {"sum": 0.0}
        assert sum(step["outcomes"].values()) == pytest.approx(1.0)
    kept = rollouts(tmp_path)
    assert [row.pop("step") for row in kept] == [0, 0, 1, 1]
    for row in kept:
        stored = episode_from_json(row)
        assert rescore(stored) == stored
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert all("episodes/success" in entry for entry in logged)


# --- resuming -----------------------------------------------------------------------------------


def test_a_resumed_run_ends_with_the_parameters_of_an_uninterrupted_one(
    build: Build, tmp_path: Path
) -> None:
    whole = build("whole", steps=3, save_strategy="steps", save_steps=1, save_total_limit=3)
    started = adapter(whole.model)
    whole.train()
    rest = build("rest", steps=3)
    rest.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-1"))
    assert same(adapter(rest.model), adapter(whole.model))
    assert same(adapter(rest.model, "ref"), started)
    assert not same(adapter(rest.model), started)
    assert [row for row in rollouts(tmp_path, "whole") if row["step"]] == rollouts(tmp_path, "rest")
    one, other = metrics(tmp_path, "whole")[1:], metrics(tmp_path, "rest")
    for first, second in zip(one, other, strict=True):
        assert (first["step"], first["kl"]) == (second["step"], second["kl"])


# --- guided episodes ----------------------------------------------------------------------------


def first_ids(batch: dict[str, Any]) -> list[int]:
    return [int(ids[0]) for ids in batch["completion_ids"]]


def test_the_first_token_of_guided_episodes_alone_is_what_the_task_needs(
    build: Build, tokenizer: Any
) -> None:
    # A random policy hardly ever opens a call; every task needs one, so guided episodes begin so.
    opener = ChatTemplate(tokenizer).call_opener
    ids = first_ids(build(model=with_adapter(tiny_qwen3()), guided=1).scored())
    assert [token == opener for token in ids] == [True, False] * (len(ids) // 2)


def test_figures_and_curriculum_count_free_episodes_only(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = build(guided=1)
    noted: list[Any] = []
    monkeypatch.setattr(trainer._curriculum, "note", lambda outcomes: noted.extend(outcomes))
    trainer.scored()
    assert len(noted) == 2  # of two groups with two episodes each


def test_a_group_needs_a_free_episode(build: Build) -> None:
    with pytest.raises(ValueError, match="lower --guided or raise --num_generations"):
        build(guided=2)


# --- servers that keep failing --------------------------------------------------------------------


def test_too_many_faults_end_training_with_a_checkpoint_and_the_reason(
    build: Build, judged: Callable[..., None], tmp_path: Path
) -> None:
    judged((10.0, OK), (-1.0, CRASHED), (-1.0, CRASHED), (-1.8, OK))
    faults = StopOnFaults(0.4)
    trainer = build(faults=faults, steps=3)
    trainer.train()
    assert trainer.state.global_step == 1
    assert (tmp_path / "grpo" / "checkpoint-1").is_dir()
    assert "2 of 4 episodes of a step met an infrastructure fault (2 server_crashed)" in (
        faults.problem
    )


def test_as_many_faults_as_are_allowed_go_on(build: Build, judged: Callable[..., None]) -> None:
    judged((10.0, OK), (-1.0, CRASHED), (-1.0, CRASHED), (-1.8, OK))
    faults = StopOnFaults(0.5)
    trainer = build(faults=faults, steps=2)
    trainer.train()
    assert trainer.state.global_step == 2
    assert faults.problem == ""
