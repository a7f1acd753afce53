from __future__ import annotations

import json

import pytest
from made_episodes import CALL, RAN, RIGHT, WRONG, batch, played, task

from agents.figures import attempted_calls, compare, figures, invalid_calls, part
from agents.stats import wilson
from agents.summary import (
    summarise,
)
from agents.tables import (
    bad_turn_share,
    policy_table,
    stage_table,
)
from rewards.episode import (
    Episode,
    Fault,
    Outcome,
    Status,
    Task,
    ToolResult,
    Turn,
)
from rewards.goals import AllOf, AnyOf, FinalAnswer, NoCall, NoCallNaming

# --- parts of the tasks -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a_task", "expected"),
    [
        (task("a"), "success"),
        (task("a", heldout="phrasing"), "heldout"),
        (task("a", NoCall()), "abstention"),
        (task("a", NoCallNaming(("customer",)), heldout="phrasing"), "abstention"),
        (task("a", AllOf((NoCall(), FinalAnswer("no")))), "abstention"),
        (task("a", AnyOf((NoCall(), FinalAnswer("Rome")))), "success"),
    ],
)
def test_a_task_belongs_to_exactly_one_part(a_task: Task, expected: str) -> None:
    assert part(a_task) == expected


def test_success_abstention_and_heldout_never_mix() -> None:
    episodes = [
        *batch(3, 4),
        *batch(1, 5, "n", goal=NoCall(), kind="no_tool"),
        *batch(2, 3, "p", heldout="phrasing"),
        *batch(0, 2, "d", heldout="depth", kind="deep"),
    ]
    one = figures(episodes)
    assert one["success"] == {
        "successes": 3,
        "n": 4,
        "rate": 0.75,
        "interval": list(wilson(3, 4)),
    }
    assert (one["abstention"]["successes"], one["abstention"]["n"]) == (1, 5)
    assert (one["heldout"]["successes"], one["heldout"]["n"]) == (2, 5)
    assert {name: (v["successes"], v["n"]) for name, v in one["heldout_by"].items()} == {
        "depth": (0, 2),
        "phrasing": (2, 3),
    }
    assert one["kinds"] == {"customer_field": {"successes": 3, "n": 4, "rate": 0.75}}
    assert one["abstention_kinds"] == {"no_tool": {"successes": 1, "n": 5, "rate": 0.2}}


def test_kinds_add_up_to_success() -> None:
    episodes = [*batch(3, 4), *batch(2, 7, "o", kind="order_field")]
    one = figures(episodes)
    assert sum(kind["n"] for kind in one["kinds"].values()) == one["success"]["n"] == 11
    assert sum(kind["successes"] for kind in one["kinds"].values()) == 5


# --- figures of turns and calls ---------------------------------------------------------------


def test_outcome_shares_are_over_turns_and_name_every_row_of_the_matrix() -> None:
    one = figures([played(task("a"), True), played(task("b"), False)])
    assert one["outcomes"] == {
        "success": 0.25,
        "tool_execution": 0.5,
        "tool_error": 0.0,
        "invalid_json": 0.0,
        "structural_fail": 0.25,
    }
    assert one["outcomes_by"]["success"] == one["outcomes"]
    assert set(one["outcomes_by"]["heldout"].values()) == {0.0}
    assert bad_turn_share(one["outcomes"]) == 0.25
    assert one["turns_per_episode"] == 2.0
    assert one["mean_return"] == pytest.approx((10 - 1) / 2)


@pytest.mark.parametrize(
    ("turn", "attempted", "invalid"),
    [
        (RAN, 1, 0),
        (RIGHT, 0, 0),
        (Turn(raw="", fault=Fault.EMPTY), 0, 0),
        (Turn(raw="<tool_call>{", fault=Fault.INVALID_JSON), 1, 1),
        (Turn(raw="{}", fault=Fault.WRONG_FORMAT), 1, 1),
        (Turn(raw="", calls=(CALL, CALL), fault=Fault.UNOFFERED_TOOL), 1, 1),
        (
            Turn(
                raw="",
                calls=(CALL, CALL, CALL),
                results=(
                    ToolResult("{}"),
                    ToolResult("no", is_error=True, status=Status.BAD_ARGUMENTS),
                    ToolResult("gone", is_error=True, status=Status.TOOL_ERROR),
                ),
            ),
            3,
            1,
        ),
    ],
)
def test_calls_that_were_wrong_before_they_ran_are_invalid(
    turn: Turn, attempted: int, invalid: int
) -> None:
    assert (attempted_calls(turn), invalid_calls(turn)) == (attempted, invalid)


