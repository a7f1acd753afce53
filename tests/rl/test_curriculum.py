from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_tasks import sum_task

from rewards.episode import Task
from rl.curriculum import MEMORY, Curriculum

KINDS = ("sum", "total", "addition")
TASKS = [sum_task(number, kind=kind) for kind in KINDS for number in range(5)]


def curriculum(
    tasks: Sequence[Task] = TASKS, learnability: float = 0.0, seed: int = 0
) -> Curriculum:
    return Curriculum(tasks, seed, learnability)


def kinds(tasks: Sequence[Task]) -> Counter[str]:
    return Counter(task.kind for task in tasks)


# --- even parts ---------------------------------------------------------------------------------


def test_without_learnability_every_generation_holds_every_kind_in_equal_parts() -> None:
    dealer = curriculum()
    dealer.note([("sum", True)] * 8)
    for _ in range(4):
        assert kinds(dealer.deal(6)) == dict.fromkeys(KINDS, 2)


def test_a_rare_kind_is_played_as_often_as_a_common_one() -> None:
    dealer = curriculum([*TASKS[:5], TASKS[5]])
    dealt = [task for _ in range(6) for task in dealer.deal(2)]
    assert kinds(dealt) == {"sum": 6, "total": 6}


def test_no_task_is_played_again_before_every_task_of_its_kind_was() -> None:
    dealer = curriculum()
    dealt = [task for _ in range(10) for task in dealer.deal(3)]
    for kind in KINDS:
        mine = [task.id for task in dealt if task.kind == kind]
        assert len(set(mine[:5])) == len(set(mine[5:])) == 5


@given(
    groups=st.integers(1, 40),
    learnability=st.floats(0, 1),
    outcomes=st.lists(st.tuples(st.sampled_from(KINDS), st.booleans()), max_size=50),
)
def test_every_group_gets_a_task_and_a_kind_gets_its_share_rounded(
    groups: int, learnability: float, outcomes: list[tuple[str, bool]]
) -> None:
    dealer = curriculum(learnability=learnability)
    dealer.note(outcomes)
    shares = dealer.shares()
    assert sum(shares.values()) == pytest.approx(1)
    dealt = kinds(dealer.deal(groups))
    assert dealt.total() == groups
    for kind in KINDS:
        assert abs(dealt[kind] - shares[kind] * groups) < 1 + 1e-6


# --- what can still be learned ------------------------------------------------------------------


def test_a_kind_with_mixed_results_gets_more_than_one_that_always_or_never_succeeds() -> None:
    dealer = curriculum(learnability=0.5)
    dealer.note([("sum", True)] * 8 + [("total", False)] * 8)
    dealer.note([("addition", True)] * 4 + [("addition", False)] * 4)
    shares = dealer.shares()
    assert shares["addition"] > 1.5 * shares["sum"]
    assert shares["sum"] == pytest.approx(shares["total"])
    assert shares["sum"] > 0.5 / 3


def test_shares_are_those_of_the_variance_of_success() -> None:
    dealer = curriculum(learnability=0.8)
    dealer.note([("sum", True)] * 3 + [("sum", False)])
    weights = {"sum": 4 / 6 * 2 / 6, "total": 0.25, "addition": 0.25}
    expected = {kind: 0.2 / 3 + 0.8 * weights[kind] / sum(weights.values()) for kind in KINDS}
    assert dealer.shares() == pytest.approx(expected)


def test_old_results_are_forgotten() -> None:
    dealer = curriculum(learnability=1.0)
    dealer.note([("sum", True)] * 8)
    dealer.note([("sum", False)] * 8)
    rate = (8 * MEMORY + 1) / (8 * MEMORY + 8 + 2)
    weights = {"sum": rate * (1 - rate), "total": 0.25, "addition": 0.25}
    assert dealer.shares()["sum"] == pytest.approx(weights["sum"] / sum(weights.values()))


@pytest.mark.parametrize("learnability", [-0.1, 1.1])
def test_a_learnability_that_is_no_share_is_refused(learnability: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        curriculum(learnability=learnability)


# --- the same again -----------------------------------------------------------------------------


def test_the_seed_decides_what_is_dealt() -> None:
    one, same, other = (
        [task.id for _ in range(5) for task in curriculum(seed=seed).deal(3)] for seed in (0, 0, 1)
    )
    assert one == same != other


def test_a_restored_curriculum_deals_on_where_the_saved_one_was() -> None:
    whole = curriculum(learnability=0.7)
    whole.deal(7)
    whole.note([("sum", True)] * 8 + [("total", False)] * 8)
    saved = json.loads(json.dumps(whole.state()))
    resumed = curriculum(learnability=0.7)
    state = SimpleNamespace(stateful_callbacks={"Curriculum": saved})
    resumed.on_train_begin(None, state, None)
    assert resumed.shares() == whole.shares()
    assert [task.id for task in resumed.deal(9)] == [task.id for task in whole.deal(9)]


def test_a_checkpoint_without_a_curriculum_leaves_it_as_it_is() -> None:
    dealer, untouched = curriculum(learnability=0.7), curriculum(learnability=0.7)
    dealer.deal(4)
    untouched.deal(4)
    dealer.on_train_begin(None, SimpleNamespace(stateful_callbacks={}), None)
    assert dealer.state() == untouched.state()
