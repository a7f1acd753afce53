"""`gym.make_vec("MCP-v0", num_envs=64)`: many episodes whose calls run side by side."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from envs.backend import NO_EVIDENCE
from envs.backends import ServerSource, open_backend
from envs.client import Deadlines
from envs.errors import ActionError, EpisodeOverError, OptionError, check_options
from envs.mcp_env import MCPGymEnv, TaskDeck
from envs.session import EpisodeSession, PendingTurn, Rules, StepResult, render_ansi
from envs.spaces import TextSpace
from envs.tasks.load import TaskSource, load_tasks
from rewards.episode import Task
from rewards.matrix import DEFAULT_MATRIX, RewardMatrix

Array = npt.NDArray[Any]


class MCPVectorEnv(VectorEnv[tuple[str, ...], Sequence[str | None], Array]):
    """The vector form of `MCPGymEnv`: equal to it turn by turn, in one crossing a step.

    Observations and actions are tuples of texts, one per sub-environment. `infos` follows
    gymnasium's form: one object array per key, with the mask `_key` of the sub-environments that
    took part. `self.infos` holds the latest info of EVERY sub-environment as a plain list of
    dicts, which is what a trainer wants.

    Autoreset (`metadata["autoreset_mode"]`) is `AutoresetMode.DISABLED` unless told otherwise:
    nothing resets by itself. A sub-environment whose episode has ended ignores its action (give
    it None), keeps its `terminated`, `truncated` and `self.infos`, and gets reward 0, until
    `reset(options={"reset_mask": mask})` or a full `reset`. With `AutoresetMode.NEXT_STEP` the
    step after the end ignores the action, draws another task and returns its prompt and reward 0.
    A None for a running episode lets it wait for a step.

        env.reset(options={"tasks": tasks})
        while active:
            actions = [say(env.infos[row]) if row in active else None for row in range(n)]
            _, rewards, terminated, truncated, _ = env.step(actions)
            active = [row for row in active if not (terminated[row] or truncated[row])]

    `reset(options=...)` takes `tasks` (Tasks) or `task_ids`, one per sub-environment, and
    `reset_mask` (bool array; entries of the others are then ignored). `seed` may be an int
    (sub-environment i gets seed + i) or one per sub-environment.

    Args:
        num_envs: Number of sub-environments.
        tasks: As in `MCPGymEnv`, like everything that follows.
        servers: As in `MCPGymEnv`.
        split: As in `MCPGymEnv`.
        domains: As in `MCPGymEnv`.
        matrix: As in `MCPGymEnv`.
        max_turns: As in `MCPGymEnv`.
        max_result_chars: As in `MCPGymEnv`.
        faults: As in `MCPGymEnv`.
        deadlines: As in `MCPGymEnv`.
        autoreset_mode: `AutoresetMode.DISABLED` or `NEXT_STEP`, or its value as text.
        render_mode: `"ansi"` or None.
    """

    def __init__(
        self,
        num_envs: int = 1,
        tasks: TaskSource = "mock",
        servers: ServerSource | None = None,
        split: str | None = "train",
        domains: Collection[str] | None = None,
        matrix: RewardMatrix = DEFAULT_MATRIX,
        max_turns: int = 8,
        max_result_chars: int = 2000,
        faults: Mapping[str, Any] | None = None,
        deadlines: Deadlines | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.DISABLED,
        render_mode: str | None = None,
    ) -> None:
        if num_envs < 1:
            raise OptionError(f"num_envs must be at least 1, not {num_envs}")
        mode = AutoresetMode(autoreset_mode)
        if mode is AutoresetMode.SAME_STEP:
            raise OptionError("autoreset_mode SAME_STEP is not offered; use DISABLED or NEXT_STEP")
        self.num_envs = num_envs
        self.metadata = {**MCPGymEnv.metadata, "autoreset_mode": mode}
        self._autoreset = mode is AutoresetMode.NEXT_STEP
        self.render_mode = render_mode
        self.single_action_space = TextSpace()
        self.single_observation_space = TextSpace()
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.infos: list[dict[str, Any]] = [{} for _ in range(num_envs)]
        self._deck = TaskDeck(load_tasks(tasks, split, domains, mock=servers is None))
        self._rules = Rules(max_turns, max_result_chars, matrix)
        self._faults = faults
        self._backend = open_backend(servers, num_envs, deadlines)
        self._deck.fit(self._backend)
        self._sessions: list[EpisodeSession | None] = [None] * num_envs
        self._observations = [""] * num_envs
        self._generators = [seeding.np_random(None)[0] for _ in range(num_envs)]

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Start episodes.

        Args:
            seed: Seeds of the drawing of tasks.
            options: `tasks`, `task_ids`, `reset_mask` (see the class).

        Returns:
            The latest observation of every sub-environment, and the infos of those reset.

        Raises:
            TaskError: If there is no such task.
            OptionError: If an option cannot be used.
        """
        options = options or {}
        check_options(options, ("tasks", "task_ids", "reset_mask"))
        rows = self._rows_to_reset(options.get("reset_mask"))
        choices = self._choices(options)
        self._seed(seed)
        # Every task is looked up before any world changes, so that a bad one changes nothing.
        tasks = {row: self._next_task(row, choices[row]) for row in rows}
        for row, task in tasks.items():
            self._start(row, task)
        return tuple(self._observations), self._batched(rows)

    def _rows_to_reset(self, mask: Any) -> list[int]:
        if mask is None:
            return list(range(self.num_envs))
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise OptionError(
                f'options["reset_mask"] must be {self.num_envs} booleans, not an array of shape '
                f"{mask.shape} and type {mask.dtype}"
            )
        return [int(row) for row in np.flatnonzero(mask)]

    def _choices(self, options: Mapping[str, Any]) -> list[dict[str, Any]]:
        for plural, single in (("tasks", "task"), ("task_ids", "task_id")):
            if plural in options:
                self._check_length(options[plural], f'options["{plural}"]')
                return [{single: choice} for choice in options[plural]]
        return [{}] * self.num_envs

    def _check_length(self, values: Sequence[Any], name: str) -> None:
        if len(values) != self.num_envs:
            raise OptionError(
                f"{name} has {len(values)} entries for {self.num_envs} sub-environments"
            )

    def _seed(self, seed: int | Sequence[int | None] | None) -> None:
        if seed is None:
            return
        if isinstance(seed, int | np.integer):
            seed = [int(seed) + row for row in range(self.num_envs)]
        self._check_length(seed, "seed")
        for row, value in enumerate(seed):
            if value is not None:
                self._generators[row] = seeding.np_random(value)[0]

    def _next_task(self, row: int, choice: Mapping[str, Any]) -> Task:
        return self._backend.fitted(self._deck.chosen(choice, self._generators[row]))

    def _start(self, row: int, task: Task) -> None:
        session = EpisodeSession(task, self._backend.tools, self._rules)
        self._backend.reset(row, task, self._faults)
        self._sessions[row] = session
        self._observations[row] = task.prompt
        self.infos[row] = session.info()

    def step(
        self, actions: Sequence[str | None]
    ) -> tuple[tuple[str, ...], Array, Array, Array, dict[str, Any]]:
        """Play one turn in every sub-environment that has an action and a running episode.

        Returns:
            Observations (empty where nothing was played), rewards, terminated, truncated, infos.

        Raises:
            ActionError: If there is not one action per sub-environment, or one is not text.
            EpisodeOverError: If a sub-environment that was never reset is given an action.
        """
        if len(actions) != self.num_envs:
            raise ActionError(f"{len(actions)} actions for {self.num_envs} sub-environments")
        ended = [row for row, session in enumerate(self._sessions) if session and session.over]
        pending = {
            row: self._running(row).read(action)
            for row, action in enumerate(actions)
            if action is not None and row not in ended
        }
        self._observations = [""] * self.num_envs
        rewards = np.zeros(self.num_envs, dtype=np.float64)
        for row, result in self._play(pending).items():
            self._observations[row], rewards[row] = result.observation, result.reward
            self.infos[row] = self._running(row).info()
        restarted = ended if self._autoreset else []
        for row in restarted:
            self._start(row, self._next_task(row, {}))
        terminated, truncated = self._ends()
        infos = self._batched([*pending, *restarted])
        return tuple(self._observations), rewards, terminated, truncated, infos

    def _play(self, pending: Mapping[int, PendingTurn]) -> dict[int, StepResult]:
        """Run the calls of all turns in one crossing, take the evidence, finish the turns."""
        batches = [(row, turn.calls) for row, turn in pending.items() if turn.calls]
        answers = self._backend.call_all(batches)
        results = {row: answer for (row, _), answer in zip(batches, answers, strict=True)}
        turns = {
            row: self._running(row).answered(turn, results.get(row, ()))
            for row, turn in pending.items()
        }
        judged = [row for row, turn in turns.items() if self._running(row).looks_at_goal(turn)]
        goals = [(row, self._running(row).episode.task.goal) for row in judged]
        evidence = dict(zip(judged, self._backend.evidence(goals), strict=True))
        return {
            row: self._running(row).finish(turn, evidence.get(row, NO_EVIDENCE))
            for row, turn in turns.items()
        }

    def _ends(self) -> tuple[Array, Array]:
        episodes = [session.episode if session else None for session in self._sessions]
        terminated = [episode is not None and episode.terminated for episode in episodes]
        truncated = [episode is not None and episode.truncated for episode in episodes]
        return np.array(terminated, dtype=np.bool_), np.array(truncated, dtype=np.bool_)

    def _running(self, row: int) -> EpisodeSession:
        session = self._sessions[row]
        if session is None:
            raise EpisodeOverError(
                f"sub-environment {row} has no episode yet; call reset() before step()"
            )
        return session

    def _batched(self, rows: Sequence[int]) -> dict[str, Any]:
        """Return the infos of some sub-environments in gymnasium's vector form."""
        mask = np.zeros(self.num_envs, dtype=np.bool_)
        mask[list(rows)] = True
        arrays: dict[str, Any] = {}
        for key in self.infos[rows[0]] if rows else ():
            values = np.empty(self.num_envs, dtype=object)
            for row in rows:
                values[row] = self.infos[row][key]
            arrays[key], arrays[f"_{key}"] = values, mask.copy()
        return arrays

    def render(self) -> tuple[str, ...] | None:
        """Return each episode so far as text."""
        if self.render_mode != "ansi":
            return None
        return tuple(render_ansi(session) for session in self._sessions)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the connections to the servers."""
        self._backend.close()
