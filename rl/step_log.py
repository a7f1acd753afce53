"""What a step of training came to: figures of its episodes, written beside some of its rollouts.

OUTPUT_DIR/metrics.jsonl    one line a step: success, returns, outcomes, kinds of task, timing
OUTPUT_DIR/rollouts.jsonl   some episodes of each step, whole
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.rollout import Trajectory
from rewards.episode import MODEL_STATUSES, Episode, Outcome
from rewards.serialise import episode_to_json

FROM_TRAINER = ("loss", "kl", "grad_norm", "step_time", "learning_rate")
"""Figures that the trainer logs itself."""


class StepLog:
    """The two files of a run, and the figures of the step that is under way.

    Args:
        folder: Where the files are.
        rollouts: Episodes of each generation that are kept.
        writes: Whether this process writes; every process counts.
    """

    def __init__(self, folder: Path, rollouts: int, writes: bool) -> None:
        self._folder = folder
        self._rollouts = rollouts
        self._writes = writes
        self._generations: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def note(self, step: int, episodes: Sequence[Episode], figures: Mapping[str, Any]) -> None:
        """Take the episodes of one generation of a step, and what is known of them."""
        self._generations.append(dict(figures))
        if not self._writes:
            return
        with (self._folder / "rollouts.jsonl").open("a", encoding="utf-8") as file:
            for episode in episodes[:: max(1, len(episodes) // self._rollouts)]:
                row = {"step": step, **episode_to_json(episode)}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def figures(self) -> dict[str, Any]:
        """Return the figures of the step under way: the mean over its generations."""
        return mean_figures(self._generations)

    def end_step(self, step: int, logged: Mapping[str, Any]) -> None:
        """Write the line of a step, if anything was played in it.

        Args:
            step: Its number.
            logged: What the trainer logged of it.
        """
        entry = {"step": step, **self.figures()}
        if not self._generations:
            return
        self._generations = []
        if not self._writes:
            return
        entry.update({name: logged[name] for name in FROM_TRAINER if name in logged})
        with (self._folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def rewind(folder: Path, step: int) -> None:
    """Drop what was logged after a checkpoint, and what a kill left half written.

    A run that goes on from the checkpoint logs it again.

    Args:
        folder: Where the files are.
        step: Steps that were done at the checkpoint.
    """
    # A line of metrics has the number of a finished step, an episode that of those before its own.
    for name, last in (("metrics.jsonl", step), ("rollouts.jsonl", step - 1)):
        path = folder / name
        if path.is_file():
            lines = path.read_text(encoding="utf-8").split("\n")
            kept = [line + "\n" for line in lines if _step_of(line) <= last]
            part = path.with_suffix(".part")
            part.write_text("".join(kept), encoding="utf-8")
            part.replace(path)


def _step_of(line: str) -> float:
    try:
        return int(json.loads(line)["step"])
    except ValueError:
        return math.inf


def mean_figures(generations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean of each figure over the generations that have it, tables entry by entry."""
    names = dict.fromkeys(name for one in generations for name in one)
    found: dict[str, Any] = {}
    for name in names:
        values = [one[name] for one in generations if name in one]
        nested = isinstance(values[0], Mapping)
        found[name] = mean_figures(values) if nested else _mean(values)
    return found


def rollout_metrics(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Return a step's figures: success, outcome shares, success by kind."""
    sound = [episode for episode in episodes if episode.status in MODEL_STATUSES]
    turns = Counter(turn.outcome for episode in sound for turn in episode.turns)
    total = max(1, sum(turns.values()))
    kinds: dict[str, list[bool]] = defaultdict(list)
    for episode in sound:
        kinds[episode.task.kind].append(episode.success)
    return {
        "success": _mean([episode.success for episode in sound]),
        "mean_return": _mean([episode.total_reward for episode in sound]),
        "turns": _mean([len(episode.turns) for episode in sound]),
        "infrastructure_faults": float(len(episodes) - len(sound)),
        "outcomes": {str(outcome): turns[outcome] / total for outcome in Outcome},
        "kinds": {kind: _mean(values) for kind, values in sorted(kinds.items())},
    }


def groups_without_signal(episodes: Sequence[Episode], size: int) -> float:
    """Return the share of the groups of `size` whose episodes all have one return."""
    groups = [episodes[i : i + size] for i in range(0, len(episodes), size)]
    returns = [
        {round(one.total_reward, 6) for one in group if one.status in MODEL_STATUSES}
        for group in groups
    ]
    return sum(len(different) < 2 for different in returns) / max(1, len(groups))


def sampled_entropy(played: Sequence[Trajectory]) -> float:
    """Return the policy's entropy in nats per token, estimated from what it sampled.

    The mean of -log p over sampled tokens is unbiased, costs nothing, and counts every row.
    """
    sampled = [
        -log_prob
        for trajectory in played
        for log_prob, said in zip(trajectory.log_probs, trajectory.mask, strict=True)
        if said
    ]
    return _mean(sampled)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
