"""What is learned from the episodes that `rl.rollouts` plays: GRPO with each prompt computed once.

TRL's loss over log-probabilities that are ours: a distinct prompt goes through the model once, in
pieces that fit into memory, and only tokens that can move the loss are scored.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate.utils import gather_object
from torch.distributed.fsdp import FSDPModule

from agents.merged import folded_adapter
from agents.repeated import repeated_states
from agents.shared_prompt import CompletionStates, completion_states
from rl.credit import groups_with_success, turn_advantages
from rl.distributed import as_forward
from rl.pieces import Batch, divided, loss_share, packed_tokens, rows_of
from rl.rollouts import RolloutTrainer

log = logging.getLogger(__name__)


class ToolUseGRPOTrainer(RolloutTrainer):
    """GRPO over episodes of MCP-v0.

    Args:
        gate_groups: Give no gradient to groups without any success.
        turn_credit: Credit each turn with the rewards from it on, times this, and not with `reward`
            of the whole episode (see `turn_advantages`).
        tokens_per_forward: Most tokens that the update takes through the model at once, a distinct
            prompt counted once; 0 for all of them. Halved when memory runs out.
        **options: Everything else `RolloutTrainer` takes.
    """

    def __init__(
        self,
        *,
        gate_groups: bool = False,
        turn_credit: float | None = None,
        tokens_per_forward: int = 0,
        **options: Any,
    ) -> None:
        self._gate_groups = gate_groups
        self._turn_credit = turn_credit
        self._tokens_per_forward = tokens_per_forward
        self._step_seconds = 0.0
        self._asked: torch.Tensor | None = None  # tokens whose log-probability is wanted
        super().__init__(**options)

    def training_step(
        self, model: Any, inputs: list[dict[str, Any]], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Play if it is time to, and add the gradient of one batch."""
        started = time.perf_counter()
        model.train()
        batch = self._prepare_inputs(inputs)

        def learn(piece: Batch) -> torch.Tensor:
            if piece is not batch and (
                self._entropy_bonus_enabled or self.top_entropy_quantile < 1
            ):
                raise ValueError(
                    "a loss with an entropy bonus or a quantile of entropies cannot be divided; "
                    "leave --tokens_per_forward at 0"
                )
            return self._compute_loss(model, piece) * loss_share(self.loss_type, piece, batch)

        loss = self._learn_in_pieces(model, batch, learn)
        self._step += 1
        self._step_seconds += time.perf_counter() - started
        if self._step % self.current_gradient_accumulation_steps == 0:
            self._metrics["train"]["step_time"].append(self._step_seconds)
            self._step_seconds = 0.0
        return loss

    def _learn_in_pieces(
        self, model: Any, batch: Batch, learn: Callable[[Batch], torch.Tensor]
    ) -> torch.Tensor:
        """Add the gradient of a batch, in as few pieces as fit into memory.

        Args:
            model: The model, as the trainer wrapped it.
            batch: What is learned from.
            learn: Gives the loss of a piece; those of all pieces add up to the batch's.

        Returns:
            The loss of the batch.
        """
        trained = [p for p in model.parameters() if p.requires_grad]
        before = [None if p.grad is None else p.grad.clone() for p in trained]
        noted = {name: len(values) for name, values in self._metrics["train"].items()}
        while True:
            count = self._pieces(batch)
            parts = divided(batch, count) if count > 1 else ()
            pieces = [rows_of(batch, rows) for rows in parts] or [batch]
            loss = self._try_pieces(model, pieces, learn)
            if loss is not None:
                return loss
            if count == len(batch["prompt_ids"]) or self.accelerator.num_processes > 1:
                raise torch.OutOfMemoryError(
                    f"out of memory with {self._tokens(batch) // count} tokens at once: lower "
                    "--tokens_per_forward, --max_length_tokens or --per_device_train_batch_size"
                )
            self._tokens_per_forward = max(1, self._tokens(batch) // (2 * count))
            log.warning(
                "out of memory; the update goes on with %d tokens at once", self._tokens_per_forward
            )
            for parameter, gradient in zip(trained, before, strict=True):
                parameter.grad = None if gradient is None else gradient.clone()
            for name, values in self._metrics["train"].items():
                del values[noted.get(name, 0) :]

    def _pieces(self, batch: Batch) -> int:
        """Return into how many pieces a batch is divided: as many in every process."""
        rows = len(batch["prompt_ids"])
        limit = self._tokens_per_forward or self._tokens(batch)
        count = min(rows, -(-self._tokens(batch) // limit))
        if self.accelerator.num_processes > 1:
            count = max(gather_object([count]))
        return count

    def _tokens(self, batch: Batch) -> int:
        return packed_tokens(batch, shared=self._shares_prompts)

    def _try_pieces(
        self, model: Any, pieces: Sequence[Batch], learn: Callable[[Batch], torch.Tensor]
    ) -> torch.Tensor | None:
        """Add the gradients of pieces and return the sum of their losses; None without memory."""
        total = torch.zeros((), device=self.accelerator.device)
        try:
            for number, piece in enumerate(pieces, start=1):
                last = number == len(pieces)
                with nullcontext() if last else self.accelerator.no_sync(model):
                    loss = learn(piece)
                    self.accelerator.backward(loss)
                total += loss.detach()
        except torch.OutOfMemoryError:
            return None
        return total

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if not self.model.training:
            return output
        episodes = [row["episodes"] for row in inputs]
        if self._turn_credit is not None:
            output["advantages"] = turn_advantages(
                episodes,
                [row["turn_ends"] for row in inputs],
                (output["completion_mask"] * output["tool_mask"]).bool(),
                self.num_generations,
                self._turn_credit,
            )
        if self._gate_groups:
            keep = groups_with_success(episodes, self.num_generations).to(output["advantages"])
            output["advantages"] = torch.einsum("r...,r->r...", output["advantages"], keep)
        return output

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **extra: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Compute each distinct prompt once, and only tokens that are wanted."""
        split = input_ids.shape[1] - logits_to_keep
        asked = attention_mask[:, split:].bool() if self._asked is None else self._asked
        log_probs, entropies = self._read_tokens(
            model, input_ids, attention_mask, asked, lambda states: states.scores(self.temperature)
        )
        return log_probs, entropies if compute_entropy else None, None

    def _read_tokens(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        asked: torch.Tensor,
        read: Callable[[CompletionStates], tuple[torch.Tensor, ...]],
    ) -> tuple[torch.Tensor, ...]:
        """Return what is read off the policy's states in front of some completion tokens.

        Args:
            model: The model, as the trainer wrapped it.
            input_ids: Prompts, padded on the left, and completions, on the right (rows, tokens).
            attention_mask: 0 at padding, of the same shape.
            asked: Bool tensor (rows, completion tokens).
            read: Makes tensors of the shape of the states it is given.

        Returns:
            One tensor (rows, completion tokens) for each that `read` makes; 0 where not asked.
        """
        inner = self.accelerator.unwrap_model(model)
        split = input_ids.shape[1] - asked.shape[1]
        chosen, wanted = asked.any(1), asked
        idle = not chosen.any()
        if idle:  # the other processes still wait for a gradient of every parameter
            chosen = torch.arange(len(asked), device=asked.device) == 0
            wanted = attention_mask[:, split:].bool()
        ids, real = input_ids[chosen], attention_mask[chosen]

        states_of = completion_states if self._shares_prompts else repeated_states

        def compute() -> tuple[torch.Tensor, ...]:
            states = states_of(
                inner,
                [tuple(prompt) for prompt in _rows(ids[:, :split], real[:, :split])],
                _rows(ids[:, split:], real[:, split:]),
                wanted[chosen],
            )
            return read(states)

        with self.accelerator.autocast(), self._folded(inner):
            found = as_forward(model, inner, compute)
        rows = (chosen.nonzero()[:, 0],)
        pad = (0, asked.shape[1] - found[0].shape[1])
        return tuple(
            part.new_zeros(asked.shape).index_put(
                rows, torch.nn.functional.pad(0 * part if idle else part, pad)
            )
            for part in found
        )

    def _folded(self, model: Any) -> AbstractContextManager[None]:
        # What is computed again in the backward pass would not find the adapter folded.
        # Nor can it be folded where FSDP divides the weights.
        apart = self.args.gradient_checkpointing or isinstance(model, FSDPModule)
        return nullcontext() if apart else folded_adapter(model)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """Compute TRL's loss without the tokens that cannot move it.

        What the policy did not say is masked. What has an advantage of zero (its group has one
        return) adds exactly zero to the loss and to its gradient, unless there is a KL or entropy
        term. The log-probabilities of neither need to be computed.
        """
        only_policy = (
            self.beta == 0 and self.top_entropy_quantile == 1 and not self._entropy_bonus_enabled
        )
        said = (inputs["completion_mask"] * inputs.get("tool_mask", 1)).bool()
        heard = said & (inputs["advantages"].view(len(said), -1) != 0)
        self._asked = heard if only_policy else said
        try:
            loss: torch.Tensor = super()._compute_loss(model, inputs)
        finally:
            self._asked = None
        if only_policy:
            # TRL averages the entropy over all rows, and those left out count as zero in it;
            # `sampled_entropy` is the figure of the step.
            mode = "train" if self.model.training else "eval"
            self._metrics[mode]["entropy"][-1] *= float(said.sum() / heard.sum().clamp(min=1))
        return loss


def _rows(ids: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
    """Return the real tokens of each row of a padded batch."""
    return [row[real.bool()].tolist() for row, real in zip(ids, mask, strict=True)]
