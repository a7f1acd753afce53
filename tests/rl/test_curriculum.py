from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_tasks import sum_task

from rewards.episode import Task
from rewards.goals import NoCall
from rl.curriculum import MEMORY, Curriculum

KINDS = ("sum", "total", "addition")
TASKS = [sum_task(number, kind=kind) for kind in KINDS for number in range(5)]


def curriculum(
    tasks: Sequence[Task] = TASKS,
    learnability: float = 0.0,
    seed: int = 0,
    no_call_share: float | None = None,
) -> Curriculum:
    return Curriculum(tasks, seed, learnability, no_call_share)


def results(*counts: tuple[str, int, int]) -> list[tuple[str, bool]]:
    """Kind, successes and failures."""
    return [
        (kind, success) for kind, won, lost in counts for success in [True] * won + [False] * lost
    ]


def kinds(tasks: Sequence[Task]) -> Counter[str]:
    return Counter(task.kind for task in tasks)


# --- even parts ---------------------------------------------------------------------------------


def test_without_learnability_every_generation_holds_every_kind_in_equal_parts() -> None:
    dealer = curriculum()
    dealer.note(results(("sum", 8, 0)))
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
    dealer.note(results(("sum", 8, 0), ("total", 0, 8)))
    dealer.note(results(("addition", 4, 4)))
    shares = dealer.shares()
    assert shares["addition"] > 1.2 * shares["sum"]
    assert shares["sum"] == pytest.approx(shares["total"])
    assert shares["sum"] > 0.5 / 3


def test_shares_are_those_of_the_standard_deviation_of_success() -> None:
    dealer = curriculum(learnability=0.8)
    dealer.note(results(("sum", 3, 1)))
    weights = {"sum": (4 / 6 * 2 / 6) ** 0.5, "total": 0.5, "addition": 0.5}
    expected = {kind: 0.2 / 3 + 0.8 * weights[kind] / sum(weights.values()) for kind in KINDS}
    assert dealer.shares() == pytest.approx(expected)


def test_old_results_are_forgotten() -> None:
    dealer = curriculum(learnability=1.0)
    dealer.note(results(("sum", 8, 0)))
    dealer.note(results(("sum", 0, 8)))
    rate = (8 * MEMORY + 1) / (8 * MEMORY + 8 + 2)
    weights = {"sum": (rate * (1 - rate)) ** 0.5, "total": 0.5, "addition": 0.5}
    assert dealer.shares()["sum"] == pytest.approx(weights["sum"] / sum(weights.values()))


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_what_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="learnability is a share from 0 to 1"):
        curriculum(learnability=share)
    with pytest.raises(ValueError, match="no_call_share is a share from 0 to 1"):
        curriculum(no_call_share=share)


# --- tasks that must not be answered by calling -------------------------------------------------

REFUSALS = [
    replace(sum_task(n, kind=kind), goal=NoCall()) for kind in ("no", "never") for n in (0, 1)
]


@pytest.mark.parametrize("learnability", [0.0, 0.6])
def test_kinds_that_must_not_call_get_their_share_together(learnability: float) -> None:
    dealer = curriculum([*TASKS, *REFUSALS], learnability, no_call_share=0.4)
    dealer.note(results(("no", 8, 0), ("never", 3, 3)))
    shares = dealer.shares()
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["no"] + shares["never"] == pytest.approx(0.4)
    assert (shares["never"] > shares["no"]) == (learnability > 0)
    dealt = kinds([task for _ in range(10) for task in dealer.deal(10)])
    assert dealt["no"] + dealt["never"] == pytest.approx(40, abs=10)


def test_without_a_share_of_their_own_they_are_kinds_like_others() -> None:
    shares = curriculum([*TASKS, *REFUSALS]).shares()
    assert list(shares.values()) == pytest.approx([1 / 5] * 5)


def test_their_share_is_nothing_where_there_are_none() -> None:
    assert curriculum(no_call_share=0.5).shares() == pytest.approx(dict.fromkeys(KINDS, 1 / 3))


# --- the same again -----------------------------------------------------------------------------


def test_the_seed_decides_what_is_dealt() -> None:
    one, same, other = (
        [task.id for _ in range(5) for task in curriculum(seed=seed).deal(3)] for seed in (0, 0, 1)
    )
    assert one == same != other


def test_a_restored_curriculum_deals_on_where_the_saved_one_was() -> None:
    whole = curriculum(learnability=0.7)
    whole.deal(7)
    whole.note(results(("sum", 8, 0), ("total", 0, 8)))
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
