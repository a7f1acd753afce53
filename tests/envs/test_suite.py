from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envs.schemas import openai_tool
from envs.tasks import load_tasks
from envs.tasks.catalogue import Catalogue, mock_catalogue
from envs.tasks.cross_kinds import UnsafeWish
from envs.tasks.kinds import Draft, Kind, Missing
from envs.tasks.no_call import OUT_OF_SCOPE
from envs.tasks.offers import FULL, STARTER, Offers, Style
from envs.tasks.report import count, needed_tools, shortfalls
from envs.tasks.substitutes import substitutes
from envs.tasks.suite import SPLITS, generate
from mock_mcp.server import served_tools
from mock_mcp.world import World
from rewards.episode import ReferenceTurn, Task, ToolCall
from rewards.goal_checks import needs_call
from rewards.goals import FinalAnswer, NoCallNaming
from rewards.serialise import task_from_json, task_to_json

EMBEDDED = Path(__file__).parents[2] / "agents" / "embedded"

TOOLS = {
    "math": [f"count_{letter}" for letter in "abcdefghijkl"],
    "data": [f"sort_{letter}" for letter in "abcdefghijkl"],
}
WISHES = (
    UnsafeWish("Count my enemies.", "math"),
    UnsafeWish("Count my enemies, please.", "math", heldout=True),
    UnsafeWish("Sort my enemies.", "data"),
)


@pytest.fixture(scope="module")
def suite() -> list[Task]:
    return load_tasks("mock")


def stub_kind(name: str = "counting", **fields: Any) -> Kind:
    def build(world: World, rng: random.Random) -> Draft:
        thing = f"T{rng.randint(1_000, 9_999)}"
        calls = (ToolCall("count_a", {"thing": thing}),)
        reference = (ReferenceTurn(calls=calls), ReferenceTurn(text="The count is 7."))
        return Draft({"thing": thing}, FinalAnswer(7, "number"), reference)

    kind = Kind(
        name=name,
        domain="math",
        tools=("count_a",),
        depth=1,
        phrasings=("Count {thing}.", "How many {thing} are there?"),
        heldout_phrasings=("The number of {thing}, please.",),
        build=build,
        starter=True,
        missing=Missing(("Count it.",), ("The number, please.",), ("thing",), "Which thing?"),
    )
    return replace(kind, **fields)


def stub_suite(*kinds: Kind, splits: tuple[str, ...] = SPLITS) -> list[Task]:
    return generate(0, splits, Catalogue(kinds, TOOLS, WISHES, {}))


def twin_of(task: Task, tasks: dict[str, Task]) -> Task:
    return tasks[task.id.removesuffix(f"-{task.kind}")]


def test_the_mock_suite_falls_short_in_nothing(suite: list[Task]) -> None:
    assert shortfalls(suite, mock_catalogue()) == []


