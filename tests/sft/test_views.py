"""Views of traces: what they change, what they leave, and how many there are of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from envs.tasks.load import load_tasks
from envs.tasks.no_call import CANNOT
from envs.tasks.substitutes import substitutes
from rewards.episode import ReferenceTurn, Task, ToolCall
from rewards.goals import FinalAnswer
from sft.traces import LICENCE, Row, pick_tasks, reference_traces
from sft.views import WITHHELD, Views, demonstrations
from tests.envs.servers.playing import toy


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return pick_tasks(load_tasks("starter", "train"), 19, seed=3)


def offered(row: Row) -> tuple[str, ...]:
    return tuple(tool["function"]["name"] for tool in row["tools"])


def said(row: Row) -> list[dict[str, Any]]:
    return list(row["messages"])


def test_views_change_the_order_of_the_tools_and_nothing_that_is_said(tasks: list[Task]) -> None:
    traces = reference_traces(tasks[:4], max_turns=6)
    views = demonstrations(tasks[:4], 6, Views(5), seed=1)
    assert views[: len(traces)] == traces
    assert len(views) == 5 * len(traces)
    for number, view in enumerate(views):
        trace = traces[number % len(traces)]
        assert sorted(offered(view)) == sorted(offered(trace))
        assert said(view) == said(trace)
    assert len({offered(view) for view in views[:: len(traces)]}) > 2


def test_the_same_seed_gives_the_same_views_and_another_seed_others(tasks: list[Task]) -> None:
    mixed = Views(4, mistakes=0.3, withheld=0.3)
    first, again, other = (demonstrations(tasks, 6, mixed, seed) for seed in (1, 1, 2))
    assert first == again != other


def test_every_view_has_an_id_of_its_own_that_names_its_task(tasks: list[Task]) -> None:
    rows = demonstrations(tasks, 6, Views(4, mistakes=0.3, withheld=0.3), seed=1)
    assert len({row["id"] for row in rows}) == len(rows) == 4 * len(tasks)
    assert {row["id"].split("/")[0] for row in rows} == {task.id for task in tasks}


def test_the_share_of_views_with_a_mistake_is_the_one_asked_for(tasks: list[Task]) -> None:
    rows = demonstrations(tasks, 6, Views(4, mistakes=1.0), seed=0)
    wrong = [row for row in rows if row["source"] != "reference"]
    calling = sum(any(turn.calls for turn in task.reference) for task in tasks)
    assert 0.6 * 3 * calling < len(wrong) <= 3 * calling
    assert all(row["source"] == "reference" for row in rows[: len(tasks)])


def test_a_withheld_tool_is_one_that_the_trace_calls_and_nothing_stands_in_for_it(
    tasks: list[Task],
) -> None:
    plain = {trace["id"]: trace for trace in reference_traces(tasks, 6)}
    rows = demonstrations(tasks, 6, Views(5, withheld=1.0), seed=0)[len(tasks) :]
    withheld = [row for row in rows if row["source"] == WITHHELD]
    calling = [task for task in tasks if any(turn.calls for turn in task.reference)]
    assert len(withheld) == 4 * len(calling)
    removed: dict[str, set[frozenset[str]]] = {}
    for row in withheld:
        trace = plain[row["id"].split("/")[0]]
        called = {c["function"]["name"] for m in said(trace) for c in m.get("tool_calls", ())}
        gone = set(offered(trace)) - set(offered(row))
        assert gone in [{one, *substitutes(one)} & set(offered(trace)) for one in called]
        assert row["outcome"] == "success"
        assert said(row) == [said(trace)[0], {"role": "assistant", "content": CANNOT}]
        removed.setdefault(trace["id"], set()).add(frozenset(gone))
    assert any(len(names) > 1 for names in removed.values())


def test_half_of_the_views_withhold_a_tool_where_half_is_asked_for(tasks: list[Task]) -> None:
    calling = [task for task in tasks if any(turn.calls for turn in task.reference)]
    rows = demonstrations(calling, 6, Views(31, withheld=0.5), seed=0)[len(calling) :]
    share = sum(row["source"] != "reference" for row in rows) / len(rows)
    assert 0.4 < share < 0.6


def test_other_values_change_the_further_views_and_never_the_first(tasks: list[Task]) -> None:
    traces = reference_traces(tasks, 6)
    rows = demonstrations(tasks, 6, Views(9, other_values=0.5), seed=0)
    assert rows[: len(traces)] == traces
    changed = {trace["id"]: 0 for trace in traces}
    for view in rows[len(traces) :]:
        name = view["id"].split("/")[0]
        trace = next(trace for trace in traces if trace["id"] == name)
        assert sorted(offered(view)) == sorted(offered(trace))
        changed[name] += said(view) != said(trace)
    replaceable = [count for count in changed.values() if count]
    assert len(replaceable) > 0.6 * len(traces)  # "What is the phone number?" holds no value
    assert 0.35 < sum(replaceable) / (8 * len(replaceable)) < 0.65


def test_views_with_a_mistake_or_without_a_tool_have_other_values_too(tasks: list[Task]) -> None:
    plain = demonstrations(tasks, 6, Views(2, mistakes=0.5, withheld=0.5), seed=0)
    others = demonstrations(
        tasks, 6, Views(2, mistakes=0.5, withheld=0.5, other_values=1.0), seed=0
    )
    changed = {
        one["source"]
        for one, other in zip(plain, others, strict=True)
        if other["source"] == f"{one['source']}, other values" and said(one)[0] != said(other)[0]
    }
    assert changed >= {WITHHELD, "reference with a mistake"}


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"other_values": 2}, "--other_values is a share from 0 to 1, not 2"),
        ({"count": 0}, "--views must be at least 1, not 0"),
        ({"mistakes": 1.5}, "--mistakes is a share from 0 to 1, not 1.5"),
        ({"withheld": -0.1}, "--withheld is a share from 0 to 1, not -0.1"),
        ({"mistakes": 0.6, "withheld": 0.6}, "at most 1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_by_name(
    numbers: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Views(**numbers)  # type: ignore[arg-type]


def test_every_view_of_the_mock_world_carries_its_licence(tasks: list[Task]) -> None:
    mixed = Views(3, mistakes=0.5, withheld=0.5, other_values=0.5)
    assert {row["licence"] for row in demonstrations(tasks[:6], 6, mixed, seed=0)} == {LICENCE}


def test_nothing_is_known_of_the_licence_of_other_servers(tmp_path: Path) -> None:
    servers = [toy(tmp_path)]
    calls = (ToolCall("remember", {"text": "blue"}),)
    solution = (ReferenceTurn(calls=calls), ReferenceTurn(text="I noted: blue"))
    goal = FinalAnswer("blue")
    task = Task("remembers", "Remember blue.", goal, ("remember",), reference=solution)
    rows = demonstrations([task], 3, Views(2), 0, servers)
    assert [row["licence"] for row in rows] == ["", ""]
