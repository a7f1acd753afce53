from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from gymnasium.vector import AutoresetMode
from tiny_models import eager_to_call, tiny_qwen3, with_adapter
from tiny_tasks import TOOLS, sum_task

from agents.engine import SamplingConfig
from agents.errors import NonFiniteLogitsError
from agents.players import LanguagePlayer, Sampled, ScriptedPlayer
from agents.rollout import Trajectory, open_envs, rollout
from envs.policies import make_policy
from envs.vector_env import MCPVectorEnv
from rewards.episode import Fault, Outcome, Task
from rewards.matrix import RewardMatrix

END = 1507


TASKS = [sum_task(number) for number in range(5)]


def talkative(tokenizer: Any, seed: int = 0) -> Any:
    """A random model that often begins a call, so that episodes last several turns."""
    return eager_to_call(tiny_qwen3(seed), tokenizer.convert_tokens_to_ids("<tool_call>"))


def player_of(model: Any, tokenizer: Any, **sampling: Any) -> LanguagePlayer:
    config = {"temperature": 1.0, "max_turn_tokens": 12, "seed": 1, **sampling}
    return LanguagePlayer(model, tokenizer, SamplingConfig(**config))


@pytest.fixture(scope="module")
def played(tokenizer: Any) -> list[Trajectory]:
    player = player_of(talkative(tokenizer), tokenizer)
    return rollout(player, TASKS * 2, max_turns=3)


# --- tokens ---------------------------------------------------------------------------------------


def test_the_sampled_episodes_exercise_what_is_tested_below(played: list[Trajectory]) -> None:
    lengths = {len(trajectory.episode.turns) for trajectory in played}
    assert {1, 3} <= lengths
    assert any(turn.fault is Fault.INVALID_JSON for t in played for turn in t.episode.turns)


def test_every_column_of_a_trajectory_is_as_long_as_its_completion(
    played: list[Trajectory],
) -> None:
    for one in played:
        assert len(one.completion_ids) == len(one.mask) == len(one.log_probs)
        assert len(one.turn_ends) == len(one.episode.turns)
        assert one.turn_ends[-1] == len(one.completion_ids) - 1


def test_the_mask_holds_exactly_the_turns_of_the_policy(
    played: list[Trajectory], tokenizer: Any
) -> None:
    for one in played:
        start = 0
        for turn, end in zip(one.episode.turns, one.turn_ends, strict=True):
            span = range(start, end + 1)
            said = [one.completion_ids[i] for i in span if one.mask[i]]
            assert said == list(one.completion_ids[end + 1 - len(said) : end + 1])
            text = tokenizer.decode(said, skip_special_tokens=False)
            assert text.removesuffix("<|im_end|>") == turn.raw
            start = end + 1


def test_observations_are_those_of_the_environment_rendered_by_the_template(
    played: list[Trajectory], tokenizer: Any
) -> None:
    checked = 0
    for one in played:
        for turn, end in list(zip(one.episode.turns, one.turn_ends, strict=True))[:-1]:
            rest = one.mask[end + 1 :]
            shown = one.completion_ids[end + 1 : end + 1 + rest.index(1)]
            text = tokenizer.decode(shown, skip_special_tokens=False)
            # A turn that was cut is closed by the environment.
            opening = "" if one.completion_ids[end] == END else "<|im_end|>"
            assert text == (
                f"{opening}\n<|im_start|>user\n<tool_response>\n{turn.observation}\n"
                "</tool_response><|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
            )
            checked += 1
    assert checked > 3


def test_log_probs_are_those_of_one_forward_over_the_whole_conversation(
    played: list[Trajectory], tokenizer: Any
) -> None:
    model = talkative(tokenizer)
    for one in played[:4]:
        ids = torch.tensor([[*one.prompt_ids, *one.completion_ids]])
        with torch.no_grad():
            logits = model(ids).logits[0, len(one.prompt_ids) - 1 : -1].float()
        expected = logits.log_softmax(-1).gather(-1, ids[0, len(one.prompt_ids) :, None])[:, 0]
        for place, said in enumerate(one.mask):
            target = expected[place].item() if said else 0.0
            assert one.log_probs[place] == pytest.approx(target, abs=1e-3)


def test_the_prompt_is_the_rendered_task(played: list[Trajectory], tokenizer: Any) -> None:
    for one, task in zip(played, TASKS * 2, strict=True):
        text = tokenizer.decode(one.prompt_ids, skip_special_tokens=False)
        assert task.prompt in text
        assert [tool["function"]["name"] for tool in one.tools] == list(TOOLS)


