"""MCP-v0 driven by any model behind an OpenAI-compatible endpoint.

    transformers serve agents/embedded --reasoning off &
    BASE_URL=http://localhost:8000/v1 MODEL=agents/embedded python examples/openai_loop.py

BASE_URL, MODEL and OPENAI_API_KEY come from the environment. `play` is the loop. Around it:

    as_turn     the endpoint's message -> the model's raw turn, which is what `step` takes
    answers     what the environment says next -> messages as the endpoint wants them

An endpoint parses the model's text before we see it, and some repair it: what was wrong with a
call and was mended there is judged as if it had been right. Arguments arrive as text and are
passed on untouched, so that broken JSON in them is still seen.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any

import gymnasium as gym
import httpx2

import envs  # noqa: F401 - registers MCP-v0

Message = Mapping[str, Any]
Ask = Callable[[Sequence[Message], Sequence[Mapping[str, Any]]], Message]

TIMEOUT_S = 300.0


def play(env: gym.Env[str, str], ask: Ask, **reset: Any) -> float:
    """Play one episode and return its return.

    Args:
        env: MCP-v0.
        ask: Takes messages and tools and returns the model's message (see `endpoint`).
        **reset: For `env.reset`.
    """
    _, info = env.reset(**reset)
    messages, total, over = list(info["messages"]), 0.0, False
    while not over:
        said = ask(messages, info["tools"])
        _, reward, terminated, truncated, info = env.step(as_turn(said))
        messages += [said, *answers(said, info["new_messages"])]
        total, over = total + float(reward), terminated or truncated
    return total


def as_turn(message: Message) -> str:
    """Return a message with native tool calls as the text that the model means by it."""
    parts = [message.get("content") or ""]
    for call in message.get("tool_calls") or ():
        name, arguments = call["function"]["name"], call["function"]["arguments"] or "{}"
        parts.append(
            f'<tool_call>\n{{"name": {json.dumps(name)}, "arguments": {arguments}}}\n</tool_call>'
        )
    return "\n".join(part for part in parts if part)


def answers(said: Message, new_messages: Sequence[Message]) -> list[Message]:
    """Return what the model is told, in OpenAI's form: an answer to the id of each native call.

    One fault stands for all calls of its turn, so every call gets its text. Where there is no
    native call to answer, the user says it.
    """
    calls = said.get("tool_calls") or ()
    if not calls:
        return [{"role": "user", "content": message["content"]} for message in new_messages]
    return [
        {"role": "tool", "tool_call_id": call["id"], "content": message["content"]}
        for call, message in zip(calls, cycle(new_messages), strict=False)
    ]


def endpoint(base_url: str, model: str, api_key: str) -> Ask:
    """Return a function that asks a model through `/chat/completions`.

    Args:
        base_url: Up to and including `/v1`.
        model: What the endpoint calls the model.
        api_key: Its key; most local servers take any.

    The function raises `httpx2.HTTPError` if the endpoint does not answer, or not with a message.
    """
    url, headers = (
        f"{base_url.rstrip('/')}/chat/completions",
        {"Authorization": f"Bearer {api_key}"},
    )

    def ask(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> Message:
        body = {"model": model, "messages": messages, "tools": tools, "temperature": 0}
        answer = httpx2.post(url, json=body, headers=headers, timeout=TIMEOUT_S)
        answer.raise_for_status()
        message: Message = answer.json()["choices"][0]["message"]
        # Some endpoints send keys with null that they do not accept back.
        return {key: value for key, value in message.items() if value is not None}

    return ask


def main(arguments: Sequence[str] | None = None) -> None:
    """Play episodes and print them."""
    parser = argparse.ArgumentParser(description="Play MCP-v0 with a model behind an endpoint.")
    parser.add_argument("--tasks", default="starter", help="a suite or a JSONL file")
    parser.add_argument("--servers", help="a config file of MCP servers (default: the mock world)")
    parser.add_argument("--split", default="test")
    parser.add_argument("--episodes", type=int, default=3)
    options = parser.parse_args(arguments)
    ask = endpoint(
        os.environ.get("BASE_URL", "http://localhost:8000/v1"),
        os.environ.get("MODEL", "agents/embedded"),
        os.environ.get("OPENAI_API_KEY", "none"),
    )
    env = gym.make(
        "MCP-v0",
        tasks=options.tasks,
        servers=options.servers,
        split=options.split,
        render_mode="ansi",
    )
    try:
        for seed in range(options.episodes):
            total = play(env, ask, seed=seed)
            sys.stdout.write(f"{env.render()}\nreturn {total:+.1f}\n\n")
    finally:
        env.close()


if __name__ == "__main__":
    main()
