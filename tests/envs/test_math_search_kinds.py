from __future__ import annotations

import random
import string
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from envs.tasks import math_kinds, search_kinds
from envs.tasks.kinds import Draft, Kind
from mock_mcp.arithmetic import evaluate
from mock_mcp.domains import math_tools, search_tools
from mock_mcp.faults import Faults
from mock_mcp.toolspec import ToolFailure, ToolSpec
from mock_mcp.world import World
from rewards.episode import (
    Episode,
    Outcome,
    ReferenceTurn,
    Status,
    Task,
    ToolCall,
    ToolResult,
    Turn,
)
from rewards.goals import NoCallNaming, ReturnedData
from rewards.judge import judge_turn

KINDS = (*math_kinds.KINDS, *search_kinds.KINDS)
MODULES = {"math": (math_kinds, math_tools), "search": (search_kinds, search_tools)}
SPECS: dict[str, ToolSpec] = {spec.name: spec for spec in (*math_tools.TOOLS, *search_tools.TOOLS)}
WORLDS = tuple(World.build(seed) for seed in range(3))
DRAWS = 4
REQUIRED_STARTERS = {"calculate", "convert_amount"}

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def _drafts(kind: Kind) -> list[tuple[World, Draft]]:
    rng = random.Random(kind.name)
    return [(world, kind.build(world, rng)) for world in WORLDS for _ in range(DRAWS)]


def _prompt(kind: Kind, draft: Draft, phrasing: str = "") -> str:
    return (phrasing or kind.phrasings[0]).format(**draft.slots)


def _task(kind: Kind, draft: Draft) -> Task:
    return Task(
        id="t",
        prompt=_prompt(kind, draft),
        goal=draft.goal,
        tools=kind.tools,
        domain=kind.domain,
        kind=kind.name,
        reference=draft.reference,
    )


def _execute(world: World, faults: Faults, call: ToolCall) -> ToolResult:
    try:
        faults.before_call(call.name, call.arguments)
        result = SPECS[call.name].function(world, **call.arguments)
    except ToolFailure as failure:
        return ToolResult(str(failure), is_error=True, status=Status.TOOL_ERROR)
    return ToolResult(str(result), structured=result)


def _play(
    world: World, kind: Kind, draft: Draft, turns: tuple[ReferenceTurn, ...]
) -> list[Outcome]:
    faults = Faults(draft.faults)
    episode = Episode(_task(kind, draft))
    outcomes: list[Outcome] = []
    for planned in turns:
        results = tuple(_execute(world, faults, call) for call in planned.calls)
        turn = Turn(raw="", calls=planned.calls, text=planned.text, results=results)
        outcomes.append(judge_turn(episode, turn, last=False).outcome)
        episode = Episode(episode.task, (*episode.turns, turn))
    return outcomes


@every_kind
def test_the_reference_succeeds_at_its_last_turn_and_not_before(kind: Kind) -> None:
    for world, draft in _drafts(kind):
        outcomes = _play(world, kind, draft, draft.reference)
        assert outcomes[-1] is Outcome.SUCCESS, draft
        assert Outcome.SUCCESS not in outcomes[:-1]
        assert (Outcome.TOOL_ERROR in outcomes) == bool(draft.faults)


@every_kind
def test_the_reference_calls_exactly_the_kinds_tools_depth_times(kind: Kind) -> None:
    for _, draft in _drafts(kind):
        calls = [call for turn in draft.reference for call in turn.calls]
        assert len(calls) == kind.depth
        assert {call.name for call in calls} == {*kind.tools}


@every_kind
def test_no_single_text_is_right_for_two_drafts(kind: Kind) -> None:
    drafts = _drafts(kind)
    for world, draft in drafts:
        answers = {other.reference[-1].text for _, other in drafts} | {_prompt(kind, draft)}
        for text in answers:
            outcomes = _play(world, kind, draft, (ReferenceTurn(text=text),))
            assert outcomes == [Outcome.STRUCTURAL_FAIL]


@every_kind
def test_the_calls_of_one_draft_do_not_solve_another_that_wants_something_else(kind: Kind) -> None:
    (world, draft), *others = _drafts(kind)
    for _, other in others:
        if other.goal == draft.goal:
            continue
        calls = tuple(turn for turn in other.reference if turn.calls)
        assert Outcome.SUCCESS not in _play(world, kind, draft, calls)