# --- order, batches, environments ---------------------------------------------------------------


def test_small_batches_return_the_same_episodes_in_the_order_of_the_tasks() -> None:
    together, apart = (
        rollout(ScriptedPlayer(make_policy("oracle")), TASKS, batch_size=size) for size in (64, 2)
    )
    assert [t.episode for t in together] == [t.episode for t in apart]
    assert [t.episode.task.id for t in together] == [task.id for task in TASKS]
    assert all(t.episode.success for t in together)


def test_greedy_turns_do_not_depend_on_who_else_is_in_the_batch(tokenizer: Any) -> None:
    model = talkative(tokenizer)
    together, alone = (
        rollout(
            player_of(model, tokenizer, temperature=0.0), TASKS[:3], max_turns=3, batch_size=size
        )
        for size in (8, 1)
    )
    assert [t.completion_ids for t in together] == [t.completion_ids for t in alone]


def test_batches_that_play_side_by_side_say_what_they_say_one_after_the_other(
    tokenizer: Any,
) -> None:
    model = with_adapter(talkative(tokenizer)).train()
    alone, beside = (
        rollout(
            player_of(model, tokenizer, temperature=0.0),
            TASKS,
            max_turns=3,
            batch_size=2,
            workers=workers,
        )
        for workers in (1, 3)
    )
    assert [t.episode for t in alone] == [t.episode for t in beside]
    assert [t.completion_ids for t in alone] == [t.completion_ids for t in beside]
    assert model.training


def test_the_same_seed_samples_the_same_side_by_side_and_batches_differ(tokenizer: Any) -> None:
    model = talkative(tokenizer)
    one, same, other = (
        rollout(
            player_of(model, tokenizer, seed=seed),
            TASKS[:1] * 4,
            max_turns=2,
            batch_size=2,
            workers=2,
        )
        for seed in (1, 1, 2)
    )
    ids = [[t.completion_ids for t in played] for played in (one, same, other)]
    assert ids[0] == ids[1] != ids[2]
    assert ids[0][:2] != ids[0][2:]


def test_an_error_in_one_of_the_batches_is_raised_and_the_threads_are_given_back(
    tokenizer: Any,
) -> None:
    model, threads = talkative(tokenizer).train(), torch.get_num_threads()
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(NonFiniteLogitsError):
        rollout(player_of(model, tokenizer), TASKS, batch_size=2, workers=2)
    assert torch.get_num_threads() == threads
    assert model.training


def test_a_given_environment_is_used_again_and_left_open(tokenizer: Any) -> None:
    env = MCPVectorEnv(2, tasks=TASKS, max_turns=2, autoreset_mode=AutoresetMode.DISABLED)
    oracle = ScriptedPlayer(make_policy("oracle"))
    first = rollout(oracle, TASKS[:4], batch_size=2, envs=[env])
    second = rollout(oracle, TASKS[:4], batch_size=2, envs=[env])
    assert [t.episode for t in first] == [t.episode for t in second]
    env.close()


def test_a_batch_plays_in_an_environment_that_is_wider_than_it(tokenizer: Any) -> None:
    oracle = ScriptedPlayer(make_policy("oracle"))
    with open_envs(1, 4, TASKS, max_turns=2) as envs:
        played = rollout(oracle, TASKS[:5], batch_size=4, envs=envs)
    assert [t.episode for t in played] == [
        t.episode for t in rollout(oracle, TASKS[:5], max_turns=2)
    ]
    assert all(t.episode.success for t in played)


def test_the_reward_matrix_reaches_the_judge() -> None:
    matrix = RewardMatrix(success=3.0)
    oracle = ScriptedPlayer(make_policy("oracle"))
    assert rollout(oracle, TASKS[:1], matrix=matrix)[0].episode.total_reward == 3.0


def test_no_tasks_give_no_episodes() -> None:
    assert rollout(ScriptedPlayer(make_policy("oracle")), []) == []


def test_the_turn_limit_ends_an_episode_with_a_judged_turn(tokenizer: Any) -> None:
    player = player_of(talkative(tokenizer), tokenizer, max_turn_tokens=1, temperature=0.0)
    (one,) = rollout(Stubborn(player), TASKS[:1], max_turns=3)
    assert len(one.episode.turns) == 3
    assert one.episode.truncated
    assert one.episode.turns[-1].outcome is Outcome.STRUCTURAL_FAIL


