from __future__ import annotations

import asyncio
import random
import string
from dataclasses import replace
from typing import Any

import pytest
from mcp import Client

from envs.tasks.assistant_kinds import KINDS
from envs.tasks.kinds import Draft, Kind
from mock_mcp.domains import assistant_tools
from mock_mcp.faults import Faults
from mock_mcp.server import WorldHandle, build_server
from mock_mcp.world import World
from rewards.episode import Episode, Outcome, Status, Task, ToolResult, Turn
from rewards.goals import FinalAnswer, FinalState
from rewards.judge import judge_turn

SEEDS = (0, 1, 2, 3)
STARTERS = {"phone_lookup", "email_lookup", "sms_by_name", "create_reminder"}
RECOVERIES = {"misspelt_email", "moved_number_sms", "busy_sms"}

by_name = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@pytest.fixture(scope="module")
def worlds() -> dict[int, World]:
    return {seed: World.build(seed) for seed in SEEDS}


def draw(kind: Kind, worlds: dict[int, World], seed: int) -> Draft:
    return kind.build(worlds[seed], random.Random(f"{kind.name}/{seed}"))


def placeholders(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


async def play(kind: Kind, draft: Draft, template: World) -> list[Turn]:
    """Play the reference on a real server and judge it turn by turn."""
    handle = WorldHandle(template.copy(), Faults(draft.faults), template)
    episode = Episode(Task("t", "Please.", draft.goal, kind.tools, "assistant", kind.name))
    async with Client(build_server(handle, ("assistant",))) as client:
        await client.list_tools()
        for step in draft.reference:
            results = [await client.call_tool(c.name, dict(c.arguments)) for c in step.calls]
            turn = Turn(
                raw="",
                calls=step.calls,
                text=step.text,
                results=tuple(_record(result) for result in results),
                state=handle.world.changes_since(template),
                state_digest=handle.world.digest(),
            )
            judged = judge_turn(episode, turn, last=False)
            turn = replace(turn, outcome=judged.outcome, reward=judged.reward, why=judged.why)
            episode = replace(episode, turns=(*episode.turns, turn))
    return list(episode.turns)


def _record(result: Any) -> ToolResult:
    status = Status.TOOL_ERROR if result.is_error else Status.OK
    return ToolResult(result.content[0].text, result.structured_content, result.is_error, status)


@by_name
def test_the_reference_succeeds_at_its_last_turn_and_not_before(
    kind: Kind, worlds: dict[int, World]
) -> None:
    for seed in SEEDS:
        draft = draw(kind, worlds, seed)
        turns = asyncio.run(asyncio.wait_for(play(kind, draft, worlds[seed]), 60))

        *earlier, last = turns
        assert last.outcome is Outcome.SUCCESS, (seed, last.why, last.results)
        for turn in earlier:
            assert turn.outcome in {Outcome.TOOL_EXECUTION, Outcome.TOOL_ERROR}, (seed, turn.why)
        errors = sum(turn.outcome is Outcome.TOOL_ERROR for turn in turns)
        assert errors == (kind.name in RECOVERIES), seed


@by_name
def test_the_goal_is_not_reached_without_any_call(kind: Kind, worlds: dict[int, World]) -> None:
    draft = draw(kind, worlds, 0)
    episode = Episode(Task("t", "Please.", draft.goal, kind.tools, "assistant", kind.name))
    answer = draft.reference[-1].text or "Done."

    judged = judge_turn(episode, Turn(raw=answer, text=answer), last=False)

    assert judged.outcome is Outcome.STRUCTURAL_FAIL


@by_name
def test_depth_and_tools_are_those_of_the_reference(kind: Kind, worlds: dict[int, World]) -> None:
    for seed in SEEDS:
        calls = [call for turn in draw(kind, worlds, seed).reference for call in turn.calls]

        assert len(calls) == kind.depth
        assert {call.name for call in calls} == set(kind.tools)


@by_name
def test_state_goals_end_with_a_call_and_answers_with_a_text(
    kind: Kind, worlds: dict[int, World]
) -> None:
    draft = draw(kind, worlds, 0)

    assert bool(draft.reference[-1].text) == isinstance(draft.goal, FinalAnswer)
    if isinstance(draft.goal, FinalState):
        assert draft.goal.only


@by_name
def test_phrasings_are_many_short_different_and_use_every_slot(
    kind: Kind, worlds: dict[int, World]
) -> None:
    draft = draw(kind, worlds, 0)
    everything = (*kind.phrasings, *kind.heldout_phrasings)

    assert len(kind.phrasings) >= 6
    assert len(kind.heldout_phrasings) >= 2
    assert len(set(everything)) == len(everything)
    for phrasing in everything:
        assert placeholders(phrasing) == set(draft.slots), phrasing
        assert len(phrasing.format(**draft.slots).split()) < 25, phrasing


@by_name
def test_what_is_copied_into_the_first_call_stands_in_the_request(
    kind: Kind, worlds: dict[int, World]
) -> None:
    for seed in SEEDS:
        draft = draw(kind, worlds, seed)
        for call in draft.reference[0].calls:
            for value in call.arguments.values():
                assert value in draft.slots.values(), (seed, call)


@by_name
def test_a_missing_pair_leaves_something_out_and_its_answer_asks_for_it(
    kind: Kind, worlds: dict[int, World]
) -> None:
    if kind.missing is None:
        assert kind.name not in STARTERS - {"email_lookup"}
        return
    draft = draw(kind, worlds, 0)
    for phrasing in (*kind.missing.phrasings, *kind.missing.heldout_phrasings):
        assert placeholders(phrasing) < set(draft.slots), phrasing
        assert phrasing.format(**draft.slots)
    answer = kind.missing.answer.casefold()
    assert any(name in answer for name in kind.missing.names)
    assert not any(name in "i cannot help with that." for name in kind.missing.names)


def test_no_two_kinds_share_a_phrasing() -> None:
    phrasings = [
        phrasing
        for kind in KINDS
        if kind.name not in {"moved_number_sms"}
        for phrasing in (*kind.phrasings, *kind.heldout_phrasings)
    ]

    assert len(set(phrasings)) == len(phrasings)


def test_every_tool_is_needed_by_a_kind_that_training_shows() -> None:
    needed = {tool for kind in KINDS if not kind.heldout for tool in kind.tools}

    assert needed == {spec.name for spec in assistant_tools.TOOLS}


def test_the_kinds_have_depths_one_to_four_and_some_only_the_test_split_shows() -> None:
    assert {kind.depth for kind in KINDS if not kind.heldout} == {1, 2, 3, 4}
    assert {kind.depth for kind in KINDS if kind.heldout} == {3, 4}
    assert {kind.name for kind in KINDS if kind.starter} == STARTERS


def test_the_same_generator_draws_the_same_task(worlds: dict[int, World]) -> None:
    for kind in KINDS:
        assert draw(kind, worlds, 1) == draw(kind, worlds, 1)


def test_a_misspelt_name_differs_from_every_contact_and_points_to_one(
    worlds: dict[int, World],
) -> None:
    kind = next(kind for kind in KINDS if kind.name == "misspelt_email")
    contacts = worlds[0].assistant.contacts

    for seed in range(200):
        draft = kind.build(worlds[0], random.Random(seed))
        wrong, right = (turn.calls[0].arguments["name"] for turn in draft.reference[:2])
        assert wrong not in contacts
        assert assistant_tools.closest(wrong, contacts) == [right]
