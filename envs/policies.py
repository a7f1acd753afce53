"""Policies without a model: the oracle, and canaries that a fair reward must not pay.

Names for `make_policy`:
    oracle          plays the task's reference solution
    silent          says nothing at all
    refusal         answers every request with the same refusal
    empty           closes an empty `<think>` and stops
    random_call     a random offered tool with arguments drawn from its schema, every turn
    repeat          one random call, then the same call again and again
    list_all        calls tools that list things, then recites the last result
    one_call        one random call, then always the same answer (`most_common_answer`)
    echo            answers with the question
    schema_example  calls the first tool with the examples of its schema, then recites the result

A policy is asked once per turn and keeps no state: it reads where it stands from the messages.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from envs.schema_draw import draw_value, example_value
from rewards.episode import Task, ToolCall
from rewards.errors import did_you_mean

Tools = Sequence[Mapping[str, Any]]
Messages = Sequence[Mapping[str, Any]]

REFUSAL = "I'm sorry, but I cannot help with that."
LIST_PREFIXES = ("list_", "search_", "find_", "describe_", "get_all", "show_", "read_", "load_")


class TextPolicy(Protocol):
    """Anything that turns a conversation into the model's next turn."""

    @property
    def name(self) -> str:
        """What reports call the policy."""

    def act(self, task: Task, tools: Tools, messages: Messages, rng: random.Random) -> str:
        """Return the raw text of the next turn.

        Args:
            task: The task (only the oracle reads more of it than its prompt).
            tools: The offered tools as OpenAI function schemas.
            messages: The conversation so far.
            rng: Where randomness comes from.

        Returns:
            The turn, untouched text.
        """


class UnknownPolicyError(ValueError):
    """There is no such policy; the message lists those there are."""


def render_calls(calls: Iterable[ToolCall]) -> str:
    """Return calls as text, character for character as the Qwen3 chat template writes them."""
    return "\n".join(
        f'<tool_call>\n{{"name": {_json(call.name)}, "arguments": {_json(call.arguments)}}}\n'
        "</tool_call>"
        for call in calls
    )


@dataclass(frozen=True)
class Oracle:
    """Plays the task's reference solution, then stays silent."""

    name: str = "oracle"

    def act(self, task: Task, tools: Tools, messages: Messages, rng: random.Random) -> str:
        """Return the reference turn that is due."""
        done = _turns_done(messages)
        if done >= len(task.reference):
            return ""
        turn = task.reference[done]
        return "\n".join(part for part in (turn.text, render_calls(turn.calls)) if part)


@dataclass(frozen=True)
class FixedText:
    """Says the same in every turn."""

    name: str
    text: str

    def act(self, task: Task, tools: Tools, messages: Messages, rng: random.Random) -> str:
        """Return the text."""
        return self.text


@dataclass(frozen=True)
class Echo:
    """Answers with the question."""

    name: str = "echo"

    def act(self, task: Task, tools: Tools, messages: Messages, rng: random.Random) -> str:
        """Return the user's message."""
        return task.prompt


@dataclass(frozen=True)
class RandomCall:
    """Calls a random offered tool with arguments drawn from its schema, every turn."""

    name: str = "random_call"

    def act(self, task: Task, tools: Tools, messages: Messages, rng: random.Random) -> str:
        """Return a random valid call."""
        return _random_call(tools, rng)


@dataclass(frozen=True)
class Repeat:
    """Makes one random call, then the same again and again."""

    name: str = "repeat"

    def act(self, task: Task, tools: Tools, messages: Messages, rng: random.Random) -> str:
        """Return the first turn once more."""
        earlier = (message["content"] for message in messages if message["role"] == "assistant")
        return next(earlier, None) or _random_call(tools, rng)


