"""A person at the terminal: approves calls, types messages, quits."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_endpoint import (
    ScriptedEndpoint,
    message,
    native,
    refusal,
    scripted_endpoint,
    solves_sums,
)
from tiny_tasks import sum_task

from mock_mcp.server import served_tools
from rewards.episode import ToolCall
from rewards.serialise import write_tasks
from sft.collect import main
from sft.collecting.person import Person, printable

GOOD = ("calculate", '{"expression": "17 + 25"}')
OTHER = ("calculate", '{"expression": "1 + 1"}')

Row = dict[str, Any]
Attend = Callable[..., tuple[int, list[Row], str]]


@pytest.fixture
def server() -> Iterator[ScriptedEndpoint]:
    with scripted_endpoint() as running:
        yield running


@pytest.fixture
def attend(
    server: ScriptedEndpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Attend:
    """Run the command while a person types; return exit code, rows and what was shown."""

    def run(typed: str, *flags: str, tasks: int = 1) -> tuple[int, list[Row], str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        write_tasks(tmp_path / "tasks.jsonl", [sum_task(25 + n) for n in range(tasks)])
        output = tmp_path / "traces.jsonl"
        command = ["--endpoint", server.url, "--model", "tiny", "--output", str(output)]
        command += ["--tasks", str(tmp_path / "tasks.jsonl"), "--parallel", "1", *flags]
        code = main(command)
        return code, list(map(json.loads, output.read_text().splitlines())), capsys.readouterr().out

    return run


# --- approval ---------------------------------------------------------------------------------


def test_an_approved_call_runs(server: ScriptedEndpoint, attend: Attend) -> None:
    server.respond = solves_sums
    code, [row], shown = attend("y\n", "--approve")
    assert (code, row["outcome"]) == (0, "success")
    assert 'call calculate {"expression": "17 + 25"}' in shown


def test_a_refusal_is_the_tool_s_answer(server: ScriptedEndpoint, attend: Attend) -> None:
    server.script = [native(GOOD), native(GOOD), message("The result is 42.")]
    code, [row], shown = attend("what?\nn\nyes\n", "--approve")
    assert (code, row["outcome"]) == (0, "success")
    refused = server.requests[1]["messages"][-1]
    assert refused["role"] == "tool"
    assert "the user refused this call; it was not run" in refused["content"]
    assert row["messages"][2]["content"] == refused["content"]
    assert "42" in row["messages"][4]["content"]
    assert shown.count("run it?") == 3


def test_refused_and_approved_calls_of_one_turn_keep_their_places(
    server: ScriptedEndpoint, attend: Attend
) -> None:
    server.script = [native(OTHER, GOOD, OTHER), message("The result is 42.")]
    _, [row], _ = attend("n\ny\nn\n", "--approve")
    results = [m["content"] for m in row["messages"] if m["role"] == "tool"]
    assert ["refused" in text for text in results] == [True, False, True]
    assert "42" in results[1]


def test_always_holds_for_one_tool(server: ScriptedEndpoint, attend: Attend) -> None:
    solve = ("solve_equation", '{"equation": "x = 1"}')
    server.script = [native(GOOD, OTHER), native(solve), native(OTHER), message("42")]
    _, _, shown = attend("always\nn\n", "--approve")
    assert shown.count("run it?") == 2


@pytest.mark.parametrize("typed", ["y\nquit\n", "y\n"], ids=["quit", "end of input"])
def test_whoever_quits_keeps_what_is_finished(
    server: ScriptedEndpoint, attend: Attend, typed: str
) -> None:
    server.respond = solves_sums
    code, rows, shown = attend(typed, "--approve", tasks=3)
    assert (code, [row["id"] for row in rows]) == (0, ["sum25-train"])
    assert "the same command goes on where it stopped" in shown


def test_a_terminal_shows_what_there_is_and_does_nothing_else() -> None:
    assert printable("a\u202eb\x1b[2Jé\n\ud83d") == "a\\u202eb\\x1b[2Jé\n\\ud83d"


def test_a_call_that_hides_itself_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert Person().confirms(ToolCall("delete\x1b[1A", {"path": "\x1b[2K/etc"}))
    assert "\x1b" not in capsys.readouterr().out


# --- several user turns -----------------------------------------------------------------------


def test_an_answer_ends_a_user_turn_and_an_empty_line_the_episode(
    server: ScriptedEndpoint, attend: Attend
) -> None:
    server.script = [
        native(GOOD),
        message("The result is 42."),
        native(OTHER),
        message("It is 2."),
    ]
    code, [row], shown = attend("And 1 + 1?\n\n", "--interactive")
    assert code == 0
    roles = [m["role"] for m in row["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant"] * 2
    assert row["messages"][4] == {"role": "user", "content": "And 1 + 1?"}
    assert row["outcome"] == "success"  # the task was solved, and what came later was another
    assert all(message.get("weight", 1) == 1 for message in row["messages"])
    assert server.requests[2]["messages"][-1]["content"] == "And 1 + 1?"
    assert "model: The result is 42." in shown


def test_a_question_back_can_be_answered(server: ScriptedEndpoint, attend: Attend) -> None:
    server.script = [message("Shall I add?"), native(GOOD), message("The result is 42.")]
    _, [row], _ = attend("Yes.\n\n", "--interactive")
    assert row["outcome"] == "success"
    assert [m["role"] for m in row["messages"]][:3] == ["user", "assistant", "user"]


def test_the_turn_limit_gives_the_word_back_with_all_results(
    server: ScriptedEndpoint, attend: Attend
) -> None:
    broken = native(("calculate", '{"expression": '))
    server.script = [native(OTHER), broken, message("I give up.")]
    _, [row], shown = attend("Go on.\nAgain.\n\n", "--interactive", "--max_turns", "1")
    assert [m["role"] for m in row["messages"]] == [
        *("user", "assistant", "tool", "user"),
        *("assistant", "tool", "user", "assistant"),
    ]
    assert server.requests[1]["messages"][2]["role"] == "tool"
    told = server.requests[2]["messages"][-2:]
    assert [m["role"] for m in told] == ["user", "user"]
    assert row["messages"][5]["content"] in told[0]["content"]
    assert "not valid JSON" in shown


def test_the_end_of_the_input_ends_the_episode_and_the_collection(
    server: ScriptedEndpoint, attend: Attend
) -> None:
    server.respond = solves_sums
    code, rows, _ = attend("", "--interactive", tasks=3)
    assert (code, [row["outcome"] for row in rows]) == (0, ["success"])


def test_without_tasks_the_person_begins_and_nothing_is_judged(
    server: ScriptedEndpoint, attend: Attend
) -> None:
    server.script = [native(GOOD), message("42"), message("Hello!")]
    code, [first, second], shown = attend("17 + 25?\n\nHello\n\n\n", "--interactive", "--tasks", "")
    assert code == 0
    assert first["messages"][0] == {"role": "user", "content": "17 + 25?"}
    assert second["messages"] == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello!"},
    ]
    assert first["id"] != second["id"]
    assert "outcome" not in first
    assert all(message.get("weight", 1) == 1 for message in first["messages"])
    assert len(first["tools"]) == len(served_tools())
    assert "not judged     2" in shown
    assert "success" not in shown


def test_the_number_of_typed_episodes_may_be_limited(
    server: ScriptedEndpoint, attend: Attend
) -> None:
    server.respond = lambda _: message("Hello!")
    flags = ("--interactive", "--tasks", "", "--episodes", "1")
    _, rows, _ = attend("Hello\n\nHello again\n\n", *flags)
    assert len(rows) == 1


def test_a_lost_episode_asks_nobody(server: ScriptedEndpoint, attend: Attend) -> None:
    server.script = [native(GOOD), refusal(400)]
    code, rows, shown = attend("Hello?\n", "--interactive")
    assert (code, rows) == (1, [])
    assert "you (" not in shown
