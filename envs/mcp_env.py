"""`MCP-v0`: an episode of tool calling as a gymnasium environment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import gymnasium

from envs.backend import NO_EVIDENCE, Backend
from envs.backends import ServerSource, open_backend
from envs.client import Deadlines
from envs.errors import EpisodeOverError, TaskError, check_options
from envs.session import EpisodeSession, Rules, render_ansi
from envs.spaces import TextSpace
from envs.tasks.load import TaskSource, load_tasks
from rewards.episode import Task
from rewards.errors import did_you_mean
from rewards.matrix import DEFAULT_MATRIX, RewardMatrix


class TaskDeck:
    """The tasks of an environment, found by id or drawn at random.

    Args:
        tasks: The tasks.
    """

    def __init__(self, tasks: list[Task]) -> None:
        self.tasks = tasks
        self._by_id = {task.id: task for task in tasks}

    def fit(self, backend: Backend) -> None:
        """Check that every task can be played, before any is; close the backend if not.

        Raises:
            TaskError: If one cannot be.
        """
        try:
            for task in self.tasks:
                backend.fitted(task)
        except BaseException:
            backend.close()
            raise

    def by_id(self, task_id: str) -> Task:
        """Return a task.

        Raises:
            TaskError: If there is no such task.
        """
        if task_id not in self._by_id:
            hint = did_you_mean(str(task_id), self._by_id)
            raise TaskError(f'this environment has no task "{task_id}"{hint}')
        return self._by_id[task_id]

    def chosen(self, options: Mapping[str, Any], rng: Any) -> Task:
        """Return the task that `reset`'s options name, or a random one."""
        if "task" in options:
            task = options["task"]
            if not isinstance(task, Task):
                raise TaskError(f"options['task'] must be a Task, not {type(task).__name__}")
            return task
        if "task_id" in options:
            return self.by_id(options["task_id"])
        return self.tasks[int(rng.integers(len(self.tasks)))]


class MCPGymEnv(gymnasium.Env[str, str]):
    """A task, tools on a real MCP server, and an execution reward.

    Action: the model's raw turn (text). Observation: what it is told next (text): the user's
    prompt at first, then tool results or what was wrong; empty when the episode has ended.

    Reward: the row of the reward matrix that the turn came to (see `rewards/judge.py`).

    `terminated` is True when the task ended the episode: success, or a final answer. `truncated`
    is True when the turn limit ended it (that turn is judged) or an infrastructure fault did
    (`info["status"]` is then not "ok", the reward is 0, and a trainer should drop the episode).
    After either, call `reset`.

    `info`:
        messages       the conversation so far, as chat messages
        new_messages   those to append after the model's turn (empty at the end)
        tools          the offered tools as OpenAI function schemas
        outcome, why   the judgement of the last turn ("" after reset)
        thought_cut    the last turn ended inside a `<think>`
        status         "ok", or the infrastructure fault
        task, episode  the records

    `reset(options=...)` takes `{"task_id": ...}` or `{"task": Task}`; otherwise a task is drawn.

    Args:
        tasks: `"mock"`, `"starter"`, a JSONL file, or a list of tasks. With `servers` also files or
            folders of MCP-Universe.
        servers: A config file of MCP servers, as Claude Desktop, Cursor or VS Code write it; None
            for the mock world.
        split: `"train"`, `"validation"` or `"test"`; None for all.
        domains: Only tasks of these domains.
        matrix: What each outcome is worth.
        max_turns: Turn limit.
        max_result_chars: Longest tool result shown; longer ones are cut with a visible mark.
        faults: Faults for every episode of the mock world, beside the task's own (see
            `mock_mcp/faults.py`).
        deadlines: How long each wait for the server may take.
        render_mode: `"ansi"` or None.
    """

    metadata = gymnasium.Env.metadata | {"render_modes": ["ansi"], "render_fps": 1}

    def __init__(
        self,
        tasks: TaskSource = "mock",
        servers: ServerSource | None = None,
        split: str | None = "train",
        domains: Collection[str] | None = None,
        matrix: RewardMatrix = DEFAULT_MATRIX,
        max_turns: int = 8,
        max_result_chars: int = 2000,
        faults: Mapping[str, Any] | None = None,
        deadlines: Deadlines | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.action_space = TextSpace()
        self.observation_space = TextSpace()
        self.render_mode = render_mode
        self._deck = TaskDeck(load_tasks(tasks, split, domains, mock=servers is None))
        self._rules = Rules(max_turns, max_result_chars, matrix)
        self._faults = faults
        self._backend = open_backend(servers, 1, deadlines)
        self._deck.fit(self._backend)
        self._session: EpisodeSession | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start an episode and return the user's prompt.

        Args:
            seed: Seed of the drawing of tasks.
            options: `{"task_id": ...}` or `{"task": Task}`.

        Raises:
            TaskError: If there is no such task.
            OptionError: If an option is unknown.
        """
        super().reset(seed=seed)
        check_options(options or {}, ("task", "task_id"))
        task = self._backend.fitted(self._deck.chosen(options or {}, self.np_random))
        session = EpisodeSession(task, self._backend.tools, self._rules)
        self._backend.reset(0, task, self._faults)
        self._session = session
        return task.prompt, self._session.info()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Play one turn of the model.

        Raises:
            ActionError: If the action is not text.
            EpisodeOverError: If there is no episode in progress.
        """
        if self._session is None:
            raise EpisodeOverError("there is no episode yet; call reset() before step()")
        pending = self._session.read(action)
        batches = [(0, pending.calls)] if pending.calls else []
        results = self._backend.call_all(batches)
        turn = self._session.answered(pending, results[0] if results else ())
        evidence = NO_EVIDENCE
        if self._session.looks_at_goal(turn):
            [evidence] = self._backend.evidence([(0, self._session.episode.task.goal)])
        result = self._session.finish(turn, evidence)
        return (
            result.observation,
            result.reward,
            result.terminated,
            result.truncated,
            self._session.info(),
        )

    def render(self) -> str | None:
        """Return the episode so far as text."""
        return render_ansi(self._session) if self.render_mode == "ansi" else None

    def close(self) -> None:
        """Close the connection to the server."""
        self._backend.close()
