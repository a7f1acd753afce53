"""PPO over episodes: actor, critic and reference on one set of base weights.

The actor is the policy's adapter, the critic a value head on its hidden states, the reference a
frozen copy of the adapter. TRL has no PPO; its `GRPOTrainer` gives what the two have in common
(rollouts, reference log-probabilities, logs, checkpoints, several processes), and a step is ours:

    play episodes; judge every token of the policy once (log-probability, value, reference);
    per-turn rewards minus the KL penalty give advantages over the policy's tokens;
    several passes over the episodes, each in minibatches, each minibatch one optimizer step,
    until the policy has moved too far from the one that played.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from agents.value_head import add_value_head, load_value_head, save_value_head
from rl.pieces import Batch, divided, rows_of
from rl.ppo_objective import (
    Clipping,
    KLController,
    action_gae,
    policy_losses,
    token_weights,
    turn_rewards,
    value_losses,
    without_group,
)
from rl.trainer import ToolUseGRPOTrainer


@dataclass(frozen=True)
class PPOSettings:
    """How a step of PPO learns from its episodes.

    Attributes:
        epochs: Most passes over the episodes of a step.
        minibatches: Parts of a pass; each is one optimizer step.
        discount: Of rewards, for each token of the policy.
        gae_lambda: See `action_gae`.
        clip: Limits of a step.
        value_weight: Weight of the value loss beside the policy's.
        value_trains_policy: Let the gradients of the values reach the adapter.
        stop_kl: The passes end when the policy has moved this far from the one that played, in
            nats per token; 0 for no limit.
        reward_scale: Every reward is multiplied by it.
        group_baseline: Also take from an episode's advantages what the others of its group have in
            the mean. A critic that sees a prompt once cannot know how hard it is.
        whiten: Give the advantages of a step mean 0 and standard deviation 1.
        per_episode: The loss is a mean over episodes of their mean over tokens; otherwise a mean
            over all tokens, in which long episodes (failed ones, often) count for more.
    """

    epochs: int
    minibatches: int
    discount: float
    gae_lambda: float
    clip: Clipping
    value_weight: float
    value_trains_policy: bool
    stop_kl: float
    reward_scale: float
    group_baseline: bool
    whiten: bool
    per_episode: bool


class ToolUsePPOTrainer(ToolUseGRPOTrainer):
    """PPO over episodes of MCP-v0.

    One step of the trainer is one generation of episodes with all its optimizer steps, so that a
    checkpoint never lies between them.

    Args:
        settings: How a step learns.
        kl: Coefficient of the KL penalty. There is one if `args.beta` is not 0.
        **options: Everything else `ToolUseGRPOTrainer` takes; its groups share no baseline here.
    """

    def __init__(self, *, settings: PPOSettings, kl: KLController, **options: Any) -> None:
        self._settings = settings
        self._kl = kl
        add_value_head(
            options["model"], options["args"].seed, trains_policy=settings.value_trains_policy
        )
        callbacks = [*options.pop("callbacks", ()), kl]
        super().__init__(callbacks=callbacks, **options)
        if self.args.gradient_accumulation_steps * self.args.steps_per_generation != 1:
            raise ValueError(
                "PPO divides its episodes itself: leave gradient_accumulation_steps and "
                "steps_per_generation at 1, and set --tokens_per_forward and --minibatches"
            )

    # --- judging what was played ----------------------------------------------------------------

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Play, and add what the losses are made of: old scores, advantages, returns."""
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        said = (batch["completion_mask"] * batch["tool_mask"]).bool()
        with torch.no_grad():
            pieces = divided(batch, self._pieces(batch))
            parts = [self._judge(self.model, rows_of(batch, rows)) for rows in pieces]
        places = torch.cat(pieces).argsort()
        log_probs, values, _ = (torch.cat(part)[places] for part in zip(*parts, strict=True))
        rewards = self._settings.reward_scale * turn_rewards(
            [row["episodes"] for row in inputs], [row["turn_ends"] for row in inputs], said
        )
        if "ref_per_token_logps" in batch:
            moved = torch.where(said, log_probs - batch["ref_per_token_logps"], 0.0)
            rewards = rewards - self._kl.coefficient * moved
            kl = self._mean(moved, said)
            self._note("kl", kl)
            self._note("ppo/kl_coefficient", self._kl.coefficient)
            self._kl.note(kl)
        advantages, returns = action_gae(
            rewards, values, said, self._settings.discount, self._settings.gae_lambda
        )
        spread = self._mean((returns - self._mean(returns, said)) ** 2, said)
        missed = self._mean((returns - values) ** 2, said)
        self._note("ppo/explained_variance", 1 - missed / max(spread, 1e-8))
        self._note("ppo/value", self._mean(values, said))
        if self._settings.group_baseline:
            advantages = without_group(advantages, said, self.num_generations)
        if self._settings.whiten:
            centred = advantages - self._mean(advantages, said)
            deviation = self._mean(centred**2, said) ** 0.5
            advantages = torch.where(said, centred / (deviation + 1e-8), 0.0)
        return {
            **batch,
            "said": said,
            "old_log_probs": log_probs,
            "old_values": values,
            "advantages": advantages,
            "returns": returns,
        }

    def _judge(self, model: Any, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Return log-probabilities, values and entropies of what the policy said."""
        head = self.accelerator.unwrap_model(model).value_head
        log_probs, entropies, values = self._read_tokens(
            model,
            torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
            torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
            (batch["completion_mask"] * batch["tool_mask"]).bool(),
            lambda states: (*states.scores(self.temperature), states.spread(head(states.hidden))),
        )
        return log_probs, values, entropies

    # --- learning from it -----------------------------------------------------------------------

    def training_step(
        self, model: Any, inputs: list[dict[str, Any]], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Play one generation and learn from it; the last optimizer step is left to the caller."""
        started = time.perf_counter()
        model.train()
        batch = self._generate_and_score_completions(inputs)
        passes = [part for _ in range(self._settings.epochs) for part in self._minibatches(batch)]
        for number, minibatch in enumerate(passes, start=1):
            loss, kl = self._learn(model, minibatch)
            if number == len(passes) or 0 < self._settings.stop_kl < kl:
                break
            self.accelerator.clip_grad_norm_(model.parameters(), self.args.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        self._note("ppo/optimizer_steps", number)
        self._step += 1
        self._note("step_time", time.perf_counter() - started)
        return loss

    def _learn(self, model: Any, batch: Batch) -> tuple[torch.Tensor, float]:
        """Add the gradient of a minibatch; return its loss and how far the policy has moved."""
        weights = token_weights(batch["said"], self._settings.per_episode)
        # Every process divides by the mean of their sums: their gradients are averaged.
        sums = torch.stack([weights.sum(), batch["said"].sum()])
        total_weight, tokens = self.accelerator.gather(sums[None]).sum(0).clamp(min=1)
        batch = {**batch, "weights": weights * self.accelerator.num_processes / total_weight}
        moved: list[torch.Tensor] = []

        def learn(piece: Batch) -> torch.Tensor:
            loss, distance = self._losses(model, piece)
            moved.append(distance)
            return loss

        loss = self._learn_in_pieces(model, batch, learn)
        distance = torch.stack(moved[-self._pieces(batch) :]).sum()
        return loss, float(self.accelerator.gather(distance).sum() / tokens)

    def _losses(self, model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weighted loss of some rows, and how far their tokens have moved, summed."""
        said, clip = batch["said"], self._settings.clip
        log_probs, values, entropies = self._judge(model, batch)
        policy = policy_losses(log_probs, batch["old_log_probs"], batch["advantages"], clip)
        value = value_losses(values, batch["old_values"], batch["returns"], clip)
        loss = (batch["weights"] * (policy + self._settings.value_weight * value)).sum()
        with torch.no_grad():
            ratio = (log_probs - batch["old_log_probs"]).exp()
            clipped = (ratio < 1 - clip.low) | (ratio > 1 + clip.high)
            self._note("ppo/clipped", self._mean(clipped.float(), said, local=True))
            self._note("ppo/policy_loss", self._mean(policy, said, local=True))
            self._note("ppo/value_loss", self._mean(value, said, local=True))
            self._note("entropy", self._mean(entropies, said, local=True))
            # Schulman's estimate of the KL without its noise: http://joschu.net/blog/kl-approx.html
            distance = (ratio - 1 - ratio.log())[said].sum()
        return loss, distance

    def _minibatches(self, batch: Batch) -> Iterator[Batch]:
        """Yield the parts of one pass; groups stay together, since they share a prompt."""
        size = self.num_generations
        groups = torch.randperm(len(batch["said"]) // size)
        for part in groups.chunk(self._settings.minibatches):
            yield rows_of(batch, (part[:, None] * size + torch.arange(size)).flatten())

    # --- figures and checkpoints ----------------------------------------------------------------

    def _mean(self, values: torch.Tensor, said: torch.Tensor, local: bool = False) -> float:
        """Return the mean over the policy's tokens, of all processes unless `local`."""
        sums = torch.stack([values[said].sum(), said.sum().to(values.dtype)])
        if not local:
            sums = self.accelerator.gather(sums[None]).sum(0)
        return float(sums[0] / sums[1].clamp(min=1))

    def _note(self, name: str, value: float) -> None:
        self._metrics["train"][name].append(value)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:  # every process comes here, the first makes the folder
            model = self.accelerator.unwrap_model(self.model)
            save_value_head(model, output_dir or self.args.output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        inner = self.accelerator.unwrap_model(model or self.model)
        load_value_head(inner, resume_from_checkpoint)