@dataclass(frozen=True)
class ListAll:
    """Calls tools that list things, one a turn, then recites the last result."""

    name: str = "list_all"
    most_calls: int = 3

    def act(self, task: Task, tools: Tools, messages: Messages, rng: random.Random) -> str:
        """Return the next listing call, or everything the last one returned."""
        listing = [tool["function"] for tool in tools if _lists_things(tool["function"])]
        listing = listing[: self.most_calls] or [tool["function"] for tool in tools[:1]]
        done = _turns_done(messages)
        if done < len(listing):
            return _call(listing[done], example_value(_parameters(listing[done])))
        return _last_result(messages)


@dataclass(frozen=True)
class OneCall:
    """Makes one random call, then gives an answer that was fixed beforehand."""

    answer: str
    name: str = "one_call"

    def act(self, task: Task, tools: Tools, messages: Messages, rng: random.Random) -> str:
        """Return a random call first, the answer after it."""
        return self.answer if _turns_done(messages) else _random_call(tools, rng)


@dataclass(frozen=True)
class SchemaExample:
    """Calls the first tool with the examples of its schema, then recites the result."""

    name: str = "schema_example"

    def act(self, task: Task, tools: Tools, messages: Messages, rng: random.Random) -> str:
        """Return the example call first, its result after it."""
        if _turns_done(messages) or not tools:
            return _last_result(messages)
        function = tools[0]["function"]
        return _call(function, example_value(_parameters(function)))


POLICY_NAMES = (
    "oracle",
    "silent",
    "refusal",
    "empty",
    "random_call",
    "repeat",
    "list_all",
    "one_call",
    "echo",
    "schema_example",
)
"""Every name that `make_policy` knows; all but the oracle are canaries."""

CANARIES = POLICY_NAMES[1:]
"""The policies that must not have a positive mean return on tasks that need tools."""


def make_policy(name: str, *, answer: str = "The result is 1.") -> TextPolicy:
    """Return the policy called `name`.

    Args:
        name: One of `POLICY_NAMES`.
        answer: What `one_call` answers; see `most_common_answer`.

    Returns:
        The policy.

    Raises:
        UnknownPolicyError: If there is none of that name.
    """
    policies: tuple[TextPolicy, ...] = (
        Oracle(),
        FixedText("silent", ""),
        FixedText("refusal", REFUSAL),
        FixedText("empty", "<think>\n\n</think>\n\n"),
        RandomCall(),
        Repeat(),
        ListAll(),
        OneCall(answer),
        Echo(),
        SchemaExample(),
    )
    for policy in policies:
        if policy.name == name:
            return policy
    hint = did_you_mean(name, POLICY_NAMES)
    raise UnknownPolicyError(f'no policy "{name}"{hint}; there are {", ".join(POLICY_NAMES)}')


def most_common_answer(tasks: Iterable[Task]) -> str:
    """Return the final text that most reference solutions with calls end in.

    Args:
        tasks: Tasks with references, the training split for an honest canary.

    Returns:
        The text; "" if no reference with a call ends in one.
    """
    finals = Counter(
        task.reference[-1].text
        for task in tasks
        if len(task.reference) > 1 and task.reference[-1].text
    )
    return finals.most_common(1)[0][0] if finals else ""


def _random_call(tools: Tools, rng: random.Random) -> str:
    if not tools:
        return ""
    function = rng.choice(tools)["function"]
    return _call(function, draw_value(_parameters(function), rng))


def _call(function: Mapping[str, Any], arguments: Any) -> str:
    return render_calls([ToolCall(function["name"], arguments)])


def _parameters(function: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters: Mapping[str, Any] = function.get("parameters") or {}
    return {"type": "object"} | dict(parameters)


def _lists_things(function: Mapping[str, Any]) -> bool:
    return function["name"].startswith(LIST_PREFIXES) or not _parameters(function).get("required")


def _turns_done(messages: Messages) -> int:
    return sum(message["role"] == "assistant" for message in messages)


def _last_result(messages: Messages) -> str:
    results = [message["content"] for message in messages if message["role"] == "tool"]
    # Words before the result make it a text answer; bare JSON would only be a wrong call format.
    return f"It says {results[-1]}" if results else ""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
