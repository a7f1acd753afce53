"""MCP-v0 as the `environment_factory` of TRL's GRPOTrainer.

    python examples/trl_environment_factory.py --max_steps 2

TRL's contract (1.16): an environment is a class whose public methods are tools, plus `reset`. TRL
generates, parses the text with a parser of its own, calls the methods, and asks reward functions
at the end. So there is one class for each set of offered tools; a row of the dataset names its
class (`environment`) and its task, and `episode_return` hands the final answer to the environment,
which TRL would not, and reads the return off the episode.

    worlds = Worlds(tasks)                          # and servers="mcp.json"; 8 turns
    GRPOTrainer(
        environment_factory=worlds.factories,
        reward_funcs=worlds.episode_return,
        train_dataset=Dataset.from_list(worlds.rows),
        args=GRPOConfig(max_tool_calling_iterations=7, ...), ...
    )

What this path cannot see, each of it tested in tests/examples/test_trl_environment_factory.py
(`python -m rl.grpo` sees all of it):

- **Form that TRL repairs.** Missing or null arguments, duplicate keys, keys too many, numbers in
  quotes: invalid JSON (the last a tool error) in MCP-v0, calls like others here.
- **Unoffered tools, and stringified arguments.** TRL answers both itself. The environment never
  hears of them: no cost, no turn.
- **A second try after a fault of form.** What TRL cannot parse is text without a call for it, and
  ends the episode. The fault is judged, but the model is not told of it and cannot mend it.
- **Turns.** The calls of one turn come one by one and each is a turn: what precedes a bad one is
  executed, each fault costs by itself, and the turn limit counts calls.
- **The end.** TRL does not know that an episode is over. The model is told so and speaks on; what
  it says after success is trained with the same advantage.
- **Rewards of turns.** Only the return of the episode arrives.
- **The prompt.** A method's signature and docstring make the schema, so defaults, bounds and the
  insides of objects are lost (`tool_method`).
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, Literal, Union

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from agents.models import load_model, load_tokenizer
from envs.backends import ServerSource, open_backend
from envs.errors import OptionError
from envs.mcp_env import MCPGymEnv
from envs.policies import render_calls
from envs.tasks.load import TaskSource, load_tasks
from rewards import trl_rewards
from rewards.episode import Episode, ToolCall

OVER = "The episode is over."
PYTHON_TYPES = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "object": dict,
    "array": list,
    "null": type(None),
}

Schema = Mapping[str, Any]


class Worlds:
    """What GRPOTrainer needs to play tasks.

    An MCP-v0 is lent to an episode and given back when that is scored, so there are never more of
    them than episodes in a batch, however many sets of tools there are.

    Args:
        tasks: As in `MCPGymEnv`.
        servers: As in `MCPGymEnv`.
        split: As in `MCPGymEnv`.
        max_turns: As in `MCPGymEnv`; `max_tool_calling_iterations` should be one less.

    Attributes:
        factories: For `environment_factory`: a class for each set of offered tools.
        rows: For `train_dataset`: a row for each task.

    Raises:
        OptionError: If a tool cannot be a Python method.
    """

    def __init__(
        self,
        tasks: TaskSource,
        servers: ServerSource | None = None,
        split: str | None = "train",
        max_turns: int = 8,
    ) -> None:
        self._make = partial(MCPGymEnv, tasks, servers, split, max_turns=max_turns)
        self._opened: list[MCPGymEnv] = []
        self._spare: list[MCPGymEnv] = []
        self.factories: dict[str, type[MCPEnvironment]] = {}
        self.rows: list[dict[str, Any]] = []
        with closing(open_backend(servers, 1)) as backend:
            for task in load_tasks(tasks, split, mock=servers is None):
                names = backend.fitted(task).tools
                prompt = [{"role": "user", "content": task.prompt}]
                row = {"prompt": prompt, "environment": " ".join(names), "task_id": task.id}
                self.rows.append(row)
                if row["environment"] not in self.factories:
                    factory = environment_class(self, backend.tools.offer(names))
                    self.factories[row["environment"]] = factory

    def episode_return(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Sequence[Mapping[str, Any]]],
        environments: Sequence[MCPEnvironment],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float | None]:
        """Return the scaled return of each episode, as `python -m rl.grpo` does; log `success`."""
        episodes = [
            environment._end(completion)
            for completion, environment in zip(completions, environments, strict=True)
        ]
        solved = [
            one for one in trl_rewards.success(prompts, completions, episodes) if one is not None
        ]
        if solved:
            log_metric("success", sum(solved) / len(solved))
        return trl_rewards.episode_return(prompts, completions, episodes)

    def lend(self) -> MCPGymEnv:
        """Return an environment that nobody is using."""
        if not self._spare:
            self._opened.append(self._make())
            self._spare.append(self._opened[-1])
        return self._spare.pop()

    def give_back(self, env: MCPGymEnv) -> None:
        """Take an environment back."""
        self._spare.append(env)

    def close(self) -> None:
        """Close every environment."""
        for env in self._opened:
            env.close()


class MCPEnvironment:
    """An episode as TRL sees it: every public method but `reset` is a tool.

    Subclasses made by `environment_class` have the methods and the `_worlds` to play in.
    """

    _worlds: Worlds

    def __init__(self) -> None:
        self._env: MCPGymEnv | None = None
        self._info: dict[str, Any] = {}

    def reset(self, task_id: str, **_: Any) -> None:
        """Start the episode of a row of the dataset."""
        self._env = self._env or self._worlds.lend()
        _, self._info = self._env.reset(options={"task_id": task_id})

    def _play(self, turn: str) -> str:
        """Play a turn and return what the model is told."""
        episode: Episode = self._info["episode"]
        if self._env is None or episode.terminated or episode.truncated:
            return OVER
        observation, _, _, _, self._info = self._env.step(turn)
        return observation or OVER

    def _end(self, completion: Sequence[Mapping[str, Any]]) -> Episode:
        """Play the final answer and give the environment back.

        Calls that TRL did not run any more are no answer: such an episode ends with an empty turn.
        """
        last = completion[-1]
        answered = last["role"] == "assistant" and not last.get("tool_calls")
        self._play(last["content"] if answered else "")
        if self._env is not None:
            self._worlds.give_back(self._env)
        self._env = None
        episode: Episode = self._info["episode"]
        return episode


def environment_class(worlds: Worlds, tools: Sequence[Schema]) -> type[MCPEnvironment]:
    """Return a subclass of `MCPEnvironment` with a method for each tool.

    Args:
        worlds: Where its episodes are played.
        tools: OpenAI function schemas.

    Raises:
        OptionError: If a name is no name for a method or an argument, or is taken.
    """
    methods = {}
    for tool in tools:
        name = tool["function"]["name"]
        if name.startswith("_") or hasattr(MCPEnvironment, name) or name == "get_reward":
            raise OptionError(
                f'TRL cannot offer the tool "{name}": the name means something else to it'
            )
        methods[name] = tool_method(tool["function"])
    return type("MCPEnvironment", (MCPEnvironment,), {**methods, "_worlds": worlds})


def tool_method(function: Schema) -> Callable[..., str]:
    """Return a method whose signature and docstring say what a tool's schema says.

    It takes any arguments: wrong ones are the model's mistake, and MCP-v0 judges them. TRL wants a
    description of every argument; where the server gives none, the argument's name stands in.

    Raises:
        OptionError: If an argument's name cannot be one in Python.
    """
    name, parameters = function["name"], function["parameters"]
    properties: Mapping[str, Schema] = parameters["properties"]

    def method(self: MCPEnvironment, /, **arguments: Any) -> str:
        return self._play(render_calls([ToolCall(name, arguments)]))

    lines = [
        f"    {argument}: {' '.join(_prose(schema, argument.replace('_', ' ')).split())}"
        for argument, schema in properties.items()
    ]
    method.__name__ = name
    method.__doc__ = "\n".join([_prose(function, name), "", "Args:", *lines])
    method.__annotations__ = {key: python_type(schema) for key, schema in properties.items()}
    required = parameters.get("required", ())
    try:
        signature = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)] + [
            inspect.Parameter(
                argument,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=method.__annotations__[argument],
                default=inspect.Parameter.empty if argument in required else None,
            )
            for argument in properties
        ]
        method.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    except ValueError as error:
        raise OptionError(f'TRL cannot offer the tool "{name}": {error}') from error
    return method


def _prose(schema: Schema, otherwise: str) -> str:
    """Return a description without what would begin a section of a docstring."""
    return re.sub(r"\b(Args|Returns|Raises):", r"\1", schema.get("description") or otherwise)


def python_type(schema: Schema) -> Any:
    """Return the type hint from which TRL makes this JSON schema again, or nearly."""
    if "enum" in schema:
        return Literal[tuple(schema["enum"])]
    kinds = schema.get("type")
    options = schema.get("anyOf") or (
        [{**schema, "type": kind} for kind in kinds] if isinstance(kinds, list) else ()
    )
    if options:
        return Union[tuple(python_type(option) for option in options)]  # noqa: UP007 - built at run time
    if kinds == "array" and "items" in schema:
        return list[python_type(schema["items"])]  # type: ignore[misc]
    return PYTHON_TYPES.get(str(kinds), Any)


def main() -> None:
    """Train for a few steps."""
    parser = argparse.ArgumentParser(description="GRPO with TRL's own rollout over MCP-v0.")
    parser.add_argument("--model", default="embedded", help="a folder, a hub id, or 'embedded'")
    parser.add_argument("--tasks", default="starter", help="a suite or a JSONL file")
    parser.add_argument("--servers", help="a config file of MCP servers (default: the mock world)")
    parser.add_argument("--max_steps", type=int, default=2)
    parser.add_argument("--max_turns", type=int, default=6)
    parser.add_argument("--output_dir", default="runs/trl_environment_factory")
    options = parser.parse_args()
    worlds = Worlds(options.tasks, options.servers, max_turns=options.max_turns)
    config = GRPOConfig(
        output_dir=options.output_dir,
        max_steps=options.max_steps,
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=512,
        max_tool_calling_iterations=options.max_turns - 1,
        chat_template_kwargs={"enable_thinking": False},
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        bf16=False,
    )
    with closing(worlds):
        GRPOTrainer(
            model=load_model(options.model, trainable=True),
            processing_class=load_tokenizer(options.model),
            environment_factory=worlds.factories,
            reward_funcs=worlds.episode_return,
            train_dataset=Dataset.from_list(worlds.rows),
            args=config,
        ).train()


if __name__ == "__main__":
    main()
