from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from watched_trainer import TASKS

from agents.rollout import Trajectory
from rewards.episode import Episode, Outcome, Status, Turn
from rewards.goals import AnyOf, Custom, FinalAnswer, NoCall, NoCallNaming
from rewards.trl_rewards import scaled_return
from rl.rollouts import calls_first, trl_rows
from rl.step_log import StepLog, groups_without_signal, mean_figures, rollout_metrics

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


def test_a_step_of_several_generations_is_logged_as_their_mean(tmp_path: Path) -> None:
    log = StepLog(tmp_path, rollouts=1, writes=True)
    log.note(0, [episode(-1.0)], {"success": 0.0, "kinds": {"a": 0.0}})
    log.note(0, [episode(10.0)], {"success": 1.0, "kinds": {"a": 0.5, "b": 1.0}})
    log.end_step(1, {"loss": 0.25, "epoch": 3})
    log.end_step(1, {"loss": 0.5})  # what is logged where nothing was played
    log.note(1, [episode(-1.0)], {"success": 0.0})
    log.end_step(2, {})
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "success": 0.5, "kinds": {"a": 0.25, "b": 1.0}, "loss": 0.25},
        {"step": 2, "success": 0.0},
    ]
    kept = (tmp_path / "rollouts.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in kept] == [0, 0, 1]


def test_a_process_that_does_not_write_leaves_no_files(tmp_path: Path) -> None:
    log = StepLog(tmp_path, rollouts=1, writes=False)
    log.note(0, [episode(-1.0)], {"success": 0.25})
    assert log.figures() == {"success": 0.25}
    log.end_step(1, {})
    assert log.figures() == mean_figures([]) == {}
    assert list(tmp_path.iterdir()) == []
