from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from tiny_models import tiny_qwen3

from agents.engine import SamplingConfig
from agents.players import Info, LanguagePlayer, Sampled
from agents.rollout import Trajectory, rollout
from agents.template import ChatTemplate
from envs.policies import make_policy
from envs.tasks.catalogue import mock_catalogue
from envs.tasks.load import load_tasks
from rewards.episode import Episode, Outcome, Status, Task, ToolCall, ToolResult, Turn
from rewards.goals import NoCall
from sft.data.sources import licence_of
from sft.traces import (
    LICENCE,
    Row,
    episode_messages,
    pick_tasks,
    recovery_traces,
    reference_traces,
    token_row,
    trace_row,
    turn_messages,
)

END = "<|im_end|>"


class Typist(LanguagePlayer):
    """A language player whose samples are the oracle's turns: the tokens of a perfect rollout.

    One that thinks has a thought before every other turn, and an empty one before the rest.
    """

    def __init__(self, tokenizer: Any, thinking: bool = False) -> None:
        super().__init__(tiny_qwen3(), tokenizer, SamplingConfig(), "typist", thinking=thinking)
        self._conversations = Silent()  # type: ignore[assignment]
        self._oracle = make_policy("oracle")
        self._rng = random.Random(0)

    def act(self, rows: Sequence[int], infos: Sequence[Info]) -> list[Sampled]:
        contexts = self._contexts(rows, infos)
        turns = []
        for row, info, context in zip(rows, infos, contexts, strict=True):
            text = self._oracle.act(info["task"], info["tools"], info["messages"], self._rng)
            if self.template.thinking:
                turns_before = len(info["episode"].turns)
                thought = "" if turns_before % 2 else f"Turn {turns_before + 1}.\nSo be it."
                text = f"<think>\n{thought}\n</think>\n\n{text}"
            ids = self.tokenizer(text + END, add_special_tokens=False)["input_ids"]
            turns.append(self._sampled(row, context, ids, [0.0] * len(ids)))
        return turns


class Silent:
    """Stands for the generation engine, which has nothing to do."""

    def start(self, prompts: Any) -> None:
        """Nothing to compute."""

    def extend(self, rows: Any, ids: Any) -> None:
        """Nothing to compute."""


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    """Two tasks of every starter kind."""
    return pick_tasks(load_tasks("starter", "train"), 38, seed=0)


@pytest.fixture(scope="module")
def played(tasks: list[Task], tokenizer: Any) -> list[Trajectory]:
    return rollout(Typist(tokenizer), tasks, max_turns=6)


@pytest.fixture(scope="module")
def traces(tasks: list[Task]) -> list[Row]:
    return reference_traces(tasks, max_turns=6)


# --- the ids of training are the ids of the rollout ---------------------------------------------


def test_a_rollout_of_a_trace_has_the_ids_and_the_mask_of_its_training_row(
    played: list[Trajectory], traces: list[Row], tokenizer: Any
) -> None:
    template = ChatTemplate(tokenizer)
    kinds = set()
    for trajectory, trace in zip(played, traces, strict=True):
        row = token_row(template, trace)
        assert row["input_ids"] == [*trajectory.prompt_ids, *trajectory.completion_ids]
        assert row["assistant_masks"] == [0] * len(trajectory.prompt_ids) + list(trajectory.mask)
        kinds.add(trajectory.episode.task.kind)
    assert len(kinds) >= 19


def test_the_same_holds_for_a_policy_that_thinks(tasks: list[Task], tokenizer: Any) -> None:
    template = ChatTemplate(tokenizer, thinking=True)
    played = rollout(Typist(tokenizer, thinking=True), tasks, max_turns=6)
    thoughts = set()
    for trajectory in played:
        trace = trace_row(trajectory)
        row = token_row(template, trace)
        assert row["input_ids"] == [*trajectory.prompt_ids, *trajectory.completion_ids]
        assert row["assistant_masks"] == [0] * len(trajectory.prompt_ids) + list(trajectory.mask)
        assert trajectory.episode.success
        thoughts |= {message.get("reasoning_content") for message in trace["messages"]}
    assert {None, "Turn 1.\nSo be it.", "Turn 3.\nSo be it."} <= thoughts


