from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_tasks import sum_task

from rewards.episode import Episode, Outcome, Status, Turn
from rl.ppo_objective import (
    Clipping,
    KLController,
    action_gae,
    policy_losses,
    token_weights,
    turn_rewards,
    value_losses,
    without_group,
)

CLIP = Clipping(low=0.2, high=0.3, value=0.5)
NUMBERS = st.floats(-3, 3)
TOKENS = st.lists(st.tuples(st.booleans(), NUMBERS, NUMBERS), min_size=1, max_size=12)


# --- advantages -----------------------------------------------------------------------------------


@given(TOKENS, st.floats(0, 1), st.floats(0, 1))
def test_advantages_are_sums_of_discounted_surprises_over_the_policys_tokens(
    tokens: list[tuple[bool, float, float]], discount: float, gae_lambda: float
) -> None:
    said, rewards, values = zip(*tokens, strict=True)
    acts = [(rewards[t], values[t]) for t in range(len(tokens)) if said[t]]
    surprise = [
        reward + discount * (acts[i + 1][1] if i + 1 < len(acts) else 0.0) - value
        for i, (reward, value) in enumerate(acts)
    ]
    wanted = [
        sum((discount * gae_lambda) ** (j - i) * surprise[j] for j in range(i, len(acts)))
        for i in range(len(acts))
    ]
    advantages, returns = action_gae(
        torch.tensor([rewards], dtype=torch.float64),
        torch.tensor([values], dtype=torch.float64),
        torch.tensor([said]),
        discount,
        gae_lambda,
    )
    mask = torch.tensor(said)
    assert advantages[0][mask].tolist() == pytest.approx(wanted)
    assert returns[0][mask].tolist() == pytest.approx(
        [advantage + value for advantage, (_, value) in zip(wanted, acts, strict=True)]
    )
    assert not advantages[0][~mask].any()
    assert not returns[0][~mask].any()


def test_with_lambda_one_the_critic_only_shifts_the_return() -> None:
    said = torch.tensor([[True, True, False, False, True]])
    rewards = torch.tensor([[0.0, -0.5, 0.0, 0.0, 10.0]])
    values = torch.tensor([[1.0, 2.0, 77.0, 88.0, 3.0]])
    advantages, returns = action_gae(rewards, values, said, 1.0, 1.0)
    assert returns.tolist() == [[9.5, 9.5, 0.0, 0.0, 10.0]]
    assert advantages.tolist() == [[8.5, 7.5, 0.0, 0.0, 7.0]]


def test_a_group_takes_from_each_episode_what_its_others_have() -> None:
    said = torch.tensor([[1, 1], [0, 1], [1, 0], [1, 1]]).bool()
    advantages = torch.tensor([[3.0, 1.0], [0.0, 2.0], [5.0, 0.0], [-1.0, 4.0]])
    found = without_group(advantages, said, size=2)
    assert found.tolist() == [[1.0, -1.0], [0.0, -1.0], [6.0, 0.0], [-6.0, -1.0]]


def test_an_episode_without_tokens_is_no_yardstick_for_its_group() -> None:
    said = torch.tensor([[1, 1], [0, 0], [1, 0]]).bool()
    advantages = torch.tensor([[3.0, 1.0], [0.0, 0.0], [5.0, 0.0]])
    assert without_group(advantages, said, size=3).tolist() == [[-2, -4], [0, 0], [2, 0]]
    alone = torch.tensor([[1, 0], [0, 0], [0, 0]]).bool()
    assert without_group(advantages, alone, size=3).tolist() == [[3, 0], [0, 0], [0, 0]]


def test_tokens_count_the_same_or_episodes_do() -> None:
    said = torch.tensor([[1, 0, 1, 1, 1], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]]).bool()
    assert token_weights(said, per_episode=False).tolist() == said.float().tolist()
    weights = token_weights(said, per_episode=True)
    assert weights.tolist() == [[0.25, 0, 0.25, 0.25, 0.25], [0, 1, 0, 0, 0], [0] * 5]


# --- rewards of turns -----------------------------------------------------------------------------


def episode(*rewards: float, status: Status = Status.OK) -> Episode:
    turns = tuple(Turn("raw", outcome=Outcome.TOOL_EXECUTION, reward=one) for one in rewards)
    return Episode(sum_task(0), max_turns=9, turns=turns, status=status)