@every_kind
def test_every_slot_stands_in_every_phrasing_and_the_request_is_short(kind: Kind) -> None:
    _, draft = _drafts(kind)[0]
    phrasings = (*kind.phrasings, *kind.heldout_phrasings)
    assert len({*phrasings}) == len(phrasings)
    assert len(kind.phrasings) >= 6
    assert len(kind.heldout_phrasings) >= 2
    for phrasing in phrasings:
        fields = {field for _, field, _, _ in string.Formatter().parse(phrasing) if field}
        assert fields == {*draft.slots}, phrasing
        assert len(_prompt(kind, draft, phrasing).split()) < 25


@every_kind
def test_values_of_the_request_are_copied_verbatim_into_the_first_call(kind: Kind) -> None:
    for _, draft in _drafts(kind):
        first = next(turn for turn in draft.reference if turn.calls)
        prompt = _prompt(kind, draft)
        for value in first.calls[0].arguments.values():
            written = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            assert written in prompt


@pytest.mark.parametrize("domain", MODULES)
def test_the_domain_has_the_kinds_that_it_must_have(domain: str) -> None:
    kinds, tools = (
        MODULES[domain][0].KINDS,
        {spec.name for spec in MODULES[domain][1].TOOLS},
    )
    training = [kind for kind in kinds if not kind.heldout]
    assert len({kind.name for kind in kinds}) == len(kinds) >= 6
    assert {kind.domain for kind in kinds} == {domain}
    assert {name for kind in training for name in kind.tools} == tools
    assert {kind.depth for kind in training} == {1, 2, 3, 4}
    unseen = [kind for kind in kinds if kind.heldout]
    assert unseen
    assert all(kind.depth > 4 for kind in unseen)
    assert sum(kind.missing is not None for kind in kinds) >= 2
    drafts = [_drafts(kind)[0][1] for kind in training]
    assert any(isinstance(draft.goal, ReturnedData) for draft in drafts)
    assert any(len(turn.calls) > 1 for draft in drafts for turn in draft.reference)
    assert any(draft.faults for draft in drafts)


def test_the_starter_kinds_are_those_of_the_contract() -> None:
    starters = {kind.name for kind in KINDS if kind.starter}
    assert starters == REQUIRED_STARTERS
    assert all(kind.depth == 1 for kind in KINDS if kind.starter)


@pytest.mark.parametrize("kind", [k for k in KINDS if k.missing], ids=lambda kind: kind.name)
def test_a_minimal_pair_leaves_a_slot_out_and_asking_for_it_is_right(kind: Kind) -> None:
    assert kind.missing is not None
    _, draft = _drafts(kind)[0]
    for phrasing in (*kind.missing.phrasings, *kind.missing.heldout_phrasings):
        fields = {field for _, field, _, _ in string.Formatter().parse(phrasing) if field}
        assert fields < {*draft.slots}
        assert phrasing.format(**draft.slots)
    task = Task(
        id="t",
        prompt=kind.missing.phrasings[0].format(**draft.slots),
        goal=NoCallNaming(kind.missing.names),
        tools=kind.tools,
        domain=kind.domain,
        kind=kind.name,
    )

    def said(text: str) -> Outcome:
        return judge_turn(Episode(task), Turn(raw=text, text=text), last=False).outcome

    assert said(kind.missing.answer) is Outcome.SUCCESS
    assert said("I cannot help with that.") is Outcome.STRUCTURAL_FAIL


def _values(name: str) -> list[tuple[World, Draft, Any]]:
    kind = next(kind for kind in KINDS if kind.name == name)
    return [(world, draft, getattr(draft.goal, "value", None)) for world, draft in _drafts(kind)]


def _rate(world: World, source: str, target: str) -> Fraction:
    rates: dict[str, Decimal] = dict(world.math.rates)
    return Fraction(rates[target]) / Fraction(rates[source])


