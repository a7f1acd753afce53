"""The command against a scripted endpoint, over the mock world."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_endpoint import (
    Reply,
    ScriptedEndpoint,
    message,
    native,
    refusal,
    scripted_endpoint,
    solves_sums,
)
from tiny_tasks import sum_task

from agents.template import ChatTemplate
from envs.policies import render_calls
from rewards.episode import Task, ToolCall
from rewards.serialise import write_tasks
from sft.collect import CollectFlags, main
from sft.traces import token_row

KEY = "sk-very-secret"
GOOD = ("calculate", '{"expression": "17 + 25"}')
SAME = ToolCall("calculate", {"expression": "17 + 25"})

Row = dict[str, Any]
Collect = Callable[..., int]


@pytest.fixture
def server() -> Iterator[ScriptedEndpoint]:
    with scripted_endpoint() as running:
        yield running


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out" / "traces.jsonl"


@pytest.fixture
def collect(
    server: ScriptedEndpoint, tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> Collect:
    """Run the command on sum tasks, or on the tasks that are given."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def run(*flags: str, tasks: list[Task] | None = None, url: str = "") -> int:
        file = tmp_path / "tasks.jsonl"
        write_tasks(file, [sum_task(25)] if tasks is None else tasks)
        command = ["--endpoint", url or server.url, "--model", "tiny", "--output", str(output)]
        return main([*command, "--tasks", str(file), *flags])

    return run


