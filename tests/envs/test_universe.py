from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from envs.errors import TaskError
from envs.parsing import parse_turn
from envs.tasks.universe import read_universe
from rewards import (
    Episode,
    Evaluated,
    Evaluator,
    Outcome,
    Task,
    ToolCall,
    ToolResult,
    Turn,
    evaluator_score,
    judge_turn,
)
from rewards.serialise import task_from_json, task_to_json

WEATHER: dict[str, Any] = {
    "category": "general",
    "question": "What is the weather in the capital of Italy?",
    "mcp_servers": [{"name": "weather"}],
    "output_format": {"city": "<City>", "days": ["<Forecast>"]},
    "evaluators": [
        {"func": "json -> get(city)", "op": "=", "value": "Rome", "desc": "the right city"},
        {"func": "json -> get(days) -> len", "op": "=", "value": 2},
    ],
}


def write(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps(WEATHER | changes, indent=2), encoding="utf-8")
    return path


def test_a_task_file_becomes_a_task_as_it_is(tmp_path: Path) -> None:
    [task] = read_universe([write(tmp_path / "weather_1.json")])
    assert task.id == "weather_1"
    assert task.prompt.startswith(WEATHER["question"] + "\n")
    assert json.dumps(WEATHER["output_format"], indent=2) in task.prompt
    assert task.goal == Evaluated(
        (
            Evaluator("json -> get(city)", "=", "Rome"),
            Evaluator("json -> get(days) -> len", "=", 2),
        )
    )
    assert task.tools == ("weather/*",)
    assert (task.domain, task.kind, task.split) == ("general", "general", "test")
    assert task_from_json(task_to_json(task)) == task


def play(task: Task, answer: str) -> Episode:
    called = Turn("...", (ToolCall("weather_forecast", {}),), results=(ToolResult("sunny"),))
    parsed = parse_turn(answer)
    turn = Turn(answer, parsed.calls, parsed.text, fault=parsed.fault)
    episode = Episode(task, (called, turn))
    outcome = judge_turn(Episode(task, (called,)), turn, last=False).outcome
    assert (outcome is Outcome.SUCCESS) is (evaluator_score(episode) == 1.0)
    return episode


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ('{"city": "Rome", "days": ["sun", "rain"]}', 1.0),
        ('Here it is:\n```json\n{"city": "Rome", "days": ["sun", "rain"]}\n```', 1.0),
        ('{"city": "Rome", "days": []}', 0.5),
        ("It is sunny in Rome.", 0.0),
    ],
)
def test_the_final_text_of_the_model_is_judged_by_every_evaluator(
    tmp_path: Path, answer: str, score: float
) -> None:
    [task] = read_universe([write(tmp_path / "a.json")])
    assert evaluator_score(play(task, answer)) == score


def test_a_right_answer_without_any_call_is_a_guess(tmp_path: Path) -> None:
    [task] = read_universe([write(tmp_path / "a.json")])
    answer = '{"city": "Rome", "days": [1, 2]}'
    turn = Turn(answer, text=answer)
    judged = judge_turn(Episode(task), turn, last=False)
    assert judged.why == "the answer came without any call, and the task needs one"


def test_a_folder_stands_for_its_task_files_in_order(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", "notes.txt"):
        write(tmp_path / name)
    assert [task.id for task in read_universe([tmp_path])] == ["a", "b"]


@pytest.mark.parametrize(
    ("servers", "tools"),
    [
        ([], ()),
        (
            [{"name": "maps"}, {"name": "weather", "tools": ["alerts"]}],
            ("maps/*", "weather/alerts"),
        ),
    ],
)
def test_a_task_names_its_servers_and_their_tools(
    tmp_path: Path, servers: list[Any], tools: tuple[str, ...]
) -> None:
    path = write(tmp_path / "a.json", mcp_servers=servers)
    assert read_universe([path])[0].tools == tools


def test_a_task_without_a_format_is_its_question(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", output_format={}, use_specified_server=True, cleanups=[{}])
    assert read_universe([path])[0].prompt == WEATHER["question"]


EQUALS_ROME = {"func": "raw", "op": "=", "value": "Rome"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"evaluators": [EQUALS_ROME, {"func": "json", "op": "google_maps.is_stop"}]},
            'evaluator 2: unknown op "google_maps.is_stop"',
        ),
        (
            {"evaluators": [{"func": "raw", "op": "llm_as_a_judge", "op_args": {"question": "?"}}]},
            'evaluator 1: op "llm_as_a_judge" with op_args is not supported',
        ),
        (
            {"evaluators": [EQUALS_ROME | {"func": "json -> first"}]},
            'evaluator 1: unknown func "first"',
        ),
        ({"evaluators": []}, "goal evaluated compares nothing"),
        ({"evaluators": [{"func": "json"}]}, "goal evaluated compares nothing"),
        (
            {"evaluators": [EQUALS_ROME, {"func": "raw", "vale": 1}]},
            'task.evaluators[1] has no key "vale"; did you mean "value"?',
        ),
        ({"evaluators": [{"op": "="}]}, 'task.evaluators[0]: the key "func" is missing'),
        (
            {"evaluators": [EQUALS_ROME | {"value": ["{{ACCOUNT}}"]}]},
            "the value of evaluator 1 holds {{ACCOUNT}}",
        ),
        ({"question": "Open {{ URL }}"}, "the question holds {{ URL }}; write its value"),
        ({"question": " "}, "the question is empty"),
        ({"prepares": [{"prepare_func": "fill"}]}, '"prepares" is not supported'),
        ({"mcp_servers": [{"name": "weather", "tools": []}]}, "its servers name no tool"),
        ({"mcp_servers": ["weather"]}, "task.mcp_servers[0]: expected an object"),
        (
            {
                "evaluators": [
                    {"func": "json -> get(days) -> len", "op": ">", "value": 0},
                    {"func": "json -> get(city)", "op": "!=", "value": ""},
                ]
            },
            "an answer that only repeats output_format passes every evaluator",
        ),
    ],
)
def test_a_file_that_cannot_be_judged_is_refused_by_its_name(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "bad.json", **changes)
    with pytest.raises(TaskError) as caught:
        read_universe([path])
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{\n  "question": oops}', "not valid JSON at line 2, column 15"),
        (b"[]", "task: expected an object, got []"),
        (b'{"question": "caff\xe8"}', "not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_task_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(data)
    with pytest.raises(TaskError, match=message.replace("[", r"\[")) as caught:
        read_universe([path])
    assert str(caught.value).startswith(f"{path}: ")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"none\.json cannot be read: No such file"):
        read_universe([tmp_path / "none.json"])
    with pytest.raises(TaskError, match=r"holds no \.json file"):
        read_universe([tmp_path])


def test_two_files_of_one_name_would_be_one_task(tmp_path: Path) -> None:
    paths = [tmp_path / name / "a.json" for name in ("one", "two")]
    for path in paths:
        path.parent.mkdir()
        write(path)
    with pytest.raises(TaskError, match=r'two/a\.json: the id "a" was used by .*one/a\.json'):
        read_universe(paths)