def test_the_traces_hold_what_could_break_that(played: list[Trajectory]) -> None:
    turns = [turn for trajectory in played for turn in trajectory.episode.turns]
    assert any(len(turn.calls) > 1 for turn in turns)
    assert any(len(trajectory.episode.turns) > 2 for trajectory in played)
    assert any(result.is_error for turn in turns for result in turn.results)
    assert any(not turn.calls for turn in turns)
    assert all(trajectory.episode.success for trajectory in played)


def test_no_word_of_a_tool_or_of_the_user_is_trained(
    traces: list[Row], played: list[Trajectory], tokenizer: Any
) -> None:
    template = ChatTemplate(tokenizer)
    for trace, trajectory in zip(traces, played, strict=True):
        row = token_row(template, trace)
        said = [i for i, m in zip(row["input_ids"], row["assistant_masks"], strict=True) if m]
        text = tokenizer.decode(said, skip_special_tokens=False)
        assert text == "".join(turn.raw + END for turn in trajectory.episode.turns)


def test_starter_prompts_are_under_700_tokens(played: list[Trajectory]) -> None:
    assert max(len(trajectory.prompt_ids) for trajectory in played) < 700


# --- traces -------------------------------------------------------------------------------------


def test_every_reference_trace_succeeds(traces: list[Row], tasks: list[Task]) -> None:
    assert [trace["id"] for trace in traces] == [task.id for task in tasks]
    assert {trace["outcome"] for trace in traces} == {"success"}
    assert {(trace["source"], licence_of(trace)) for trace in traces} == {("reference", LICENCE)}
    for trace, task in zip(traces, tasks, strict=True):
        assert [tool["function"]["name"] for tool in trace["tools"]] == list(task.tools)
        assert trace["messages"][0] == {"role": "user", "content": task.prompt}
        assert trace["messages"][-1]["role"] == "assistant"


def test_a_solution_that_the_turn_limit_cuts_is_no_trace(tasks: list[Task]) -> None:
    short = {task.id for task in tasks if len(task.reference) == 1}
    assert 0 < len(short) < len(tasks)
    assert {trace["id"] for trace in reference_traces(tasks, max_turns=1)} == short


def test_calls_are_structured_and_never_text(traces: list[Row]) -> None:
    called = 0
    for trace in traces:
        for message in trace["messages"]:
            if message["role"] == "assistant":
                assert "<tool_call>" not in message["content"]
                called += len(message.get("tool_calls", ()))
    assert called > len(traces) / 2


CALL = ToolCall("get_customer", {"customer_id": "C1"})
REST = ToolResult('{"city": "Rome"}')


def test_a_turn_becomes_a_message_and_one_for_each_result() -> None:
    turn = Turn(
        raw="", text="I look.", thought="hm", calls=(CALL, CALL), results=(REST, ToolResult("no"))
    )
    function = {"name": "get_customer", "arguments": {"customer_id": "C1"}}
    assert turn_messages(turn) == [
        {
            "role": "assistant",
            "content": "I look.",
            "reasoning_content": "hm",
            "tool_calls": [{"type": "function", "function": function}] * 2,
        },
        {"role": "tool", "content": '{"city": "Rome"}'},
        {"role": "tool", "content": "no"},
    ]


def test_a_trace_ends_with_the_last_turn_of_the_policy() -> None:
    task = Task("t", "City?", NoCall(), ("get_customer",), "database", "customer_field")
    turn = Turn(raw="", calls=(CALL,), results=(REST,), outcome=Outcome.SUCCESS)
    messages = episode_messages(Episode(task, (turn,), status=Status.OK))
    assert [message["role"] for message in messages] == ["user", "assistant"]
    row = trace_row(Trajectory(Episode(task, (turn,))), source="rollout", model="m")
    assert (row["outcome"], row["source"], row["model"]) == ("success", "rollout", "m")
    assert "licence" not in row  # of what was played somewhere else nothing is known


# --- picking ------------------------------------------------------------------------------------


def answer(task: Task) -> str:
    return task.reference[-1].text


