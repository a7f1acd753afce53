from __future__ import annotations

import random
import re
import string
from collections.abc import Iterator
from typing import Any

import pytest

from envs.mcp_env import MCPGymEnv
from envs.tasks import cross_kinds, data_kinds, database_kinds
from envs.tasks.kinds import Draft, Kind
from envs.tasks.prove import problems
from mock_mcp.domains import data_tools, database_tools
from mock_mcp.server import served_tools
from mock_mcp.world import DOMAINS, World
from rewards.episode import Task
from rewards.goals import AllOf, FinalAnswer, FinalState, ReturnedData

KINDS = (*database_kinds.KINDS, *data_kinds.KINDS, *cross_kinds.KINDS)
BY_NAME = {kind.name: kind for kind in KINDS}
SEEDS = (0, 1, 205)
WORLDS = {seed: World.build(seed) for seed in SEEDS}
DRAWS = 2
STARTERS = {
    "customer_field", "product_field", "order_customer_field", "order_product_field",
    "stale_product", "update_stock", "table_aggregate", "price_sum", "price_in_currency",
}  # fmt: skip
WITH_MISSING = {"customer_field", "product_field", "order_customer_field", "table_aggregate"}

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@pytest.fixture(scope="module")
def env() -> Iterator[MCPGymEnv]:
    kind = KINDS[0]
    env = MCPGymEnv(tasks=[_task(kind, 0, WORLDS[0], *_drawn(kind)[0][1:])])
    yield env
    env.close()


def _drawn(kind: Kind) -> list[tuple[int, Draft]]:
    return [
        (seed, kind.build(WORLDS[seed], random.Random(f"{kind.name}/{seed}/{number}")))
        for seed in SEEDS
        for number in range(DRAWS)
    ]


def _task(kind: Kind, seed: int, world: World, draft: Draft) -> Task:
    return Task(
        id=f"{kind.name}-{seed}",
        prompt=kind.phrasings[0].format(**draft.slots),
        goal=draft.goal,
        tools=kind.tools,
        domain=kind.domain,
        kind=kind.name,
        depth=kind.depth,
        seed=seed,
        faults=draft.faults,
        reference=draft.reference,
    )


