from __future__ import annotations

import json
from pathlib import Path

import pytest

from envs.errors import TaskError
from envs.mcp_env import MCPGymEnv
from envs.tasks import load_tasks
from envs.tasks.__main__ import main
from envs.tasks.prove import play, problems
from envs.tasks.suite import generate
from rewards.episode import ReferenceTurn, Task, ToolCall
from rewards.goals import FinalAnswer, FinalState, NoCall, NoCallNaming, ReturnedData
from rewards.serialise import task_to_json, write_tasks

SUM = Task(
    id="sum",
    prompt="What is the result of 17 * 23?",
    goal=FinalAnswer(391, "number"),
    tools=("calculate", "today"),
    domain="math",
    kind="mine",
    depth=1,
    reference=(
        ReferenceTurn(calls=(ToolCall("calculate", {"expression": "17 * 23"}),)),
        ReferenceTurn(text="The result is 391."),
    ),
)


@pytest.fixture(scope="module")
def env() -> MCPGymEnv:
    return MCPGymEnv(tasks=[SUM], split=None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tasks.jsonl"


def changed(task: Task, **fields: object) -> Task:
    return Task(**{**task.__dict__, **fields})


def test_a_file_gives_the_tasks_that_were_written(file: Path) -> None:
    other = changed(SUM, id="other", split="test")
    write_tasks(file, [SUM, other])
    assert load_tasks(file) == [SUM, other]
    assert load_tasks(str(file), split="test") == [other]


def test_a_line_that_is_not_a_task_is_named_with_its_number(file: Path) -> None:
    good = json.dumps(task_to_json(SUM))
    file.write_text(f"{good}\n\n{{not json\n", encoding="utf-8")
    with pytest.raises(TaskError, match=rf"{file.name}:3: .*not valid JSON"):
        load_tasks(file)


def test_an_unknown_key_is_named_with_its_line_and_a_suggestion(file: Path) -> None:
    data = task_to_json(SUM)
    data["promt"] = data.pop("prompt")
    file.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(TaskError, match=rf"{file.name}:1: .*promt.*prompt"):
        load_tasks(file)


def test_a_tool_that_does_not_exist_is_named_with_its_line_and_a_suggestion(file: Path) -> None:
    wrong = changed(SUM, id="wrong", tools=("calculate", "calculatr"))
    lines = [json.dumps(task_to_json(task)) for task in (SUM, wrong)]
    file.write_text(f"{lines[0]}\n\n{lines[1]}\n", encoding="utf-8")
    with pytest.raises(TaskError, match=rf'{file.name}:3: .*"calculatr".*did you mean "calculate"'):
        load_tasks(file)


def test_a_given_task_with_an_unknown_tool_is_refused_by_its_id() -> None:
    with pytest.raises(TaskError, match=r'task sum: .*"fly"'):
        load_tasks([changed(SUM, tools=("calculate", "fly"))])


def test_a_task_that_uses_a_tool_it_does_not_offer_is_refused_before_it_is_played() -> None:
    task = Task("mine", "Add.", ReturnedData("calculate", "", 3))
    with pytest.raises(TaskError, match='goal uses the tool "calculate", which is not offered'):
        MCPGymEnv(tasks=[task])


def test_given_tasks_are_taken_whatever_their_split() -> None:
    assert load_tasks([SUM], split="test") == [SUM]


def test_an_empty_file_and_a_missing_split_are_errors(file: Path) -> None:
    file.write_text("\n\n", encoding="utf-8")
    with pytest.raises(TaskError, match="holds no task"):
        load_tasks(file)
    write_tasks(file, [SUM])
    with pytest.raises(TaskError, match=r'no task of split "test" \(its tasks are of: train\)'):
        load_tasks(file, split="test")


def test_an_unknown_source_split_or_domain_comes_with_a_suggestion() -> None:
    with pytest.raises(TaskError, match='did you mean "starter"'):
        load_tasks("startr")
    with pytest.raises(TaskError, match='did you mean "train"'):
        load_tasks("mock", split="trian")
    with pytest.raises(TaskError, match='did you mean "database"'):
        load_tasks("mock", split="validation", domains=["databse"])


def test_a_folder_is_not_a_task_file(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="cannot be read"):
        load_tasks(tmp_path)


def test_the_starter_family_is_a_true_subset_of_the_suite() -> None:
    suite = load_tasks("mock", split="validation")
    starter = load_tasks("starter", split="validation")
    assert starter == [task for task in suite if task.starter]
    assert len(starter) < len(suite)


def test_domains_select_tasks() -> None:
    tasks = load_tasks("mock", split="validation", domains=["math", "cross"])
    assert {task.domain for task in tasks} == {"math", "cross"}


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_sample_of_the_suite_is_proven_through_the_server(env: MCPGymEnv, split: str) -> None:
    tasks = load_tasks("mock", split)
    found = {task.id: problems(env, task) for task in tasks[:: len(tasks) // 150]}
    assert {task_id: wrong for task_id, wrong in found.items() if wrong} == {}


@pytest.mark.slow
def test_the_whole_suite_of_another_seed_is_proven(env: MCPGymEnv) -> None:
    found = {task.id: problems(env, task) for task in generate(1)}
    assert {task_id: wrong for task_id, wrong in found.items() if wrong} == {}


def test_a_reference_that_fails_is_not_proven(env: MCPGymEnv) -> None:
    wrong = (SUM.reference[0], ReferenceTurn(text="The result is 390."))
    found = problems(env, changed(SUM, reference=wrong))
    assert len(found) == 1
    assert found[0].startswith("the reference fails: ")


def test_a_reference_that_says_more_than_it_needs_is_not_proven(env: MCPGymEnv) -> None:
    longer = (*SUM.reference, ReferenceTurn(text="Anything else?"))
    assert problems(env, changed(SUM, reference=longer)) == [
        "the reference succeeds after 2 of its 3 turns"
    ]


def test_a_wrong_depth_is_not_proven(env: MCPGymEnv) -> None:
    assert problems(env, changed(SUM, depth=2)) == ["the reference makes 1 calls, the task says 2"]


def test_a_no_call_task_is_right_without_a_call(env: MCPGymEnv) -> None:
    reference = (ReferenceTurn(text="Which city do you mean?"),)
    task = changed(SUM, goal=NoCall(), depth=0, reference=reference)
    assert problems(env, task) == []
    assert problems(env, changed(task, goal=NoCallNaming(("city",)))) == []
    missed = problems(env, changed(task, goal=NoCallNaming(("name",))))
    assert len(missed) == 1
    assert missed[0].startswith("the reference fails: ")


def test_a_goal_that_holds_at_the_start_is_not_proven(env: MCPGymEnv) -> None:
    found = problems(env, changed(SUM, goal=FinalState({})))
    assert "the goal holds at the start" in found


def test_playing_leaves_the_records_of_the_episode(env: MCPGymEnv) -> None:
    class Silent:
        name = "silent"

        def act(self, *_: object) -> str:
            return ""

    episode = play(env, SUM, Silent())
    assert not episode.success
    assert len(episode.turns) == episode.max_turns


def test_check_proves_a_file_and_writes_its_counts(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tasks(file, [SUM])
    assert main(["check", str(file), "--json", str(tmp_path / "out" / "counts.json")]) == 0
    report = json.loads((tmp_path / "out" / "counts.json").read_text(encoding="utf-8"))
    assert report["proven"] == report["tasks"] == 1
    assert report["splits"]["train"]["tools"] == {"calculate": 1}
    out = capsys.readouterr().out
    assert "1 of 1 tasks proven" in out
    assert "counts.json" in out
    assert "next: " in out


def test_check_fails_on_a_task_that_is_not_proven(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tasks(file, [SUM, changed(SUM, id="wrong", goal=FinalAnswer(392, "number"))])
    assert main(["check", str(file)]) == 1
    out = capsys.readouterr().out
    assert "NOT PROVEN  wrong: the reference fails: " in out
    assert "1 of 2 tasks proven" in out


def test_write_then_show_gives_a_task_back(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["write", str(file), "--source", "starter", "--split", "validation"]) == 0
    assert f"to {file}" in capsys.readouterr().out
    first = load_tasks(file)[0]
    assert first == load_tasks("starter", split="validation")[0]
    assert main(["show", first.id, "--source", str(file)]) == 0
    assert json.loads(capsys.readouterr().out) == task_to_json(first)
    assert main(["show", "0", "--source", str(file)]) == 0
    assert json.loads(capsys.readouterr().out) == task_to_json(first)


def test_show_of_an_unknown_task_suggests_a_known_one(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tasks(file, [SUM])
    assert main(["show", "summ", "--source", str(file)]) == 2
    assert 'did you mean "sum"' in capsys.readouterr().err
    assert main(["show", "7", "--source", str(file)]) == 2
    assert "there are 1 tasks" in capsys.readouterr().err


def test_a_bad_source_ends_the_command_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "no-such-file.jsonl"]) == 2
    assert capsys.readouterr().err.startswith("error: no task source")
