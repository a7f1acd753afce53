from __future__ import annotations

import pytest

from rewards import (
    Episode,
    Fault,
    FinalAnswer,
    Outcome,
    RecordError,
    Status,
    Task,
    ToolCall,
    ToolResult,
    Turn,
    rescore,
)
from rewards.serialise import episode_to_json
from rewards.trl_rewards import (
    calls,
    episode_return,
    invalid_json,
    scaled_return,
    structural_fails,
    success,
    tool_errors,
)

TASK = Task("t", "Where?", FinalAnswer("Rome"), ("get",), "d", "k")
FAILED = Turn("...", (ToolCall("get", {}),), results=(ToolResult("no", is_error=True),))
CLEAN = Turn("...", (ToolCall("get", {}),) * 2, results=(ToolResult("ok"),) * 2)
BROKEN = Turn("...", fault=Fault.INVALID_JSON)
RIGHT = Turn("Rome", text="Rome")
WRONG = Turn("Oslo", text="Oslo")

SOLVED = rescore(Episode(TASK, (BROKEN, FAILED, CLEAN, RIGHT)))
UNSOLVED = rescore(Episode(TASK, (CLEAN, WRONG)))
DEAD = Episode(TASK, (BROKEN,), truncated=True, status=Status.SERVER_CRASHED)


def score(function, *episodes):
    prompts = completions = ["..."] * len(episodes)
    return function(
        prompts=prompts,
        completions=completions,
        episodes=list(episodes),
        completion_ids=[[1]],
        trainer_state=None,
    )


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (episode_return, [pytest.approx(0.87), pytest.approx(-0.1)]),
        (scaled_return(1.0), [pytest.approx(8.7), pytest.approx(-1.0)]),
        (success, [1.0, 0.0]),
        (calls, [3.0, 2.0]),
        (tool_errors, [1.0, 0.0]),
        (invalid_json, [1.0, 0.0]),
        (structural_fails, [0.0, 1.0]),
    ],
)
def test_each_function_gives_one_number_per_episode(function, expected):
    assert score(function, SOLVED, UNSOLVED) == expected


def test_an_episode_that_an_infrastructure_fault_ended_is_left_out():
    assert score(episode_return, DEAD, UNSOLVED) == [None, pytest.approx(-0.1)]
    assert score(success, DEAD) == [None]


def test_episodes_may_come_as_json():
    assert score(success, episode_to_json(SOLVED)) == [1.0]


def test_a_missing_episode_is_an_error_and_not_a_shifted_reward():
    with pytest.raises(RecordError, match="1 episodes for 2 completions"):
        success(prompts=["a", "b"], completions=["a", "b"], episodes=[SOLVED])


def test_the_name_that_trl_logs_is_the_functions_name():
    names = [episode_return.__name__, success.__name__, calls.__name__, tool_errors.__name__]
    assert names == ["episode_return", "success", "calls", "tool_errors"]


def test_outcomes_of_the_hand_made_episodes_are_what_the_counts_assume():
    assert [turn.outcome for turn in SOLVED.turns] == [
        Outcome.INVALID_JSON,
        Outcome.TOOL_ERROR,
        Outcome.TOOL_EXECUTION,
        Outcome.SUCCESS,
    ]
