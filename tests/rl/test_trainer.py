from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tiny_models import eager_to_call, save_base, tiny_qwen3, with_adapter
from tiny_tasks import sum_task
from trl import GRPOConfig, GRPOTrainer

import rl.trainer
from agents.engine import SamplingConfig
from agents.models import cast_trainable_to_float32, load_model
from agents.players import LanguagePlayer
from agents.rollout import Trajectory, rollout
from agents.shared_prompt import completion_log_probs
from rewards.episode import Episode, Outcome, Status, Turn
from rewards.judge import rescore
from rewards.serialise import episode_from_json
from rewards.trl_rewards import scaled_return
from rl.curriculum import Curriculum
from rl.trainer import (
    ToolUseGRPOTrainer,
    groups_with_success,
    rollout_metrics,
    sampled_entropy,
    trl_rows,
)

pytestmark = pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")

TASKS = [sum_task(number) for number in range(4)]
Build = Callable[..., "Watched"]


class Watched(ToolUseGRPOTrainer):
    """The trainer, keeping what went into and came out of each loss."""

    def __init__(self, **options: Any) -> None:
        self.batches: list[dict[str, Any]] = []
        self.log_probs: list[torch.Tensor] = []
        super().__init__(**options)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        self.batches.append(inputs)
        return super()._compute_loss(model, inputs)

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        if result[0].requires_grad:
            result[0].retain_grad()
            self.log_probs.append(result[0])
        return result

    def scored(self) -> dict[str, Any]:
        """One generation batch, played and scored."""
        self.model.train()
        rows = next(iter(self.get_train_dataloader()))
        return self._generate_and_score_completions(rows)


def by_length(prompts: Any, completions: Any, episodes: Sequence[Episode], **_: Any) -> list[float]:
    """A reward that differs between the episodes of a random policy."""
    return [(sum(len(turn.raw) for turn in episode.turns) % 11) / 10 for episode in episodes]


def policy(tokenizer: Any, **lora: Any) -> Any:
    call = tokenizer.convert_tokens_to_ids("<tool_call>")
    return with_adapter(eager_to_call(tiny_qwen3(), call), **lora)


@pytest.fixture
def build(tmp_path: Path, tokenizer: Any) -> Build:
    def make(
        folder: str = "grpo",
        *,
        model: Any = None,
        reward: Any = by_length,
        gate_groups: bool = False,
        max_turns: int = 3,
        workers: int = 1,
        steps: int = 2,
        seed: int = 5,
        **options: Any,
    ) -> Watched:
        config: dict[str, Any] = {
            "output_dir": str(tmp_path / folder),
            "max_steps": steps,
            "per_device_train_batch_size": 4,
            "num_generations": 2,
            "learning_rate": 0.05,
            "beta": 0.1,
            "scale_rewards": "none",
            "loss_type": "bnpo",
            "shuffle_dataset": False,
            "temperature": 1.0,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "bf16": False,
            "activation_checkpointing": False,
            "dataloader_pin_memory": False,
            "disable_tqdm": True,
            **options,
        }
        rows = [{"prompt": [{"role": "user", "content": f"group {i}"}]} for i in range(8)]
        return Watched(
            curriculum=Curriculum(TASKS, seed=0, learnability=0.0),
            reward=reward,
            sampling=SamplingConfig(max_turn_tokens=8, max_length=2000, seed=seed),
            max_turns=max_turns,
            gate_groups=gate_groups,
            workers=workers,
            log_dir=tmp_path / folder,
            model=policy(tokenizer) if model is None else model,
            args=GRPOConfig(**config),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )

    return make


