from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from odd_models import scaled_granite
from small_run import TEST
from tiny_models import tiny_qwen3, with_adapter
from tiny_tasks import sum_task

from agents.engine import Conversations
from agents.repeated import RepeatedConversations
from agents.summary import stage_file
from rewards.serialise import read_episodes, write_tasks
from sft.flags import PolicyArguments, TaskArguments
from sft.playing import greedy_player, measure, thinned

POLICY = PolicyArguments(max_turn_tokens=10, threads=2)


@pytest.fixture
def play(tmp_path: Path) -> TaskArguments:
    write_tasks(tmp_path / "tasks.jsonl", TEST)
    return TaskArguments(
        tasks=str(tmp_path / "tasks.jsonl"), max_turns=2, run_dir=str(tmp_path / "run")
    )


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many conversations were begun together, each time."""
    counts: list[int] = []
    for engine in (Conversations, RepeatedConversations):

        def start(self: Any, prompts: Any, whole: Any = engine.start) -> None:
            counts.append(len(prompts))
            whole(self, prompts)

        monkeypatch.setattr(engine, "start", start)
    return counts


@pytest.mark.parametrize("wanted", [True, False])
def test_decoding_is_recorded_on_a_gpu_unless_a_flag_says_no(tokenizer: Any, wanted: bool) -> None:
    policy = PolicyArguments(cuda_graphs=wanted)
    player = greedy_player("grpo", tiny_qwen3(), tokenizer, policy)
    assert player.config.cuda_graphs is wanted


def said(play: TaskArguments) -> list[list[str]]:
    episodes = read_episodes(stage_file(play.run_dir, "grpo"))
    return [[turn.raw for turn in episode.turns] for episode in episodes]


@pytest.mark.parametrize(("side_by_side", "batches"), [(64, [6]), (4, [2, 4]), (1, [1] * 6)])
def test_no_more_tasks_are_played_side_by_side_than_it_is_told(
    play: TaskArguments, tokenizer: Any, started: list[int], side_by_side: int, batches: list[int]
) -> None:
    measure("grpo", with_adapter(tiny_qwen3()), tokenizer, POLICY, play, side_by_side)
    assert sorted(started) == batches
    assert len(said(play)) == len(TEST)


def test_without_memory_half_as_many_are_played_to_the_same_end(
    play: TaskArguments,
    tokenizer: Any,
    started: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = with_adapter(tiny_qwen3())
    measure("grpo", model, tokenizer, POLICY, play, 2)
    expected = said(play)
    begin = Conversations.start

    def short_of_memory(self: Any, prompts: Any) -> None:
        if len(prompts) > 2:
            raise torch.OutOfMemoryError
        begin(self, prompts)

    monkeypatch.setattr(Conversations, "start", short_of_memory)
    with caplog.at_level(logging.WARNING, logger="sft.playing"):
        measure("grpo", model, tokenizer, POLICY, play, 5)
    assert caplog.messages == ["out of memory; the tasks begin again, 2 side by side"]
    assert said(play) == expected


@pytest.mark.parametrize("limit", [3, 6, 7, 11])
def test_fewer_tasks_hold_every_kind_in_its_share_whatever_their_order(limit: int) -> None:
    kinds = ("sum", "total", "addition")
    tasks = [sum_task(number, "test", kind) for number in range(10) for kind in kinds]
    for source in (tasks, sorted(tasks, key=lambda task: task.kind)):
        fewer = thinned(source, limit)
        assert len({task.id for task in fewer}) == limit
        assert fewer == [task for task in source if task in fewer]
        shares = Counter(task.kind for task in fewer)
        assert max(shares.values()) - min(shares.values()) <= 1
        assert len(shares) == len(kinds)


def test_one_task_that_does_not_fit_is_an_error(
    play: TaskArguments, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(self: Any, prompts: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Conversations, "start", no_memory)
    with pytest.raises(torch.OutOfMemoryError):
        measure("grpo", tiny_qwen3(), tokenizer, POLICY, play, 2)


def test_a_model_that_cannot_share_prompts_is_measured_too(
    play: TaskArguments, tokenizer: Any, started: list[int]
) -> None:
    measure("grpo", with_adapter(scaled_granite()), tokenizer, POLICY, play, 4)
    assert sorted(started) == [2, 4]
    assert len(said(play)) == len(TEST)
