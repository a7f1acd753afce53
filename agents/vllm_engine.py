"""Turns sampled by vLLM, for those who have it: the engine's interface over TRL's own generation.

TRL starts vLLM (in this process or as a server), pushes the trained weights to it before a step's
first turn, and returns the log-probabilities it sampled with. vLLM keeps the prefixes it has seen,
so each turn sends whole conversations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agents.engine import GeneratedTurn, Opening, SamplingConfig


class VLLMConversations:
    """A batch of conversations with a policy that vLLM serves; used like `engine.Conversations`.

    Args:
        generation: `trl.generation.VLLMGeneration`, as a trainer with `use_vllm` has it. Its
            temperature, top-p and top-k hold, not those of `config`.
        end_of_turn: Id of the token that ends a turn.
        config: Limits of turns, episodes and conversations.
    """

    def __init__(self, generation: Any, end_of_turn: int, config: SamplingConfig) -> None:
        self.end_of_turn = end_of_turn
        self.config = config
        self._generation = generation
        self._contexts: list[list[int]] = []
        self._said: list[int] = []

    def start(self, prompts: Sequence[Sequence[int]]) -> None:
        """Begin a conversation for every prompt."""
        self._contexts = [list(prompt) for prompt in prompts]
        self._said = [0] * len(prompts)

    def extend(self, rows: Sequence[int], ids: Sequence[Sequence[int]]) -> None:
        """Keep only `rows` (indices into the current batch) and append `ids` to each of them."""
        self._contexts = [
            [*self._contexts[row], *tokens] for row, tokens in zip(rows, ids, strict=True)
        ]
        self._said = [self._said[row] for row in rows]

    def generate(self, openings: Sequence[Opening | None] = ()) -> list[GeneratedTurn]:
        """Sample one turn for every row of the batch.

        Args:
            openings: Must hold nothing.

        Raises:
            ValueError: If a first token is to be held to something.
        """
        if any(opening is not None for opening in openings):
            raise ValueError("vLLM cannot hold the first token of a turn; use --guided 0")
        budgets = [
            self.config.budget(len(context), said)
            for context, said in zip(self._contexts, self._said, strict=True)
        ]
        speaking = [row for row, budget in enumerate(budgets) if budget > 0]
        turns = [GeneratedTurn([], []) for _ in budgets]
        if speaking:
            self._generation.max_completion_length = max(budgets[row] for row in speaking)
            contexts = [self._contexts[row] for row in speaking]
            _, ids, log_probs, _ = self._generation.generate(contexts, None, 1)
            for row, said, scores in zip(speaking, ids, log_probs, strict=True):
                kept = list(said[: budgets[row]])
                # One score for each sampled token comes first, those of alternatives behind it.
                turns[row] = GeneratedTurn(kept, [score[0] for score in scores[: len(kept)]])
                self._contexts[row] += kept
                self._said[row] += len(kept)
        return turns
