"""The one place that touches TRL's experimental rollout interface.

`ToolUseGRPOTrainer` is TRL's `GRPOTrainer` with our rollouts: raw turns of the policy go to the
environment, token ids are concatenated and never tokenised again, observation tokens are masked,
episodes that an infrastructure fault ended are dropped from the loss.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from trl import GRPOTrainer

from agents.engine import SamplingConfig
from agents.merged import folded_adapter
from agents.players import LanguagePlayer
from agents.rollout import Trajectory, open_envs, rollout
from agents.shared_prompt import CompletionStates, completion_states
from agents.vllm_engine import VLLMConversations
from envs.backends import ServerSource
from envs.vector_env import MCPVectorEnv
from rewards.episode import MODEL_STATUSES, Episode, Task
from rewards.goal_checks import forbids_calls, needs_call
from rewards.goals import Goal
from rl.credit import groups_with_success, turn_advantages
from rl.curriculum import Curriculum
from rl.distributed import as_forward
from rl.faults import StopOnFaults
from rl.pieces import Batch, divided, loss_share, packed_tokens, rows_of
from rl.step_log import StepLog, groups_without_signal, rollout_metrics, sampled_entropy

log = logging.getLogger(__name__)

Reward = Callable[..., list[float | None]]


class ToolUseGRPOTrainer(GRPOTrainer):
    """GRPO over episodes of MCP-v0.

    Args:
        curriculum: Deals the training tasks; a row of `train_dataset` is a group that gets one.
        reward: Scores stored episodes (see `rewards/trl_rewards.py`).
        sampling: How turns are sampled; its seed is combined with the step.
        max_turns: Turn limit of the environment.
        log_dir: Where `metrics.jsonl` and `rollouts.jsonl` are written.
        gate_groups: Give no gradient to groups without any success.
        turn_credit: Credit each turn with the rewards from it on, times this, and not with `reward`
            of the whole episode (see `turn_advantages`).
        guided: Episodes of each group whose first token is held to what the task needs: a call, or
            none. Where the policy is sure of the wrong one, no episode of a group would ever show
            it the other, and the group would teach nothing.
        faults: Stops the run when too many episodes meet an infrastructure fault.
        servers: MCP servers to play on; None for the mock world.
        tokens_per_forward: Most tokens that the update takes through the model at once, a distinct
            prompt counted once; 0 for all of them. Halved when memory runs out.
        workers: Parts of a generation that are played side by side, each on one CPU thread.
        rollouts_per_step: Episodes of each step that are kept in `rollouts.jsonl`.
        **options: Everything else `GRPOTrainer` takes.
    """

    def __init__(
        self,
        *,
        curriculum: Curriculum,
        reward: Reward,
        sampling: SamplingConfig,
        max_turns: int,
        log_dir: Path,
        gate_groups: bool = False,
        turn_credit: float | None = None,
        guided: int = 0,
        faults: StopOnFaults | None = None,
        servers: ServerSource | None = None,
        tokens_per_forward: int = 0,
        workers: int = 1,
        rollouts_per_step: int = 2,
        **options: Any,
    ) -> None:
        self._curriculum = curriculum
        self._sampling = sampling
        self._max_turns = max_turns
        self._gate_groups = gate_groups
        self._turn_credit = turn_credit
        self._guided = guided
        self._tokens_per_forward = tokens_per_forward
        self._step_seconds = 0.0
        self._generated_at, self._generations = -1, 0
        self._workers = workers
        self._servers = servers
        self._opened = ExitStack()
        self._envs: list[MCPVectorEnv] = []
        self._asked: torch.Tensor | None = None  # tokens whose log-probability is wanted
        self._faults = faults or StopOnFaults(1.0)
        callbacks = [*options.pop("callbacks", ()), self._faults, curriculum]
        super().__init__(
            reward_funcs=[reward], rollout_func=self._play, callbacks=callbacks, **options
        )
        if guided >= self.num_generations:
            raise ValueError(
                f"{guided} guided episodes leave none of the {self.num_generations} of a group "
                "free; lower --guided or raise --num_generations"
            )
        if self.use_vllm and self.vllm_mode == "server" and self.accelerator.num_processes > 1:
            raise ValueError(
                "several processes cannot share a vLLM server: their episodes end at different "
                "turns; use --vllm_mode colocate"
            )
        self._log = StepLog(log_dir, rollouts_per_step, self.is_world_process_zero())

    def close(self) -> None:
        """Close the environments."""
        self._opened.close()
        self._envs = []

    # --- rollouts -----------------------------------------------------------------------------

    def _play(self, prompts: Sequence[Any], trainer: Any) -> dict[str, list[Any]]:
        """Play one episode per prompt (TRL's `rollout_func`)."""
        started = time.monotonic()
        tasks = self._deal(len(prompts))
        model = self.accelerator.unwrap_model(self.model)
        # Each generation draws other numbers, also when several make one step, in every process.
        step = self.state.global_step
        self._generations = self._generations + 1 if step == self._generated_at else 0
        self._generated_at = step
        number = (self._generations,) if self._generations else ()
        seed = hash((self._sampling.seed, step, *number)) % 2**31 + self.accelerator.process_index
        sampling = replace(self._sampling, temperature=self.temperature, seed=seed)
        served = (
            VLLMConversations(self.vllm_generation, self.processing_class.eos_token_id, sampling)
            if self.use_vllm
            else None
        )
        player = LanguagePlayer(
            model, self.processing_class, sampling, "rollout", conversations=served
        )
        # A group's prompt is computed once in each part that holds rows of it: groups stay whole.
        groups = -(-len(tasks) // self.num_generations)
        workers = min(self._workers, groups)
        share = min(len(tasks), -(-groups // workers) * self.num_generations)
        played = rollout(
            player,
            tasks,
            max_turns=self._max_turns,
            batch_size=share,
            workers=workers,
            envs=self._environments(share),
            calls_first=self._calls_first(tasks),
        )
        seconds = time.monotonic() - started
        episodes = self._everywhere([trajectory.episode for trajectory in played])
        self._faults.note(episodes)
        self._curriculum.note(
            (one.task.kind, one.success)
            for one in self._free(episodes)
            if one.status in MODEL_STATUSES
        )
        self._note_rollouts(episodes, sampled_entropy(played), seconds)
        return trl_rows(played, self.processing_class.eos_token_id)

    def _deal(self, rows: int) -> list[Task]:
        """Return the task of each row of this process: the same for all rows of a group.

        Every process deals to all groups, from the same results, and takes its own rows.
        """
        everywhere = rows * self.accelerator.num_processes
        dealt = self._curriculum.deal(everywhere // self.num_generations)
        first = rows * self.accelerator.process_index
        return [dealt[i // self.num_generations] for i in range(first, first + rows)]

    def _calls_first(self, tasks: Sequence[Task]) -> list[bool | None]:
        """Return what the first turn of each row of this process is held to (see `rollout`)."""
        first = len(tasks) * self.accelerator.process_index
        return [
            calls_first(task.goal) if self._is_guided(row) else None
            for row, task in enumerate(tasks, start=first)
        ]

    def _free(self, episodes: Sequence[Episode]) -> list[Episode]:
        """Return the episodes, of all processes, that show what the policy does by itself."""
        return [one for row, one in enumerate(episodes) if not self._is_guided(row)]

    def _is_guided(self, row: int) -> bool:
        """Return whether a row, counted over all processes, is a guided one of its group."""
        return bool(row % self.num_generations < self._guided)

    def _everywhere(self, mine: list[Episode]) -> list[Episode]:
        """Return the episodes of every process, in the order of the rows."""
        return gather_object(mine) if self.accelerator.num_processes > 1 else mine

    def _environments(self, size: int) -> list[MCPVectorEnv]:
        """Return an environment of `size` episodes for each worker."""
        if not self._envs or self._envs[0].num_envs != size:
            self.close()
            self._envs = self._opened.enter_context(
                open_envs(
                    self._workers,
                    size,
                    self._curriculum.tasks,
                    max_turns=self._max_turns,
                    servers=self._servers,
                )
            )
        return self._envs

    # --- update -------------------------------------------------------------------------------

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
                    f"out of memory with {packed_tokens(batch) // count} tokens at once: lower "
                    "--tokens_per_forward, --max_length_tokens or --per_device_train_batch_size"
                )
            self._tokens_per_forward = max(1, packed_tokens(batch) // (2 * count))
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
        limit = self._tokens_per_forward or packed_tokens(batch)
        count = min(rows, -(-packed_tokens(batch) // limit))
        if self.accelerator.num_processes > 1:
            count = max(gather_object([count]))
        return count

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

        def compute() -> tuple[torch.Tensor, ...]:
            states = completion_states(
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
        return nullcontext() if self.args.gradient_checkpointing else folded_adapter(model)

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

    # --- logs ---------------------------------------------------------------------------------

    def _note_rollouts(self, episodes: Sequence[Episode], entropy: float, seconds: float) -> None:
        if not self.model.training:
            return
        figures = {
            **rollout_metrics(self._free(episodes)),
            "groups_without_signal": groups_without_signal(episodes, self.num_generations),
            "entropy": entropy,
            "rollout_seconds": seconds,
        }
        self._log.note(self.state.global_step, episodes, figures)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the rollout's figures to TRL's logs and to `metrics.jsonl`."""
        if "loss" in logs:
            flat = {k: v for k, v in self._log.figures().items() if isinstance(v, float)}
            logs = {**logs, **{f"episodes/{name}": value for name, value in flat.items()}}
        super().log(logs, start_time)
        self._log.end_step(self.state.global_step, self.state.log_history[-1])


def trl_rows(played: Sequence[Trajectory], filler: int) -> dict[str, list[Any]]:
    """Return trajectories as the columns that TRL's `rollout_func` must give.

    An episode that an infrastructure fault ended keeps its row (TRL wants one per prompt) but no
    trained token and no reward. An empty completion becomes one untrained token.
    """
    columns: dict[str, list[Any]] = defaultdict(list)
    for trajectory in played:
        sound = trajectory.episode.status in MODEL_STATUSES
        completion = list(trajectory.completion_ids) or [filler]
        mask = list(trajectory.mask) or [0]
        columns["prompt_ids"].append(list(trajectory.prompt_ids))
        columns["completion_ids"].append(completion)
        columns["env_mask"].append(mask if sound else [0] * len(mask))
        columns["logprobs"].append(list(trajectory.log_probs) or [0.0])
        columns["episodes"].append(trajectory.episode)
        columns["turn_ends"].append(trajectory.turn_ends)
    return dict(columns)


def calls_first(goal: Goal) -> bool | None:
    """Return whether the first turn must be a call (True), must not (False), or may be either."""
    if needs_call(goal):
        return True
    return False if forbids_calls(goal) else None


def _rows(ids: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
    """Return the real tokens of each row of a padded batch."""
    return [row[real.bool()].tolist() for row, real in zip(ids, mask, strict=True)]