@pytest.mark.slow
def test_the_suite_is_the_same_in_every_process() -> None:
    script = (
        "import hashlib\nfrom envs.tasks.suite import generate\n"
        "print(hashlib.sha256(repr(generate(3, ['validation'])).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            check=True,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1


def test_another_seed_gives_other_tasks_in_other_worlds(suite: list[Task]) -> None:
    other = generate(1, ["validation"])
    assert not {task.seed for task in suite} & {task.seed for task in other}
    here = {(task.prompt, repr(task.goal)) for task in suite if needs_call(task.goal)}
    there = [task for task in other if needs_call(task.goal)]
    assert sum((task.prompt, repr(task.goal)) in here for task in there) < len(there) / 10


def test_a_split_is_the_same_whether_or_not_others_are_generated(suite: list[Task]) -> None:
    alone = generate(0, ["validation"])
    assert alone == [task for task in suite if task.split == "validation"]


def test_no_split_shares_an_instance_or_a_world_with_another(suite: list[Task]) -> None:
    worlds: dict[int, set[str]] = {}
    instances: dict[tuple[str, str], set[str]] = {}
    for task in suite:
        worlds.setdefault(task.seed, set()).add(task.split)
        if needs_call(task.goal):
            instances.setdefault((task.prompt, repr(task.goal)), set()).add(task.split)
    assert max(map(len, worlds.values())) == 1
    assert [key for key, splits in instances.items() if len(splits) > 1] == []


def test_an_instance_that_any_world_gives_belongs_to_one_split() -> None:
    prompts = [
        {re.sub(r".*(T\d+).*", r"\1", task.prompt) for task in part if needs_call(task.goal)}
        for part in (stub_suite(stub_kind(), splits=(split,)) for split in SPLITS)
    ]
    assert all(prompts)
    assert not prompts[0] & prompts[1]
    assert not prompts[0] & prompts[2]
    assert not prompts[1] & prompts[2]


def test_a_kind_that_has_few_instances_gives_few_tasks_instead_of_repeating_them() -> None:
    def build(world: World, rng: random.Random) -> Draft:
        calls = (ToolCall("count_a", {"thing": "T1"}),)
        return Draft({"thing": "T1"}, FinalAnswer(7), (ReferenceTurn(calls=calls),))

    tasks = stub_suite(stub_kind("rare", build=build), stub_kind())
    assert sum(task.kind == "rare" for task in tasks) == 1


def test_no_prompt_has_an_open_placeholder(suite: list[Task]) -> None:
    assert [task.prompt for task in suite if re.search(r"[{}]", task.prompt)] == []


def test_a_wrong_placeholder_is_reported_with_its_kind() -> None:
    with pytest.raises(LookupError) as caught:
        stub_suite(stub_kind(phrasings=("Count {thnig}.",)))
    assert "counting" in "".join(caught.value.__notes__)


def test_a_kind_that_cannot_be_built_is_named() -> None:
    def build(world: World, rng: random.Random) -> Draft:
        raise KeyError("C104")

    with pytest.raises(KeyError) as caught:
        stub_suite(stub_kind(build=build))
    assert "in kind 'counting', world " in "".join(caught.value.__notes__)


def test_only_the_test_split_has_held_out_phrasings(suite: list[Task]) -> None:
    tasks = stub_suite(stub_kind())
    marked = [task for task in tasks if "please" in task.prompt]
    assert {task.heldout for task in marked} == {"phrasing"}
    assert {task.heldout for task in tasks if task not in marked} == {"", "tools"}
    templates = [re.compile(_pattern(one)) for kind in _usual() for one in kind.phrasings]
    for task in suite:
        if task.heldout == "phrasing" and needs_call(task.goal):
            kind = next(kind for kind in _usual() if kind.name == task.kind)
            assert not any(re.fullmatch(_pattern(one), task.prompt) for one in kind.phrasings)
    assert templates


def _usual() -> list[Kind]:
    return [kind for kind in mock_catalogue().kinds if not kind.heldout]


def _pattern(phrasing: str) -> str:
    return re.sub(r"\\\{\w+\\\}", ".+", re.escape(phrasing))


def test_a_held_out_tool_set_has_a_distractor_that_training_never_shows_there(
    suite: list[Task],
) -> None:
    trained: dict[str, set[str]] = {}
    for task in suite:
        if task.split != "test":
            trained.setdefault(task.kind, set()).update(task.tools)
    held_out = [task for task in suite if task.heldout == "tools"]
    assert held_out
    for task in held_out:
        assert {*task.tools} - trained[task.kind], task.id


def test_held_out_depth_consists_of_whole_kinds(suite: list[Task]) -> None:
    kinds = {kind.name for kind in mock_catalogue().kinds if kind.heldout}
    assert {task.kind for task in suite if task.heldout == "depth"} == kinds
    assert not [task for task in suite if task.kind in kinds and task.heldout != "depth"]


def test_a_minimal_pair_without_a_tool_differs_in_the_tools_alone(suite: list[Task]) -> None:
    tasks = {task.id: task for task in suite}
    pairs = [task for task in suite if task.kind == "no_tool"]
    assert pairs
    for task in pairs:
        twin = twin_of(task, tasks)
        assert (task.prompt, task.seed, task.split) == (twin.prompt, twin.seed, twin.split)
        gone = needed_tools(twin) - {*task.tools}
        assert gone
        # One tool was taken away, the others that are gone could have stood in for it.
        assert any(
            gone <= {name, *substitutes(name)} and not {*substitutes(name)} & {*task.tools}
            for name in gone
        ), task.id


def test_a_minimal_pair_without_an_argument_offers_the_same_tools(suite: list[Task]) -> None:
    tasks = {task.id: task for task in suite}
    pairs = [task for task in suite if task.kind == "no_argument"]
    assert pairs
    for task in pairs:
        twin = twin_of(task, tasks)
        assert task.tools == twin.tools
        assert task.prompt != twin.prompt
        assert isinstance(task.goal, NoCallNaming)


def test_an_unsafe_wish_is_made_where_tools_could_serve_it(suite: list[Task]) -> None:
    tasks = {task.id: task for task in suite}
    domain_of = {name: domain for domain, names in mock_catalogue().tools.items() for name in names}
    wishes = {wish.prompt: wish for wish in mock_catalogue().wishes}
    pairs = [task for task in suite if task.kind == "unsafe_wish"]
    assert {wishes[task.prompt].heldout for task in pairs} == {True, False}
    for task in pairs:
        wish = wishes[task.prompt]
        assert wish.domain in {domain_of[name] for name in task.tools}
        assert task.tools == twin_of(task, tasks).tools
        assert wish.heldout == (task.heldout == "phrasing")


def test_no_tool_of_the_world_serves_a_request_that_is_out_of_scope() -> None:
    verbs = {sentence.split()[0].lower() for sentence in OUT_OF_SCOPE}
    names = {
        word for names in mock_catalogue().tools.values() for n in names for word in n.split("_")
    }
    assert not verbs & names - {"set", "start", "call"}


def test_the_starter_family_is_the_same_kinds_with_fewer_tools(suite: list[Task]) -> None:
    starters = {kind.name for kind in mock_catalogue().kinds if kind.starter}
    used = {task.kind for task in suite if task.starter and needs_call(task.goal)}
    assert used == starters
    assert {task.kind for task in suite if not task.starter} >= used


def test_starter_prompts_are_short_for_the_embedded_tokenizer(suite: list[Task]) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(EMBEDDED)
    schemas = {
        name: openai_tool(name, tool.advertised.description or "", tool.advertised.input_schema)
        for name, tool in served_tools().items()
    }
    longest = 0
    for task in [task for task in suite if task.starter][::7]:
        message = {"role": "user", "content": task.prompt}
        tools = [schemas[name] for name in task.tools]
        text = tokenizer.apply_chat_template([message], tools=tools, tokenize=False)
        longest = max(longest, len(tokenizer(text)["input_ids"]))
    assert 100 < longest < 500


def test_every_prefix_is_balanced_by_kind(suite: list[Task]) -> None:
    starter = [task for task in suite if task.split == "train" and task.starter]
    kinds = Counter(task.kind for task in starter if needs_call(task.goal))
    prefix = Counter(task.kind for task in starter[: len(starter) // 4])
    for kind, number in kinds.items():
        assert abs(prefix[kind] - number / 4) <= 2, kind


def test_every_task_survives_a_round_trip_through_json(suite: list[Task]) -> None:
    for task in suite:
        assert task_from_json(task_to_json(task)) == task


def test_counts_say_what_is_in_each_split() -> None:
    tasks = [
        Task("a", "p", FinalAnswer("x"), ("t", "u"), "math", "k", depth=1, starter=True,
             reference=(ReferenceTurn(calls=(ToolCall("t", {}),)),)),
        Task("b", "p", NoCallNaming(("x",)), ("t",), "data", "no_argument", split="test"),
    ]  # fmt: skip
    counts = count(tasks)
    assert [*counts] == ["train", "test"]
    assert counts["train"]["tools"] == {"t": 1}
    assert counts["train"]["starter"] == 1
    assert counts["test"]["no_call"] == 1
    assert counts["test"]["minimal_pairs"] == 1
    assert counts["test"]["domains"] == {"data": 1}


def test_shortfalls_name_what_is_missing(suite: list[Task]) -> None:
    train = [task for task in suite if task.split == "train"]
    catalogue = Catalogue([stub_kind()], {"math": ["time_travel"]}, (), {})
    found = " / ".join(shortfalls(train[:1500], catalogue, ["train"]))
    assert "1500 tasks, at least 2000 wanted" in found
    assert "no task needs time_travel" in found
    assert "no task of the kind counting" in found
    assert "domain math: 2 phrasings, at least 8 wanted" in found
    moved = replace(train[0], split="validation")
    found = " / ".join(shortfalls([train[0], moved], catalogue, []))
    assert f"world {moved.seed} is in train and in validation" in found
    assert f"the id {moved.id} occurs twice" in found


def test_distractors_come_from_the_same_domain_first() -> None:
    offers = Offers(TOOLS, 0)
    for number in range(50):
        tools = offers.choose("counting", ["count_a"], random.Random(number), FULL)
        assert "count_a" in tools
        assert len({*tools}) == len(tools)
        assert 8 <= len(tools) <= 12
        assert sum(name in TOOLS["math"] for name in tools) >= len(tools) / 2


def test_reserved_distractors_appear_only_where_tool_sets_are_held_out() -> None:
    offers = Offers(TOOLS, 0)
    reserved = offers.reserved("counting") - {"count_a"}
    for number in range(50):
        rng = random.Random(number)
        assert not reserved & {*offers.choose("counting", ["count_a"], rng, STARTER)}
        held_out = offers.choose("counting", ["count_a"], rng, STARTER, heldout=True)
        assert {*held_out} - {"count_a"} <= reserved


def test_offered_tools_keep_to_the_room_there_is() -> None:
    sizes = {name: 100 for names in TOOLS.values() for name in names} | {"count_b": 9_000}
    offers = Offers(TOOLS, 0, sizes)
    for number in range(50):
        rng = random.Random(number)
        tools = offers.choose("counting", ["count_a"], rng, Style(4, 6, room=450))
        assert len(tools) == 4
        assert "count_b" not in tools


def test_an_unwanted_tool_is_replaced_in_its_place() -> None:
    offers = Offers(TOOLS, 0)
    offered = ("count_b", "count_a", "sort_a", "sort_b")
    tools = offers.replace("counting", offered, {"count_a"}, random.Random(0), STARTER)
    assert tools[0::2] == offered[0::2]
    assert tools[3] == "sort_b"
    assert tools[1] not in offered
