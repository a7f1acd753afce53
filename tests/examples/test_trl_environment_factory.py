"""TRL's own trainer over MCP-v0. Where the policy's words matter they are scripted, token by token:
parsing, tool loop, rewards and the update are TRL's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tiny_models import eager_to_call, shipped_tokenizer, tiny_qwen3
from tiny_tasks import sum_task
from transformers.utils import get_json_schema
from trl import GRPOConfig, GRPOTrainer
from trl.chat_template_utils import add_response_schema, parse_response

from envs.errors import OptionError
from envs.mock_backend import mock_tools
from envs.parsing import parse_turn
from envs.policies import render_calls
from examples.trl_environment_factory import OVER, Worlds, environment_class, tool_method
from rewards.episode import Episode, Fault, Outcome, Status, ToolCall

TASK = sum_task(25)
TURNS = 4
ANSWER = "The result is 42."
OPENING = "<|im_start|>assistant\n"


def call(name: str = "calculate", **arguments: Any) -> str:
    return render_calls([ToolCall(name, arguments or {"expression": "17 + 25"})])


def raw(text: str) -> str:
    return f"<tool_call>\n{text}\n</tool_call>"


SOLVED = [call(), ANSWER]
WRONG = ["I do not know."]


@pytest.fixture(autouse=True)
def _silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return add_response_schema(shipped_tokenizer())


@pytest.fixture
def worlds() -> Iterator[Worlds]:
    made = Worlds([TASK], max_turns=TURNS)
    yield made
    made.close()


class Scripted(GRPOTrainer):  # type: ignore[misc]
    """The policy says what the script of its row says; rows are told apart by their first words."""

    scripts: Sequence[Sequence[str]]

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], *args: Any, **options: Any
    ) -> tuple[list[list[int]], None]:
        heard = [self.processing_class.decode(ids) for ids in prompt_ids]
        texts = [self._next(row, text) for row, text in enumerate(heard)]
        end = self.processing_class.eos_token
        return [self.processing_class(text + end)["input_ids"] for text in texts], None

    def _next(self, row: int, heard: str) -> str:
        said = heard.count(OPENING) - 1
        if not said:
            return self.scripts[row][0]
        [script] = [script for script in self.scripts if script[0] in heard]
        return script[said]


Train = Callable[..., tuple[GRPOTrainer, list[Episode], list[float | None]]]


@pytest.fixture
def train(tmp_path: Path, tokenizer: Any, worlds: Worlds) -> Train:
    """Train on two episodes of a task; the scripts say what the policy says in them."""

    def run(*scripts: Sequence[str], **options: Any) -> Any:
        episodes: list[Episode] = []
        rewards: list[float | None] = []

        def watched(environments: Any, **rest: Any) -> list[float | None]:
            scored = worlds.episode_return(environments=environments, **rest)
            episodes.extend(environment._info["episode"] for environment in environments)
            rewards.extend(scored)
            return scored

        config: dict[str, Any] = {
            "output_dir": str(tmp_path),
            "max_steps": 1,
            "per_device_train_batch_size": 2,
            "num_generations": 2,
            "max_completion_length": 400,
            "max_tool_calling_iterations": TURNS - 1,
            "chat_template_kwargs": {"enable_thinking": False},
            "learning_rate": 0.05,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "bf16": False,
            "activation_checkpointing": False,
            "dataloader_pin_memory": False,
            "disable_tqdm": True,
            **options,
        }
        token = tokenizer.convert_tokens_to_ids("<tool_call>")
        trainer = (Scripted if scripts else GRPOTrainer)(
            model=eager_to_call(tiny_qwen3(), token),
            processing_class=tokenizer,
            environment_factory=worlds.factories,
            reward_funcs=watched,
            train_dataset=Dataset.from_list(worlds.rows),
            args=GRPOConfig(**config),
        )
        trainer.scripts = scripts
        trainer.train()
        return trainer, episodes, rewards

    return run


def outcomes(episode: Episode) -> list[str]:
    return [str(turn.outcome) for turn in episode.turns]


# --- training -------------------------------------------------------------------------------------


def test_a_random_policy_trains_two_steps_on_episodes_of_its_own(train: Train) -> None:
    trainer, episodes, rewards = train(max_steps=2, max_completion_length=24)
    assert trainer.state.global_step == 2
    assert len(episodes) == 4
    assert all(episode.turns for episode in episodes)
    assert all(reward is not None for reward in rewards)


def test_a_solved_episode_is_worth_more_than_a_wrong_answer_and_moves_the_policy(
    train: Train,
) -> None:
    before = tiny_qwen3().state_dict()
    trainer, [solved, wrong], rewards = train(SOLVED, WRONG)
    assert outcomes(solved) == [Outcome.TOOL_EXECUTION, Outcome.SUCCESS]
    assert outcomes(wrong) == [Outcome.STRUCTURAL_FAIL]
    assert rewards == pytest.approx([1.0, -0.1])
    [log, *_] = trainer.state.log_history
    assert float(log["success"]) == 0.5
    assert float(log["tools/call_frequency"]) == 0.5
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(trainer.model.state_dict()[name], before[name])


def test_what_the_model_is_told_is_what_mcp_v0_tells_it(train: Train) -> None:
    _, [solved, bad], _ = train(SOLVED, [call(formula="1"), ANSWER])
    assert "42" in solved.turns[0].observation
    assert outcomes(bad)[0] == Outcome.TOOL_ERROR
    assert 'unknown argument "formula"' in bad.turns[0].observation


def test_the_prompt_offers_the_tools_of_the_task_and_no_others() -> None:
    other = replace(sum_task(4), tools=("calculate", "get_customer"))
    worlds = Worlds([TASK, other])
    offered = {
        row["task_id"]: set(vars(worlds.factories[row["environment"]])) for row in worlds.rows
    }
    worlds.close()
    assert set(TASK.tools) <= offered[TASK.id]
    assert "get_customer" not in offered[TASK.id]
    assert {"calculate", "get_customer"} <= offered[other.id]
    assert "solve_equation" not in offered[other.id]


def test_an_episode_that_a_dead_server_ended_has_no_reward(worlds: Worlds) -> None:
    [factory] = worlds.factories.values()
    broken, sound = factory(), factory()
    for environment in (broken, sound):
        environment.reset(task_id=TASK.id)
    dead = replace(broken._info["episode"], truncated=True, status=Status.SERVER_CRASHED)
    broken._info["episode"] = dead
    logged: dict[str, float] = {}
    answer = [{"role": "assistant", "content": "no"}]
    rewards = worlds.episode_return(
        [[], []],
        [answer, answer],
        [broken, sound],
        lambda name, value: logged.update({name: value}),
    )
    assert rewards == [None, pytest.approx(-0.1)]
    assert logged == {"success": 0.0}


def test_environments_are_lent_and_taken_back_so_that_a_batch_is_the_most_there_are() -> None:
    tasks = [
        replace(TASK, id=f"t{n}", tools=("calculate", *extra))
        for n, extra in enumerate([(), ("solve_equation",), ("get_customer",)])
    ]
    worlds = Worlds(tasks)
    for row in worlds.rows:
        batch = [worlds.factories[row["environment"]]() for _ in range(2)]
        for environment in batch:
            environment.reset(**row)
        for environment in batch:
            environment._end([{"role": "assistant", "content": "no"}])
    assert len(worlds.factories) == 3
    assert len(worlds._opened) == 2
    worlds.close()


def test_tasks_on_mcp_servers_of_ones_own_are_played_on_them(tmp_path: Path) -> None:
    config = tmp_path / "mcp.json"
    server = {"command": sys.executable, "args": ["-m", "mock_mcp", "--domains", "math"]}
    server["env"] = {"PYTHONPATH": str(Path(__file__).parents[2])}
    config.write_text(json.dumps({"mcpServers": {"world": server}}), encoding="utf-8")
    worlds = Worlds([TASK], servers=config)
    [factory] = worlds.factories.values()
    environment = factory()
    environment.reset(**worlds.rows[0])
    told = environment.calculate(expression="17 + 25")
    episode = environment._end([{"role": "assistant", "content": ANSWER}])
    worlds.close()
    assert "42" in told
    assert episode.success


# --- what this path cannot see: the list of the docstring -----------------------------------------


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ('{"name": "calculate"}', Outcome.TOOL_ERROR),
        ('{"name": "calculate", "arguments": null}', Outcome.TOOL_ERROR),
        (
            '{"name": "calculate", "arguments": {"expression": "", "expression": "17 + 25"}}',
            Outcome.TOOL_EXECUTION,
        ),
        (
            '{"name": "calculate", "arguments": {"expression": "17 + 25"}, "id": 3}',
            Outcome.TOOL_EXECUTION,
        ),
    ],
    ids=["no arguments", "null arguments", "duplicate key", "a key too many"],
)
def test_trl_repairs_calls_that_are_invalid_json_here(
    text: str, outcome: Outcome, train: Train
) -> None:
    assert parse_turn(raw(text)).fault is Fault.INVALID_JSON
    _, [episode, _], _ = train([raw(text), ANSWER], WRONG)
    assert outcomes(episode)[0] == outcome


def test_trl_takes_the_quotes_from_numbers(tokenizer: Any) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
    tools = [
        {"type": "function", "function": {"name": "a", "description": "", "parameters": schema}}
    ]
    prompt = [{"role": "user", "content": "1?"}]
    prefix = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
    ids = tokenizer(call("a", x="1") + tokenizer.eos_token)["input_ids"]
    [parsed] = parse_response(tokenizer, ids, prefix=prefix, tools=tools)["tool_calls"]
    assert parsed["function"]["arguments"] == {"x": 1}


def test_unoffered_tools_and_stringified_arguments_never_reach_the_environment(
    train: Train,
) -> None:
    stringified = raw('{"name": "calculate", "arguments": "{}"}')
    _, episodes, _ = train([call("get_weather"), *SOLVED], [stringified, *SOLVED])
    for episode in episodes:
        assert outcomes(episode) == [Outcome.TOOL_EXECUTION, Outcome.SUCCESS]


def test_a_fault_of_form_is_judged_but_ends_the_episode(train: Train) -> None:
    quotes, bare = raw("{'name': 'calculate'}"), '{"name": "calculate", "arguments": {}}'
    _, [invalid, wrong], rewards = train([quotes], [bare])
    assert outcomes(invalid) == [Outcome.INVALID_JSON]
    assert outcomes(wrong) == [Outcome.STRUCTURAL_FAIL]
    assert rewards == pytest.approx([-0.08, -0.1])
    assert not invalid.terminated


def test_the_calls_of_one_turn_are_a_turn_each(train: Train) -> None:
    two = call(formula="1") + "\n" + call()
    _, [episode, _], _ = train([two, ANSWER], WRONG)
    assert outcomes(episode) == [Outcome.TOOL_ERROR, Outcome.TOOL_EXECUTION, Outcome.SUCCESS]


def test_calls_that_trl_does_not_run_any_more_are_an_empty_turn(train: Train) -> None:
    _, [episode, _], _ = train([call(), call()], WRONG, max_tool_calling_iterations=1)
    assert outcomes(episode) == [Outcome.TOOL_EXECUTION, Outcome.STRUCTURAL_FAIL]
    assert episode.turns[-1].raw == ""


def test_after_the_end_the_model_is_told_so_and_nothing_is_played() -> None:
    worlds = Worlds([TASK], max_turns=1)
    [factory] = worlds.factories.values()
    environment = factory()
    environment.reset(task_id=TASK.id)
    assert environment.calculate(expression="1 + 1") == OVER
    assert environment.calculate(expression="1 + 2") == OVER
    episode = environment._end([{"role": "assistant", "content": ANSWER}])
    worlds.close()
    assert outcomes(episode) == [Outcome.STRUCTURAL_FAIL]


# --- tools as methods -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(mock_tools().schemas))
def test_the_schema_made_from_a_method_is_the_servers_but_for_defaults(name: str) -> None:
    schema = mock_tools().schemas[name]
    made = get_json_schema(tool_method(schema["function"]))
    wanted = schema["function"]["parameters"]["properties"]
    for argument, said in wanted.items():
        stand_in = {"description": argument.replace("_", " ")}
        kept = {key: value for key, value in said.items() if key != "default"}
        if options := kept.pop("anyOf", None):  # another way to write the same
            kept["type"] = sorted(option["type"] for option in options)
        assert made["function"]["parameters"]["properties"][argument] == stand_in | kept
    parameters = schema["function"]["parameters"]
    assert made["function"]["parameters"].get("required") == parameters.get("required")
    assert made["function"]["name"] == name
    assert made["function"]["description"] == schema["function"]["description"]


def test_a_description_that_looks_like_a_docstring_stays_a_description() -> None:
    said = "Adds.\n\nArgs:\n    a: the first\nReturns:\n    the sum"
    function = {
        "name": "add",
        "description": said,
        "parameters": {"properties": {"a": {"type": "number", "description": "Raises: no"}}},
    }
    made = get_json_schema(tool_method(function))["function"]
    assert made["description"].replace(" ", "").endswith("Returns\nthesum")
    assert made["parameters"]["properties"] == {"a": {"type": "number", "description": "Raises no"}}


def test_types_of_json_become_types_of_python_and_come_back() -> None:
    properties = {
        "either": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "integer"}}]},
        "several": {"type": ["number", "string"]},
        "choice": {"type": "string", "enum": ["a", "b"]},
        "anything": {},
        "table": {"type": "array"},
    }
    function = {"name": "f", "description": "", "parameters": {"properties": properties}}
    made = get_json_schema(tool_method(function))["function"]["parameters"]["properties"]
    assert made == {key: {**schema, "description": key} for key, schema in properties.items()}


@pytest.mark.parametrize("name", ["reset", "get_reward", "_hidden"])
def test_a_tool_whose_name_means_something_to_trl_is_refused(name: str, worlds: Worlds) -> None:
    function = {"name": name, "description": "", "parameters": {"properties": {}}}
    with pytest.raises(OptionError, match=name):
        environment_class(worlds, [{"type": "function", "function": function}])


def test_an_argument_that_python_cannot_name_is_refused() -> None:
    properties = {"file-path": {"type": "string"}}
    function = {"name": "read", "description": "", "parameters": {"properties": properties}}
    with pytest.raises(OptionError, match=r'"read".*file-path'):
        tool_method(function)
