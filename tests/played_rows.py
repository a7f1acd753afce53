"""A conversation as a rollout would have played it: what it concatenates, piece by piece."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agents.template import ChatTemplate

Message = Mapping[str, Any]


def spoken(template: ChatTemplate, message: Message) -> list[int]:
    """The tokens of a turn as a policy would sample them: its raw text and the end token."""
    thought = f"<think>\n{message.get('reasoning_content', '')}\n</think>\n\n"
    parts = [message["content"]] if message["content"] else []
    parts += [call_text(**call["function"]) for call in message.get("tool_calls", ())]
    text = thought * template.thinking + "\n".join(parts) + template.end_of_turn
    ids: list[int] = template.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def call_text(name: str, arguments: Any) -> str:
    written = json.dumps(arguments, ensure_ascii=False)
    return f'<tool_call>\n{{"name": "{name}", "arguments": {written}}}\n</tool_call>'


def played_row(
    template: ChatTemplate, messages: Sequence[Message], tools: Any
) -> tuple[list[int], list[int]]:
    """The ids and the mask of a rollout of the conversation, up to the end of its last turn."""
    said = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    ids = template.prompt_ids(messages[: said[0]], tools)
    mask = [0] * len(ids)
    for place, before in zip(said, [None, *said], strict=False):
        told = [] if before is None else template.observation_ids(messages[before + 1 : place])
        turn = spoken(template, messages[place])
        ids += [*told, *turn]
        mask += [0] * len(told) + [int(messages[place].get("weight", 1) != 0)] * len(turn)
    return ids, mask
