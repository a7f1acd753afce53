"""The chat template and the trained-token mask: the one place where messages become token ids.

Rollouts and SFT rows must agree token by token, so both go through `ChatTemplate`:

    prompt_ids          messages and tools up to the point where the policy speaks
    observation_ids     what follows a turn of the policy, up to its next turn
    training_row        a whole conversation with the mask of the tokens that the policy said

Every turn of the policy begins after a header and ends with the end-of-turn token. A conversation
is always tokenised in the pieces between those borders, in training as in a rollout, so
`prompt_ids + turn + observation_ids + turn + ...` equals the ids of the whole conversation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase
from trl.chat_template_utils import get_training_chat_template

Message = Mapping[str, Any]
Tools = Sequence[Mapping[str, Any]]

_PROBE: tuple[Message, ...] = ({"role": "user", "content": "probe"},)
_ANSWERED: tuple[Message, ...] = (*_PROBE, {"role": "assistant", "content": "probe"})
_CALLING: Message = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "probe", "arguments": {}}}],
}
_STRUCTURE = ("<|im_start|>", "<|im_end|>", "<tool_response>", "</tool_response>")
_BREAK = "\u200b"


class ChatTemplate:
    """A tokenizer's chat template in its prefix-preserving form.

    Plain Qwen3 drops earlier empty `<think>` blocks, so that a longer conversation would not begin
    with the tokens of a shorter one; TRL's training variant keeps them. The tokenizer's own
    template is never replaced: what is saved stays the original.

    Args:
        tokenizer: A tokenizer with a chat template.
        thinking: Leave the `<think>` block to the policy, which then says all of it, an empty one
            too; otherwise an empty one is given before every turn, and no reasoning is rendered.

    Raises:
        ValueError: If the tokenizer has no chat template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, thinking: bool = False) -> None:
        if not isinstance(tokenizer.chat_template, str):
            raise ValueError(
                f"the tokenizer {tokenizer.name_or_path!r} has no chat template; "
                "use a chat model, or put a chat_template.jinja beside its tokenizer.json"
            )
        self.tokenizer = tokenizer
        self.thinking = thinking
        self.end_of_turn = str(tokenizer.eos_token)
        self._template = get_training_chat_template(tokenizer) or tokenizer.chat_template
        special = {str(token) for token in tokenizer.all_special_tokens}
        self._controls = sorted(special.union(_STRUCTURE))
        closed = self._render(_PROBE, (), opened=False)
        self._headers = {
            thinks: self._render(_PROBE, (), opened=True, thinking=thinks)[len(closed) :]
            for thinks in (False, True)
        }
        answered = self._render(_ANSWERED, (), opened=False)
        self._answered = answered.rindex(self.end_of_turn) + len(self.end_of_turn)

    def prompt_ids(self, messages: Sequence[Message], tools: Tools = ()) -> list[int]:
        """Return the ids of the prompt, ending where the policy begins to speak.

        Args:
            messages: Chat messages.
            tools: OpenAI function schemas.
        """
        return self._encode(self._render(messages, tools, opened=True, thinking=self.thinking))

    def observation_ids(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids between the end-of-turn token of one turn and the policy's next turn.

        Args:
            messages: The tool or user messages that answer the turn.
        """
        text = self._render((*_ANSWERED, *messages), (), opened=True, thinking=self.thinking)
        return self._encode(text[self._answered :])

    @property
    def header(self) -> str:
        """What stands before every turn of the policy."""
        return self._headers[self.thinking]

    @property
    def call_opener(self) -> int:
        """The token with which a turn begins that is a call.

        It may hold more than the opening tag: a tokenizer may join the tag with what follows it in
        every call.
        """
        ids, mask = self.training_row((*_PROBE, _CALLING))
        return ids[mask.index(1)]

    def training_row(
        self, messages: Sequence[Message], tools: Tools = ()
    ) -> tuple[list[int], list[int]]:
        """Return the ids of a whole conversation and the mask of what the policy said.

        The mask is 1 from the first token after the header of a turn (without thinking the empty
        `<think>` block belongs to it) up to and including the end-of-turn token; it is 0 for a turn
        whose message has `"weight": 0` (OpenAI's key for what is shown but not learned). What
        follows the last turn is left out.
        """
        ids: list[int] = []
        mask: list[int] = []
        said_by_policy = (message for message in messages if message["role"] == "assistant")
        for piece, said in self._pieces(self._render(messages, tools, opened=False)):
            tokens = self._encode(piece)
            learned = said and next(said_by_policy, {}).get("weight", 1) != 0
            ids += tokens
            mask += [int(learned)] * len(tokens)
        return ids, mask

    def escape(self, text: str) -> str:
        """Break every control string of the template in untrusted text.

        A tool result that contains `<|im_end|>` must not end a turn, one that contains
        `</tool_response>` must not forge a role. A zero-width space after the first character
        keeps the text readable and makes it ordinary text for the tokenizer.
        """
        for control in self._controls:
            text = text.replace(control, control[0] + _BREAK + control[1:])
        return text

    def _pieces(self, text: str) -> Iterator[tuple[str, bool]]:
        """Split a rendered conversation at the borders of the policy's turns."""
        position = 0
        while (found := text.find(self._headers[True], position)) >= 0:
            given = not self.thinking and text.startswith(self._headers[False], found)
            start = found + len(self._headers[not given])
            end = text.index(self.end_of_turn, start) + len(self.end_of_turn)
            yield text[position:start], False
            yield text[start:end], True
            position = end

    def _render(
        self, messages: Sequence[Message], tools: Tools, *, opened: bool, thinking: bool = False
    ) -> str:
        text = self.tokenizer.apply_chat_template(
            [self._shown(message) for message in messages],
            tools=list(tools) or None,
            chat_template=self._template,
            tokenize=False,
            add_generation_prompt=opened,
            enable_thinking=thinking,
        )
        return str(text)

    def _shown(self, message: Message) -> dict[str, Any]:
        """Return a message as it is rendered.

        Content that the policy did not write is escaped. In content that it wrote the template
        would look for a thought, even where prose mentions a tag; `reasoning_content` says that
        there is none. Only a turn that begins with its thought, as it was sampled, is left to it.
        """
        content = message.get("content")
        if message["role"] == "assistant":
            if self.thinking and str(content).startswith("<think>"):
                return dict(message)
            thought = message.get("reasoning_content") if self.thinking else ""
            return {**message, "reasoning_content": thought or ""}
        if not isinstance(content, str):
            return dict(message)
        return {**message, "content": self.escape(content)}

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
