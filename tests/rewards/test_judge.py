"""The reward contract of the architecture, turn by turn, on hand-made records."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rewards import (
    Episode,
    Fault,
    FinalAnswer,
    FinalState,
    FolderState,
    Goal,
    Judgement,
    NoCall,
    NoCallNaming,
    Outcome,
    Probe,
    RecordError,
    ReturnedData,
    RewardMatrix,
    Status,
    Task,
    ToolCall,
    ToolResult,
    Turn,
    judge_turn,
    probe_key,
    reaches_goal,
    rescore,
)
from rewards.goals import AllOf, AnyOf, Custom

ROME = FinalAnswer("Rome")
STOCK = FinalState({"database.products": {"P27": {"stock": 5}}})
STOCK_DONE = {"database.products": {"P27": {"stock": 5, "price": 3}}}

GOOD = ToolResult('{"city": "Rome"}', {"city": "Rome"})
FAILED = ToolResult("Error: There is no customer C9.", None, True, Status.TOOL_ERROR)
BAD_ARGUMENTS = ToolResult("argument customer_id is missing", None, True, Status.BAD_ARGUMENTS)


def task(goal: Goal = ROME, **fields) -> Task:
    return Task(
        **{
            "id": "t1",
            "prompt": "What is the city of customer C104?",
            "goal": goal,
            "tools": ("get_customer", "update_stock"),
            "domain": "database",
            "kind": "customer_field",
        }
        | fields
    )


def call(name: str = "get_customer") -> ToolCall:
    return ToolCall(name, {"customer_id": "C104"})


def calling(*results: ToolResult, name: str = "get_customer", **fields) -> Turn:
    return Turn(raw="...", calls=(call(name),) * len(results), results=results, **fields)


def saying(text: str, **fields) -> Turn:
    return Turn(raw=text, text=text, **fields)


def fault(kind: Fault, detail: str = "") -> Turn:
    return Turn(raw="...", fault=kind, fault_detail=detail)


def judge(turn: Turn, *earlier: Turn, goal: Goal = ROME, last: bool = False, **kwargs) -> Judgement:
    return judge_turn(Episode(task(goal), earlier), turn, last, **kwargs)


# The table of example turns of architecture.md: what the parser finds, and what it comes to.
@pytest.mark.parametrize(
    ("turn", "outcome", "reward", "ends"),
    [
        (calling(GOOD), Outcome.TOOL_EXECUTION, 0.0, False),
        (calling(FAILED), Outcome.TOOL_ERROR, -0.5, False),
        (calling(BAD_ARGUMENTS), Outcome.TOOL_ERROR, -0.5, False),
        (fault(Fault.INVALID_JSON), Outcome.INVALID_JSON, -0.8, False),
        (fault(Fault.WRONG_FORMAT), Outcome.STRUCTURAL_FAIL, -1.0, False),
        (Turn("...", calls=(call("get_weather"),)), Outcome.STRUCTURAL_FAIL, -1.0, False),
        (fault(Fault.UNOFFERED_TOOL), Outcome.STRUCTURAL_FAIL, -1.0, False),
        (saying("It is Rome."), Outcome.STRUCTURAL_FAIL, -1.0, True),
        (fault(Fault.EMPTY), Outcome.STRUCTURAL_FAIL, -1.0, False),
        (Turn("<think>Rome</think>", thought="Rome"), Outcome.STRUCTURAL_FAIL, -1.0, False),
        (saying(" \n\t"), Outcome.STRUCTURAL_FAIL, -1.0, False),
    ],
)
def test_the_first_turn_comes_to_what_the_contract_says(turn, outcome, reward, ends):
    judgement = judge(turn)
    assert (judgement.outcome, judgement.reward, judgement.ends_episode) == (outcome, reward, ends)
    assert not judgement.truncates
    assert judgement.why


def test_a_right_answer_after_a_call_is_a_success_and_ends_the_episode():
    judgement = judge(saying("The city is Rome."), calling(GOOD))
    assert judgement == Judgement(Outcome.SUCCESS, 10.0, 'the answer says "Rome"', True)


def test_a_wrong_answer_after_a_call_ends_the_episode_as_a_structural_fail():
    judgement = judge(saying("The city is Paris."), calling(GOOD))
    assert (judgement.outcome, judgement.reward) == (Outcome.STRUCTURAL_FAIL, -1.0)
    assert judgement.ends_episode
    assert not judgement.truncates
    assert judgement.why == (
        'wrong final answer: answer says "The city is Paris.", the goal wants "Rome"'
    )


def test_text_beside_a_call_is_not_a_final_answer():
    judgement = judge(calling(GOOD, text="The city is Rome."), calling(GOOD))
    assert judgement.outcome is Outcome.TOOL_EXECUTION


@pytest.mark.parametrize(
    "earlier",
    [
        fault(Fault.INVALID_JSON),
        fault(Fault.UNOFFERED_TOOL),
        Turn("...", calls=(call("get_weather"),)),
        calling(ToolResult("no such tool", None, True, Status.UNKNOWN_TOOL)),
    ],
)
def test_a_call_that_never_reached_a_tool_does_not_make_a_guess_an_answer(earlier):
    judgement = judge(saying("The city is Rome."), earlier)
    assert judgement.outcome is Outcome.STRUCTURAL_FAIL
    assert judgement.ends_episode
    assert judgement.why == "the answer came without any call, and the task needs one"


def test_success_comes_with_the_call_itself_where_the_goal_is_a_state():
    judgement = judge(calling(GOOD, state=STOCK_DONE), goal=STOCK)
    assert (judgement.outcome, judgement.reward) == (Outcome.SUCCESS, 10.0)


def test_a_goal_that_holds_beside_a_failed_call_is_a_success_only_in_the_next_clean_turn():
    both = calling(GOOD, FAILED, state=STOCK_DONE)
    first = judge(both, goal=STOCK)
    assert (first.outcome, first.reward) == (Outcome.TOOL_ERROR, -0.5)
    assert first.why == "call 2 get_customer: There is no customer C9."
    assert judge(calling(GOOD, state=STOCK_DONE), both, goal=STOCK).outcome is Outcome.SUCCESS
    assert judge(saying("Done."), both, goal=STOCK).outcome is Outcome.SUCCESS


def test_a_goal_that_no_longer_holds_in_the_next_clean_turn_is_not_a_success():
    both = calling(GOOD, FAILED, state=STOCK_DONE)
    undone = calling(GOOD, state={})
    assert judge(undone, both, goal=STOCK).outcome is Outcome.TOOL_EXECUTION
    assert judge(saying("Done."), both, undone, goal=STOCK).outcome is Outcome.STRUCTURAL_FAIL


def test_returned_data_beside_a_failed_call_counts_in_the_next_clean_turn():
    goal = ReturnedData("get_customer", "city", "Rome")
    assert judge(calling(GOOD), goal=goal).outcome is Outcome.SUCCESS
    both = calling(GOOD, FAILED)
    assert judge(both, goal=goal).outcome is Outcome.TOOL_ERROR
    other = calling(ToolResult("{}", {}), name="update_stock")
    assert judge(other, both, goal=goal).outcome is Outcome.SUCCESS


def test_an_unoffered_tool_outranks_a_failed_call_and_success():
    turn = Turn("...", (call(), call("get_custmer")), results=(FAILED,), state=STOCK_DONE)
    judgement = judge(turn, goal=STOCK)
    assert judgement.outcome is Outcome.STRUCTURAL_FAIL
    assert judgement.why == (
        'call 2 get_custmer is not an offered tool; did you mean "get_customer"?'
    )


def test_invalid_json_outranks_an_unoffered_tool():
    turn = Turn("...", (call("get_weather"),), fault=Fault.INVALID_JSON, fault_detail="call 2: NaN")
    judgement = judge(turn)
    assert judgement.outcome is Outcome.INVALID_JSON
    assert judgement.why == "invalid JSON, nothing executed: call 2: NaN"


def test_a_server_that_does_not_know_an_offered_tool_is_an_unoffered_tool():
    turn = calling(ToolResult("no such tool", None, True, Status.UNKNOWN_TOOL))
    assert judge(turn).outcome is Outcome.STRUCTURAL_FAIL


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        (calling(GOOD), "no final answer was given yet"),
        (calling(FAILED), "There is no customer C9"),
        (fault(Fault.INVALID_JSON), "invalid JSON"),
        (fault(Fault.EMPTY), "empty turn"),
        (fault(Fault.WRONG_FORMAT), "wrong call format"),
    ],
)
def test_the_last_allowed_turn_without_success_is_a_structural_fail(turn, reason):
    judgement = judge(turn, last=True)
    assert (judgement.outcome, judgement.reward) == (Outcome.STRUCTURAL_FAIL, -1.0)
    assert judgement.ends_episode
    assert judgement.truncates
    assert judgement.why.startswith("the last allowed turn ended without success: ")
    assert reason in judgement.why


def test_success_on_the_last_allowed_turn_is_a_success_and_not_a_truncation():
    judgement = judge(saying("It is Rome."), calling(GOOD), last=True)
    assert judgement.outcome is Outcome.SUCCESS
    assert not judgement.truncates


def test_a_wrong_answer_on_the_last_allowed_turn_is_an_answer_and_not_a_truncation():
    judgement = judge(saying("It is Oslo."), calling(GOOD), last=True)
    assert judgement.ends_episode
    assert not judgement.truncates
    assert judgement.why.startswith("wrong final answer")


@pytest.mark.parametrize("goal", [NoCall(), NoCallNaming(("customer",))])
@pytest.mark.parametrize(
    "turn",
    [
        calling(GOOD),
        calling(FAILED),
        Turn("...", calls=(call(),)),
        Turn("...", calls=(call("get_weather"),)),
        fault(Fault.UNOFFERED_TOOL),
    ],
)
def test_any_call_in_a_task_without_calls_ends_it_as_a_structural_fail(goal, turn):
    judgement = judge(turn, goal=goal)
    assert (judgement.outcome, judgement.reward) == (Outcome.STRUCTURAL_FAIL, -1.0)
    assert judgement.ends_episode
    assert not judgement.truncates


def test_a_text_answer_is_the_success_of_a_task_without_calls():
    assert judge(saying("I cannot do that."), goal=NoCall()).outcome is Outcome.SUCCESS


def test_a_malformed_call_is_told_back_in_a_task_without_calls():
    broken = fault(Fault.INVALID_JSON)
    first = judge(broken, goal=NoCall())
    assert (first.outcome, first.ends_episode) == (Outcome.INVALID_JSON, False)
    assert judge(saying("I cannot do that."), broken, goal=NoCall()).outcome is Outcome.SUCCESS


def test_an_answer_that_names_nothing_fails_where_something_must_be_asked_for():
    goal = NoCallNaming(("customer", "customer id"))
    assert judge(saying("Which customer do you mean?"), goal=goal).outcome is Outcome.SUCCESS
    refusal = judge(saying("I cannot help."), goal=goal)
    assert (refusal.outcome, refusal.ends_episode) == (Outcome.STRUCTURAL_FAIL, True)
    assert '"customer"' in refusal.why


def test_a_goal_that_leaves_calling_open_accepts_either():
    goal = AnyOf((NoCall(), ROME))
    assert judge(saying("Nobody knows."), goal=goal).outcome is Outcome.SUCCESS
    assert judge(calling(GOOD), goal=goal).outcome is Outcome.TOOL_EXECUTION
    assert judge(saying("It is Rome."), calling(GOOD), goal=goal).outcome is Outcome.SUCCESS


def test_a_goal_that_forbids_calls_in_one_part_forbids_them():
    goal = AllOf((NoCall(), FinalAnswer("Rome")))
    assert judge(calling(GOOD), goal=goal).ends_episode
    assert judge(saying("It is Rome."), goal=goal).outcome is Outcome.SUCCESS


INFRASTRUCTURE = [
    Status.TIMEOUT,
    Status.SERVER_CRASHED,
    Status.SERVER_START_FAILED,
    Status.BAD_RESULT,
    Status.RESULT_TRUNCATED,
    Status.PROTOCOL_ERROR,
    Status.UNANSWERED,
]


@pytest.mark.parametrize("status", INFRASTRUCTURE)
@pytest.mark.parametrize("last", [False, True])
def test_an_infrastructure_fault_is_never_a_negative_reward(status, last):
    broken = ToolResult("", None, True, status)
    judgement = judge(calling(FAILED, broken), last=last, matrix=RewardMatrix(tool_execution=-3))
    assert judgement.reward == 0.0
    assert judgement.ends_episode
    assert judgement.truncates
    assert judgement.why.startswith(f"call 2 get_customer: {status}")


def test_every_status_is_either_the_models_or_tested_above():
    own = {Status.OK, Status.TOOL_ERROR, Status.BAD_ARGUMENTS, Status.UNKNOWN_TOOL}
    assert set(Status) == own | set(INFRASTRUCTURE)


def test_calls_that_a_dead_server_never_answered_are_not_judged():
    episode = Episode(task(), status=Status.SERVER_CRASHED)
    judgement = judge_turn(episode, Turn("...", calls=(call(),)), False)
    assert (judgement.reward, judgement.truncates) == (0.0, True)


NAME = Probe("read_graph", {}, "entities[0].name", "Ann")
NAME_KEY = probe_key(ToolCall("read_graph", {}))
ANN = ToolResult("", {"entities": [{"name": "Ann"}]})


def test_a_probe_makes_the_turn_that_changed_the_state_a_success():
    judgement = judge(calling(GOOD, probes={NAME_KEY: ANN}), goal=NAME)
    assert (judgement.outcome, judgement.ends_episode) == (Outcome.SUCCESS, True)
    nobody = {NAME_KEY: ToolResult("", {"entities": []})}
    assert judge(calling(GOOD, probes=nobody), goal=NAME).outcome is Outcome.TOOL_EXECUTION


def test_a_probe_is_asked_again_for_an_answer_that_follows_a_failed_call():
    both = calling(GOOD, FAILED)
    assert judge(both, goal=NAME).outcome is Outcome.TOOL_ERROR
    done = saying("Done.", probes={NAME_KEY: ANN})
    assert judge(done, both, goal=NAME).outcome is Outcome.SUCCESS


def test_a_state_that_a_probe_finds_right_without_any_call_is_no_success():
    judgement = judge(saying("Done.", probes={NAME_KEY: ANN}), goal=NAME)
    assert judgement.why == "the answer came without any call, and the task needs one"


def test_a_call_that_leaves_the_folder_as_it_was_is_no_success():
    goal = FolderState({"old.txt": None})
    idle = judge(calling(GOOD, files={}), goal=goal)
    assert (idle.outcome, idle.why) == (
        Outcome.TOOL_EXECUTION,
        'the call ran, the goal does not hold yet: "old.txt" did not change',
    )
    removed = calling(GOOD, files={"old.txt": None, "new.txt": None})
    assert "changed elsewhere as well" in judge(removed, goal=goal).why


@pytest.mark.parametrize("status", INFRASTRUCTURE)
def test_a_server_that_breaks_under_the_probe_is_never_a_negative_reward(status):
    broken = {NAME_KEY: ToolResult("", None, True, status)}
    judgement = judge(calling(GOOD, probes=broken), goal=NAME, last=True)
    assert (judgement.reward, judgement.truncates) == (0.0, True)
    assert judgement.why.startswith(f"probe read_graph {{}}: {status}")


@pytest.mark.parametrize(
    ("turn", "earlier", "reaches"),
    [
        (calling(GOOD), (), True),
        (saying("Done."), (calling(FAILED),), True),
        (saying("Done."), (), False),
        (calling(GOOD, FAILED), (), False),
        (calling(ToolResult("", None, True, Status.TIMEOUT)), (), False),
        (fault(Fault.INVALID_JSON), (), False),
        (fault(Fault.EMPTY), (), False),
    ],
)
def test_evidence_is_needed_only_where_the_goal_is_judged(turn, earlier, reaches):
    assert reaches_goal(Episode(task(NAME), earlier), turn) is reaches


def test_rescoring_an_episode_with_evidence_gives_the_same_numbers():
    goal = AllOf((NAME, FolderState({"a.txt": None})))
    nobody = {NAME_KEY: ToolResult("", {"entities": []})}
    turns = (
        calling(GOOD, probes=nobody, files={}),
        calling(GOOD, probes={NAME_KEY: ANN}, files={"a.txt": None}),
    )
    again = rescore(Episode(task(goal), turns, terminated=True))
    assert [turn.reward for turn in again.turns] == [0.0, 10.0]
    assert rescore(again) == again


def test_records_that_contradict_each_other_are_an_error_and_not_a_reward():
    with pytest.raises(RecordError, match="turn 1 of task t1 has 2 calls but 1 results"):
        judge(Turn("...", calls=(call(), call()), results=(GOOD,)))


def test_the_values_of_the_matrix_are_configurable():
    matrix = RewardMatrix(1.0, 0.1, -0.1, -0.2, -0.3)
    turns = [
        (saying("Rome"), 1.0),
        (calling(GOOD), 0.1),
        (calling(FAILED), -0.1),
        (fault(Fault.INVALID_JSON), -0.2),
        (fault(Fault.EMPTY), -0.3),
    ]
    for turn, reward in turns:
        assert judge(turn, calling(GOOD), matrix=matrix).reward == reward


def test_every_unsolved_ending_costs_the_same():
    endings = [
        judge(saying("It is Oslo."), calling(GOOD)),
        judge(saying("It is Rome.")),
        judge(calling(GOOD), last=True),
        judge(fault(Fault.INVALID_JSON), last=True),
        judge(calling(GOOD), goal=NoCall()),
    ]
    assert {ending.reward for ending in endings} == {-1.0}
    assert all(ending.ends_episode for ending in endings)


def test_rescoring_judges_every_turn_from_the_records_alone():
    turns = (
        fault(Fault.INVALID_JSON),
        calling(BAD_ARGUMENTS),
        calling(GOOD),
        saying("The city is Rome."),
    )
    lied = tuple(replace(turn, reward=99.0, outcome=Outcome.SUCCESS) for turn in turns)
    again = rescore(Episode(task(), lied, max_turns=4, terminated=True))
    assert [turn.reward for turn in again.turns] == [-0.8, -0.5, 0.0, 10.0]
    assert again.total_reward == pytest.approx(8.7)
    assert again.success
    assert again.turns[1].why == "call 1 get_customer: argument customer_id is missing"
    assert rescore(again) == again


def test_rescoring_uses_the_turn_limit_of_the_episode():
    turns = (calling(GOOD), calling(GOOD))
    assert rescore(Episode(task(), turns, max_turns=2)).turns[-1].reward == -1.0
    assert rescore(Episode(task(), turns, max_turns=3)).turns[-1].reward == 0.0


def test_a_stored_episode_can_be_rescored_with_another_matrix():
    episode = Episode(task(), (calling(FAILED),))
    assert rescore(episode, RewardMatrix(tool_error=-0.25)).total_reward == -0.25


def solved_by_two_calls(episode: Episode) -> tuple[bool, str]:
    calls = sum(len(turn.calls) for turn in episode.turns)
    return calls == 2, f"{calls} calls were made"


def test_a_custom_check_sees_the_turn_that_is_judged():
    goal = Custom("test_judge:solved_by_two_calls")
    first = judge(calling(GOOD), goal=goal)
    assert first.outcome is Outcome.TOOL_EXECUTION
    assert first.why.endswith("1 calls were made")
    assert judge(calling(GOOD), calling(GOOD), goal=goal).outcome is Outcome.SUCCESS