def rows(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def sums(count: int) -> list[Task]:
    return [sum_task(number) for number in range(25, 25 + count)]


# --- rows -------------------------------------------------------------------------------------


def test_an_episode_becomes_a_canonical_row(
    server: ScriptedEndpoint, collect: Collect, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = [
        native(GOOD, reasoning_content="I add them."),
        message("The result is 42."),
    ]
    assert collect() == 0
    [row] = rows(output)
    assert set(row) == {
        *("id", "timestamp", "model", "messages", "tools", "source", "truncated", "outcome")
    }
    assert (row["id"], row["model"], row["source"]) == ("sum25-train", "tiny", "collected")
    assert (row["outcome"], row["truncated"]) == ("success", False)
    assert row["timestamp"].endswith("+00:00")
    user, call, tool, answer = row["messages"]
    assert user == {"role": "user", "content": sum_task(25).prompt}
    function = {"name": "calculate", "arguments": {"expression": "17 + 25"}}
    assert call == {
        "role": "assistant",
        "content": "",
        "reasoning_content": "I add them.",
        "tool_calls": [{"type": "function", "function": function}],
    }
    assert (tool["role"], "42" in tool["content"]) == ("tool", True)
    assert answer == {"role": "assistant", "content": "The result is 42."}
    assert [one["function"]["name"] for one in row["tools"]] == list(sum_task(25).tools)
    assert {one["type"] for one in row["tools"]} == {"function"}
    printed = capsys.readouterr().out
    assert "success 100.0% of 1" in printed
    assert "2 answers, 0 retries; tokens: 200 read, 20 sampled" in printed


def test_a_row_can_be_trained_on(
    server: ScriptedEndpoint, collect: Collect, output: Path, tokenizer: Any
) -> None:
    server.script = [message(render_calls([SAME])), message("The result is 42.")]
    assert collect() == 0
    row = token_row(ChatTemplate(tokenizer), rows(output)[0])
    trained = [i for i, m in zip(row["input_ids"], row["assistant_masks"], strict=True) if m]
    assert tokenizer.decode(trained).startswith(render_calls([SAME]))


def test_mistakes_are_judged_and_stay_in_the_row_to_be_shown_and_not_trained(
    server: ScriptedEndpoint, collect: Collect, output: Path
) -> None:
    broken = native(("calculate", '{"expression": '))
    server.script = [broken, message(render_calls([SAME])), message("It is 41.")]
    assert collect() == 0
    [row] = rows(output)
    assert row["outcome"] == "structural_fail"
    wrong, told, call, result, answer = row["messages"][1:]
    assert wrong["content"].startswith("<tool_call>")
    assert "not valid JSON" in told["content"]
    assert (wrong["weight"], answer["weight"]) == (0, 0)
    assert "weight" not in {**told, **call, **result}


def test_thoughts_in_the_text_are_kept_apart(
    server: ScriptedEndpoint, collect: Collect, output: Path
) -> None:
    said = "<think>\nI add.\n</think>\n\n" + render_calls([SAME])
    server.script = [message(said), message("The result is 42.")]
    assert collect() == 0
    call = rows(output)[0]["messages"][1]
    assert (call["reasoning_content"], call["content"]) == ("I add.", "")


def test_a_guiding_prompt_is_sent_and_not_stored(
    server: ScriptedEndpoint, collect: Collect, output: Path, tmp_path: Path
) -> None:
    (tmp_path / "guide.txt").write_text("Always use the tools.\n")
    server.respond = solves_sums
    assert collect("--system_prompt", str(tmp_path / "guide.txt")) == 0
    system = {"role": "system", "content": "Always use the tools."}
    assert [body["messages"][0] for body in server.requests] == [system] * 2
    assert "Always" not in output.read_text()


def test_tool_responses_are_cut_for_the_model_and_in_the_row(
    server: ScriptedEndpoint, collect: Collect, output: Path
) -> None:
    server.script = [native(("calculate", '{"expression": "10**30"}')), message("42")]
    assert collect("--max_tool_chars", "5") == 0
    shown = server.requests[1]["messages"][-1]["content"]
    assert shown == rows(output)[0]["messages"][2]["content"]
    assert "more characters]" in shown
    assert len(shown.split("\n")[0]) == 5


def test_the_key_is_sent_and_never_shown(
    server: ScriptedEndpoint, collect: Collect, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.respond = solves_sums
    assert collect() == 0
    server.script = [refusal(401, f"wrong key {KEY}")]
    server.respond = lambda _: server.script.pop(0)
    assert collect(tasks=sums(2)) == 2
    assert server.keys == [f"Bearer {KEY}"] * 3
    told = capsys.readouterr()
    assert "OPENAI_API_KEY is refused" in told.err
    assert KEY not in told.out + told.err + output.read_text()


# --- several episodes -------------------------------------------------------------------------


def test_a_slow_episode_holds_up_no_other(
    server: ScriptedEndpoint, collect: Collect, output: Path
) -> None:
    others = threading.Semaphore(0)

    def respond(body: dict[str, Any]) -> Reply:
        if "17 + 25" in body["messages"][0]["content"] and len(body["messages"]) == 1:
            for _ in range(4):  # the first task is answered when all others are solved
                assert others.acquire(timeout=60)
        reply = solves_sums(body)
        if b"The result" in reply.body:
            others.release()
        return reply

    server.respond = respond
    assert collect("--parallel", "2", tasks=sums(5)) == 0
    assert [row["id"] for row in rows(output)][-1] == "sum25-train"
    assert {row["outcome"] for row in rows(output)} == {"success"}


def test_more_episodes_than_tasks_are_further_tries_under_other_ids(
    server: ScriptedEndpoint, collect: Collect, output: Path
) -> None:
    server.respond = solves_sums
    assert collect("--episodes", "3", "--parallel", "1", tasks=sums(2)) == 0
    assert [row["id"] for row in rows(output)] == ["sum25-train", "sum26-train", "sum25-train#2"]


def test_a_lost_episode_is_counted_and_not_written_and_played_again_later(
    server: ScriptedEndpoint, collect: Collect, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def respond(body: dict[str, Any]) -> Reply:
        fails = "17 + 26" in body["messages"][0]["content"]
        return (
            refusal(400, "too long") if fails and len(body["messages"]) > 1 else solves_sums(body)
        )

    server.respond = respond
    assert collect("--parallel", "1", tasks=sums(3)) == 1
    assert [row["id"] for row in rows(output)] == ["sum25-train", "sum27-train"]
    assert "lost, not written: endpoint 1; the last: the endpoint" in capsys.readouterr().out
    server.respond = solves_sums
    assert collect(tasks=sums(3)) == 0
    assert [row["id"] for row in rows(output)][2:] == ["sum26-train"]


def test_an_endpoint_that_is_gone_ends_the_collection(
    server: ScriptedEndpoint, collect: Collect, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.respond = lambda body: (
        solves_sums(body) if len(server.requests) < 3 else refusal(400, "gone")
    )
    assert collect("--parallel", "1", tasks=sums(20)) == 2
    assert len(rows(output)) == 1
    assert len(server.requests) == 7
    told = capsys.readouterr()
    assert "5 episodes were lost in a row. What is written is safe" in told.err
    assert "success 100.0% of 1" in told.out


def test_retries_are_counted(
    server: ScriptedEndpoint, collect: Collect, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = [refusal(429, Retry_After="0"), native(GOOD), message("The result is 42.")]
    assert collect() == 0
    assert "2 answers, 1 retries" in capsys.readouterr().out


def test_ctrl_c_loses_nothing_finished(
    server: ScriptedEndpoint, collect: Collect, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def respond(body: dict[str, Any]) -> Reply:
        if "17 + 26" in body["messages"][0]["content"]:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            server.closing.wait(60)
        return solves_sums(body)

    server.respond = respond
    assert collect("--parallel", "1", tasks=sums(3)) == 130
    assert [row["id"] for row in rows(output)] == ["sum25-train"]
    assert "the same command goes on where it stopped" in capsys.readouterr().out


# --- resuming ---------------------------------------------------------------------------------


def test_what_is_there_is_not_played_again(
    server: ScriptedEndpoint, collect: Collect, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.respond = solves_sums
    assert collect(tasks=sums(2)) == 0
    assert collect(tasks=sums(3)) == 0
    assert len(server.requests) == 6
    assert collect(tasks=sums(3)) == 0
    assert len(server.requests) == 6
    assert sorted(row["id"] for row in rows(output)) == [task.id for task in sums(3)]
    assert "holds 3 rows already; 0 episodes are to be played" in capsys.readouterr().out


def test_a_half_written_last_line_is_discarded_with_a_message(
    server: ScriptedEndpoint, collect: Collect, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.respond = solves_sums
    assert collect(tasks=sums(1)) == 0
    with output.open("a") as file:
        file.write('{"id": "sum26-train", "model": "ti')
    assert collect(tasks=sums(2)) == 0
    assert [row["id"] for row in rows(output)] == ["sum25-train", "sum26-train"]
    assert "the last line was half-written and is discarded" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"id": "a", "model": "tiny"}\n{"id": \n', ":2: not valid JSON"),
        ('{"id": "a", "model": "other"}\n', ":1: a row of the model 'other'; give another"),
        ("[]\n", ":1: not a row with an id"),
    ],
)
def test_a_file_that_holds_something_else_is_left_alone(
    collect: Collect, output: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    output.parent.mkdir()
    output.write_text(text)
    assert collect() == 2
    assert output.read_text() == text
    assert f"{output}{told}" in capsys.readouterr().err


# --- what cannot be meant ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--parallel", "0"], "--parallel must be at least 1"),
        (["--episodes", "-1"], "--episodes must not be negative"),
        (["--request_timeout", "0"], "--request_timeout must be positive"),
        (["--tasks", ""], "only with --interactive"),
        (["--api_key", KEY], "unknown flag --api_key"),
    ],
)
def test_a_wrong_flag_is_one_clear_line(
    collect: Collect, capsys: pytest.CaptureFixture[str], flags: list[str], told: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        collect(*flags)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert told in error
    assert KEY not in error


def test_a_file_that_cannot_be_used_is_one_clear_line(
    collect: Collect, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert collect("--system_prompt", str(tmp_path / "missing.txt")) == 2
    (tmp_path / "latin.txt").write_bytes(b"\xe9\n")
    assert collect("--system_prompt", str(tmp_path / "latin.txt")) == 2
    assert collect(url="localhost:8000") == 2
    output.unlink()
    output.mkdir()
    assert collect() == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 4
    for error, told in zip(
        errors, ("missing.txt", "not UTF-8", "no URL", str(output)), strict=True
    ):
        assert told in error


def test_a_full_disk_is_one_clear_line(
    server: ScriptedEndpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.respond = solves_sums
    write_tasks(tmp_path / "tasks.jsonl", [sum_task(25)])
    command = ["--endpoint", server.url, "--model", "tiny", "--output", "/dev/full"]
    assert main([*command, "--tasks", str(tmp_path / "tasks.jsonl")]) == 2
    assert "No space left" in capsys.readouterr().err


def test_ctrl_c_before_anything_is_played_is_no_traceback(
    collect: Collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sft.collect.resume", interrupted)
    assert collect() == 130


def test_flags_have_help_and_no_place_for_a_key() -> None:
    fields = CollectFlags.__dataclass_fields__
    assert all(field.metadata["help"] for field in fields.values())
    assert not any("key" in name for name in fields)
    assert os.environ.get("OPENAI_API_KEY") != KEY