def test_every_way_to_answer_without_a_call_is_picked_at_least_once() -> None:
    """To ask for a customer is not to ask for a date: one trace cannot teach the other."""
    every = load_tasks("starter", "train")
    for kind, ways in (("no_argument", 8), ("no_tool", 1), ("unsafe_wish", 1)):
        answers = {answer(task) for task in every if task.kind == kind}
        picked = [answer(task) for task in pick_tasks(every, 40, 0) if task.kind == kind]
        assert len(answers) == ways
        assert set(picked) == answers


def test_behind_the_first_of_each_sort_kinds_are_dealt_by_the_values_of_their_solutions() -> None:
    every = load_tasks("starter", "train")
    counts = Counter(task.kind for task in pick_tasks(every, 60, 0))
    values = {"phone_lookup": 1, "update_stock": 2, "sms_by_name": 3, "price_in_currency": 4}
    assert [counts[kind] for kind in values] == [2, 3, 4, 5]
    assert counts["no_argument"] == 8  # each way to ask once
    assert counts["no_tool"] == counts["out_of_scope"] == 2


@pytest.mark.parametrize("seed", range(3))
def test_requests_of_a_kind_are_picked_in_different_words(seed: int) -> None:
    """Some at random are often worded alike, and what was never shown is refused."""
    kind = next(kind for kind in mock_catalogue().kinds if kind.name == "sms_by_name")
    forms = [re.sub(r"\\{\w+\\}", ".+", re.escape(phrasing)) for phrasing in kind.phrasings]
    prompts = [
        task.prompt
        for task in pick_tasks(load_tasks("starter", "train"), 60, seed)
        if task.kind == kind.name
    ]
    used = [next(form for form in forms if re.fullmatch(form, prompt)) for prompt in prompts]
    assert len(set(used)) == len(used) == 4


def test_the_seed_decides_which_tasks_are_picked() -> None:
    every = load_tasks("starter", "train")
    names = [{task.id for task in pick_tasks(every, 30, seed)} for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]
    assert len(names[0]) == 30


def test_more_traces_than_tasks_are_all_tasks_and_none_twice(tasks: list[Task]) -> None:
    assert sorted(t.id for t in pick_tasks(tasks, 1000, 0)) == sorted(t.id for t in tasks)


def test_a_task_without_a_known_solution_is_not_picked(tasks: list[Task]) -> None:
    unsolved = Task("x", "?", NoCall(), (), "math", "unknown")
    assert unsolved not in pick_tasks([*tasks, unsolved], 1000, 0)


# --- traces with a mistake ------------------------------------------------------------------------


def trained_text(row: Row, tokenizer: Any) -> str:
    tokens = token_row(ChatTemplate(tokenizer), row)
    pairs = zip(tokens["input_ids"], tokens["assistant_masks"], strict=True)
    return str(tokenizer.decode([token for token, said in pairs if said]))


def test_a_mistake_is_shown_with_the_servers_own_error_and_never_trained(tokenizer: Any) -> None:
    tasks = pick_tasks(load_tasks("starter", "train"), 38, seed=3)
    plain = {trace["id"]: trace for trace in reference_traces(tasks, max_turns=6)}
    rows = recovery_traces(tasks, max_turns=7, seed=1)
    assert len(rows) > 20
    assert {row["licence"] for row in rows} == {LICENCE}
    seen: Counter[str] = Counter()
    for row in rows:
        turns = [message for message in row["messages"] if message["role"] == "assistant"]
        (place,) = [n for n, message in enumerate(turns) if message.get("weight", 1) == 0]
        wrong = row["messages"].index(turns[place])
        answer = row["messages"][wrong + 1]
        assert answer["role"] == "tool"
        seen["error" if answer["content"].startswith("Error") else "other"] += 1
        # What is trained is the reference solution, word for word.
        assert trained_text(row, tokenizer) == trained_text(plain[row["id"]], tokenizer)
    assert seen["error"] > seen["other"]


def test_tasks_without_a_call_have_no_mistake_to_recover_from() -> None:
    tasks = [task for task in load_tasks("starter", "train") if isinstance(task.goal, NoCall)]
    assert recovery_traces(tasks[:5], max_turns=7, seed=0) == []
