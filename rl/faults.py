"""Stops a training run whose servers keep failing.

An episode that an infrastructure fault ended is dropped from the loss. A few of them cost a little;
with many of them a run goes on learning from hardly anything, or from the tasks that happen to
work, and nobody notices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback

from rewards.episode import MODEL_STATUSES, Episode


class StopOnFaults(TrainerCallback):
    """Saves a checkpoint and ends training when too many episodes of a step met a fault.

    Args:
        limit: Largest share of a step's episodes that may end by an infrastructure fault (0 to 1).

    Attributes:
        problem: Why training was stopped, or "".
    """

    def __init__(self, limit: float) -> None:
        if not 0 <= limit <= 1:
            raise ValueError(f"the limit of faults is a share from 0 to 1, not {limit}")
        self.problem = ""
        self._limit = limit

    def note(self, episodes: Sequence[Episode]) -> None:
        """Look at the episodes of a step."""
        faults = Counter(one.status for one in episodes if one.status not in MODEL_STATUSES)
        lost = faults.total()
        if not episodes or lost / len(episodes) <= self._limit:
            return
        kinds = ", ".join(f"{count} {status}" for status, count in faults.most_common())
        first = next(one for one in episodes if one.status not in MODEL_STATUSES)
        self.problem = (
            f"{lost} of {len(episodes)} episodes of a step met an infrastructure fault ({kinds}), "
            f"more than the share {self._limit:g} that --max_fault_share allows; the first was of "
            f"task {first.task.id}: {first.turns[-1].why if first.turns else first.status}"
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End training after this step, with a checkpoint."""
        if self.problem:
            control.should_save = True
            control.should_training_stop = True
