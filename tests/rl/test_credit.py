from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trl import GRPOConfig
from watched_trainer import TASKS, Build

from rewards.episode import Episode, Outcome, Status, Turn
from rewards.trl_rewards import scaled_return, scaled_success
from rl.credit import groups_with_success, rewards_to_go, turn_advantages
from rl.flags import RolloutArguments
from rl.grpo import GroupArguments, main
from sft.flags import PolicyArguments, TaskArguments

pytestmark = pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")

SUCCESS, FAIL = Outcome.SUCCESS, Outcome.STRUCTURAL_FAIL


def episode(*rewards: float, status: Status = Status.OK) -> Episode:
    turns = (Turn(raw="x", reward=r, outcome=SUCCESS if r > 0 else FAIL) for r in rewards)
    return Episode(TASKS[0], tuple(turns), status=status)


def test_a_group_passes_the_gate_if_one_of_it_succeeded() -> None:
    group = [episode(10.0), episode(-1.0), episode(-1.0), episode(-1.8)]
    assert groups_with_success(group, 2).tolist() == [1.0, 1.0, 0.0, 0.0]


def test_a_turn_is_credited_with_what_came_from_it_on_against_the_same_turn_of_its_group() -> None:
    played = [episode(-0.5, 10.0), episode(-1.0), episode(0.0, -0.5, -1.0)]
    # Turns of two tokens with one heard token between them.
    ends = [(1, 4), (1,), (1, 4, 7)]
    said = torch.zeros(3, 8, dtype=torch.bool)
    for row, last in enumerate(ends):
        for end in last:
            said[row, end - 1 : end + 1] = True
    first, second = (0.95 - 0.1 - 0.15) / 3, (1.0 - 0.15) / 2
    expected = torch.zeros(3, 8)
    expected[0, :2], expected[1, :2], expected[2, :2] = 0.95 - first, -0.1 - first, -0.15 - first
    expected[0, 3:5], expected[2, 3:5] = 1.0 - second, -0.15 - second
    # The third episode is alone with its third turn.
    found = turn_advantages(played, ends, said, 3, 0.1)
    torch.testing.assert_close(found, expected)


def test_lost_episodes_get_no_credit_and_are_no_measure_for_others() -> None:
    played = [episode(1.0), episode(3.0), episode(50.0, status=Status.SERVER_CRASHED)]
    said = torch.ones(3, 1, dtype=torch.bool)
    assert turn_advantages(played, [(0,)] * 3, said, 3, 1.0)[:, 0].tolist() == [-1.0, 1.0, 0.0]


@given(
    st.lists(
        st.lists(st.sampled_from([-1.0, -0.8, -0.5, 0.0]), min_size=1, max_size=4),
        min_size=2,
        max_size=5,
    )
)
def test_the_advantages_of_each_turn_of_a_group_add_up_to_nothing(
    rewards: list[list[float]],
) -> None:
    played = [episode(*one) for one in rewards]
    said = torch.ones(len(played), 4, dtype=torch.bool)
    ends = [tuple(range(len(one))) for one in rewards]
    found = turn_advantages(played, ends, said, len(played), 1.0)
    torch.testing.assert_close(found.sum(0), torch.zeros(4), atol=1e-5, rtol=0)
    for row, one in enumerate(rewards):
        assert rewards_to_go(played[row], 1.0) == pytest.approx(
            [sum(one[turn:]) for turn in range(len(one))]
        )


def test_the_trainer_credits_turns_and_gates_groups_as_it_is_told(
    build: Build, judged: Callable[..., None]
) -> None:
    judged((10.0, Status.OK), (-1.0, Status.OK), (-1.0, Status.OK), (-1.8, Status.OK))
    reward = scaled_return(0.1)
    batch = build(reward=reward, gate_groups=True, turn_credit=0.1, max_turns=1).scored()
    said = (batch["completion_mask"] * batch["tool_mask"]).bool()
    assert batch["advantages"].shape == said.shape
    for row, advantage in enumerate([0.55, -0.55, 0.0, 0.0]):
        assert (batch["advantages"][row][~said[row]] == 0).all()
        assert batch["advantages"][row][said[row]].tolist() == pytest.approx(
            [advantage] * int(said[row].sum()), abs=1e-6
        )


def test_one_turn_learns_the_same_whether_it_or_its_episode_is_credited(
    build: Build, judged: Callable[..., None]
) -> None:
    judged((10.0, Status.OK), (-1.0, Status.OK), (-1.0, Status.OK), (-1.8, Status.OK))
    ended = []
    for folder, credit in (("episode", None), ("turn", 0.1)):
        trainer = build(
            folder,
            reward=scaled_return(0.1),
            turn_credit=credit,
            max_turns=1,
            steps=1,
            beta=0.0,
            learning_rate=0.01,
        )
        trainer.train()
        trainer.close()
        ended.append(torch.cat([p.flatten() for p in trainer.model.parameters()]))
    torch.testing.assert_close(*ended)


# --- flags --------------------------------------------------------------------------------------


def test_a_turn_is_not_credited_with_an_outcome_that_is_the_episodes() -> None:
    with pytest.raises(ValueError, match="--credit turn gives every turn its own reward"):
        GroupArguments(credit="turn", reward="outcome")


def test_credit_of_turns_is_not_scaled_by_groups(tmp_path: Path) -> None:
    config = GRPOConfig(
        output_dir=str(tmp_path),
        scale_rewards="group",
        use_cpu=True,
        bf16=False,
        activation_checkpointing=False,
        report_to="none",
    )
    flags = (PolicyArguments(), TaskArguments(), RolloutArguments(), GroupArguments(credit="turn"))
    with pytest.raises(SystemExit, match="use --scale_rewards none"):
        main(*flags, config)


def test_an_episode_is_worth_its_ending_alone_if_that_is_what_is_asked_for() -> None:
    played = [episode(-0.5, 10.0), episode(-0.5, -1.0), episode(1.0, status=Status.SERVER_CRASHED)]
    assert scaled_success(0.1)([], [0] * 3, played) == [1.0, 0.0, None]
    assert scaled_return(0.1)([], [0] * 3, played) == pytest.approx([0.95, -0.15, None])
