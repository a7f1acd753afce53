"""Which tasks a step of GRPO plays: every kind its share, and more of what can still be learned.

A group whose episodes all end alike has no advantage, so a kind that always succeeds, or never,
teaches nothing. With success rate p of a kind, p (1 - p) is the variance of an episode's success
("learnability" in Rutherford et al. 2024, arXiv:2408.15099; for language models Foster et al. 2025,
arXiv:2502.12272). Its square root, the standard deviation, is what the size of an advantage goes
with; it leaves more to kinds that hardly ever succeed, which are the ones that get lost. Part of
every step goes to the kinds in proportion to it; the rest is dealt evenly, so that no kind is left
out and a lost one is noticed.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from rewards.episode import Task
from rewards.goal_checks import needs_call

# What was seen before counts this much less each time a kind is played again.
MEMORY = 0.8


class Curriculum(TrainerCallback, ExportableState):
    """Deals tasks to the groups of a generation, and remembers how each kind went.

    As a callback of the trainer it is saved in each checkpoint and continues from it.

    Args:
        tasks: The tasks to deal from.
        seed: Seed of every draw; with the same results the same tasks are dealt.
        learnability: Share of the groups that go to the kinds in proportion to the standard
            deviation of success; the rest is dealt evenly (0 to 1).
        no_call_share: Share of the groups that go to kinds whose right behaviour is not to call
            any tool (0 to 1); None for what these kinds get beside the others. With few of them
            the policy learns to call whatever it is asked.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        seed: int,
        learnability: float,
        no_call_share: float | None = None,
    ) -> None:
        if not 0 <= learnability <= 1:
            raise ValueError(f"learnability is a share from 0 to 1, not {learnability}")
        if no_call_share is not None and not 0 <= no_call_share <= 1:
            raise ValueError(f"no_call_share is a share from 0 to 1, not {no_call_share}")
        self.tasks = list(tasks)
        self._by_kind: dict[str, list[Task]] = defaultdict(list)
        for task in tasks:
            self._by_kind[task.kind].append(task)
        self._kinds = sorted(self._by_kind)
        self._seed = seed
        self._learnability = learnability
        self._parts = self._parted(no_call_share)
        self._dealt = 0
        self._played = dict.fromkeys(self._kinds, 0)
        self._successes = dict.fromkeys(self._kinds, 0.0)
        self._episodes = dict.fromkeys(self._kinds, 0.0)

    def shares(self) -> dict[str, float]:
        """Return the expected share of the groups of each kind; they sum to 1.

        The success rate is estimated with one success and one failure added, so that a kind
        nobody has played is the most promising one.
        """
        rates = {
            kind: (self._successes[kind] + 1) / (self._episodes[kind] + 2) for kind in self._kinds
        }
        weights = {kind: math.sqrt(rate * (1 - rate)) for kind, rate in rates.items()}
        shares: dict[str, float] = {}
        for kinds, part in self._parts:
            total = sum(weights[kind] for kind in kinds)
            even = (1 - self._learnability) / len(kinds)
            for kind in kinds:
                shares[kind] = part * (even + self._learnability * weights[kind] / total)
        return shares

    def _parted(self, no_call_share: float | None) -> list[tuple[list[str], float]]:
        """Return the kinds in parts, each with the share of the groups that it gets."""
        silent = [k for k in self._kinds if not needs_call(self._by_kind[k][0].goal)]
        calling = [kind for kind in self._kinds if kind not in silent]
        if no_call_share is None or not silent or not calling:
            return [(self._kinds, 1.0)]
        return [(calling, 1 - no_call_share), (silent, no_call_share)]

    def deal(self, groups: int) -> list[Task]:
        """Return the tasks of the next generation, one for each group.

        Kinds get as many groups as their share says, rounded up or down (systematic sampling); no
        task comes again before every task of its kind came.
        """
        rng = random.Random(f"order/{self._seed}/{self._dealt}")
        self._dealt += 1
        shares = self.shares()
        kinds = rng.sample(self._kinds, len(self._kinds))
        tasks: list[Task] = []
        reached, offset = 0.0, rng.random()
        for kind in kinds:
            reached += shares[kind] * groups
            while len(tasks) < groups and len(tasks) + offset < reached:
                tasks.append(self._next(kind))
        while len(tasks) < groups:  # rounding of the last sum
            tasks.append(self._next(kinds[-1]))
        return tasks

    def note(self, outcomes: Iterable[tuple[str, bool]]) -> None:
        """Remember how the episodes of a generation ended.

        Args:
            outcomes: Kind of the task and success, for each episode.
        """
        results: dict[str, list[bool]] = defaultdict(list)
        for kind, success in outcomes:
            results[kind].append(success)
        for kind, successes in results.items():
            self._successes[kind] = MEMORY * self._successes[kind] + sum(successes)
            self._episodes[kind] = MEMORY * self._episodes[kind] + len(successes)

    def _next(self, kind: str) -> Task:
        tasks = self._by_kind[kind]
        shuffle, place = divmod(self._played[kind], len(tasks))
        self._played[kind] += 1
        return random.Random(f"deck/{self._seed}/{kind}/{shuffle}").sample(tasks, len(tasks))[place]

    # --- saved and restored with the trainer ---------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        kept = {
            "dealt": self._dealt,
            "played": self._played,
            "successes": self._successes,
            "episodes": self._episodes,
        }
        return {"args": {}, "attributes": kept}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        kept = saved["attributes"]
        self._dealt = kept["dealt"]
        for mine, theirs in (
            (self._played, kept["played"]),
            (self._successes, kept["successes"]),
            (self._episodes, kept["episodes"]),
        ):
            mine.update({kind: theirs[kind] for kind in self._kinds if kind in theirs})

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Continue from the checkpoint that the trainer resumes from."""
        saved = state.stateful_callbacks.get(type(self).__name__)
        if saved:  # in a new run it is what `state` returns now
            self.restore(saved)
