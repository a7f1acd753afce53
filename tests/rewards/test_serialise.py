from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards import (
    AllOf,
    AnyOf,
    Custom,
    Episode,
    Evaluated,
    Evaluator,
    Fault,
    FileEvidence,
    FinalAnswer,
    FinalState,
    FolderState,
    FormatError,
    Goal,
    NoCall,
    NoCallNaming,
    Outcome,
    Probe,
    ReferenceTurn,
    ReturnedData,
    Status,
    Task,
    ToolCall,
    ToolResult,
    Turn,
    WantedEntry,
    probe_key,
    probes_of,
    rescore,
)
from rewards.codec import GOAL_TYPES
from rewards.errors import GoalError
from rewards.serialise import (
    episode_from_json,
    episode_to_json,
    goal_from_json,
    goal_to_json,
    read_episodes,
    read_tasks,
    task_from_json,
    task_to_json,
    to_line,
    write_episodes,
    write_tasks,
)

NAMES = ("get_customer", "update_stock", "list_all")

text = st.text(max_size=12)
word = st.from_regex(r"[a-z]{1,6}", fullmatch=True)
name = st.sampled_from(NAMES)
number = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
scalar = st.none() | st.booleans() | number | text
value = st.recursive(
    scalar,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(text, value, max_size=3)
changes = st.dictionaries(
    text, st.dictionaries(text, st.none() | objects, max_size=3), min_size=1, max_size=3
)
answers = st.one_of(
    st.builds(FinalAnswer, word),
    st.builds(FinalAnswer, number, st.just("number"), st.floats(0, 9)),
    st.builds(
        FinalAnswer,
        st.lists(word, min_size=1, max_size=3).map(tuple),
        st.sampled_from(["set", "one_of"]),
    ),
)
paths = st.sampled_from(["a.txt", "b/c.txt", "b", "caff\u00e8 \udcff"])
hashes = st.sampled_from(["0" * 64, "ab" * 32])
entries = st.one_of(
    st.builds(WantedEntry, text, st.booleans()),
    st.builds(WantedEntry, contains=st.lists(word, min_size=1, max_size=2).map(tuple)),
    st.builds(WantedEntry, sha256=hashes),
    st.just(WantedEntry(folder=True)),
)
PROBES = (ToolCall("read_graph", {}), ToolCall("read_file", {"path": "a.txt", "lines": [1, 2.5]}))
probe_goals = st.builds(
    lambda call, *rest: Probe(call.name, call.arguments, *rest),
    st.sampled_from(PROBES),
    st.sampled_from(["", "city", "rows[0].city"]),
    value.filter(lambda wanted: wanted != ""),
    st.sampled_from(["equal", "contains"]),
)
evaluators = st.one_of(
    st.builds(Evaluator, st.sampled_from(["json -> get(x)", "raw"]), st.just("="), value),
    st.builds(Evaluator, st.just("json -> foreach -> get(a b) -> len"), st.just("<"), number),
)
simple_goals = st.one_of(
    probe_goals,
    st.builds(FolderState, st.dictionaries(paths, st.none() | entries, min_size=1, max_size=3)),
    st.builds(Evaluated, st.lists(evaluators, min_size=1, max_size=2).map(tuple)),
    answers,
    st.builds(ReturnedData, name, st.sampled_from(["", "city", "rows[0].city"]), value),
    st.builds(FinalState, changes, st.just(True), st.none() | text),
    st.just(NoCall()),
    st.builds(NoCallNaming, st.lists(word, min_size=1, max_size=2).map(tuple)),
    st.just(Custom("test_judge:solved_by_two_calls")),
)
goals = st.recursive(
    simple_goals,
    lambda inner: st.builds(
        lambda cls, parts: cls(tuple(parts)),
        st.sampled_from([AllOf, AnyOf]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=4,
)
calls = st.lists(st.builds(ToolCall, name, objects), max_size=2).map(tuple)
tasks = st.builds(
    Task,
    id=word,
    prompt=word,
    goal=goals,
    tools=st.just(NAMES),
    domain=text,
    kind=text,
    split=st.sampled_from(["train", "validation", "test"]),
    heldout=st.sampled_from(["", "phrasing"]),
    depth=st.integers(0, 9),
    seed=st.integers(),
    faults=objects,
    reference=st.lists(st.builds(ReferenceTurn, calls, text), max_size=2).map(tuple),
    starter=st.booleans(),
)
results = st.builds(
    lambda status, shown, structured: ToolResult(shown, structured, status != "ok", status),
    st.sampled_from(Status),
    text,
    value,
)
files = st.builds(
    FileEvidence,
    st.sampled_from(["file", "folder", "link", "other"]),
    st.integers(0, 9),
    hashes,
    st.none() | text,
)


@st.composite
def turns(draw) -> Turn:
    """A turn whose calls and results go together, with random evidence and judgement.

    Every probe that a goal may want is there, as the environment records it.
    """
    made = draw(calls)
    return Turn(
        raw=draw(text),
        calls=made,
        text=draw(text),
        thought=draw(text),
        fault=draw(st.none() | st.sampled_from(Fault)),
        fault_detail=draw(text),
        results=tuple(draw(results) for _ in made),
        observation=draw(text),
        state=draw(changes),
        state_digest=draw(text),
        probes={probe_key(call): draw(results) for call in PROBES},
        files=draw(st.dictionaries(paths, st.none() | files, max_size=3)),
        outcome=draw(st.sampled_from(Outcome)),
        reward=draw(st.floats(-10, 10)),
        why=draw(text),
    )


episodes = st.builds(
    Episode,
    task=tasks,
    turns=st.lists(turns(), max_size=4).map(tuple),
    max_turns=st.integers(1, 8),
    terminated=st.booleans(),
    truncated=st.booleans(),
    status=st.sampled_from(Status),
)


def through_text(data):
    return json.loads(to_line(data))


@settings(max_examples=60)
@given(goals)
def test_a_goal_survives_the_round_trip_unchanged(goal):
    assert goal_from_json(through_text(goal_to_json(goal))) == goal


@settings(max_examples=60)
@given(tasks)
def test_a_task_survives_the_round_trip_unchanged(task):
    assert task_from_json(through_text(task_to_json(task))) == task


@settings(max_examples=60)
@given(episodes)
def test_an_episode_survives_the_round_trip_and_rescores_to_the_same_numbers(episode):
    again = episode_from_json(through_text(episode_to_json(episode)))
    assert again == episode
    assert rescore(again) == rescore(episode)
    assert rescore(rescore(again)) == rescore(again)


@given(episodes)
@settings(max_examples=60)
def test_no_rescored_turn_is_worth_anything_but_a_row_of_the_matrix(episode):
    for turn in rescore(episode).turns:
        results = (*turn.results, *turn.probes.values())
        broken = any(result.status not in OWN for result in results)
        assert turn.reward == (0.0 if broken else REWARDS[turn.outcome])
        assert turn.why


OWN = (Status.OK, Status.TOOL_ERROR, Status.BAD_ARGUMENTS, Status.UNKNOWN_TOOL)
REWARDS = dict(zip(Outcome, (10.0, 0.0, -0.5, -0.8, -1.0), strict=True))


@given(goals)
@settings(max_examples=60)
def test_the_probes_of_a_goal_are_found_again_by_their_keys_after_the_round_trip(goal):
    again = goal_from_json(through_text(goal_to_json(goal)))
    assert list(map(probe_key, probes_of(again))) == list(map(probe_key, probes_of(goal)))


def test_an_episode_that_was_stored_before_there_was_such_evidence_is_still_read():
    data = episode_to_json(Episode(TASK, (Turn("x", text="x"),)))
    for key in ("probes", "files"):
        del data["turns"][0][key]
    turn = episode_from_json(through_text(data)).turns[0]
    assert (turn.probes, turn.files) == ({}, None)


def test_every_goal_has_a_type_name():
    assert set(GOAL_TYPES.values()) == set(get_args(Goal))


def test_no_goal_has_a_field_that_its_type_name_would_hide():
    assert all(field.name != "type" for goal in GOAL_TYPES.values() for field in fields(goal))


TASK = Task(
    id="t1",
    prompt="What is the city of customer C104?",
    goal=FinalAnswer("Rome"),
    tools=("get_customer", "get_order"),
    domain="database",
    kind="customer_field",
    reference=(
        ReferenceTurn((ToolCall("get_customer", {"customer_id": "C104"}),)),
        ReferenceTurn(text="The city is Rome."),
    ),
)
DATA = json.loads(to_line(task_to_json(TASK)))
BAD_FILES = [
    *(
        ({path: None}, "is not a path in the folder; write it relative")
        for path in ("/etc/passwd", "../a", "a/../b", ".", "", "a//b", "./a", "a/")
    ),
    ({"a": {}}, '"a": give one of text, contains, sha256 and folder'),
    ({"a": {"text": "x", "folder": True}}, '"a": give one of text'),
    ({"a": {"contains": ["x"], "exact": True}}, '"a": exact goes with text'),
    ({"a": {"contains": ["x", ""]}}, '"a": every file contains the empty text'),
    ({"a": {"sha256": "AB" * 32}}, '"a": sha256 is not 64 lower-case'),
    ({"a": {"text": "x" * 65_537}}, '"a": a text of more than 65536 bytes'),
]
PROBE = {"type": "probe", "tool": "read_graph", "arguments": {}, "path": "", "value": 1}
BAD_PROBES = [
    ({"path": "a..b"}, 'path "a..b" is malformed'),
    ({"tool": ""}, "goal probe: tool is empty"),
    ({"value": "", "compare": "contains"}, "every text contains the empty text"),
]
BAD_EVALUATORS = [
    ([], " compares nothing"),
    ([{"func": "json"}], " compares nothing"),
    ([{"func": "raw", "op": "=", "value": 1}, {"func": "jsn"}], ": evaluator 2: unknown func"),
    ([{"func": "raw", "op": "maps.check"}], ': evaluator 1: unknown op "maps.check"'),
]
MINIMAL = {
    "id": "t1",
    "prompt": "Where?",
    "goal": {"type": "no_call"},
    "tools": [],
    "domain": "mine",
    "kind": "mine",
}


def changed(path: str, new) -> dict:
    """Return the task's JSON with the value at a dotted path replaced."""
    data = json.loads(json.dumps(DATA))
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    node = data
    for step in steps:
        node = node[step]
    node[last] = new
    return data


def test_a_task_needs_only_the_keys_without_a_default():
    task = task_from_json(MINIMAL)
    assert (task.split, task.reference, task.faults) == ("train", (), {})


def test_an_integer_is_a_number_but_not_one_too_large_for_it():
    assert goal_from_json({"type": "final_answer", "value": 1, "tolerance": 2}).tolerance == 2.0
    with pytest.raises(FormatError, match=r"goal\.tolerance: the number is too large"):
        goal_from_json({"type": "final_answer", "value": 1, "tolerance": 10**400})


def test_json_nested_too_deeply_is_refused_clearly():
    deep: dict = {"type": "no_call"}
    for _ in range(5_000):
        deep = {"type": "all_of", "goals": [deep]}
    with pytest.raises(FormatError, match="goal: nested too deeply"):
        goal_from_json(deep)


@pytest.mark.parametrize("key", ["id", "prompt", "goal"])
def test_a_missing_key_is_named(key):
    data = {name: item for name, item in MINIMAL.items() if name != key}
    with pytest.raises(FormatError, match=f'task: the key "{key}" is missing'):
        task_from_json(data)


@pytest.mark.parametrize(
    ("path", "new", "message"),
    [
        ("promt", "x", 'task has no key "promt"; did you mean "prompt"?'),
        ("goal.vale", 1, 'task.goal has no key "vale"; did you mean "value"?'),
        ("goal.type", "final_anwser", 'did you mean "final_answer"?'),
        ("goal.match", "numbr", 'task.goal.match: "numbr" is not one of exact, number'),
        ("goal.value", {"x": 1}, "task.goal.value: expected a string or a number"),
        ("goal.value", True, "task.goal.value: expected"),
        ("goal", "no_call", 'task.goal: expected an object, got "no_call"'),
        ("goal", {"value": 1}, 'task.goal: the key "type" is missing; one of final_answer'),
        ("tools", "get_customer", 'task.tools: expected a list, got "get_customer"'),
        ("tools.1", 7, "task.tools[1]: expected a string, got 7"),
        ("seed", 1.5, "task.seed: expected an integer, got 1.5"),
        ("seed", True, "task.seed: expected an integer, got True"),
        ("starter", 1, "task.starter: expected true or false, got 1"),
        ("reference.0.calls.0.arguments", "{}", "task.reference[0].calls[0].arguments: expected"),
        ("reference.0.call", [], 'task.reference[0] has no key "call"; did you mean "calls"?'),
        ("faults", None, "task.faults: expected an object, got None"),
        ("goal", PROBE | {"compare": "less"}, 'goal.compare: "less" is not one of equal, contains'),
        ("goal", PROBE | {"arguments": []}, "task.goal.arguments: expected an object"),
        (
            "goal",
            {"type": "folder_state", "files": {"a": {"txt": "x"}}},
            'task.goal.files.a has no key "txt"; did you mean "text"?',
        ),
        (
            "goal",
            {"type": "evaluated", "evaluators": [{"func": "raw", "vale": 1}]},
            'task.goal.evaluators[0] has no key "vale"; did you mean "value"?',
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(path, new, message):
    with pytest.raises(FormatError) as caught:
        task_from_json(changed(path, new))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("path", "new", "message"),
    [
        ("id", " ", "id is empty"),
        ("prompt", "", "prompt is empty"),
        ("split", "tset", 'split "tset" is not one of train, validation, test'),
        ("tools", ["get_customer", "get_customer"], "tools names get_customer twice"),
        ("tools", ["get_custmer"], 'which is not offered; did you mean "get_custmer"?'),
        ("goal.match", "number", 'match "number" needs a number, not "Rome"'),
        ("goal.match", "set", 'match "set" needs a list, not "Rome"'),
        ("goal.value", ["a"], 'match "exact" needs one value'),
        ("goal.value", "...", "holds no word to look for"),
        ("goal", {"type": "final_answer", "value": [], "match": "set"}, "holds no word"),
        (
            "goal",
            {"type": "final_answer", "value": 1, "match": "number", "tolerance": -1},
            "tolerance is negative",
        ),
        ("goal", {"type": "all_of", "goals": []}, "a combination of no goals"),
        (
            "goal",
            {
                "type": "any_of",
                "goals": [{"type": "returned_data", "tool": "x", "path": "", "value": 1}],
            },
            'goal uses the tool "x", which is not offered',
        ),
        (
            "goal",
            {"type": "returned_data", "tool": "get_order", "path": "a..b", "value": 1},
            'path "a..b" is malformed',
        ),
        ("goal", {"type": "final_state", "changes": {}, "only": False}, "wants nothing"),
        ("goal", {"type": "final_state", "changes": {}}, "holds before anything is done"),
        ("goal", {"type": "folder_state", "files": {}}, "holds before anything is done"),
        ("goal", {"type": "folder_state", "files": {}, "only": False}, "folder_state: wants no"),
        (
            "goal",
            {
                "type": "any_of",
                "goals": [
                    {"type": "final_answer", "value": "x"},
                    {"type": "all_of", "goals": [{"type": "folder_state", "files": {}}]},
                ],
            },
            "holds before anything is done",
        ),
        *(("goal", {"type": "folder_state", "files": files}, why) for files, why in BAD_FILES),
        *(("goal", PROBE | change, why) for change, why in BAD_PROBES),
        *(
            ("goal", {"type": "evaluated", "evaluators": tests}, f"goal evaluated{why}")
            for tests, why in BAD_EVALUATORS
        ),
        ("goal", {"type": "no_call_naming", "missing": ["?"]}, "missing holds no word"),
        ("goal", {"type": "custom", "path": "my_checks"}, "write module:function"),
    ],
)
def test_a_task_that_cannot_be_judged_is_refused(path, new, message):
    with pytest.raises(GoalError) as caught:
        task_from_json(changed(path, new))
    assert message in str(caught.value)


def test_files_round_trip(tmp_path):
    tasks_file, episodes_file = tmp_path / "a" / "tasks.jsonl", tmp_path / "episodes.jsonl"
    written = [TASK, replace(TASK, id="t2", prompt="Caff\u00e8\u2028\x85 \U0001f600 line\nbreak?")]
    assert write_tasks(tasks_file, written) == 2
    assert read_tasks(tasks_file) == written
    episode = Episode(TASK, (Turn("lone \ud800 surrogate"),))
    assert write_episodes(episodes_file, [episode, episode]) == 2
    assert list(read_episodes(episodes_file)) == [episode, episode]


def test_blank_lines_and_a_byte_order_mark_are_allowed(tmp_path):
    path = tmp_path / "tasks.jsonl"
    path.write_text("\ufeff\n" + json.dumps(MINIMAL) + "\n\n", encoding="utf-8")
    assert [task.id for task in read_tasks(path)] == ["t1"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "x"', ":2: not valid JSON at column"),
        ('{"id": "x", "id": "y"}', ':2: the key "id" occurs twice in one object'),
        ('{"seed": NaN}', ":2: NaN is not JSON"),
        ('{"seed": ' + "9" * 5000 + "}", ":2: not valid JSON"),
        ("[" * 100_000, ":2: not valid JSON"),
        ("[]", ":2: task: expected an object, got []"),
        (json.dumps(MINIMAL | {"id": "t0"}), ':2: the id "t0" was used on line 1 already'),
        (json.dumps(MINIMAL | {"split": "dev"}), ':2: task "t1": split "dev" is not one of'),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path, line, message):
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps(MINIMAL | {"id": "t0"}) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(FormatError) as caught:
        read_tasks(path)
    assert str(caught.value).startswith(f"{path}{message}")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(FormatError, match=r"none\.jsonl cannot be read: No such file"):
        read_tasks(tmp_path / "none.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "caff\xe8"}\n')
    with pytest.raises(FormatError, match="not UTF-8"):
        read_tasks(tmp_path / "latin.jsonl")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), {1: 2}, {"x": object()}, b"x"])
def test_what_is_not_json_is_refused_when_it_is_written(bad):
    with pytest.raises(FormatError, match=r"task\.faults\.x"):
        task_to_json(replace(TASK, faults={"x": bad}))


def test_data_nested_too_deeply_is_refused_clearly():
    deep: list = []
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(FormatError, match="nested too deeply"):
        task_to_json(replace(TASK, faults={"x": deep}))
