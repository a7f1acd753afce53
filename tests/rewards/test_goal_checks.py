from __future__ import annotations

import pytest

from rewards import (
    AllOf,
    AnyOf,
    CheckError,
    Custom,
    Episode,
    FinalAnswer,
    FinalState,
    Goal,
    NoCall,
    NoCallNaming,
    ReturnedData,
    Status,
    Task,
    ToolCall,
    ToolResult,
    Turn,
)
from rewards.goal_checks import check_goal, forbids_calls, needs_call


def episode(goal: Goal, *turns: Turn, prompt: str = "Which city?") -> Episode:
    return Episode(Task("t", prompt, goal, ("get_customer", "list_customers"), "d", "k"), turns)


def returning(structured, text: str = "", tool: str = "get_customer", **fields) -> Turn:
    result = ToolResult(text, structured, **fields)
    return Turn("...", (ToolCall(tool, {}),), results=(result,))


def check(goal: Goal, *turns: Turn, prompt: str = "Which city?"):
    return check_goal(goal, episode(goal, *turns, prompt=prompt))


CITY = ReturnedData("get_customer", "city", "Rome")


def test_returned_data_is_equal_at_the_path():
    assert check(CITY, returning({"city": "Rome", "name": "Ann"})).holds
    finding = check(CITY, returning({"city": "Oslo"}))
    assert finding.why == 'get_customer returned at city "Oslo", the goal wants "Rome"'


@pytest.mark.parametrize(
    "structured",
    [
        {"city": "Rome or Oslo"},
        {"city": ["Rome"]},
        {"rows": [{"city": "Rome"}]},
        [{"city": "Rome"}],
        "Rome",
    ],
)
def test_listing_everything_is_not_returning_the_value(structured):
    assert not check(CITY, returning(structured)).holds


def test_another_tool_that_returns_the_value_does_not_count():
    assert not check(CITY, returning({"city": "Rome"}, tool="list_customers")).holds


def test_a_failed_call_returns_nothing():
    failed = returning({"city": "Rome"}, is_error=True, status=Status.TOOL_ERROR)
    assert check(CITY, failed).why == "get_customer has not returned anything"


def test_data_returned_in_an_earlier_turn_still_counts():
    assert check(CITY, returning({"city": "Rome"}), returning({"city": "Oslo"})).holds


def test_json_text_stands_in_for_structured_content_that_is_missing():
    assert check(CITY, returning(None, '{"city": "Rome"}')).holds
    assert not check(CITY, returning(None, '{"city": "Rome" … cut')).holds
    assert check(ReturnedData("get_customer", "", "Rome"), returning(None, "Rome")).holds
    assert not check(CITY, returning(None, "[" * 100_000)).holds


def test_the_whole_result_is_compared_by_the_empty_path():
    whole = ReturnedData("get_customer", "", {"n": [1, {"x": True}]})
    assert check(whole, returning({"n": [1.0, {"x": True}]})).holds
    assert not check(whole, returning({"n": [1, {"x": 1}]})).holds
    assert not check(whole, returning({"n": [1, {"x": True}], "more": 0})).holds


def test_all_of_names_the_first_part_that_fails():
    goal = AllOf((CITY, FinalState({"t": {"r": {"x": 1}}})))
    turn = Turn("...", (ToolCall("get_customer", {}),), results=(ToolResult("", {"city": "Rome"}),))
    finding = check(goal, turn)
    assert (finding.holds, finding.why) == (False, "t r did not change")


def test_any_of_holds_with_one_part_and_names_all_when_none_does():
    goal = AnyOf((CITY, ReturnedData("list_customers", "", [])))
    assert check(goal, returning([], tool="list_customers")).holds
    assert check(goal, returning([], tool="other")).why == (
        "get_customer has not returned anything; list_customers has not returned anything"
    )


def test_evidence_of_the_last_executed_turn_holds_for_a_text_turn_without_evidence():
    goal = FinalState({"t": {"r": {"x": 1}}}, digest="abc")
    done = Turn(
        "...",
        (ToolCall("a", {}),),
        results=(ToolResult(""),),
        state_digest="abc",
        state={"t": {"r": {"x": 1}}},
    )
    assert check(goal, done, Turn("Done.", text="Done.")).holds


@pytest.mark.parametrize(
    ("answer", "holds"),
    [
        ("Which customer do you mean?", True),
        ("Please give me the CUSTOMER'S name.", True),
        ("Which of the customers?", True),
        ("What is the customer\u2019s id?", True),
        ("Which one?", False),
        ("Customerless.", False),
        ("", False),
        ("What is the city of the customer?", False),
        ("You asked: what is the city of the customer", False),
    ],
)
def test_asking_means_naming_what_is_missing_and_not_echoing_the_request(answer, holds):
    goal = NoCallNaming(("customer",))
    prompt = "What is the city of the customer?"
    assert check(goal, Turn(answer, text=answer), prompt=prompt).holds is holds


def test_any_earlier_call_spoils_a_goal_without_calls():
    assert not check(NoCall(), returning({}), Turn("No.", text="No.")).holds
    assert check(NoCall(), Turn("No.", text="No.")).holds


@pytest.mark.parametrize(
    ("goal", "forbids", "needs"),
    [
        (FinalAnswer("x"), False, True),
        (CITY, False, True),
        (FinalState({}), False, True),
        (NoCall(), True, False),
        (NoCallNaming(("x",)), True, False),
        (AllOf((NoCall(), FinalAnswer("x"))), True, False),
        (AnyOf((NoCall(), FinalAnswer("x"))), False, False),
        (AnyOf((CITY, FinalAnswer("x"))), False, True),
        (AnyOf((NoCall(), NoCallNaming(("x",)))), True, False),
        (AllOf((CITY, FinalAnswer("x"))), False, True),
        (Custom("a:b"), False, True),
        (Custom("a:b", needs_call=False), False, False),
    ],
)
def test_what_a_goal_says_about_calling(goal, forbids, needs):
    assert (forbids_calls(goal), needs_call(goal)) == (forbids, needs)


def always(_: Episode) -> bool:
    return True


def broken(_: Episode) -> bool:
    raise KeyError("city")


def vague(_: Episode):
    return "yes"


def test_a_custom_check_may_return_a_plain_bool():
    finding = check(Custom("test_goal_checks:always"), returning({}))
    assert (finding.holds, finding.why) == (True, "test_goal_checks:always says yes")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("test_goal_checks", "write module:function"),
        ("no_such_module_here:f", "cannot be imported"),
        ("test_goal_checks:alway", 'did you mean "always"'),
        ("test_goal_checks:broken", "failed: KeyError: 'city'"),
        ("test_goal_checks:vague", 'returned "yes"; return a bool'),
    ],
)
def test_a_custom_check_that_cannot_decide_is_an_error_and_not_a_verdict(path, message):
    with pytest.raises(CheckError, match=message):
        check(Custom(path), returning({}))