def test_the_reward_of_a_turn_stands_at_its_last_token() -> None:
    said = torch.tensor([[1, 1, 0, 0, 1, 1, 0], [1, 0, 0, 0, 0, 0, 0]]).bool()
    found = turn_rewards([episode(-0.5, 10.0), episode(-1.0)], [(1, 5), (0,)], said)
    assert found.tolist() == [[0, -0.5, 0, 0, 0, 10, 0], [-1, 0, 0, 0, 0, 0, 0]]


def test_the_reward_of_a_turn_without_tokens_goes_to_the_turn_before() -> None:
    said = torch.tensor([[1, 1, 0, 0]]).bool()
    assert turn_rewards([episode(-0.5, -1.0)], [(1, 3)], said).tolist() == [[0, -1.5, 0, 0]]


def test_an_episode_that_a_fault_ended_has_no_reward() -> None:
    lost = episode(-0.5, status=Status.SERVER_CRASHED)
    assert not turn_rewards([lost], [(0,)], torch.tensor([[True]])).any()


# --- losses ---------------------------------------------------------------------------------------


@given(NUMBERS, NUMBERS, NUMBERS)
def test_the_policy_loss_is_the_worse_of_the_plain_and_the_clipped_one(
    now: float, old: float, advantage: float
) -> None:
    ratio = math.exp(now - old)
    clipped = min(max(ratio, 0.8), 1.3)
    tensors = (torch.tensor([one], dtype=torch.float64) for one in (now, old, advantage))
    loss = policy_losses(*tensors, CLIP)
    assert loss.item() == pytest.approx(max(-ratio * advantage, -clipped * advantage))


@pytest.mark.parametrize(
    ("log_ratio", "advantage", "moves"),
    [
        (0.5, 1.0, False),
        (-0.5, -1.0, False),
        (0.5, -1.0, True),
        (-0.5, 1.0, True),
        (0.0, 1.0, True),
    ],
)
def test_only_a_step_that_went_far_enough_already_has_no_gradient(
    log_ratio: float, advantage: float, moves: bool
) -> None:
    log_probs = torch.tensor([log_ratio], requires_grad=True)
    policy_losses(log_probs, torch.zeros(1), torch.tensor([advantage]), CLIP).sum().backward()
    assert log_probs.grad is not None
    assert bool(log_probs.grad.any()) is moves


@given(NUMBERS, NUMBERS, NUMBERS)
def test_the_value_loss_is_the_worse_of_the_plain_and_the_clipped_square(
    now: float, old: float, wanted: float
) -> None:
    near = old + min(max(now - old, -0.5), 0.5)
    tensors = (torch.tensor([one], dtype=torch.float64) for one in (now, old, wanted))
    loss = value_losses(*tensors, CLIP)
    assert loss.item() == pytest.approx(max((now - wanted) ** 2, (near - wanted) ** 2) / 2)


# --- the KL penalty -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kl", "factor"), [(0.05, 1.0), (0.055, 1.01), (0.045, 0.99), (9.0, 1.02), (0.0, 0.98)]
)
def test_the_coefficient_follows_the_distance_to_its_target(kl: float, factor: float) -> None:
    controller = KLController(0.2, target=0.05, horizon=10)
    controller.note(kl)
    assert controller.coefficient == pytest.approx(0.2 * factor)


def test_without_a_target_the_coefficient_stays() -> None:
    controller = KLController(0.2)
    controller.note(9.0)
    assert controller.coefficient == 0.2


def test_the_coefficient_goes_on_from_a_checkpoint() -> None:
    kept = KLController(0.7).state()
    controller = KLController(0.2)
    saved: Any = SimpleNamespace(stateful_callbacks={"KLController": kept})
    controller.on_train_begin(None, saved, None)
    assert controller.coefficient == 0.7


def test_clipping_is_said_for_each_side() -> None:
    log_probs = torch.tensor([math.log(1.25), math.log(1.25)])
    wide, narrow = CLIP, replace(CLIP, high=0.1)
    ones, zeros = torch.ones(2), torch.zeros(2)
    assert policy_losses(log_probs, zeros, ones, wide).tolist() == pytest.approx([-1.25] * 2)
    assert policy_losses(log_probs, zeros, ones, narrow).tolist() == pytest.approx([-1.1] * 2)
