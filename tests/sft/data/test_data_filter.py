from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from curated_rows import read, row, run, says, user, write

from agents.players import ScriptedPlayer
from agents.rollout import rollout
from envs.policies import make_policy
from envs.tasks.load import load_tasks
from rewards.episode import Episode, Outcome, ReferenceTurn, Status, Task, ToolCall
from rewards.goals import FinalAnswer
from rewards.serialise import write_episodes
from sft.data.check import problems
from sft.data.measures import TokenCounter
from sft.mistakes import Stumbler
from sft.traces import pick_tasks
from tests.envs.servers import steered_server

ROWS = [
    row("Rome", outcome="success", reward=10.0),
    row("Oslo", outcome="tool_error", reward=-0.5),
    row("Bern", user("Hello there."), says("Hi."), outcome="success", source="hermes"),
]


def kept(tmp_path: Path, *flags: object) -> list[str]:
    out = tmp_path / "out.jsonl"
    assert run("filter", write(tmp_path / "in.jsonl", ROWS), out, *flags) == 0
    return [one["id"] for one in read(out)]


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ((), ["Rome", "Oslo", "Bern"]),
        (("--outcome", "success"), ["Rome", "Bern"]),
        (("--outcome", "success", "--outcome", "tool_error"), ["Rome", "Oslo", "Bern"]),
        (("--min_reward", 0), ["Rome"]),
        (("--max_reward", -0.5), ["Oslo"]),
        (("--min_calls", 1), ["Rome", "Oslo"]),
        (("--max_calls", 0), ["Bern"]),
        (("--source", "hermes"), ["Bern"]),
        (("--max_turns", 1), ["Bern"]),
        (("--min_turns", 2, "--outcome", "success"), ["Rome"]),
    ],
)
def test_rows_that_meet_all_criteria_are_kept_as_they_are(
    tmp_path: Path, flags: tuple[object, ...], names: list[str]
) -> None:
    assert kept(tmp_path, *flags) == names


def test_length_is_counted_in_tokens_as_in_training(tmp_path: Path) -> None:
    counter = TokenCounter("embedded")
    lengths = {one["id"]: counter.count(one).total for one in ROWS}
    assert lengths["Bern"] < lengths["Rome"]
    assert kept(tmp_path, "--max_tokens", lengths["Bern"]) == ["Bern"]
    assert kept(tmp_path, "--min_tokens", lengths["Bern"] + 1) == ["Rome", "Oslo"]


def test_what_was_dropped_is_counted_by_criterion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(tmp_path, "--outcome", "success", "--min_calls", 1)
    lines = [line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    for line in (["read", "3"], ["kept", "1"], ["dropped: outcome", "1"],
                 ["dropped: number of calls", "1"]):  # fmt: skip
        assert line in lines


def test_nothing_left_is_an_error_and_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "in.jsonl", ROWS)
    assert run("filter", path, tmp_path / "out.jsonl", "--min_reward", 11) == 2
    assert "no row is left" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize("name", ["reward", "calls", "turns", "tokens"])
def test_bounds_that_cross_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = write(tmp_path / "in.jsonl", ROWS)
    bounds = (f"--min_{name}", 3, f"--max_{name}", 2)
    assert run("filter", path, tmp_path / "out.jsonl", *bounds) == 2
    assert f"--min_{name} 3 is above --max_{name} 2" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [("--min_reward", "nan"), ("--min_calls", -1)])
def test_bounds_that_are_no_numbers_are_refused(tmp_path: Path, flags: tuple[object, ...]) -> None:
    with pytest.raises(SystemExit):
        run("filter", tmp_path / "in.jsonl", tmp_path / "out.jsonl", *flags)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": 1}', "`id` is no text"),
        ('{"id": "a", "messages": [], "tools": []}', "`messages` is no list with messages"),
        ('{"id": "a", "messages": [{"role": "user"}]}', "`tools` is no list"),
        ('{"id": "a", "messages": [3], "tools": []}', "message 1: no object with a `role`"),
        ('{"id": "a", "messages": [{"role": "user", "content": 3}], "tools": []}', "no text"),
        (
            '{"id": "a", "messages": [{"role": "assistant", "tool_calls": 3}], "tools": []}',
            "message 1: `tool_calls` is no list",
        ),
        (
            '{"id": "a", "messages": [{"role": "assistant", "tool_calls": [{"function": '
            '{"name": "f", "arguments": "{}"}}]}], "tools": []}',
            "message 1: a call has no `function` with an `arguments` object",
        ),
        ('{"query": "?", "answers": "[]"}', "python -m sft.data convert"),
    ],
)
def test_a_line_that_is_no_row_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(f"\n{line}\n", encoding="utf-8")
    assert run("filter", path, tmp_path / "out.jsonl") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}:2: no canonical row: ")
    assert message in error


# --- stored episodes ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    """Solved episodes, the last few with a mistake in the first turn."""
    tasks = pick_tasks(load_tasks("starter", "train"), 30, seed=0)
    stumbler = Stumbler(0)
    stumbling = [task for task in tasks if stumbler.place(task) == 0][:6]
    played = rollout(ScriptedPlayer(make_policy("oracle")), tasks[:8], max_turns=6)
    played += rollout(ScriptedPlayer(stumbler), stumbling, max_turns=7)
    return [trajectory.episode for trajectory in played if trajectory.episode.success]


