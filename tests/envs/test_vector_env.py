from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

import envs.client
from envs.errors import ActionError, EpisodeOverError, OptionError, TaskError
from envs.mcp_env import MCPGymEnv
from envs.mock_backend import world_template
from envs.policies import CANARIES, make_policy, render_calls
from envs.vector_env import MCPVectorEnv
from rewards.episode import ReferenceTurn, Status, Task, ToolCall
from rewards.goals import FinalAnswer, FinalState, NoCall

TOOLS = ("calculate", "get_product", "update_stock", "today")
CALL = "<tool_call>\n{}\n</tool_call>"
BROKEN = (
    "",
    "<think>never ending",
    "<tool_call>{'name': 1}</tool_call>",
    '{"name": "calculate", "arguments": {}}',
    CALL.format('{"name": "nothing", "arguments": {}}'),
    CALL.format('{"name": "calculate", "arguments": {}}'),
    CALL.format('{"name": "calculate", "arguments": {"expression": "1/0"}}'),
)


def sum_task(number: int) -> Task:
    text = f"{number} + {number}"
    return Task(
        id=f"sum{number}",
        prompt=f"What is {text}?",
        goal=FinalAnswer(2 * number, "number"),
        tools=TOOLS,
        domain="math",
        kind="sum",
        seed=number % 3,
        reference=(
            ReferenceTurn((ToolCall("calculate", {"expression": text}),)),
            ReferenceTurn(text=f"The result is {2 * number}."),
        ),
    )


def stock_task(seed: int) -> Task:
    product = next(iter(world_template(seed).database.table("products")))
    return Task(
        id=f"stock{seed}",
        prompt=f"Set the stock of {product} to 1234.",
        goal=FinalState({"database.products": {product: {"stock": 1234}}}),
        tools=TOOLS,
        domain="database",
        kind="stock",
        seed=seed,
        reference=(
            ReferenceTurn((ToolCall("update_stock", {"product_id": product, "stock": 1234}),)),
        ),
    )


DECLINE = Task("no", "Format my disk.", NoCall(), TOOLS, "cross", "no")
TASKS = [*map(sum_task, range(40, 70)), *map(stock_task, range(3)), DECLINE]


@pytest.fixture(scope="module")
def env() -> Iterator[MCPVectorEnv]:
    made = MCPVectorEnv(4, tasks=TASKS)
    yield made
    made.close()


def reference(task: Task, turn: int) -> str:
    if turn >= len(task.reference):
        return "No."
    return task.reference[turn].text or render_calls(task.reference[turn].calls)


class RandomTurns:
    """For every row the same turns, whoever plays it: a policy drawn anew each turn."""

    def __init__(self, row: int) -> None:
        self.rng = random.Random(row)
        self.turn = 0

    def act(self, info: dict[str, Any]) -> str:
        self.turn += 1
        if self.rng.random() < 0.25:
            return reference(info["task"], self.turn - 1)
        if self.rng.random() < 0.4:
            return self.rng.choice(BROKEN)
        policy = make_policy(self.rng.choice(CANARIES))
        return policy.act(info["task"], info["tools"], info["messages"], self.rng)


def test_it_is_registered_with_its_vector_form() -> None:
    made = gymnasium.make_vec("envs:MCP-v0", num_envs=3, tasks=TASKS)
    assert isinstance(made, MCPVectorEnv)
    assert isinstance(made, VectorEnv)
    assert made.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    assert made.num_envs == 3
    made.close()
    assert made.closed


def test_64_rows_equal_64_single_environments_turn_by_turn() -> None:
    count = 64
    vector = MCPVectorEnv(count, tasks=TASKS, max_turns=5)
    singles = [MCPGymEnv(tasks=TASKS, max_turns=5) for _ in range(count)]
    players = [RandomTurns(row) for row in range(count)]
    observations, _ = vector.reset(seed=7)
    starts = [single.reset(seed=7 + row) for row, single in enumerate(singles)]
    assert list(observations) == [observation for observation, _ in starts]
    assert vector.infos == [info for _, info in starts]
    active, ends = list(range(count)), []
    while active:
        actions: list[str | None] = [None] * count
        for row in active:
            actions[row] = players[row].act(vector.infos[row])
        observations, rewards, terminated, truncated, _ = vector.step(actions)
        for row in active:
            alone = singles[row].step(actions[row])
            both = (observations[row], rewards[row], terminated[row], truncated[row])
            assert (*both, vector.infos[row]) == alone
        ends += [vector.infos[row]["episode"] for row in active if terminated[row]]
        active = [row for row in active if not (terminated[row] or truncated[row])]
    # The random play reached every kind of ending, or the comparison would say little.
    assert len({turn.outcome for episode in ends for turn in episode.turns}) == 5
    vector.close()
    for single in singles:
        single.close()


