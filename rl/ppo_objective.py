"""The mathematics of PPO over episodes: advantages, losses, KL controller.

Tensors are (rows, tokens): one row is one episode's completion, in which the policy's tokens stand
between observations. `said` marks the policy's tokens, and only they are actions: the state after
an action is the one in front of the policy's next token, however many observation tokens the
environment put between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from rewards.episode import MODEL_STATUSES, Episode


def turn_rewards(
    episodes: Sequence[Episode], turn_ends: Sequence[Sequence[int]], said: torch.Tensor
) -> torch.Tensor:
    """Return the reward of each turn at the last token that the policy said in it.

    Args:
        episodes: One per row. One that an infrastructure fault ended has no reward.
        turn_ends: For each row and turn the index of the turn's last token.
        said: Bool tensor (rows, tokens).

    Returns:
        Float tensor (rows, tokens). A turn without a token gives its reward to the turn before.
    """
    rewards = torch.zeros(said.shape, device=said.device)
    for row, (episode, ends) in enumerate(zip(episodes, turn_ends, strict=True)):
        if episode.status not in MODEL_STATUSES:
            continue
        tokens = said[row].nonzero()[:, 0]
        for turn, end in zip(episode.turns, ends, strict=True):
            before = tokens[tokens <= end]
            if len(before):
                rewards[row, before[-1]] += turn.reward
    return rewards


def action_gae(
    rewards: torch.Tensor,
    values: torch.Tensor,
    said: torch.Tensor,
    discount: float,
    gae_lambda: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return generalised advantage estimates over the policy's tokens, and the returns.

    Schulman et al. 2016, arXiv:1506.02438, equation 16, with one time step per token of the policy:

        delta_t = r_t + discount * V_{t+1} - V_t
        A_t     = delta_t + discount * gae_lambda * A_{t+1}

    where t + 1 is the policy's next token, in this turn or in the next. After its last one the
    episode is over: V is 0. That holds for the turn limit too, which the policy can see coming.

    Args:
        rewards: Float tensor (rows, tokens).
        values: Value of the state in front of each token, the same shape.
        said: Bool tensor, the same shape.
        discount: Between 0 and 1.
        gae_lambda: Between 0 (one step) and 1 (the whole return).

    Returns:
        Advantages and returns (advantages + values), 0 at observations.
    """
    advantages = torch.zeros_like(values)
    next_value = values.new_zeros(len(values))
    next_advantage = next_value.clone()
    for t in reversed(range(values.shape[1])):
        acts = said[:, t]
        delta = rewards[:, t] + discount * next_value - values[:, t]
        advantage = delta + discount * gae_lambda * next_advantage
        next_advantage = torch.where(acts, advantage, next_advantage)
        next_value = torch.where(acts, values[:, t], next_value)
        advantages[:, t] = torch.where(acts, advantage, 0.0)
    return advantages, torch.where(said, advantages + values, 0.0)


def without_group(advantages: torch.Tensor, said: torch.Tensor, size: int) -> torch.Tensor:
    """Return advantages less what the other episodes of a group have at their first token.

    The advantage at the first token says how much better an episode went than the critic thought;
    what the *others* of the group did does not depend on its actions, so that nothing is biased.

    Args:
        advantages: Float tensor (rows, tokens); rows of a group follow one another.
        said: Bool tensor, the same shape.
        size: Rows of a group.
    """
    first = advantages.gather(1, said.int().argmax(1, keepdim=True)).view(-1, size)
    counts = said.any(1).view(-1, size).to(advantages.dtype)
    first = first * counts
    others = (first.sum(1, keepdim=True) - first) / (counts.sum(1, keepdim=True) - counts).clamp(
        min=1
    )
    return torch.where(said, advantages - others.view(-1, 1), 0.0)


def token_weights(said: torch.Tensor, per_episode: bool) -> torch.Tensor:
    """Return how much each token counts: 1, or as much as makes every episode count 1.

    Args:
        said: Bool tensor (rows, tokens).
        per_episode: See above.
    """
    weights = said.float()
    return weights / weights.sum(1, keepdim=True).clamp(min=1) if per_episode else weights


@dataclass(frozen=True)
class Clipping:
    """How far one step may go.

    Attributes:
        low: The probability ratio counts down to 1 - low,
        high: and up to 1 + high.
        value: A value counts up to this far from what it was.
    """

    low: float
    high: float
    value: float


def policy_losses(
    log_probs: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, clip: Clipping
) -> torch.Tensor:
    """Return the clipped loss of each token (Schulman et al. 2017, arXiv:1707.06347, equation 7).

    Args:
        log_probs: Log-probabilities under the policy; gradients flow through them.
        old: Those of the policy that played.
        advantages: Of the same shape.
        clip: Limits of the ratio.
    """
    ratio = (log_probs - old).exp()
    clipped = ratio.clamp(1 - clip.low, 1 + clip.high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def value_losses(
    values: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, clip: Clipping
) -> torch.Tensor:
    """Return the clipped squared error of each token's value: the worse of near and clipped.

    Args:
        values: Values now; gradients flow through them.
        old: Values while the episode was judged.
        returns: What they should have been.
        clip: Its `value` limits the change.
    """
    near = old + (values - old).clamp(-clip.value, clip.value)
    return 0.5 * torch.maximum((values - returns) ** 2, (near - returns) ** 2)


class KLController(TrainerCallback, ExportableState):
    """The coefficient of the KL penalty, fixed or adapted to a target.

    Ziegler et al. 2019, arXiv:1909.08593, section 2.2: after each step the coefficient is
    multiplied by `1 + clip(kl / target - 1, -0.2, 0.2) / horizon`. It is kept in a checkpoint.

    Args:
        coefficient: Where it starts.
        target: Wanted KL to the reference policy, in nats per token; 0 keeps the coefficient.
        horizon: Steps over which a deviation is answered.
    """

    def __init__(self, coefficient: float, target: float = 0.0, horizon: float = 10.0) -> None:
        self.coefficient = coefficient
        self._target = target
        self._horizon = horizon

    def note(self, kl: float) -> None:
        """Adapt the coefficient to a step's KL."""
        if self._target > 0:
            error = min(0.2, max(-0.2, kl / self._target - 1))
            self.coefficient *= 1 + error / self._horizon

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {"args": {}, "attributes": {"coefficient": self.coefficient}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Continue from the checkpoint that the trainer resumes from."""
        saved = state.stateful_callbacks.get(type(self).__name__)
        if saved:  # in a new run it is what `state` returns now
            self.coefficient = saved["attributes"]["coefficient"]