def test_expected_amounts_follow_from_the_worlds_rates() -> None:
    for name in ("convert_amount", "busy_conversion"):
        for world, draft, value in _values(name):
            slots = draft.slots
            rate = _rate(world, slots["source"], slots["target"])
            assert value == pytest.approx(float(Fraction(slots["amount"]) * rate), abs=0.0051)


def test_expected_totals_and_shares_follow_from_the_worlds_rates() -> None:
    for name, count in (("money_total", 2), ("money_share", 2), ("money_share_of_three", 3)):
        for world, draft, value in _values(name):
            slots = draft.slots
            total = sum(
                Fraction(slots[f"amount{place}"])
                * _rate(world, slots[f"source{place}"], slots["target"])
                for place in range(1, count + 1)
            )
            wanted = (
                float(total) if "whole" not in slots else float(100 * total) / int(slots["whole"])
            )
            assert value == pytest.approx(wanted, abs=0.0051 * count)


def test_expected_dates_follow_from_the_calendar() -> None:
    for world, draft, value in _values("date_from_today"):
        assert value == str(world.math.today + timedelta(days=int(draft.slots["days"])))
    for world, draft, value in _values("days_until"):
        assert value == (date.fromisoformat(draft.slots["date"]) - world.math.today).days
    for world, draft, _ in _values("weekday_from_today"):
        day = world.math.today + timedelta(days=int(draft.slots["days"]))
        assert draft.reference[-1].text == f"The weekday is {day:%A}."


def test_equations_hold_at_exactly_their_solutions() -> None:
    kind = next(kind for kind in KINDS if kind.name == "equation_solutions")
    rng = random.Random(0)
    degrees = set()
    for _ in range(200):
        draft = kind.build(WORLDS[0], rng)
        left, right = draft.slots["equation"].split(" = ")
        holds = [x for x in range(-9, 10) if evaluate(left.replace("x", f"({x})")) == int(right)]
        assert draft.goal.value == holds
        degrees.add(len(holds))
    assert degrees == {1, 2}


def test_a_guessed_weekday_is_not_enough() -> None:
    kind = next(kind for kind in KINDS if kind.name == "weekday_of_date")
    for world, draft in _drafts(kind):
        other = ReferenceTurn(calls=(ToolCall("weekday", {"date": "1900-01-01"}),))
        outcomes = _play(world, kind, draft, (other, draft.reference[-1]))
        assert outcomes == [Outcome.TOOL_EXECUTION, Outcome.STRUCTURAL_FAIL]


def test_expected_facts_are_those_of_the_page_at_the_end_of_the_links() -> None:
    for name in ("linked_fact", "twice_linked_fact", "three_times_linked_fact"):
        for world, draft, value in _values(name):
            pages = world.search.pages.values()
            page = next(p for p in pages if p.subject == draft.slots["subject"] and p.current)
            for key in sorted(key for key in draft.slots if key.startswith("link")):
                linked = page.facts[draft.slots[key]]
                page = next(p for p in pages if p.subject == linked and p.current)
            assert value == page.facts[draft.slots["attribute"]]


def test_the_newest_fact_is_not_the_one_of_the_old_page() -> None:
    plain = set()
    for world, draft, value in _values("newest_fact"):
        subject, attribute = draft.slots["subject"], draft.slots["attribute"]
        pages = [page for page in world.search.pages.values() if page.subject == subject]
        newest, oldest = sorted(pages, key=lambda page: page.updated, reverse=True)
        assert value == newest.facts[attribute] != oldest.facts[attribute]
        plain.add(newest.title == subject)
        first, dates = (turn.calls for turn in draft.reference[:2])
        results = search_tools.web_search(world, **first[0].arguments)["results"]
        listed = [result["page_id"] for result in results]
        assert {call.arguments["page_id"] for call in dates} == {page.page_id for page in pages}
        assert {page.page_id for page in pages} <= {*listed}
    assert plain == {True, False}


def test_ids_that_a_reference_uses_were_told_before() -> None:
    for kind in search_kinds.KINDS:
        for world, draft in _drafts(kind):
            faults = Faults(draft.faults)
            told = _prompt(kind, draft)
            for turn in draft.reference:
                for call in turn.calls:
                    assert call.arguments.get("page_id", "") in told, kind.name
                for call in turn.calls:
                    told += _execute(world, faults, call).text
