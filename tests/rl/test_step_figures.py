from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from watched_trainer import TASKS

from agents.rollout import Trajectory
from rewards.episode import Episode, Outcome, Status, Turn
from rewards.goals import AnyOf, Custom, FinalAnswer, NoCall, NoCallNaming
from rewards.trl_rewards import scaled_return
from rl.trainer import (
    calls_first,
    groups_with_success,
    groups_without_signal,
    rollout_metrics,
    trl_rows,
)

OK, CRASHED = Status.OK, Status.SERVER_CRASHED


def episode(
    reward: float, status: Status = OK, kind: str = "sum", success: bool = False
) -> Episode:
    outcome = Outcome.SUCCESS if success else Outcome.STRUCTURAL_FAIL
    task = replace(TASKS[0], kind=kind)
    return Episode(task, (Turn(raw="x", reward=reward, outcome=outcome),), status=status)


def test_rows_for_trl_keep_every_episode_and_train_no_lost_one() -> None:
    sound = Trajectory(episode(-1.0), (1, 2), (3, 4), (1, 0), (-0.5, 0.0), (0,))
    lost = replace(sound, episode=episode(-1.0, CRASHED))
    empty = Trajectory(episode(-1.0), (1, 2))
    rows = trl_rows([sound, lost, empty], filler=9)
    assert rows["prompt_ids"] == [[1, 2]] * 3
    assert rows["completion_ids"] == [[3, 4], [3, 4], [9]]
    assert rows["env_mask"] == [[1, 0], [0, 0], [0]]
    assert rows["turn_ends"] == [(0,), (0,), ()]
    assert rows["logprobs"] == [[-0.5, 0.0], [-0.5, 0.0], [0.0]]
    assert [len(column) for column in rows.values()] == [3] * 6
    rewards = scaled_return(0.1)(prompts=[], completions=[0] * 3, episodes=rows["episodes"])
    assert rewards == [pytest.approx(-0.1), None, pytest.approx(-0.1)]


def test_a_group_passes_the_gate_if_one_of_it_succeeded() -> None:
    group = [episode(10.0, success=True), episode(-1.0), episode(-1.0), episode(-1.8)]
    assert groups_with_success(group, 2).tolist() == [1.0, 1.0, 0.0, 0.0]


def test_groups_are_without_signal_if_their_sound_episodes_returned_the_same() -> None:
    groups = [
        (episode(-1.0), episode(-1.0)),
        (episode(-1.0), episode(-1.8)),
        (episode(-1.0), episode(-2.0, CRASHED)),
        (episode(-0.1 - 0.2), episode(-0.3)),
    ]
    assert groups_without_signal([one for group in groups for one in group], 2) == 0.75


def test_figures_of_a_step_leave_lost_episodes_out() -> None:
    figures = rollout_metrics(
        [
            episode(10.0, success=True, kind="a"),
            episode(-1.0, kind="a"),
            episode(-1.0, kind="b"),
            episode(-1.0, CRASHED, kind="c"),
        ]
    )
    assert figures["kinds"] == {"a": 0.5, "b": 0.0}
    assert figures["mean_return"] == pytest.approx(8 / 3)
    assert figures["outcomes"]["success"] == pytest.approx(1 / 3)
    assert sum(figures["outcomes"].values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("goal", "held"),
    [
        (FinalAnswer("a"), True),
        (NoCall(), False),
        (NoCallNaming(("date",)), False),
        (AnyOf((NoCall(), FinalAnswer("a"))), None),
        (Custom("module:function", needs_call=False), None),
    ],
)
def test_what_a_first_turn_is_held_to_follows_from_the_goal(goal: Any, held: bool | None) -> None:
    assert calls_first(goal) is held
