from __future__ import annotations

import pytest

from rewards import FinalState
from rewards.final_state import check_state

PRODUCTS = "database.products"
SMS = "assistant.sms"


def check(goal: FinalState, state: dict, digest: str = ""):
    return check_state(goal, state, digest)


def test_a_row_matches_when_every_named_field_is_equal():
    goal = FinalState({PRODUCTS: {"P27": {"stock": 5}}})
    assert check(goal, {PRODUCTS: {"P27": {"stock": 5, "price": 9}}}).holds
    finding = check(goal, {PRODUCTS: {"P27": {"stock": 6, "price": 9}}})
    assert not finding.holds
    assert finding.why == "database.products P27: stock is 6, the goal wants 5"


@pytest.mark.parametrize("wrong", ["5", True, None, [5], 5.1])
def test_values_are_equal_as_json_values(wrong):
    goal = FinalState({PRODUCTS: {"P27": {"stock": 5}}})
    assert check(goal, {PRODUCTS: {"P27": {"stock": 5.0}}}).holds
    assert not check(goal, {PRODUCTS: {"P27": {"stock": wrong}}}).holds


def test_true_is_not_one():
    goal = FinalState({PRODUCTS: {"P27": {"stock": 1}}})
    assert not check(goal, {PRODUCTS: {"P27": {"stock": True}}}).holds


def test_a_row_that_did_not_change_fails():
    finding = check(FinalState({PRODUCTS: {"P27": {"stock": 5}}}), {})
    assert finding.why == "database.products P27 did not change"
    assert not finding.holds


def test_a_missing_field_fails():
    goal = FinalState({PRODUCTS: {"P27": {"stok": 5}}})
    assert check(goal, {PRODUCTS: {"P27": {"stock": 5}}}).why.endswith("the row has no field stok")


def test_a_removed_row_is_expected_as_none():
    goal = FinalState({PRODUCTS: {"P27": None}})
    assert check(goal, {PRODUCTS: {"P27": None}}).holds
    assert check(goal, {PRODUCTS: {"P27": {"stock": 1}}}).why.endswith("the row is still there")
    changed = FinalState({PRODUCTS: {"P27": {"stock": 1}}})
    assert check(changed, {PRODUCTS: {"P27": None}}).why.endswith("the row was removed")


@pytest.mark.parametrize(
    "extra",
    [
        {PRODUCTS: {"P27": {"stock": 5}, "P28": {"stock": 1}}},
        {PRODUCTS: {"P27": {"stock": 5}, "P28": None}},
        {PRODUCTS: {"P27": {"stock": 5}}, SMS: {"M1": {"message": "hi"}}},
    ],
)
def test_only_means_that_nothing_else_changed(extra):
    changes = {PRODUCTS: {"P27": {"stock": 5}}}
    assert not check(FinalState(changes), extra).holds
    assert check(FinalState(changes, only=False), extra).holds


def test_the_row_that_changed_elsewhere_is_named():
    finding = check(FinalState({}), {SMS: {"M1": {"message": "hi"}}})
    assert finding.why == "assistant.sms changed elsewhere as well: M1"


def test_no_changes_expected_means_that_nothing_changed():
    assert check(FinalState({}), {}).holds


def test_a_plus_id_stands_for_any_new_row():
    goal = FinalState({SMS: {"+": {"phone": "1", "message": "hi"}}})
    assert check(goal, {SMS: {"M77": {"phone": "1", "message": "hi", "at": "now"}}}).holds
    wrong = check(goal, {SMS: {"M77": {"phone": "1", "message": "ho"}}})
    assert wrong.why == 'assistant.sms M77: message is "ho", the goal wants "hi"'
    assert not check(goal, {}).holds
    assert not check(goal, {SMS: {"M77": None}}).holds


def test_a_message_sent_twice_is_one_change_too_many():
    row = {"phone": "1", "message": "hi"}
    state = {SMS: {"M1": row, "M2": row}}
    assert not check(FinalState({SMS: {"+": row}}), state).holds
    assert check(FinalState({SMS: {"+a": row, "+b": row}}), state).holds
    assert check(FinalState({SMS: {"+": row}}, only=False), state).holds


def test_new_rows_are_matched_one_to_one_even_where_a_greedy_choice_fails():
    goal = FinalState({SMS: {"+any": {"phone": "1"}, "+this": {"phone": "1", "message": "a"}}})
    state = {SMS: {"M1": {"phone": "1", "message": "a"}, "M2": {"phone": "1", "message": "b"}}}
    assert check(goal, state).holds
    assert not check(goal, {SMS: {"M1": {"phone": "1", "message": "a"}}}).holds


def test_a_named_row_is_not_also_a_new_row():
    goal = FinalState({SMS: {"M1": {"phone": "1"}, "+": {"phone": "1"}}})
    assert not check(goal, {SMS: {"M1": {"phone": "1"}}}).holds
    assert check(goal, {SMS: {"M1": {"phone": "1"}, "M2": {"phone": "1"}}}).holds


def test_a_row_removed_beside_a_new_one_is_a_change_elsewhere():
    goal = FinalState({SMS: {"+": {"phone": "1"}}})
    assert not check(goal, {SMS: {"M2": {"phone": "1"}, "M1": None}}).holds


def test_a_digest_decides_where_no_changes_are_named():
    goal = FinalState({}, digest="abc")
    assert check(goal, {SMS: {"M1": {}}}, "abc").holds
    assert not check(goal, {}, "abd").holds
    assert not check(goal, {}, "").holds


def test_a_digest_and_changes_must_both_hold():
    goal = FinalState({PRODUCTS: {"P27": {"stock": 5}}}, digest="abc")
    assert not check(goal, {}, "abc").holds
    assert check(goal, {PRODUCTS: {"P27": {"stock": 5}}}, "abc").holds
