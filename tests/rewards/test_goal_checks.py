from __future__ import annotations

import pytest

from rewards import (
    AllOf,
    AnyOf,
    CheckError,
    Custom,
    Episode,
    Evaluated,
    Evaluator,
    FinalAnswer,
    FinalState,
    FolderState,
    Goal,
    NoCall,
    NoCallNaming,
    Probe,
    RecordError,
    ReturnedData,
    Status,
    Task,
    ToolCall,
    ToolResult,
    Turn,
    probe_key,
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


GRAPH = {"entities": [{"name": "Ann", "observations": ["likes tea", "lives in Rome"]}]}
NAME = Probe("read_graph", {}, "entities[0].name", "Ann")


def probing(result: ToolResult, goal: Probe = NAME, **fields) -> Turn:
    """A turn after which the environment has made the goal's own call."""
    key = probe_key(ToolCall(goal.tool, goal.arguments))
    return Turn("...", **fields, probes={key: result})


def test_a_probe_is_compared_at_its_path():
    assert check(NAME, probing(ToolResult("", GRAPH))).why == (
        'the probe read_graph returned at entities[0].name "Ann"'
    )
    finding = check(NAME, probing(ToolResult("", {"entities": []})))
    assert finding.why.startswith("the probe read_graph returned at entities[0].name nothing")


def test_json_text_stands_in_for_structured_content_of_a_probe_too():
    assert check(NAME, probing(ToolResult('{"entities": [{"name": "Ann"}]}'))).holds


@pytest.mark.parametrize(
    ("path", "value", "holds"),
    [
        ("entities[0].name", "nn", True),
        ("entities[0].name", "ann", False),
        ("entities[0].observations", "likes tea", True),
        ("entities[0].observations", "tea", False),
        ("entities[0]", "name", False),
        ("entities[0].name", 1, False),
        ("entities", GRAPH["entities"][0], True),
    ],
)
def test_a_probe_may_ask_for_a_part_of_a_text_or_an_item_of_a_list(path, value, holds):
    goal = Probe("read_graph", {}, path, value, "contains")
    assert check(goal, probing(ToolResult("", GRAPH), goal)).holds is holds


def test_a_probe_that_the_server_refuses_does_not_hold():
    missing = ToolResult("Error: no such file", None, True, Status.TOOL_ERROR)
    finding = check(NAME, probing(missing))
    assert (finding.holds, finding.why) == (
        False,
        "the probe read_graph failed: Error: no such file",
    )


def test_what_the_model_read_itself_is_no_probe():
    own = returning(GRAPH, tool="read_graph")
    with pytest.raises(RecordError, match="turn 1 of task t has no result of the probe"):
        check(NAME, own)


def test_the_probe_of_an_earlier_turn_does_not_count():
    with pytest.raises(RecordError, match="turn 2"):
        check(NAME, probing(ToolResult("", GRAPH)), Turn("Done.", text="Done."))


def test_two_probes_of_one_tool_are_told_apart_by_their_arguments():
    one, two = (Probe("read", {"path": path}, "", path) for path in "ab")
    results = {probe_key(ToolCall("read", {"path": path})): ToolResult(path, path) for path in "ab"}
    assert check(AllOf((one, two)), Turn("...", probes=results)).holds


def test_a_folder_that_was_not_looked_at_is_an_error_and_not_a_verdict():
    goal = FolderState({"a": None})
    assert check(goal, Turn("...", files={"a": None})).holds
    assert not check(goal, Turn("...", files={})).holds
    with pytest.raises(RecordError, match="has no files of the working folder"):
        check(goal, Turn("..."))


CITY_ANSWER = Evaluated((Evaluator("json -> get(city)", "=", "Rome"), Evaluator("json")))


def test_evaluators_judge_the_final_answer_only():
    right = '{"city": "Rome"}'
    assert check(CITY_ANSWER, Turn(right, text=right)).why == "the answer passes all 2 evaluators"
    calling = returning({"city": "Rome"})
    assert check(CITY_ANSWER, calling).why == "no final answer was given yet"
    assert check(CITY_ANSWER, calling, Turn("Rome", text="Rome")).why.startswith("evaluator 1: ")


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
        (Probe("read_graph", {}, "", 1), False, True),
        (FolderState({"a": None}), False, True),
        (Evaluated((Evaluator("raw", "=", "x"),)), False, True),
        (AllOf((NoCall(), FolderState({}))), True, False),
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
