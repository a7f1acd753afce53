"""Reward functions for TRL's trainers that read the score off stored episodes.

TRL calls a reward function with the keyword arguments `prompts`, `completions` and one per extra
column; the episodes travel in the column `episodes` (records, or their JSON), one per completion.
Each function gives one float per completion, or None for an episode that an infrastructure fault
ended: TRL leaves None out of the reward.

    from rewards.trl_rewards import episode_return, success
    GRPOTrainer(..., reward_funcs=[episode_return, success])  # args.reward_weights=[1.0, 0.0]

Functions:
    episode_return   the return times 0.1 (`scaled_return(scale)` for another constant)
    success          1.0 if the task was solved, else 0.0
    calls            number of executed calls
    tool_errors, invalid_json, structural_fails
                     number of turns with that outcome

The scale is a constant on purpose: dividing by the spread of a group makes a gap of 0.2 between
two failures as loud as a success. Nothing here imports trl.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rewards.episode import MODEL_STATUSES, Episode, Outcome
from rewards.errors import RecordError
from rewards.matrix import DEFAULT_MATRIX
from rewards.serialise import episode_from_json

RewardFunction = Callable[..., list[float | None]]

DEFAULT_SCALE = 0.1
"""Makes the reward of a success 1."""


def over_episodes(name: str, score: Callable[[Episode], float]) -> RewardFunction:
    """Return a TRL reward function from a score of one episode.

    Args:
        name: Its name; TRL logs the mean as `rewards/NAME/mean`.
        score: The score of one episode.

    Returns:
        `f(prompts, completions, episodes, **kwargs) -> list[float | None]`.
    """

    def reward_function(
        prompts: Sequence[Any],
        completions: Sequence[Any],
        episodes: Sequence[Episode | Mapping[str, Any]],
        **_: Any,
    ) -> list[float | None]:
        if len(episodes) != len(completions):
            raise RecordError(
                f"{name}: {len(episodes)} episodes for {len(completions)} completions; "
                "the rollout must return one episode per completion"
            )
        return [_score(_as_episode(episode), score) for episode in episodes]

    reward_function.__name__ = name
    reward_function.__qualname__ = name
    return reward_function


def scaled_return(scale: float) -> RewardFunction:
    """Return the reward function `episode_return` with another scale."""
    return over_episodes("episode_return", lambda episode: scale * episode.total_reward)


def scaled_success(scale: float) -> RewardFunction:
    """Return a reward function that looks at the ending alone: a success, or not.

    Args:
        scale: The reward of a successful turn is multiplied by it; everything else is 0.
    """
    worth = scale * DEFAULT_MATRIX.value(Outcome.SUCCESS)
    return over_episodes("episode_success", lambda episode: worth * episode.success)


def count_of(outcome: Outcome, name: str) -> RewardFunction:
    """Return a reward function that counts the turns with `outcome`."""

    def count(episode: Episode) -> float:
        return float(sum(turn.outcome is outcome for turn in episode.turns))

    return over_episodes(name, count)


def _score(episode: Episode, score: Callable[[Episode], float]) -> float | None:
    return score(episode) if episode.status in MODEL_STATUSES else None


def _as_episode(episode: Episode | Mapping[str, Any]) -> Episode:
    return episode if isinstance(episode, Episode) else episode_from_json(episode)


episode_return = scaled_return(DEFAULT_SCALE)
success = over_episodes("success", lambda episode: float(episode.success))
calls = over_episodes(
    "calls", lambda episode: float(sum(len(turn.results) for turn in episode.turns))
)
tool_errors = count_of(Outcome.TOOL_ERROR, "tool_errors")
invalid_json = count_of(Outcome.INVALID_JSON, "invalid_json")
structural_fails = count_of(Outcome.STRUCTURAL_FAIL, "structural_fails")