def stored(path: Path, episodes: Sequence[Episode]) -> Path:
    write_episodes(path, episodes)
    return path


def as_rows(tmp_path: Path, episodes: Sequence[Episode], *flags: object) -> list[dict[str, Any]]:
    path = stored(tmp_path / "sft.jsonl", episodes)
    assert run("filter", path, tmp_path / "out.jsonl", *flags) == 0
    return read(tmp_path / "out.jsonl")


def test_episodes_become_good_rows_with_their_tools_and_their_return(
    tmp_path: Path, episodes: list[Episode]
) -> None:
    rows = as_rows(tmp_path, episodes)
    assert len(rows) == len(episodes) > 10
    for one, episode in zip(rows, episodes, strict=True):
        assert problems(one) == []
        assert one["reward"] == episode.total_reward
        assert (one["outcome"], one["model"], one["source"]) == ("success", "sft", "rollout")
        assert [tool["function"]["name"] for tool in one["tools"]] == list(episode.task.tools)


def test_turns_that_failed_are_shown_and_not_trained(
    tmp_path: Path, episodes: list[Episode]
) -> None:
    rows = as_rows(tmp_path, episodes)
    failed = 0
    for one, episode in zip(rows, episodes, strict=True):
        turns = [message for message in one["messages"] if message["role"] == "assistant"]
        for message, turn in zip(turns, episode.turns, strict=True):
            good = turn.outcome in (Outcome.SUCCESS, Outcome.TOOL_EXECUTION)
            assert message.get("weight", 1) == good
            failed += not good
    assert failed >= 3


def test_stored_judgements_are_not_believed(
    tmp_path: Path, episodes: list[Episode], capsys: pytest.CaptureFixture[str]
) -> None:
    """A stored success whose last answer is wrong, and a stored failure that was none."""
    good, other = episodes[0], episodes[1]
    wrong_end = replace(good.turns[-1], text="I do not know.", raw="I do not know.")
    lied = replace(good, turns=(*good.turns[:-1], wrong_end))
    last = replace(other.turns[-1], outcome=Outcome.STRUCTURAL_FAIL, reward=-1.0)
    belied = replace(other, turns=(*other.turns[:-1], last))
    (one,) = as_rows(tmp_path, [lied, belied], "--outcome", "success")
    assert one["id"] == other.task.id
    assert one["reward"] == other.total_reward
    lines = [line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert ["judged to another return than stored", "2"] in lines


def test_an_infrastructure_fault_is_no_row(
    tmp_path: Path, episodes: list[Episode], capsys: pytest.CaptureFixture[str]
) -> None:
    crashed = replace(episodes[0], status=Status.SERVER_CRASHED, truncated=True)
    assert len(as_rows(tmp_path, [crashed, episodes[1]])) == 1
    shown = capsys.readouterr().out
    assert "dropped: infrastructure fault" in shown
    assert "1 of 2 rows" in shown


def test_several_episodes_of_a_task_get_ids_of_their_own_over_files_and_kinds(
    tmp_path: Path, episodes: list[Episode]
) -> None:
    first = stored(tmp_path / "base.jsonl", episodes[:1] * 2)
    second = stored(tmp_path / "sft.jsonl", episodes[:1])
    rows = write(tmp_path / "rows.jsonl", ROWS)
    assert run("filter", first, rows, second, tmp_path / "out.jsonl") == 0
    name = episodes[0].task.id
    names = [name, f"{name}-2", "Rome", "Oslo", "Bern", f"{name}-3"]
    assert [one["id"] for one in read(tmp_path / "out.jsonl")] == names


def test_tools_of_other_servers_need_their_config(
    tmp_path: Path, episodes: list[Episode], capsys: pytest.CaptureFixture[str]
) -> None:
    task = replace(episodes[0].task, tools=("fs/read_file",))
    path = stored(tmp_path / "a.jsonl", [replace(episodes[0], task=task)])
    assert run("filter", path, tmp_path / "out.jsonl") == 2
    error = capsys.readouterr().err
    assert "the tool fs/read_file" in error
    assert "--servers" in error


def test_episodes_of_a_real_server_get_the_schemas_of_its_tools(tmp_path: Path) -> None:
    command = ["-I", "-S", steered_server.__file__, str(tmp_path)]
    entry = {"command": sys.executable, "args": command}
    config = tmp_path / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"toy": entry}}))
    turns = (ReferenceTurn((ToolCall("remember", {"text": "blue"}),)), ReferenceTurn(text="blue"))
    task = Task("toy", "Remember blue.", FinalAnswer("blue"), ("remember",), reference=turns)
    (played,) = rollout(ScriptedPlayer(make_policy("oracle")), [task], servers=str(config))
    (one,) = as_rows(tmp_path, [played.episode], "--servers", config)
    assert problems(one) == []
    assert one["outcome"] == "success"
    (tool,) = one["tools"]
    assert tool["function"]["name"] == "remember"
    assert tool["function"]["parameters"]["required"] == ["text"]


def test_a_broken_line_among_episodes_is_named(
    tmp_path: Path, episodes: list[Episode], capsys: pytest.CaptureFixture[str]
) -> None:
    path = stored(tmp_path / "a.jsonl", episodes[:1])
    path.write_text(path.read_text(encoding="utf-8") + '{"task": {}}\n', encoding="utf-8")
    assert run("filter", path, tmp_path / "out.jsonl") == 2
    assert f"error: {path}:2: " in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()
