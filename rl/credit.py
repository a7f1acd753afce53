"""Whose doing a success was: the advantages of groups of episodes, for GRPO.

TRL gives every token of an episode one advantage, its return less the mean of its group. Here are
the two alternatives of ours: groups that teach nothing can be left out, and a turn can be credited
with what came after it only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rewards.episode import MODEL_STATUSES, Episode


def groups_with_success(episodes: Sequence[Episode], size: int) -> torch.Tensor:
    """Return 1.0 for each episode whose group of `size` holds a success, else 0.0."""
    keep: list[float] = []
    for start in range(0, len(episodes), size):
        group = episodes[start : start + size]
        keep += [float(any(episode.success for episode in group))] * len(group)
    return torch.tensor(keep)


def turn_advantages(
    episodes: Sequence[Episode],
    turn_ends: Sequence[Sequence[int]],
    said: torch.Tensor,
    size: int,
    scale: float,
) -> torch.Tensor:
    """Return for each token what its episode earned from its turn on, less the group's mean of it.

    The mean is over those episodes of the group that have a turn of that number, so that the
    second turn of an episode that has failed once is compared with other second turns. An episode
    that is alone with a turn learns nothing from it.

    Args:
        episodes: One per row, the groups one after another. One that an infrastructure fault ended
            gets no advantage and counts in no mean.
        turn_ends: For each row and turn the index of the turn's last token.
        said: Bool tensor (rows, tokens): the policy's tokens.
        size: Episodes of a group.
        scale: Rewards are multiplied by it.

    Returns:
        Float tensor (rows, tokens), 0 where the policy said nothing.
    """
    advantages = torch.zeros(said.shape, device=said.device)
    for start in range(0, len(episodes), size):
        rows = [
            row
            for row in range(start, min(start + size, len(episodes)))
            if episodes[row].status in MODEL_STATUSES
        ]
        to_go = {row: rewards_to_go(episodes[row], scale) for row in rows}
        for row in rows:
            first = 0
            for turn, end in enumerate(turn_ends[row]):
                others = [to_go[one][turn] for one in rows if turn < len(to_go[one])]
                advantages[row, first : end + 1] = to_go[row][turn] - sum(others) / len(others)
                first = end + 1
    return advantages * said


def rewards_to_go(episode: Episode, scale: float) -> list[float]:
    """Return for each turn the sum of the scaled rewards from it on."""
    total, found = 0.0, []
    for turn in reversed(episode.turns):
        total += scale * turn.reward
        found.append(total)
    return found[::-1]