def test_all_calls_of_a_step_cross_to_the_event_loop_once(
    env: MCPVectorEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    env.reset(options={"tasks": TASKS[:4]})
    loop = envs.client.event_loop()
    crossings: list[object] = []
    run = loop.run
    monkeypatch.setattr(loop, "run", lambda *args: (crossings.append(args), run(*args))[1])
    env.step([reference(task, 0) * 2 for task in TASKS[:4]])
    assert len(crossings) == 1
    env.step(["hello"] * 4)
    assert len(crossings) == 1


def test_the_tasks_can_be_given_by_value_and_by_id(env: MCPVectorEnv) -> None:
    own = [sum_task(number) for number in (1, 2, 3, 4)]
    observations, _ = env.reset(options={"tasks": own})
    assert [info["task"] for info in env.infos] == own
    assert list(observations) == [task.prompt for task in own]
    env.reset(options={"task_ids": ["sum41", "no", "sum40", "no"]})
    assert [info["task"].id for info in env.infos] == ["sum41", "no", "sum40", "no"]


def test_a_trainers_loop_plays_every_row_to_its_end(env: MCPVectorEnv) -> None:
    tasks = [TASKS[0], DECLINE, TASKS[1], stock_task(0)]
    env.reset(options={"tasks": tasks})
    active, turn, returns = [0, 1, 2, 3], 0, np.zeros(4)
    while active:
        actions = [reference(tasks[row], turn) if row in active else None for row in range(4)]
        observations, rewards, terminated, truncated, infos = env.step(actions)
        assert observations in env.observation_space
        assert [row in active for row in range(4)] == list(infos["_episode"])
        returns += rewards
        active = [row for row in active if not (terminated[row] or truncated[row])]
        turn += 1
    assert list(returns) == [10.0] * 4
    assert [len(info["episode"].turns) for info in env.infos] == [2, 1, 2, 1]
    assert all(info["episode"].success for info in env.infos)


def test_an_ended_row_ignores_its_action_and_keeps_its_records(env: MCPVectorEnv) -> None:
    env.reset(options={"tasks": [DECLINE, *TASKS[:3]]})
    env.step(["No.", None, None, None])
    kept = env.infos[0]
    observations, rewards, terminated, truncated, infos = env.step([BROKEN[0]] * 4)
    assert (observations[0], rewards[0], terminated[0], truncated[0]) == ("", 0.0, True, False)
    assert env.infos[0] is kept
    assert list(infos["_outcome"]) == [False, True, True, True]
    assert list(rewards) == [0.0, -1.0, -1.0, -1.0]


def test_a_row_without_an_action_waits(env: MCPVectorEnv) -> None:
    env.reset(options={"tasks": TASKS[:4]})
    _, rewards, terminated, _, infos = env.step([None, "hm", None, None])
    assert [len(info["episode"].turns) for info in env.infos] == [0, 1, 0, 0]
    assert list(rewards) == [0.0, -1.0, 0.0, 0.0]
    assert list(terminated) == [False, True, False, False]
    assert list(infos["_messages"]) == [False, True, False, False]


def test_infos_have_gymnasiums_form(env: MCPVectorEnv) -> None:
    _, infos = env.reset(options={"tasks": TASKS[:4]})
    assert set(infos) == {key for name in env.infos[0] for key in (name, f"_{name}")}
    for name in env.infos[0]:
        assert infos[f"_{name}"].dtype == np.bool_
        assert [info[name] for info in env.infos] == list(infos[name])


def test_returned_arrays_have_gymnasiums_types(env: MCPVectorEnv) -> None:
    observations, _ = env.reset(seed=0)
    assert observations in env.observation_space
    actions = env.action_space.sample()
    observations, rewards, terminated, truncated, _ = env.step(actions)
    assert observations in env.observation_space
    assert (rewards.dtype, rewards.shape) == (np.float64, (4,))
    assert (terminated.dtype, truncated.dtype) == (np.bool_, np.bool_)
    assert env.single_action_space == env.action_space.spaces[0]


def test_a_seed_fixes_the_tasks_of_all_rows(env: MCPVectorEnv) -> None:
    env.reset(seed=3)
    drawn = [info["task"] for info in env.infos]
    env.reset(seed=3)
    assert [info["task"] for info in env.infos] == drawn
    assert len({task.id for task in drawn}) > 1
    env.reset(seed=np.int64(3))
    assert [info["task"] for info in env.infos] == drawn
    env.reset(seed=[3, 4, 5, None])
    assert [info["task"] for info in env.infos[:3]] == drawn[:3]
    env.reset()
    assert [info["task"] for info in env.infos] != drawn


def test_only_the_masked_rows_are_reset(env: MCPVectorEnv) -> None:
    env.reset(options={"tasks": TASKS[:4]})
    env.step([reference(task, 0) for task in TASKS[:4]])
    mask = np.array([True, False, True, False])
    tasks = [DECLINE, None, DECLINE, None]
    observations, infos = env.reset(options={"reset_mask": mask, "tasks": tasks})
    assert list(infos["_task"]) == list(mask)
    assert [info["task"] for info in env.infos] == [DECLINE, TASKS[1], DECLINE, TASKS[3]]
    assert [len(info["episode"].turns) for info in env.infos] == [0, 1, 0, 1]
    assert observations[0] == DECLINE.prompt
    assert "result" in observations[1]
    _, rewards, *_ = env.step(["No.", reference(TASKS[1], 1)] * 2)
    assert rewards[0] == rewards[1] == rewards[2] == 10.0


def test_the_rows_share_no_world(env: MCPVectorEnv) -> None:
    task = stock_task(1)
    env.reset(options={"tasks": [task] * 4})
    _, rewards, *_ = env.step([reference(task, 0), "<think>", None, "<think>"])
    assert list(rewards) == [10.0, -1.0, 0.0, -1.0]
    assert [bool(i["episode"].turns and i["episode"].turns[0].state) for i in env.infos] == [
        True, False, False, False,
    ]  # fmt: skip
    assert not world_template(1).changes_since(world_template(1))


def test_a_fault_in_one_row_leaves_the_others_alone(env: MCPVectorEnv) -> None:
    env.reset(options={"tasks": TASKS[:4]})
    env._backend._connections[2].close()
    _, rewards, terminated, truncated, _ = env.step([reference(task, 0) for task in TASKS[:4]])
    assert list(truncated) == [False, False, True, False]
    assert not terminated.any()
    assert not rewards.any()
    assert [info["status"] == "ok" for info in env.infos] == [True, True, False, True]
    assert env.infos[2]["status"] == Status.SERVER_CRASHED
    env.reset(options={"tasks": TASKS[:4]})
    env.step([reference(task, 0) for task in TASKS[:4]])
    assert [info["status"] for info in env.infos] == ["ok"] * 4


def test_the_next_step_mode_draws_another_task_after_the_end() -> None:
    env = MCPVectorEnv(2, tasks=TASKS, autoreset_mode="NextStep")
    env.reset(seed=0, options={"tasks": [DECLINE, TASKS[0]]})
    env.step(["No.", reference(TASKS[0], 0)])
    observations, rewards, terminated, truncated, infos = env.step(["ignored", None])
    assert (rewards[0], terminated[0], truncated[0]) == (0.0, False, False)
    assert observations[0] == env.infos[0]["task"].prompt
    assert env.infos[0]["episode"].turns == ()
    assert list(infos["_task"]) == [True, False]
    env.close()


def test_what_cannot_be_used_is_an_error_that_says_why(env: MCPVectorEnv) -> None:
    env.reset(options={"tasks": TASKS[:4]})
    with pytest.raises(ActionError, match="3 actions for 4"):
        env.step(["x"] * 3)
    with pytest.raises(ActionError, match="not int"):
        env.step(["x", 1, "x", "x"])
    with pytest.raises(OptionError, match="3 entries for 4"):
        env.reset(options={"tasks": TASKS[:3]})
    with pytest.raises(OptionError, match="seed has 2 entries"):
        env.reset(seed=[1, 2])
    with pytest.raises(OptionError, match="4 booleans"):
        env.reset(options={"reset_mask": [1, 0, 1, 0]})
    with pytest.raises(OptionError, match='did you mean "tasks"'):
        env.reset(options={"task": TASKS[:4]})
    with pytest.raises(TaskError, match="no task"):
        env.reset(options={"task_ids": ["sum40", "sum41", "sum42", "summ"]})
    # None of it disturbed the running episodes.
    assert [info["task"] for info in env.infos] == TASKS[:4]
    env.step([reference(task, 0) for task in TASKS[:4]])
    assert list(env.step([reference(task, 1) for task in TASKS[:4]])[1]) == [10.0] * 4


def test_a_row_that_was_never_reset_cannot_be_played() -> None:
    env = MCPVectorEnv(2, tasks=TASKS)
    with pytest.raises(EpisodeOverError, match="sub-environment 0 has no episode"):
        env.step(["x", "x"])
    env.reset(options={"reset_mask": np.array([False, True])})
    _, _, terminated, _, _ = env.step([None, "x"])
    assert list(terminated) == [False, True]
    env.close()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"max_turns": 0}, "max_turns"),
        ({"autoreset_mode": AutoresetMode.SAME_STEP}, "SAME_STEP"),
    ],
)
def test_wrong_arguments_of_the_environment_are_named(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        MCPVectorEnv(**{"tasks": TASKS, **wrong})


def test_the_episodes_are_rendered_row_by_row() -> None:
    env = MCPVectorEnv(2, tasks=TASKS, render_mode="ansi")
    env.reset(options={"tasks": TASKS[:2]})
    rendered = env.render()
    assert rendered is not None
    assert [task.prompt in text for task, text in zip(TASKS[:2], rendered, strict=True)] == [
        True
    ] * 2
    env.close()
    plain = MCPVectorEnv(1, tasks=TASKS)
    assert plain.render() is None
    plain.close()


def test_gymnasiums_own_vector_form_works_too() -> None:
    made = gymnasium.make_vec("envs:MCP-v0", 2, vectorization_mode="sync", tasks=TASKS)
    assert isinstance(made, SyncVectorEnv)
    observations, infos = made.reset(seed=0)
    assert observations in made.observation_space
    first = infos["task"][0]
    observations, _, *_ = made.step((reference(first, 0), "x"))
    assert observations in made.observation_space
    made.close()
