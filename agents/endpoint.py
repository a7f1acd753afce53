"""Players behind an OpenAI-compatible endpoint.

The environment takes raw turns and the endpoint speaks messages. A `Conversation` stands between:

    said    the endpoint's answer -> the raw turn, which is what `step` takes
    told    what the environment says next -> messages as the endpoint wants them

Where the endpoint parsed calls, they are written as the model would have written them, arguments
untouched, so that broken JSON in them is judged as such; a tool then answers each call's id. Where
it did not, the text is the turn (Hermes' `<tool_call>`), and the tool's answers go back in
`<tool_response>` in a message of the user, which is how Qwen's and Hermes' templates render them.
An endpoint that repairs broken calls before we see them hides a mistake; nobody can find that out.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from itertools import cycle
from typing import Any

from agents.chat_answers import Answer, NativeCall
from agents.chat_client import ChatClient
from agents.chat_errors import EndpointError, UnansweredError
from agents.players import Info, Sampled
from envs.parsing import parse_turn
from envs.untrusted import neutralise
from rewards.episode import Fault

PATIENCE_S = 1800.0
LOST_IN_A_ROW = 5
"""So many episodes without an answer, one after the other, mean that nobody answers any more."""

log = logging.getLogger(__name__)

_POLICY = re.compile(r"(?P<model>.+)@(?P<url>https?://.+)", re.IGNORECASE)


class Conversation:
    """One episode as the endpoint sees it.

    Args:
        info: The info of the freshly reset episode.
        system_prompt: A guiding message before all others; "" for none. The environment never
            sees it, so it is in no trace.
        patience_s: Most seconds that the endpoint may take for all turns together.

    Attributes:
        messages: The conversation so far, in OpenAI's form.
        tools: The offered tools as OpenAI function schemas.
        left_s: What is left of the patience.
    """

    def __init__(self, info: Info, system_prompt: str = "", patience_s: float = PATIENCE_S) -> None:
        system = [{"role": "system", "content": system_prompt}] if system_prompt else []
        self.messages: list[dict[str, Any]] = [*system, *info["messages"]]
        self.tools: list[dict[str, Any]] = list(info["tools"])
        self.left_s = patience_s
        self._calls: tuple[NativeCall, ...] = ()

    def said(self, answer: Answer) -> str:
        """Take the endpoint's answer and return the raw turn."""
        # Some servers leave the calls in the text that they parsed them from; the text is then
        # what the model said.
        calls = () if _holds_calls(answer.content) else answer.calls
        turn = "\n".join(part for part in (answer.content, *map(_call_text, calls)) if part)
        message: dict[str, Any] = {"role": "assistant", "content": answer.content}
        if answer.reasoning:
            message[answer.reasoning_key] = answer.reasoning
        # Servers read the arguments that they are sent back, and fail on what is not JSON.
        self._calls = calls if all(map(_is_whole, calls)) else ()
        if self._calls:
            message["tool_calls"] = [_native(call) for call in self._calls]
        else:
            message["content"] = turn
        self.messages.append(message)
        self.left_s -= answer.seconds
        if not answer.reasoning:
            return turn
        return f"<think>\n{neutralise(answer.reasoning)}\n</think>\n\n{turn}"

    def told(self, new_messages: Sequence[Mapping[str, Any]]) -> None:
        """Take what the environment says next.

        One fault stands for all calls of its turn, so every call gets its text.
        """
        results = [m["content"] for m in new_messages if m["role"] == "tool"]
        if results and self._calls:
            self.messages += [
                {"role": "tool", "tool_call_id": call.id, "content": content}
                for call, content in zip(self._calls, cycle(results), strict=False)
            ]
        elif results:
            wrapped = [f"<tool_response>\n{text}\n</tool_response>" for text in results]
            self.messages.append({"role": "user", "content": "\n".join(wrapped)})
        self.messages += [dict(m) for m in new_messages if m["role"] == "user"]


class EndpointPlayer:
    """Plays a model behind an endpoint; the requests of a batch run side by side.

    A request that stays without an answer ends its episode, about which nothing is said then.

    Args:
        client: What asks.
        name: Shown in tables.
        system_prompt: As in `Conversation`.
    """

    def __init__(self, client: ChatClient, name: str, system_prompt: str = "") -> None:
        self.name = name
        self.client = client
        self._system_prompt = system_prompt
        self._conversations: list[Conversation] = []
        self._lost_in_a_row = 0

    def begin(self, infos: Sequence[Info]) -> None:
        """Open a conversation for each episode."""
        self._conversations = [Conversation(info, self._system_prompt) for info in infos]

    def act(self, rows: Sequence[int], infos: Sequence[Info]) -> list[Sampled | None]:
        """Ask for a turn of each row; None where no answer came.

        Raises:
            EndpointError: The endpoint cannot be used, or left requests unanswered for so many
                episodes in a row (`LOST_IN_A_ROW`) that it seems to be gone.
        """
        conversations = [self._conversations[row] for row in rows]
        for conversation, info in zip(conversations, infos, strict=True):
            if info["episode"].turns:
                conversation.told(info["new_messages"])
        asked = [self.client.submit(c.messages, c.tools, c.left_s) for c in conversations]
        try:
            answers = [self._answer(future) for future in asked]
        finally:
            for future in asked:
                future.cancel()
        return [
            None if answer is None else Sampled(conversation.said(answer))
            for conversation, answer in zip(conversations, answers, strict=True)
        ]

    def _answer(self, future: Future[Answer]) -> Answer | None:
        try:
            answer = future.result()
        except UnansweredError as error:
            self._lost_in_a_row += 1
            if self._lost_in_a_row < LOST_IN_A_ROW:
                log.warning("an episode is lost: %s", error)
                return None
            raise EndpointError(f"{error}; {LOST_IN_A_ROW} episodes were lost in a row") from error
        self._lost_in_a_row = 0
        return answer


def model_at(policy: str) -> tuple[str, str] | None:
    """Return model and URL of a policy that is named `MODEL@URL`; None for any other."""
    found = _POLICY.fullmatch(policy)
    return (found["model"], found["url"]) if found else None


def _holds_calls(content: str) -> bool:
    parsed = parse_turn(content)
    return bool(parsed.calls) or parsed.fault is Fault.INVALID_JSON


def _call_text(call: NativeCall) -> str:
    name, arguments = json.dumps(call.name, ensure_ascii=False), call.arguments.strip() or "{}"
    return f'<tool_call>\n{{"name": {name}, "arguments": {arguments}}}\n</tool_call>'


def _is_whole(call: NativeCall) -> bool:
    try:
        return bool(call.name) and isinstance(json.loads(call.arguments or "{}"), dict)
    except (ValueError, RecursionError):
        return False


def _native(call: NativeCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments.strip() or "{}"}
    return {"id": call.id, "type": "function", "function": function}