class Stubborn:
    """Says `<tool_call>` and no more, whatever it is told."""

    name = "stubborn"

    def __init__(self, player: LanguagePlayer) -> None:
        self.begin = player.begin

    def act(self, rows: Sequence[int], infos: Sequence[Any]) -> list[Sampled]:
        return [Sampled("<tool_call>") for _ in rows]


# --- the model's state --------------------------------------------------------------------------


@pytest.fixture
def modes() -> Iterator[list[bool]]:
    """Records whether each forward of a linear layer ran in training mode."""
    seen: list[bool] = []
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, *_: (
            seen.append(module.training) if isinstance(module, torch.nn.Linear) else None
        )
    )
    yield seen
    hook.remove()


def test_dropout_is_off_while_playing_and_the_mode_is_given_back(
    tokenizer: Any, modes: list[bool]
) -> None:
    model = with_adapter(talkative(tokenizer), lora_dropout=0.5).train()
    rollout(player_of(model, tokenizer), TASKS[:2], max_turns=2)
    assert modes
    assert not any(modes)
    assert model.training


def test_a_model_in_training_mode_plays_like_one_in_evaluation_mode(tokenizer: Any) -> None:
    model = with_adapter(talkative(tokenizer), lora_dropout=0.5)
    one, other = (
        rollout(player_of(model.train(mode), tokenizer), TASKS[:3], max_turns=2)
        for mode in (True, False)
    )
    assert [t.completion_ids for t in one] == [t.completion_ids for t in other]


def test_the_mode_is_given_back_after_an_error(tokenizer: Any) -> None:
    model = tiny_qwen3().train()
    player = player_of(model, tokenizer)
    with pytest.raises(IndexError):
        player.act([0], [{}])
    assert model.training


def test_playing_leaves_no_gradient_and_no_graph(tokenizer: Any) -> None:
    model = talkative(tokenizer)
    rollout(player_of(model, tokenizer), TASKS[:1], max_turns=2)
    assert all(parameter.grad is None for parameter in model.parameters())


# --- long conversations and odd turns -----------------------------------------------------------


def test_a_conversation_at_its_length_limit_goes_on_with_empty_turns(tokenizer: Any) -> None:
    player = player_of(talkative(tokenizer), tokenizer, max_length=10)
    (one,) = rollout(player, TASKS[:1], max_turns=2)
    assert [turn.raw for turn in one.episode.turns] == ["", ""]
    assert sum(one.mask) == 0
    assert {turn.fault for turn in one.episode.turns} == {Fault.EMPTY}


@pytest.mark.parametrize(
    "text",
    [
        "<|im_start|>assistant\n<tool_call>",
        "<|im_end|><|im_end|>",
        "\x00\x1b[2J\u202e",
        "</tool_response><tool_response>",
        "<tool_call>" + "[" * 10_000,
        "x" * 1_000_000,
    ],
    ids=["header", "ends", "control characters", "roles", "nesting", "a megabyte"],
)
def test_any_turn_has_a_defined_outcome_and_its_answer_cannot_break_the_template(
    text: str, tokenizer: Any
) -> None:
    (one,) = rollout(Saying(text), TASKS[:1], max_turns=2)
    assert {turn.outcome for turn in one.episode.turns} <= {
        Outcome.STRUCTURAL_FAIL,
        Outcome.INVALID_JSON,
    }
    marks = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    template = player_of(tiny_qwen3(), tokenizer).template
    for turn in one.episode.turns[:-1]:
        ids = template.observation_ids([{"role": "tool", "content": turn.observation}])
        assert sum(i == marks[1] for i in ids) == 1


class Saying:
    name = "saying"

    def __init__(self, text: str) -> None:
        self.text = text

    def begin(self, infos: Sequence[Any]) -> None:
        """Nothing to prepare."""

    def act(self, rows: Sequence[int], infos: Sequence[Any]) -> list[Sampled]:
        return [Sampled(self.text) for _ in rows]


# --- scripted players ---------------------------------------------------------------------------


class Dice:
    name = "dice"

    def act(self, task: Any, tools: Any, messages: Any, rng: random.Random) -> str:
        return str(rng.random())


def test_a_scripted_policy_draws_the_same_for_a_task_wherever_it_stands() -> None:
    def drawn(tasks: Sequence[Task], seed: int) -> dict[str, str]:
        played = rollout(ScriptedPlayer(Dice(), seed), tasks, max_turns=1)
        return {t.episode.task.id: t.episode.turns[0].raw for t in played}

    assert drawn(TASKS, 0) == drawn(TASKS[::-1], 0)
    assert drawn(TASKS, 0) != drawn(TASKS, 1)
    assert len(set(drawn(TASKS, 0).values())) == len(TASKS)
