"""A model behind an endpoint plays like any other player."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_endpoint import (
    ScriptedEndpoint,
    message,
    native,
    refusal,
    scripted_endpoint,
    solves_sums,
)
from tiny_tasks import sum_task

from agents.chat_answers import Answer, NativeCall
from agents.chat_client import ChatClient, ChatConfig
from agents.chat_errors import EndpointError
from agents.endpoint import Conversation, EndpointPlayer, model_at
from agents.engine import SamplingConfig
from agents.evaluate import main
from agents.figures import figures
from agents.models import load_model, load_tokenizer
from agents.players import LanguagePlayer
from agents.rollout import rollout
from envs.parsing import parse_turn
from envs.policies import render_calls
from envs.tasks.load import load_tasks
from rewards.episode import Fault, Outcome, Status, ToolCall
from rewards.serialise import read_episodes, write_tasks
from tests.examples.peers import free_port, python_of, serving

EMBEDDED = "agents/embedded"
PROMPT = [{"role": "user", "content": "What is 17 + 25?"}]
GOOD = NativeCall("id0", "calculate", '{"expression": "17 + 25"}')
SAME = ToolCall("calculate", {"expression": "17 + 25"})


def talk(**rest: Any) -> Conversation:
    return Conversation({"messages": PROMPT, "tools": [{"type": "function"}]}, **rest)


def tool(*contents: str) -> list[dict[str, Any]]:
    return [{"role": "tool", "content": content} for content in contents]


# --- answers as turns -------------------------------------------------------------------------


def test_native_calls_are_written_as_the_model_would_have() -> None:
    other = NativeCall("id1", "calculate", "")
    turn = talk().said(Answer("Let me see.", calls=(GOOD, other)))
    assert turn == "Let me see.\n" + render_calls([SAME, ToolCall("calculate", {})])


def test_a_thought_is_a_thought_whatever_it_holds() -> None:
    thought = "</think> <tool_call>{}</tool_call> so I add"
    parsed = parse_turn(talk().said(Answer("42", reasoning=thought)))
    assert (parsed.text, parsed.calls, parsed.fault) == ("42", (), None)
    assert parsed.thought.endswith("so I add")


def test_broken_arguments_are_judged_as_such() -> None:
    turn = talk().said(Answer(calls=(NativeCall("id0", "calculate", '{"expression": '),)))
    assert parse_turn(turn).fault is Fault.INVALID_JSON


def test_a_call_without_a_name_is_judged_as_such() -> None:
    turn = talk().said(Answer(calls=(NativeCall("id0", "", "{}"),)))
    assert parse_turn(turn).fault is Fault.INVALID_JSON


def test_calls_that_the_server_left_in_the_text_are_made_once() -> None:
    text = render_calls([SAME])
    assert parse_turn(talk().said(Answer(text, calls=(GOOD,)))).calls == (SAME,)


def test_a_tag_in_prose_does_not_replace_native_calls() -> None:
    turn = talk().said(Answer("I write `<tool_call>` tags.", calls=(GOOD,)))
    assert parse_turn(turn).calls == (SAME,)


names = st.text(min_size=1, max_size=8)
objects = st.dictionaries(
    st.text(max_size=5), st.none() | st.integers() | st.text(max_size=8), max_size=3
)


@given(st.lists(st.tuples(names, objects), min_size=1, max_size=3))
def test_native_calls_mean_the_same_as_raw_turns(calls: list[tuple[str, dict[str, Any]]]) -> None:
    answer = Answer(calls=tuple(NativeCall("i", n, json.dumps(a)) for n, a in calls))
    assert parse_turn(talk().said(answer)).calls == tuple(ToolCall(n, a) for n, a in calls)


# --- what goes back ---------------------------------------------------------------------------


def test_each_native_call_gets_its_own_result() -> None:
    one = talk()
    one.said(Answer(calls=(GOOD, NativeCall("id1", "calculate", "{}"))))
    one.told(tool("42", "Error"))
    said, first, second = one.messages[1:]
    assert [call["id"] for call in said["tool_calls"]] == ["id0", "id1"]
    assert first == {"role": "tool", "tool_call_id": "id0", "content": "42"}
    assert second == {"role": "tool", "tool_call_id": "id1", "content": "Error"}


def test_one_fault_is_told_to_all_native_calls() -> None:
    one = talk()
    one.said(Answer(calls=(GOOD, NativeCall("id1", "nothing", "{}"))))
    one.told(tool("Error: not offered"))
    assert [m["content"] for m in one.messages[2:]] == ["Error: not offered"] * 2


def test_broken_arguments_go_back_as_text_because_servers_would_read_them() -> None:
    one = talk()
    turn = one.said(Answer(calls=(NativeCall("id0", "calculate", '{"a'),)))
    one.told(tool("Error: not valid JSON"))
    told = "<tool_response>\nError: not valid JSON\n</tool_response>"
    assert one.messages[1:] == [
        {"role": "assistant", "content": turn},
        {"role": "user", "content": told},
    ]


def test_results_of_calls_in_text_go_back_as_the_template_would_write_them() -> None:
    tokenizer = load_tokenizer("embedded")
    one = talk()
    turn = one.said(Answer(render_calls([SAME, SAME])))
    one.told(tool("42", "43"))
    roles = [*PROMPT, {"role": "assistant", "content": turn}, *tool("42", "43")]
    written, wanted = (
        tokenizer.apply_chat_template(messages, tokenize=False)
        for messages in (one.messages, roles)
    )
    assert written == wanted


def test_a_thought_goes_back_under_the_key_it_came_by() -> None:
    one = talk()
    one.said(Answer("42", reasoning="A sum.", reasoning_key="reasoning"))
    assert one.messages[-1] == {"role": "assistant", "content": "42", "reasoning": "A sum."}


def test_a_user_s_message_follows_the_results() -> None:
    one = talk()
    one.said(Answer(calls=(GOOD,)))
    one.told([*tool("42"), {"role": "user", "content": "And 1 + 1?"}])
    assert [m["role"] for m in one.messages] == ["user", "assistant", "tool", "user"]


def test_a_guiding_prompt_comes_first() -> None:
    assert talk(system_prompt="Think.").messages == [
        {"role": "system", "content": "Think."},
        *PROMPT,
    ]


def test_waiting_uses_up_the_patience() -> None:
    one = talk(patience_s=10)
    one.said(Answer("42", seconds=4))
    assert one.left_s == 6


# --- the player -------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[ScriptedEndpoint]:
    with scripted_endpoint() as running:
        yield running


@pytest.fixture
def player(server: ScriptedEndpoint) -> Iterator[EndpointPlayer]:
    client = ChatClient(ChatConfig(server.url, "tiny", retries=0, backoff_s=0.001))
    yield EndpointPlayer(client, "tiny", "Use the tools.")
    client.close()


def test_a_batch_is_played_to_its_end_and_asked_side_by_side(
    server: ScriptedEndpoint, player: EndpointPlayer
) -> None:
    meeting = threading.Barrier(3, timeout=60)

    def respond(body: dict[str, Any]) -> Any:
        meeting.wait()  # nobody is answered before all three have asked
        return solves_sums(body)

    server.respond = respond
    played = rollout(player, [sum_task(number) for number in (25, 26, 27)])
    assert [one.episode.success for one in played] == [True] * 3
    assert all(body["messages"][0]["role"] == "system" for body in server.requests)


def test_the_model_is_told_what_was_wrong_and_may_go_on(
    server: ScriptedEndpoint, player: EndpointPlayer
) -> None:
    wrong = native(("calculate", '{"expression": '))
    server.script = [wrong, native(("calculate", GOOD.arguments)), message("The result is 42.")]
    [played] = rollout(player, [sum_task(25)])
    outcomes = [turn.outcome for turn in played.episode.turns]
    assert outcomes == [Outcome.INVALID_JSON, Outcome.TOOL_EXECUTION, Outcome.SUCCESS]
    assert "not valid JSON" in server.requests[1]["messages"][-1]["content"]


def test_an_outage_is_an_error_and_no_verdict(
    server: ScriptedEndpoint, player: EndpointPlayer
) -> None:
    server.respond = lambda body: solves_sums(body) if len(server.requests) < 3 else refusal(500)
    with pytest.raises(EndpointError, match=r"500.*5 episodes were lost in a row"):
        rollout(player, [sum_task(number) for number in range(25, 33)], batch_size=2)


def test_a_request_without_an_answer_loses_its_episode_alone(
    server: ScriptedEndpoint, player: EndpointPlayer, caplog: pytest.LogCaptureFixture
) -> None:
    def respond(body: dict[str, Any]) -> Any:
        lost = "17 + 26" in body["messages"][1]["content"] and len(body["messages"]) > 2
        return refusal(500) if lost else solves_sums(body)

    server.respond = respond
    tasks = [sum_task(number) for number in (25, 26, 27)]
    played = [one.episode for one in rollout(player, tasks, batch_size=2)]
    assert [one.success for one in played] == [True, False, True]
    assert [one.status for one in played] == [Status.OK, Status.UNANSWERED, Status.OK]
    assert len(played[1].turns) == 1  # what was played before stays
    counted = figures(played)
    assert counted["infrastructure_faults"] == {"unanswered": 1}
    assert (counted["success"]["successes"], counted["success"]["n"]) == (2, 2)
    assert "500" in caplog.text


# --- evaluation through an endpoint -----------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("tiny@http://localhost:8000/v1", ("tiny", "http://localhost:8000/v1")),
        ("a/b@main@HTTPS://host/v1", ("a/b@main", "HTTPS://host/v1")),
        ("embedded", None),
        ("me@host", None),
        ("@http://localhost", None),
    ],
)
def test_a_policy_may_name_a_model_at_a_url(policy: str, expected: Any) -> None:
    assert model_at(policy) == expected


def test_an_endpoint_is_evaluated_beside_other_policies(
    server: ScriptedEndpoint,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    write_tasks(tmp_path / "sums.jsonl", [sum_task(25, "test"), sum_task(26, "test")])
    server.respond = solves_sums
    policy = f"tiny@{server.url}"
    command = ["--policies", policy, "oracle", "--suite", str(tmp_path / "sums.jsonl")]
    command += ["--output_dir", str(tmp_path / "out"), "--k", "2", "--temperature", "0.5"]
    assert main(command) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["suites"]["sums"]["policies"][policy]["success"]["successes"] == 2
    [file] = (tmp_path / "out" / "episodes").glob("tiny@*.jsonl")
    assert len(list(read_episodes(file))) == 4
    assert policy in capsys.readouterr().out
    assert {body["temperature"] for body in server.requests} == {0.5}
    assert set(server.keys) == {"Bearer sk-secret"}
    assert "sk-secret" not in file.read_text() + json.dumps(summary)


@pytest.mark.parametrize(
    ("url", "told"),
    [("http://a:b/v1", "is no URL"), ("http://127.0.0.1:1/v1", "nothing answers")],
)
def test_an_endpoint_that_cannot_be_used_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str, told: str
) -> None:
    write_tasks(tmp_path / "sums.jsonl", [sum_task(25, "test")])
    command = ["--policies", f"tiny@{url}", "--suite", str(tmp_path / "sums.jsonl")]
    assert main([*command, "--output_dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_the_embedded_policy_plays_the_same_through_the_server_of_transformers(
    tmp_path: Path,
) -> None:
    tasks = load_tasks("starter", "test")[:6]
    python, port = python_of("serving"), free_port()
    command = [python, "-m", "transformers.cli.transformers", "serve", EMBEDDED]
    command += ["--reasoning", "off", "--device", "cpu", "--port", str(port)]
    config = ChatConfig(f"http://127.0.0.1:{port}/v1", EMBEDDED, 0.0, 96)
    client = ChatClient(config)
    with serving(command, port, tmp_path / "server.log"):
        served = rollout(EndpointPlayer(client, EMBEDDED), tasks, max_turns=3)
    client.close()
    greedy = SamplingConfig(temperature=0.0, max_turn_tokens=96)
    player = LanguagePlayer(load_model("embedded"), load_tokenizer("embedded"), greedy, "embedded")
    here = rollout(player, tasks, max_turns=3)
    assert client.usage.answers == sum(len(one.episode.turns) for one in served)
    for there, own in zip(served, here, strict=True):
        # The server's template leaves out the empty thoughts of earlier turns, which the rollout's
        # keeps, so that the first turns are equal and later ones may be worded differently.
        assert there.episode.turns[0].raw == own.episode.turns[0].raw
        assert [t.outcome for t in there.episode.turns] == [t.outcome for t in own.episode.turns]
