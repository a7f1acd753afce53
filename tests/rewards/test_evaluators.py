from __future__ import annotations

import json

import pytest

from rewards import Episode, Evaluated, Evaluator, FinalAnswer, GoalError, Task, ToolCall, Turn
from rewards.episode import Fault
from rewards.evaluators import evaluate, evaluator_score, parse_func

TRIP = {
    "city": "Johor Bahru",
    "routes": [{"stops": [1, 2]}, {"stops": [3, 4]}],
    "none": [],
    "place id": "x1",
    "price": 12.5,
    "open": True,
    "inner": '{"a": 1}',
    "empty": "",
}
ANSWER = json.dumps(TRIP)


@pytest.mark.parametrize(
    ("func", "op", "value"),
    [
        ("json -> get(city)", "=", "Johor Bahru"),
        ("json->get ( city )", "=", "Johor Bahru"),
        ("json -> get(place id)", "=", "x1"),
        ("json -> get(routes) -> len", "=", 2),
        ("json -> get(routes) -> foreach -> get(stops) -> len", "=", 2),
        ("json -> get(routes) -> foreach -> get(stops) -> foreach", "<=", 4),
        ("json -> get(routes) -> foreach -> get(stops) -> foreach", ">=", 1),
        ("json -> get(inner) -> json -> get(a)", "=", 1),
        ("json -> get(price) -> list", "=", [12.5]),
        ("json", "", None),
        ("json -> get(price)", "<", 13),
        ("json -> get(price)", ">", 12),
        ("json -> get(city)", ">", "Hull"),
        ("json -> get(city)", "!=", "Rome"),
        ("json -> get(city)", "in", ["Rome", "Johor Bahru"]),
        ("json -> get(city)", "in", "from Johor Bahru on"),
        ("json -> get(city)", "contain", "Bahru"),
        ("json -> get(routes)", "contain", {"stops": [3, 4]}),
        ("raw", "contain", "Johor"),
    ],
)
def test_an_answer_that_fits_passes(func, op, value):
    assert evaluate(Evaluator(func, op, value), ANSWER).holds


@pytest.mark.parametrize(
    ("func", "op", "value", "why"),
    [
        ("json -> get(city)", "=", "Rome", 'is "Johor Bahru", the goal wants = "Rome"'),
        ("json -> get(town)", "=", "Rome", 'there is no "town"'),
        ("json -> get(town)", "!=", "Rome", 'there is no "town"'),
        ("json -> get(city) -> get(x)", "=", 1, "get needs an object"),
        ("json -> get(city) -> len", "=", 11, "a list is needed"),
        ("json -> get(city) -> foreach", "=", 11, "a list is needed"),
        ("json -> json", "", None, "json needs a text"),
        ("json -> get(none) -> foreach -> get(x)", "=", 1, "foreach over an empty list"),
        ("json -> get(routes) -> foreach -> get(stops) -> foreach", "<", 4, "is 4"),
        ("json -> get(city)", "<", 13, "cannot be ordered"),
        ("json -> get(open)", ">", 0, "cannot be ordered"),
        ("json -> get(open)", "=", 1, "is true"),
        ("json -> get(empty)", "in", "any text", 'is ""'),
        ("json -> get(price)", "contain", "1", "a list or a text is needed"),
        ("json -> get(price)", "in", "12.5", "is 12.5"),
    ],
)
def test_an_answer_that_does_not_fit_fails_with_the_reason(func, op, value, why):
    finding = evaluate(Evaluator(func, op, value), ANSWER)
    assert not finding.holds
    assert why in finding.why


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER,
        f"```json\n{ANSWER}\n```",
        f"```\n{ANSWER}\n```\n",
        f"Here is the plan:\n```json\n{ANSWER}\n```\nEnjoy it!",
        f"The answer is {ANSWER}.",
    ],
)
def test_the_json_may_stand_bare_or_in_a_fence_with_prose_around(answer):
    assert evaluate(Evaluator("json -> get(city)", "=", "Johor Bahru"), answer).holds


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Johor Bahru",
        "{city: Johor Bahru}",
        f"{ANSWER}\n{ANSWER}",
        f'```json\n{ANSWER}\n```\nor\n```json\n{{"city": "Rome"}}\n```',
        '{"city": "Rome", "city": "Johor Bahru"}',
        '{"city": "Johor Bahru", "price": NaN}',
        '{"city": "Johor Bahru"',
        "[" * 1_000_000,
        "]" * 1_000_000 + "[",
    ],
)
def test_an_answer_without_exactly_one_json_value_fails(answer):
    finding = evaluate(Evaluator("json -> get(city)", "=", "Johor Bahru"), answer)
    assert not finding.holds


def test_an_answer_that_is_nested_as_deeply_as_can_be_read_fails_like_any_other():
    for depth in range(1, 1_100, 7):
        deep = '{"city": ' + "[" * depth + "]" * depth + "}"
        assert not evaluate(Evaluator("json -> get(city)", "=", "Rome"), deep).holds


@pytest.mark.parametrize(
    ("evaluator", "message"),
    [
        (Evaluator("json", "google_maps.check_route"), r'unknown op "google_maps\.check_route"'),
        (Evaluator("json", "contains", 1), 'unknown op "contains".*did you mean "contain"'),
        (Evaluator("jsn -> get(x)", "=", 1), 'unknown func "jsn".*did you mean "json"'),
        (Evaluator("json -> get", "=", 1), '"get" in "json -> get" needs a key'),
        (Evaluator("json(x)", "=", 1), '"json.x." in "json.x." takes none'),
        (Evaluator("json -> get(x", "=", 1), "unknown func"),
        (Evaluator("", "=", 1), "unknown func"),
        (Evaluator("json", "<", None), 'op "<" needs a number or a text, not null'),
        (Evaluator("json", ">", True), 'op ">" needs a number or a text, not true'),
        (Evaluator("json", "in", 5), 'op "in" needs a list or a text, not 5'),
        (Evaluator("json", "contain", ""), "passes every text"),
    ],
)
def test_what_cannot_be_judged_is_an_error_and_never_a_verdict(evaluator, message):
    with pytest.raises(GoalError, match=message):
        evaluate(evaluator, ANSWER)


def test_a_pipe_is_its_steps():
    assert parse_func("get ( key1 ) -> foreach") == (("get", "key1"), ("foreach", ""))


GOAL = Evaluated((Evaluator("json -> get(city)", "=", "Rome"), Evaluator("json -> get(n)", "=", 1)))


@pytest.mark.parametrize(
    ("turns", "score"),
    [
        ((Turn("", text='{"city": "Rome", "n": 1}'),), 1.0),
        ((Turn("", text='{"city": "Rome", "n": 2}'),), 0.5),
        ((Turn("", text="Rome"),), 0.0),
        ((Turn("", text='{"city": "Rome"}', calls=(ToolCall("a", {}),)),), 0.0),
        ((Turn("", text='{"city": "Rome"}', fault=Fault.EMPTY),), 0.0),
        ((), 0.0),
    ],
)
def test_the_score_is_the_share_of_evaluators_that_the_final_answer_passes(turns, score):
    assert evaluator_score(Episode(Task("t", "p", GOAL, (), "d", "k"), turns)) == score


def test_another_goal_has_no_evaluator_score():
    with pytest.raises(GoalError, match="the goal of task t has no evaluators"):
        evaluator_score(Episode(Task("t", "p", FinalAnswer("x"), (), "d", "k")))
