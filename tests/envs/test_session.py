"""The table of turns of the reward contract, row by row through the real environment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium
import pytest

import envs.mock_backend
from envs.backend import Evidence
from envs.client import Connection, connect
from envs.errors import ActionError, ClientError, EpisodeOverError, ServerStartError
from envs.mcp_env import MCPGymEnv
from envs.mock_backend import MockBackend, mock_tools
from envs.session import EpisodeSession, PendingTurn, Rules, StepResult
from rewards.episode import MODEL_STATUSES, Fault, Outcome, Status, Task, ToolCall, ToolResult
from rewards.evidence import wants_digest
from rewards.goals import AllOf, AnyOf, Custom, FinalAnswer, FinalState, NoCall, NoCallNaming
from rewards.matrix import RewardMatrix

REWARDS = {
    Outcome.SUCCESS: 10.0,
    Outcome.TOOL_EXECUTION: 0.0,
    Outcome.TOOL_ERROR: -0.5,
    Outcome.INVALID_JSON: -0.8,
    Outcome.STRUCTURAL_FAIL: -1.0,
}


def made_task(goal: Any = None, **changes: Any) -> Task:
    fields = {
        "id": "product",
        "prompt": "What is the product of 6 and 7?",
        "goal": goal or FinalAnswer(42, "number"),
        "tools": ("calculate", "convert_currency"),
        "domain": "math",
        "kind": "own",
    }
    return Task(**{**fields, **changes})


def block(text: str) -> str:
    return f"<tool_call>{text}</tool_call>"


CALL = '{"name": "calculate", "arguments": {"expression": "6 * 7"}}'
GOOD = block(CALL)
OTHER = block('{"name": "calculate", "arguments": {"expression": "1 + 1"}}')


@pytest.fixture(scope="module")
def env() -> Iterator[MCPGymEnv]:
    made = MCPGymEnv(tasks=[made_task()])
    yield made
    made.close()


def test_the_environment_is_made_by_its_name_after_importing_envs() -> None:
    assert envs.__doc__
    made = gymnasium.make("MCP-v0", tasks=[made_task()], max_turns=3)
    assert isinstance(made.unwrapped, MCPGymEnv)
    observation, _ = made.reset(seed=0)
    assert observation == made_task().prompt
    assert made.step(GOOD)[1] == 0.0
    made.close()


RAN, BAD_JSON, FAIL = Outcome.TOOL_EXECUTION, Outcome.INVALID_JSON, Outcome.STRUCTURAL_FAIL
TABLE = {
    "one call": (GOOD, RAN),
    "prose before a call": (f"I look. {GOOD}", RAN),
    "a thought before a call": (f"<think>a</think>{GOOD}", RAN),
    "two calls": (GOOD + OTHER, RAN),
    "single quotes": (block(CALL.replace('"', "'")), BAD_JSON),
    "truncated object": (block(CALL[:-3]), BAD_JSON),
    "list of calls": (block(f"[{CALL}]"), BAD_JSON),
    "stringified arguments": (block('{"name": "calculate", "arguments": "{}"}'), BAD_JSON),
    "missing name": (block('{"arguments": {"expression": "1"}}'), BAD_JSON),
    "NaN": (block('{"name": "calculate", "arguments": {"expression": NaN}}'), BAD_JSON),
    "duplicate keys": (block('{"name": "a", "name": "calculate", "arguments": {}}'), BAD_JSON),
    "unclosed call": (f"<tool_call>{CALL}", BAD_JSON),
    "a good and a broken call": (GOOD + block("{"), BAD_JSON),
    "bare JSON": (CALL, FAIL),
    "fenced block": (f"```json\n{CALL}\n```", FAIL),
    "tool_code": ("<tool_code>calculate('1')</tool_code>", FAIL),
    "function=": ("<function=calculate>1</function>", FAIL),
    "not offered": (block('{"name": "get_product", "arguments": {}}'), FAIL),
    "a right guess without a call": ("It is 42.", FAIL),
    "white space": (" \n", FAIL),
    "nothing but a thought": (f"<think>{GOOD}</think>", FAIL),
    "cut thought": (f"<think>{GOOD}", FAIL),
}


@pytest.mark.parametrize("row", TABLE)
def test_every_row_of_the_contracts_table(env: MCPGymEnv, row: str) -> None:
    raw, outcome = TABLE[row]
    env.reset()
    observation, reward, terminated, truncated, info = env.step(raw)
    assert (info["outcome"], reward) == (outcome, REWARDS[outcome])
    assert (terminated, truncated) == (row == "a right guess without a call", False)
    assert bool(observation) is not terminated
    assert info["thought_cut"] is (row == "cut thought")
    calls = 2 if row == "two calls" else 1
    assert len(info["episode"].turns[0].results) == (calls if outcome is RAN else 0)


@pytest.mark.parametrize(
    ("answer", "reward"),
    [("The product is 42.", 10.0), ("The product is 43.", -1.0), (block("{}"), -0.8)],
)
def test_a_final_answer_after_a_call_is_right_or_wrong(
    env: MCPGymEnv, answer: str, reward: float
) -> None:
    env.reset()
    env.step(GOOD)
    _, got, terminated, truncated, _ = env.step(answer)
    assert (got, terminated, truncated) == (reward, "tool_call" not in answer, False)


def test_invalid_json_comes_before_an_unoffered_tool(env: MCPGymEnv) -> None:
    env.reset()
    unoffered = block('{"name": "get_product", "arguments": {}}')
    assert env.step(unoffered + block("{"))[4]["outcome"] == Outcome.INVALID_JSON


def test_a_goal_that_holds_beside_a_failed_call_is_no_success_yet(env: MCPGymEnv) -> None:
    wrong = block('{"name": "calculate", "arguments": {"expression": "6 *"}}')
    task = made_task(AnyOf((AllOf(()), FinalAnswer(42, "number"))))
    env.reset(options={"task": task})
    assert env.step(GOOD + wrong)[4]["outcome"] == Outcome.TOOL_ERROR
    assert env.step(GOOD)[1:3] == (10.0, True)


def test_where_something_must_be_asked_for_the_answer_names_it(env: MCPGymEnv) -> None:
    task = made_task(NoCallNaming(("expression",)))
    for answer, reward in (("Which expression do you mean?", 10.0), ("I cannot.", -1.0)):
        env.reset(options={"task": task})
        assert env.step(answer)[1:3] == (reward, True)


def test_every_outcome_is_worth_what_the_matrix_says() -> None:
    matrix = RewardMatrix(5.0, 0.25, -1.5, -2.5, -3.5)
    env = MCPGymEnv(tasks=[made_task()], matrix=matrix)
    env.reset()
    wrong = block('{"name": "calculate", "arguments": {}}')
    rewards = [env.step(raw)[1] for raw in (wrong, block("{"), "", GOOD, "It is 42.")]
    assert rewards == [-1.5, -2.5, -3.5, 0.25, 5.0]
    env.close()


def state_of(backend: MockBackend, slot: int) -> Mapping[str, Any]:
    return backend.evidence([(slot, NoCall())])[0].state


def finish(session: EpisodeSession, pending: PendingTurn, results: list[ToolResult]) -> StepResult:
    return session.finish(session.answered(pending, results), Evidence())


def make_session(**changes: Any) -> EpisodeSession:
    return EpisodeSession(made_task(**changes), mock_tools(), Rules())


def test_reading_changes_nothing_until_the_turn_is_finished() -> None:
    session = make_session()
    before = session.info()
    pending = session.read(GOOD)
    assert session.info() == before
    assert pending.calls == (ToolCall("calculate", {"expression": "6 * 7"}),)
    finish(session, pending, [ToolResult('{"result": 42}', {"result": 42})])
    assert len(session.episode.turns) == 1


def test_arguments_are_checked_before_anything_is_sent() -> None:
    pending = make_session().read(block('{"name": "calculate", "arguments": {"expression": 6}}'))
    assert pending.calls == ()
    assert pending.refused[0].status is Status.BAD_ARGUMENTS


@pytest.mark.parametrize("status", sorted(set(Status) - MODEL_STATUSES))
def test_an_infrastructure_fault_truncates_with_reward_nought(status: Status) -> None:
    session = make_session()
    broken = ToolResult("Error: gone", None, is_error=True, status=status)
    fine = ToolResult('{"result": 42}', {"result": 42})
    result = finish(session, session.read(GOOD + GOOD), [fine, broken])
    assert (result.reward, result.terminated, result.truncated) == (0.0, False, True)
    assert session.info()["status"] == status.value
    assert (result.observation, session.new_messages) == ("", [])


def test_a_tool_that_the_server_has_lost_is_a_structural_fail_and_no_fault_of_the_server() -> None:
    session = make_session()
    lost = ToolResult("Error: Unknown tool", None, is_error=True, status=Status.UNKNOWN_TOOL)
    result = finish(session, session.read(GOOD), [lost])
    assert (result.reward, result.truncated, session.info()["status"]) == (-1.0, False, "ok")


def test_a_text_that_is_cut_keeps_its_json_for_the_judge() -> None:
    rows = [{"city": "Rome", "number": number} for number in range(100)]
    texts = {json.dumps(rows): rows, "x" * 1000: None, "[" * 100_000: None}
    for text, structured in texts.items():
        session = EpisodeSession(made_task(), mock_tools(), Rules(max_result_chars=50))
        finish(session, session.read(GOOD), [ToolResult(text)])
        [shown] = session.episode.turns[0].results
        assert shown.text.startswith(text[:50])
        assert shown.text.endswith(" more characters]")
        assert shown.structured == structured


def test_structured_content_and_errors_stay_as_they_are_when_their_text_is_cut() -> None:
    session = EpisodeSession(made_task(), mock_tools(), Rules(max_result_chars=5))
    sent = ToolResult('{"a": "another"}', {"a": 1})
    failed = ToolResult('{"a": "another"}', None, is_error=True, status=Status.TOOL_ERROR)
    for result, structured in ((sent, {"a": 1}), (failed, None)):
        finish(session, session.read(GOOD), [result])
        assert session.episode.turns[-1].results[0].structured == structured


def test_the_infos_of_earlier_turns_do_not_change_afterwards() -> None:
    session = make_session()
    early = session.info()
    early["messages"].append("mine")
    finish(session, session.read(""), [])
    assert session.messages[1] == {"role": "assistant", "content": ""}
    assert early["episode"].turns == ()


def test_an_episode_that_ended_and_an_action_that_is_no_text_are_errors_of_the_caller() -> None:
    session = make_session()
    with pytest.raises(ActionError, match="not bytes"):
        session.read(b"text")
    finish(session, session.read("It is 42."), [])
    with pytest.raises(EpisodeOverError):
        session.read("more")


@pytest.mark.parametrize(
    ("goal", "wanted"),
    [
        (FinalAnswer("x"), False),
        (NoCall(), False),
        (FinalState({}), False),
        (FinalState({}, digest="a"), True),
        (AnyOf((NoCall(), AllOf((FinalState({}, digest="a"),)))), True),
        (Custom("module:function"), True),
    ],
)
def test_the_digest_is_wanted_where_a_goal_may_look_at_it(goal: Any, wanted: bool) -> None:
    assert wants_digest(goal) is wanted


def test_two_episodes_that_take_turns_never_see_each_others_state() -> None:
    backend = MockBackend(2)
    tasks = [made_task(seed=5), made_task(seed=5)]
    for slot, task in enumerate(tasks):
        backend.reset(slot, task)
    texts = [f"note of slot {slot}" for slot in (0, 1)]
    calls = [ToolCall("create_reminder", {"text": text, "date": "2030-01-02"}) for text in texts]
    for slot in (0, 1, 1, 0):
        backend.call_all([(slot, [calls[slot]])])
    backend.call_all([(slot, [call]) for slot, call in enumerate(calls)])
    for slot, other in ((0, 1), (1, 0)):
        seen = json.dumps(state_of(backend, slot))
        assert texts[slot] in seen
        assert texts[other] not in seen
    backend.reset(0, tasks[0])
    assert state_of(backend, 0) == {}
    assert texts[1] in json.dumps(state_of(backend, 1))
    backend.close()


def test_a_fault_of_form_keeps_its_detail_for_the_records() -> None:
    session = make_session()
    finish(session, session.read(block('{"name": "calc", "arguments": {}}')), [])
    turn = session.episode.turns[0]
    assert turn.fault is Fault.UNOFFERED_TOOL
    assert turn.fault_detail in session.new_messages[0]["content"]


def test_a_backend_that_cannot_open_all_its_sessions_leaves_none_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[Connection] = []

    def open_two(*arguments: Any) -> Connection:
        if len(opened) == 2:
            raise ServerStartError("no more")
        opened.append(connect(*arguments))
        return opened[-1]

    monkeypatch.setattr(envs.mock_backend, "connect", open_two)
    with pytest.raises(ServerStartError, match="no more"):
        MockBackend(3)
    assert [connection.alive for connection in opened] == [False, False]


def test_a_closed_backend_runs_nothing() -> None:
    backend = MockBackend(1)
    backend.close()
    with pytest.raises(ClientError, match="is closed"):
        backend.call_all([(0, [ToolCall("today", {})])])