def adapter(model: Any, name: str = "default") -> dict[str, torch.Tensor]:
    return {
        key.replace(f".{name}.", "."): value.detach().clone()
        for key, value in model.named_parameters()
        if f".{name}." in key
    }


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def direct_log_probs(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Log-probs (rows, completion) by one plain forward per row."""
    rows = []
    parts = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
    for prompt, real, completion, there in zip(*(batch[part] for part in parts), strict=True):
        ids = torch.cat([prompt[real.bool()], completion[there.bool()]])[None]
        with torch.no_grad():
            logits = model(ids).logits[0, :-1].float().log_softmax(-1)
        chosen = logits.gather(-1, ids[0, 1:, None])[-int(there.sum()) :, 0]
        rows.append(torch.nn.functional.pad(chosen, (0, len(completion) - len(chosen))))
    return torch.stack(rows)


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
    original = rl.trainer.trl_rows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            rl.trainer, "trl_rows", lambda rows, fill: played.extend(rows) or original(rows, fill)
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


def test_each_step_samples_with_a_seed_of_its_own_and_each_run_with_the_same(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []

    class Noted(LanguagePlayer):
        def __init__(self, model: Any, tokenizer: Any, config: SamplingConfig, name: str) -> None:
            seeds.append(config.seed)
            super().__init__(model, tokenizer, config, name)

    monkeypatch.setattr(rl.trainer, "LanguagePlayer", Noted)
    for seed in (5, 5, 6):
        build(seed=seed).train()
    assert seeds[:2] == seeds[2:4]
    assert len(set(seeds)) == 4


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


def with_return(trajectory: Trajectory, reward: float, status: Status = Status.OK) -> Trajectory:
    """The trajectory with another verdict; its tokens stay."""
    turns = trajectory.episode.turns
    outcome = Outcome.SUCCESS if reward > 0 else Outcome.STRUCTURAL_FAIL
    turns = (
        *(replace(turn, reward=0.0) for turn in turns[:-1]),
        replace(turns[-1], reward=reward, outcome=outcome),
    )
    return replace(trajectory, episode=replace(trajectory.episode, turns=turns, status=status))


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the rollouts of the trainer come out as told."""

    def arrange(*verdicts: tuple[float, Status]) -> None:
        def play(*args: Any, **kwargs: Any) -> list[Trajectory]:
            played = rollout(*args, **kwargs)
            return [with_return(t, *v) for t, v in zip(played, verdicts, strict=True)]

        monkeypatch.setattr(rl.trainer, "rollout", play)

    return arrange


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


def episode(
    reward: float, status: Status = OK, kind: str = "sum", success: bool = False
) -> Episode:
    outcome = Outcome.SUCCESS if success else Outcome.STRUCTURAL_FAIL
    task = replace(TASKS[0], kind=kind)
    return Episode(task, (Turn(raw="x", reward=reward, outcome=outcome),), status=status)


def test_rows_for_trl_keep_every_episode_and_train_no_lost_one() -> None:
    sound = Trajectory(episode(-1.0), (1, 2), (3, 4), (1, 0), (-0.5, 0.0), (0,))
    lost = replace(sound, episode=episode(-1.0, CRASHED))
    empty = Trajectory(episode(-1.0), (1, 2))
    rows = trl_rows([sound, lost, empty], filler=9)
    assert rows["prompt_ids"] == [[1, 2]] * 3
    assert rows["completion_ids"] == [[3, 4], [3, 4], [9]]
    assert rows["env_mask"] == [[1, 0], [0, 0], [0]]
    assert rows["logprobs"] == [[-0.5, 0.0], [-0.5, 0.0], [0.0]]
    assert [len(column) for column in rows.values()] == [3] * 5
    rewards = scaled_return(0.1)(prompts=[], completions=[0] * 3, episodes=rows["episodes"])
    assert rewards == [pytest.approx(-0.1), None, pytest.approx(-0.1)]


def test_a_group_passes_the_gate_if_one_of_it_succeeded() -> None:
    group = [episode(10.0, success=True), episode(-1.0), episode(-1.0), episode(-1.8)]
    assert groups_with_success(group, 2).tolist() == [1.0, 1.0, 0.0, 0.0]


def test_groups_are_without_signal_if_their_sound_episodes_returned_the_same() -> None:
    groups = [
        (episode(-1.0), episode(-1.0)),
        (episode(-1.0), episode(-1.8)),
        (episode(-1.0), episode(-2.0, CRASHED)),
        (episode(-0.1 - 0.2), episode(-0.3)),
    ]
    figures = rollout_metrics([one for group in groups for one in group], 2)
    assert figures["groups_without_signal"] == 0.75


def test_figures_of_a_step_leave_lost_episodes_out() -> None:
    figures = rollout_metrics(
        [
            episode(10.0, success=True, kind="a"),
            episode(-1.0, kind="a"),
            episode(-1.0, kind="b"),
            episode(-1.0, CRASHED, kind="c"),
        ],
        2,
    )
    assert figures["kinds"] == {"a": 0.5, "b": 0.0}
    assert figures["mean_return"] == pytest.approx(8 / 3)
    assert figures["outcomes"]["success"] == pytest.approx(1 / 3)
    assert sum(figures["outcomes"].values()) == pytest.approx(1.0)


# --- log-probabilities --------------------------------------------------------------------------


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
        return completion_log_probs(model, prompts, *args)

    monkeypatch.setattr(rl.trainer, "completion_log_probs", count)
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
        return completion_log_probs(model, prompts, *args)

    monkeypatch.setattr(rl.trainer, "completion_log_probs", count)
    plain, checkpointed = (
        build(activation_checkpointing=checkpointing, steps=1) for checkpointing in (False, True)
    )
    for trainer in (plain, checkpointed):
        trainer.train()
    assert shared[: len(shared) // 2] == shared[len(shared) // 2 :]
    after = adapter(checkpointed.model)
    for name, weight in adapter(plain.model).items():
        torch.testing.assert_close(weight, after[name], atol=1e-3, rtol=1e-2)  # steps of 0.05


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
