"""Stored episodes as canonical rows, judged again by the rewards of today.

An episode stores the names of the tools that it offered; their schemas come from the servers that
it was played on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agents.rollout import Trajectory
from envs.backend import ToolBox
from envs.backends import open_backend
from rewards.episode import MODEL_STATUSES, Episode
from rewards.judge import rescore
from rewards.serialise import read_episodes
from sft.data.errors import DataFileError
from sft.data.rows import Row
from sft.traces import shown_only, trace_row


def is_episode(value: Mapping[str, Any]) -> bool:
    """Return whether the object of a line is a stored episode and no canonical row."""
    return "turns" in value and "task" in value and "messages" not in value


class EpisodeReader:
    """Turns stored episodes into canonical rows.

    Args:
        servers: Config file of the MCP servers that they were played on; "" for the mock world.

    Attributes:
        faults: Episodes without a row: an infrastructure fault ended them.
        changed: Episodes whose return is not the stored one any more.

    Raises:
        EnvsError: If the servers cannot be started.
    """

    def __init__(self, servers: str = "") -> None:
        self.faults = 0
        self.changed = 0
        self._seen: Counter[str] = Counter()
        backend = open_backend(servers or None, 1)
        try:
            self._tools: ToolBox = backend.tools
        finally:
            backend.close()

    def rows(self, path: Path) -> Iterator[Row]:
        """Yield a row for each episode of a file that no infrastructure fault ended.

        A row's id is that of the task, with `-N` behind it for the N-th episode of the task (from
        the second on); its `reward` is the return.

        Raises:
            RewardsError: If a line is no episode, or cannot be judged.
            DataFileError: If an episode offered a tool that the servers do not have.
        """
        for stored in read_episodes(path):
            if stored.status not in MODEL_STATUSES or not stored.turns:
                self.faults += 1
                continue
            episode = rescore(stored)
            self.changed += episode.total_reward != stored.total_reward
            yield self._row(episode, path)

    def _row(self, episode: Episode, path: Path) -> Row:
        task = episode.task
        missing = [name for name in task.tools if name not in self._tools.schemas]
        if missing:
            raise DataFileError(
                f"{path}: the tool {missing[0]} of the episode {task.id} is not of this server; "
                "name the config of the servers it was played on with --servers"
            )
        tools = tuple(self._tools.offer(task.tools))
        row = trace_row(Trajectory(episode, tools=tools), source="rollout", model=path.stem)
        shown_only(row["messages"], episode.turns, judged=True)
        self._seen[task.id] += 1
        if self._seen[task.id] > 1:
            row["id"] = f"{task.id}-{self._seen[task.id]}"
        return {**row, "reward": episode.total_reward}
