"""What each outcome of a turn is worth."""

from __future__ import annotations

from dataclasses import dataclass

from rewards.episode import Outcome


@dataclass(frozen=True)
class RewardMatrix:
    """The reward of each outcome; the defaults are the project's contract.

    Attributes:
        success: The goal holds and every call of the turn ran cleanly; ends the episode.
        tool_execution: The calls ran, the goal does not hold yet.
        tool_error: An offered tool was hit and failed.
        invalid_json: A tool call was attempted and is not one valid JSON object.
        structural_fail: A tool that was not offered, a wrong call format, an empty turn, or any
            unsolved ending.
    """

    success: float = 10.0
    tool_execution: float = 0.0
    tool_error: float = -0.5
    invalid_json: float = -0.8
    structural_fail: float = -1.0

    def value(self, outcome: Outcome) -> float:
        """Return the reward of `outcome`."""
        return float(getattr(self, outcome.value))


DEFAULT_MATRIX = RewardMatrix()
"""The project's contract: +10, 0, -0.5, -0.8, -1."""