def test_invalid_call_rate_is_per_attempted_call_and_calls_are_per_episode() -> None:
    broken = Turn(raw="<tool_call>{", fault=Fault.INVALID_JSON, outcome=Outcome.INVALID_JSON)
    one = figures([Episode(task("a"), (broken, RAN, RAN, RIGHT)), Episode(task("b"), (RAN, WRONG))])
    assert one["calls_per_episode"] == 2.0
    assert one["invalid_call_rate"] == 0.25


def test_a_thought_that_was_cut_off_is_counted() -> None:
    cut = Turn(raw="<think>so the", fault=Fault.EMPTY, outcome=Outcome.STRUCTURAL_FAIL)
    closed = Turn(raw="<think>so</think>Rome", outcome=Outcome.SUCCESS)
    assert figures([Episode(task("a"), (cut, closed))])["cut_thoughts"] == 1


def test_infrastructure_faults_are_counted_and_enter_no_figure() -> None:
    lost = [
        played(task("x"), False, status=Status.SERVER_CRASHED),
        played(task("y"), True, status=Status.TIMEOUT),
        played(task("z"), False, status=Status.TIMEOUT),
    ]
    with_faults, without = figures([*batch(1, 2), *lost]), figures(batch(1, 2))
    assert with_faults["infrastructure_faults"] == {"server_crashed": 1, "timeout": 2}
    assert {**with_faults, "infrastructure_faults": {}} == without


def test_a_mistake_of_the_model_is_not_an_infrastructure_fault() -> None:
    one = figures([played(task("a"), False, status=Status.TOOL_ERROR)])
    assert one["success"]["n"] == 1
    assert one["infrastructure_faults"] == {}


def test_no_episodes_give_no_rate_but_valid_json() -> None:
    one = figures([])
    assert one["success"] == {"successes": 0, "n": 0, "rate": None, "interval": [0.0, 1.0]}
    assert "NaN" not in json.dumps(one)
    assert "-" in policy_table(summarise({"nobody": []}))
    assert stage_table(summarise({"base": []}))


# --- several attempts -------------------------------------------------------------------------


def test_the_first_attempt_counts_and_all_attempts_enter_pass_at_k() -> None:
    a, b = task("a"), task("b")
    episodes = [played(a, False), played(a, True), played(b, True), played(b, True)]
    one = figures(episodes)
    assert (one["success"]["successes"], one["success"]["n"]) == (1, 2)
    assert one["attempts"] == {
        "k": 2,
        "tasks": 2,
        "pass_at_1": 0.75,
        "pass_at_k": 1.0,
        "pass_hat_k": 0.5,
    }
    assert "pass^k" in policy_table(summarise({"a": episodes, "b": batch(1, 2)}))


def test_a_task_that_lost_an_attempt_to_a_fault_leaves_pass_at_k() -> None:
    a, b = task("a"), task("b")
    lost = played(b, False, status=Status.TIMEOUT)
    one = figures([played(a, True), played(a, True), lost, played(b, False)])
    assert one["attempts"]["tasks"] == 1
    assert one["success"]["n"] == 2


# --- paired tests -----------------------------------------------------------------------------


def test_mcnemar_pairs_the_same_tasks_whatever_their_order() -> None:
    before = batch(2, 10)
    after = list(reversed(batch(10, 10)))
    test = compare(before, after)["success"]
    assert (test["n"], test["only_first"], test["only_second"]) == (10, 0, 8)
    assert test["p"] == pytest.approx(2 * 0.5**8)


def test_tasks_that_only_one_policy_played_are_not_paired() -> None:
    faulty = played(task("t1"), False, status=Status.TIMEOUT)
    test = compare([*batch(1, 1), faulty, *batch(1, 1, "other")], batch(2, 2))["success"]
    assert (test["n"], test["either"]) == (1, 3)
    table = stage_table(summarise({"base": batch(0, 3), "sft": batch(1, 2)}))
    assert "base->sft: only 2 of 3 tasks were played by both" in table


def test_parts_are_tested_apart() -> None:
    before = [*batch(0, 4), *batch(4, 4, "n", goal=NoCall())]
    after = [*batch(4, 4), *batch(0, 4, "n", goal=NoCall())]
    tests = compare(before, after)
    assert (tests["success"]["only_first"], tests["success"]["only_second"]) == (0, 4)
    assert (tests["abstention"]["only_first"], tests["abstention"]["only_second"]) == (4, 0)
    assert tests["heldout"] == {"n": 0, "either": 0, "only_first": 0, "only_second": 0, "p": 1.0}


def test_consecutive_policies_are_compared() -> None:
    summary = summarise({"a": batch(0, 3), "b": batch(1, 3), "c": batch(3, 3)})
    assert list(summary["mcnemar"]) == ["a->b", "b->c"]
    assert list(summary["policies"]) == ["a", "b", "c"]