def _placeholders(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def _goals(draft: Draft) -> tuple[Any, ...]:
    return draft.goal.goals if isinstance(draft.goal, AllOf) else (draft.goal,)


@every_kind
def test_every_draft_is_proven_on_the_real_server(kind: Kind, env: MCPGymEnv) -> None:
    for seed, draft in _drawn(kind):
        assert problems(env, _task(kind, seed, WORLDS[seed], draft)) == [], draft


@every_kind
def test_the_reference_uses_every_tool_of_the_kind_and_no_other(kind: Kind) -> None:
    for _, draft in _drawn(kind):
        used = {call.name for turn in draft.reference for call in turn.calls}
        assert used == set(kind.tools)


@every_kind
def test_a_kind_has_enough_phrasings_and_each_uses_every_slot_that_matters(kind: Kind) -> None:
    assert len(set(kind.phrasings)) >= 6
    assert len(set(kind.heldout_phrasings)) >= 2
    assert not set(kind.phrasings) & set(kind.heldout_phrasings)
    phrasings = (*kind.phrasings, *kind.heldout_phrasings)
    slots = {frozenset(_placeholders(phrasing)) for phrasing in phrasings}
    assert len(slots) == 1
    for _, draft in _drawn(kind):
        assert next(iter(slots)) <= set(draft.slots)


@every_kind
def test_a_text_ends_exactly_the_references_that_answer(kind: Kind) -> None:
    for _, draft in _drawn(kind):
        answers = any(isinstance(goal, FinalAnswer) for goal in _goals(draft))
        assert bool(draft.reference[-1].text) == answers
        assert not any(turn.text for turn in draft.reference[:-1])


@every_kind
def test_no_answer_stands_in_the_request(kind: Kind) -> None:
    for _, draft in _drawn(kind):
        prompt = kind.phrasings[0].format(**draft.slots).split()
        for goal in _goals(draft):
            if isinstance(goal, FinalAnswer) and isinstance(goal.value, str):
                assert goal.value not in prompt


@every_kind
def test_a_state_goal_allows_nothing_else_to_change(kind: Kind) -> None:
    for _, draft in _drawn(kind):
        for goal in _goals(draft):
            if isinstance(goal, FinalState):
                assert goal.only
                assert goal.changes


@every_kind
def test_a_missing_argument_cannot_be_guessed_from_the_request(kind: Kind) -> None:
    if kind.missing is None:
        return
    whole = _placeholders(kind.phrasings[0])
    for phrasing in (*kind.missing.phrasings, *kind.missing.heldout_phrasings):
        assert _placeholders(phrasing) < whole
        assert not any(re.search(rf"\b{name}\b", phrasing.lower()) for name in kind.missing.names)
    assert any(name in kind.missing.answer.lower() for name in kind.missing.names)


def test_drawing_is_deterministic() -> None:
    for kind in KINDS:
        assert repr(_drawn(kind)) == repr(_drawn(kind))


def test_names_are_unique_and_the_starter_kinds_are_there() -> None:
    assert len(BY_NAME) == len(KINDS)
    starters = {kind.name for kind in KINDS if kind.starter and not kind.heldout}
    assert starters == STARTERS
    assert {name for name in STARTERS if BY_NAME[name].missing} >= WITH_MISSING
    assert sum(kind.starter and kind.heldout for kind in KINDS) >= 2


def test_every_tool_of_the_two_domains_is_needed_in_training() -> None:
    needed = {tool for kind in KINDS if not kind.heldout for tool in kind.tools}
    tools = {spec.name for spec in (*database_tools.TOOLS, *data_tools.TOOLS)}
    assert tools <= needed


@pytest.mark.parametrize(
    ("kinds", "deepest"),
    [(database_kinds.KINDS, 4), (data_kinds.KINDS, 4), (cross_kinds.KINDS, 4)],
)
def test_a_domain_has_kinds_of_every_depth_and_deeper_ones_are_held_out(
    kinds: tuple[Kind, ...], deepest: int
) -> None:
    trained = {kind.depth for kind in kinds if not kind.heldout}
    assert {2, 3, deepest} <= trained
    assert max(kind.depth for kind in kinds if kind.heldout) == 5 > max(trained)


def test_cross_kinds_use_tools_of_several_domains() -> None:
    domain_of = {name: domain for domain in DOMAINS for name in served_tools((domain,))}
    for kind in cross_kinds.KINDS:
        assert len({domain_of[tool] for tool in kind.tools}) >= 2, kind.name


def _draft(name: str, seed: int) -> tuple[World, Draft]:
    world = WORLDS[seed]
    return world, BY_NAME[name].build(world, random.Random(seed))


def _answer(draft: Draft) -> Any:
    (goal,) = [goal for goal in _goals(draft) if isinstance(goal, FinalAnswer)]
    return goal.value


@pytest.mark.parametrize("seed", SEEDS)
def test_answers_agree_with_the_rows_of_the_company(seed: int) -> None:
    tables = WORLDS[seed].database.snapshot()
    _, draft = _draft("order_customer_field", seed)
    order = tables["orders"][draft.slots["order"]]
    assert _answer(draft) == tables["customers"][order["customer_id"]][draft.slots["field"]]
    _, draft = _draft("city_product_price", seed)
    (customer,) = (
        row for row in tables["customers"].values() if row["city"] == draft.slots["city"]
    )
    (order,) = (
        row for row in tables["orders"].values() if row["customer_id"] == customer["customer_id"]
    )
    assert _answer(draft) == tables["products"][order["product_id"]]["price"]
    _, draft = _draft("price_sum", seed)
    prices = [tables["products"][draft.slots[slot]]["price"] for slot in ("first", "second")]
    assert _answer(draft) == sum(prices)


@pytest.mark.parametrize("seed", SEEDS)
def test_answers_agree_with_the_rows_of_the_tables(seed: int) -> None:
    world, draft = _draft("table_aggregate", seed)
    table = world.data.tables[draft.slots["table"]]
    cells = [float(str(cell)) for cell in table.cells(draft.slots["column"])]
    wanted = {"sum": sum(cells), "mean": sum(cells) / len(cells)}
    wanted |= {"min": min(cells), "max": max(cells)}
    assert _answer(draft) == pytest.approx(wanted[draft.slots["function"]])
    world, draft = _draft("leader_value", seed)
    slots = draft.slots
    lookup = world.data.tables[slots["right"]]
    (value,) = (row[0] for row in lookup.rows if row[1] == slots["leader"])
    left = world.data.tables[slots["left"]]
    at, on = left.index(slots["column"]), left.index(slots["on"])
    total = sum(float(str(row[at])) for row in left.rows if row[on] == value)
    assert _answer(draft) == pytest.approx(total)


@pytest.mark.parametrize("name", ["stale_product", "stale_delete", "stale_order_city"])
def test_a_stale_id_belongs_to_no_row(name: str) -> None:
    for seed in SEEDS:
        world, draft = _draft(name, seed)
        ((old, new),) = draft.faults["stale"].items()
        keys = {key for table in world.database.snapshot().values() for key in table}
        assert old not in keys
        assert new in keys
        assert old in draft.slots.values()
        assert new not in draft.slots.values()


def test_two_draws_that_want_something_else_differ_in_their_request() -> None:
    for kind in KINDS:
        seen: dict[tuple[int, str], Any] = {}
        for seed, draft in _drawn(kind):
            prompt = (seed, kind.phrasings[0].format(**draft.slots))
            if not draft.faults:
                assert seen.setdefault(prompt, draft.goal) == draft.goal


def test_returned_data_names_what_only_the_right_call_returns() -> None:
    for kind in KINDS:
        for _, draft in _drawn(kind):
            for goal in _goals(draft):
                if isinstance(goal, ReturnedData):
                    assert goal.tool == draft.reference[-1].calls[-1].name
                    assert goal.value


def test_the_unsafe_wishes_are_enough_and_differ() -> None:
    wishes = cross_kinds.UNSAFE_WISHES
    assert sum(not wish.heldout for wish in wishes) >= 24
    assert sum(wish.heldout for wish in wishes) >= 10
    assert len({wish.prompt for wish in wishes}) == len(wishes)
    assert {wish.domain for wish in wishes} <= set(DOMAINS)
    assert {wish.domain for wish in wishes if not wish.heldout} == set(DOMAINS)
