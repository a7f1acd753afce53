"""What is played in training, and the one place that touches TRL's experimental rollout interface.

`RolloutTrainer` is TRL's `GRPOTrainer` with our rollouts: raw turns of the policy go to the
environment, token ids are concatenated and never tokenised again, observation tokens are masked,
episodes that an infrastructure fault ended are dropped from the loss.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from trl import GRPOTrainer

from agents.engine import SamplingConfig
from agents.players import LanguagePlayer
from agents.repeated import RepeatedConversations, layout_fault
from agents.rollout import Trajectory, open_envs, rollout
from agents.vllm_engine import VLLMConversations
from envs.backends import ServerSource
from envs.vector_env import MCPVectorEnv
from rewards.episode import MODEL_STATUSES, Episode, Task
from rewards.goal_checks import forbids_calls, needs_call
from rewards.goals import Goal
from rl.curriculum import Curriculum
from rl.distributed import with_whole_model
from rl.faults import StopOnFaults
from rl.step_log import StepLog, groups_without_signal, rollout_metrics, sampled_entropy

log = logging.getLogger(__name__)

Reward = Callable[..., list[float | None]]


class RolloutTrainer(GRPOTrainer):
    """Plays the episodes of MCP-v0 that a trainer learns from, and writes its logs.

    Args:
        curriculum: Deals the training tasks; a row of `train_dataset` is a group that gets one.
        reward: Scores stored episodes (see `rewards/trl_rewards.py`).
        sampling: How turns are sampled; its seed is combined with the step.
        max_turns: Turn limit of the environment.
        log_dir: Where `metrics.jsonl` and `rollouts.jsonl` are written.
        guided: Episodes of each group whose first token is held to what the task needs: a call, or
            none. Where the policy is sure of the wrong one, no episode of a group would ever show
            it the other, and the group would teach nothing.
        thinking: Let the policy fill its `<think>` block.
        share_prompts: Compute a prompt once for its whole group and all turns, if the model can.
        faults: Stops the run when too many episodes meet an infrastructure fault.
        servers: MCP servers to play on; None for the mock world.
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
        guided: int = 0,
        thinking: bool = False,
        share_prompts: bool = True,
        faults: StopOnFaults | None = None,
        servers: ServerSource | None = None,
        workers: int = 1,
        rollouts_per_step: int = 2,
        **options: Any,
    ) -> None:
        self._curriculum = curriculum
        self._sampling = sampling
        self._max_turns = max_turns
        self._guided = guided
        self._thinking = thinking
        self._generated_at, self._generations = -1, 0
        self._workers = workers
        self._servers = servers
        self._opened = ExitStack()
        self._envs: list[MCPVectorEnv] = []
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
        model = self.accelerator.unwrap_model(self.model)
        fault = layout_fault(model) if share_prompts else "--share_prompts false"
        self._shares_prompts = not fault
        if fault and self.is_world_process_zero():
            log.warning(
                "%s shares no prompts: each conversation is computed by itself (%s)",
                model.config.model_type,
                fault,
            )
        self._log = StepLog(log_dir, rollouts_per_step, self.is_world_process_zero())

    def close(self) -> None:
        """Close the environments."""
        self._opened.close()
        self._envs = []

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
        served = self._conversations(model, sampling)
        player = LanguagePlayer(
            model,
            self.processing_class,
            sampling,
            "rollout",
            thinking=self._thinking,
            conversations=served,
        )
        # A group's prompt is computed once in each part that holds rows of it: groups stay whole.
        groups = -(-len(tasks) // self.num_generations)
        workers = min(self._workers, groups) if served is None else 1
        share = min(len(tasks), -(-groups // workers) * self.num_generations)
        play = partial(
            rollout,
            player,
            tasks,
            max_turns=self._max_turns,
            batch_size=share,
            workers=workers,
            envs=self._environments(share),
            calls_first=self._calls_first(tasks),
        )
        played = with_whole_model(model, play)
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

    def _conversations(self, model: Any, sampling: SamplingConfig) -> Any:
        """Return what samples the turns in the place of our own engine; None for the engine."""
        end, pad = self.processing_class.eos_token_id, self.processing_class.pad_token_id
        if self.use_vllm:
            return VLLMConversations(self.vllm_generation, end, sampling)
        if not self._shares_prompts:
            return RepeatedConversations(model, end, pad, sampling)
        return None

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
