"""The generation engine: turns of a whole batch of conversations over one kept cache.

What it saves against calling `generate` for every turn: a prompt shared by several rows is
computed once, earlier turns are never computed again, and rows whose conversation has ended leave
the batch. Greedy output is token-identical to `generate` on the full context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from agents.attention import Layout, no_mask, use_layouts
from agents.cuda_graphs import Recorder, Steps
from agents.errors import NonFiniteLogitsError
from agents.kv_cache import Prompts, RaggedCache, SteadyCache


@dataclass(frozen=True)
class SamplingConfig:
    """How turns are sampled.

    Attributes:
        temperature: 0 for the most likely token.
        top_k: Only this many of the most likely tokens are sampled; 0 for all.
        top_p: Only the most likely tokens are sampled whose probabilities first sum up to this.
        max_turn_tokens: Limit of one turn; a turn that reaches it is cut.
        max_episode_tokens: Limit of all turns of an episode together; 0 for none.
        max_length: Limit of the whole conversation in tokens.
        seed: Seed of the sampling.
        cuda_graphs: Record how a token is computed and replay it, where there is a GPU.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    max_turn_tokens: int = 96
    max_episode_tokens: int = 0
    max_length: int = 2048
    seed: int = 0
    cuda_graphs: bool = True

    def budget(self, length: int, said: int) -> int:
        """Return how many tokens a turn may have; none if it is not above 0.

        Args:
            length: Tokens of the conversation so far.
            said: How many of them were sampled.
        """
        in_all = self.max_episode_tokens - said if self.max_episode_tokens else self.max_length
        return min(self.max_turn_tokens, self.max_length - length, in_all)


@dataclass(frozen=True)
class GeneratedTurn:
    """One sampled turn: its ids (end-of-turn token included if it was reached) and log-probs."""

    ids: list[int]
    log_probs: list[float]


@dataclass(frozen=True)
class Opening:
    """What the first token of a turn is held to.

    Attributes:
        token: The token.
        wanted: Whether the turn must begin with it (True) or must not (False).
    """

    token: int
    wanted: bool


class Conversations:
    """A batch of conversations with a language model.

    Args:
        model: A causal language model, with or without a peft adapter.
        end_of_turn: Id of the token that ends a turn.
        pad: Id used to fill holes.
        config: How turns are sampled.

    Usage: `start(prompts)`, then alternately `generate()` and `extend(rows, ids)`; the rows named
    in `extend` are those that go on, all others leave the batch.
    """

    _steady = False
    """Whether the tokens of a turn are computed by steps of the same shapes (`Steps`)."""
    _steps: Steps | None = None

    def __init__(self, model: Any, end_of_turn: int, pad: int, config: SamplingConfig) -> None:
        use_layouts(model)
        self.model = model
        self.end_of_turn = end_of_turn
        self.pad = pad
        self.config = config
        self.device = next(model.parameters()).device
        self.generator = torch.Generator(device=self.device).manual_seed(config.seed)
        self._decoder = model.get_decoder() if hasattr(model, "get_decoder") else model.model
        self._head = model.get_output_embeddings()
        self._pending: list[list[int]] = []
        self._said: list[int] = []  # tokens that each row has sampled so far
        self._steady = config.cuda_graphs and self.device.type == "cuda"
        self._recorder = Recorder(model, self.device)

    @torch.no_grad()
    def start(self, prompts: Sequence[Sequence[int]]) -> None:
        """Begin a conversation for every prompt; equal prompts are computed once."""
        self._steps = None
        vars(self).pop("_cache", None)  # what conversations before remember gives way
        unique: dict[tuple[int, ...], int] = {}
        owners = [unique.setdefault(tuple(prompt), len(unique)) for prompt in prompts]
        # The last token of each prompt is kept back: it is the first input of `generate`.
        ids, real = self._padded([list(prompt[:-1]) for prompt in unique])
        lengths = real.sum(1)
        shared = Prompts(lengths, self.device)
        positions = torch.arange(ids.shape[1], device=self.device).expand_as(ids)
        self._hidden(ids, positions, shared)
        rows = torch.tensor(owners, device=self.device)
        self._cache = RaggedCache(shared, rows, lengths[rows])
        self._pending = [[prompt[-1]] for prompt in prompts]
        self._said = [0] * len(prompts)

    @torch.no_grad()
    def extend(self, rows: Sequence[int], ids: Sequence[Sequence[int]]) -> None:
        """Keep only `rows` (indices into the current batch) and append `ids` to each of them."""
        if list(rows) != list(range(len(self._pending))):
            self._cache.select(torch.tensor(list(rows), device=self.device))
        self._said = [self._said[row] for row in rows]
        self._pending = [
            [*self._pending[row], *tokens] for row, tokens in zip(rows, ids, strict=True)
        ]

    @torch.no_grad()
    def generate(self, openings: Sequence[Opening | None] = ()) -> list[GeneratedTurn]:
        """Sample one turn for every row of the batch.

        Args:
            openings: What the first token of each row is held to, None for nothing; its
                log-probability is that of the distribution it was then sampled from.
        """
        budgets = [
            self.config.budget(length + len(pending), said)
            for length, pending, said in zip(
                self._cache.lengths.tolist(), self._pending, self._said, strict=True
            )
        ]
        logits = _held(self._feed(self._pending), openings)
        turns = [GeneratedTurn([], []) for _ in self._pending]
        self._pending = [[] for _ in turns]
        speaking = [row for row, budget in enumerate(budgets) if budget > 0]
        resting: list[tuple[RaggedCache, torch.Tensor]] = []
        places = list(range(len(turns)))  # the rows that are still in the batch
        while speaking:
            tokens, log_probs = (values.tolist() for values in self._sample(logits))
            alive, still = set(speaking), []
            for place, row in enumerate(places):
                if row not in alive:
                    continue
                turns[row].ids.append(tokens[place])
                turns[row].log_probs.append(log_probs[place])
                if tokens[place] == self.end_of_turn or len(turns[row].ids) >= budgets[row]:
                    self._pending[row] = [tokens[place]]
                else:
                    still.append(row)
            speaking = still
            if speaking and 2 * len(speaking) <= len(places):
                # Most rows have ended their turn: go on with a copy of the others.
                self._settle()
                rows = torch.tensor([places.index(row) for row in speaking], device=self.device)
                resting.append((self._cache, rows))
                self._cache, places = self._cache.chosen(rows), speaking
            if speaking:
                most = max(budgets[row] - len(turns[row].ids) for row in speaking)
                logits = self._say(places, speaking, turns, most)
        self._settle()
        for cache, rows in reversed(resting):
            cache.take_over(self._cache, rows)
            self._cache = cache
        for row, turn in enumerate(turns):
            self._said[row] += len(turn.ids)
        return turns

    def _say(
        self,
        places: Sequence[int],
        speaking: Sequence[int],
        turns: Sequence[GeneratedTurn],
        most: int,
    ) -> torch.Tensor:
        """Feed the last token of every speaking row; the others get a hole.

        Args:
            places: The rows of the batch.
            speaking: Those whose turn goes on.
            turns: What all rows have said.
            most: Most tokens that a row may still be fed in this turn.
        """
        alive = set(speaking)
        there = [row in alive for row in places]
        said = [turns[row].ids[-1] if row in alive else self.pad for row in places]
        ids = torch.tensor(said, device=self.device)[:, None]
        real = torch.tensor(there, device=self.device)[:, None]
        if not self._steady:
            return self._forward(ids, real)
        if self._steps is None or not self._steps.left:
            self._settle()
            self._steps = Steps(self._cache, most, self._recorder)
        return _finite(self._steps.next(ids, real, self._steady_logits))

    def _settle(self) -> None:
        """End steps of the same shapes."""
        if self._steps is not None:
            self._steps.settle()
            self._steps = None

    def _feed(self, chunks: Sequence[Sequence[int]]) -> torch.Tensor:
        """Append ragged chunks; return the logits (batch, vocabulary) of each row's last token."""
        return self._forward(*self._padded(chunks))

    def _padded(self, chunks: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids and which of them are real, both (chunks, longest chunk)."""
        width = max(1, *(len(chunk) for chunk in chunks))
        ids = [[*chunk, *[self.pad] * (width - len(chunk))] for chunk in chunks]
        lengths = torch.tensor([[len(chunk)] for chunk in chunks])
        real = torch.arange(width) < lengths
        return torch.tensor(ids).to(self.device), real.to(self.device)

    def _forward(self, ids: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        config = self.model.config
        repeats = config.num_attention_heads // config.num_key_value_heads
        positions = self._cache.append(real, repeats)
        hidden = self._hidden(ids, positions, self._cache)
        last = (real.sum(1) - 1).clamp(min=0)
        return _finite(self._head(hidden[torch.arange(len(ids), device=self.device), last]).float())

    def _steady_logits(
        self, ids: torch.Tensor, real: torch.Tensor, cache: SteadyCache
    ) -> torch.Tensor:
        """Return the logits (rows, vocabulary) of one token of each row, whatever they are."""
        hidden = self._hidden(ids, cache.append(real), cache)
        logits: torch.Tensor = self._head(hidden[:, 0]).float()
        return logits

    def _hidden(self, ids: torch.Tensor, positions: torch.Tensor, layout: Layout) -> torch.Tensor:
        """Return the last hidden states (batch, tokens, width)."""
        hidden: torch.Tensor = self._decoder(
            input_ids=ids,
            attention_mask=no_mask(self.device),
            position_ids=positions,
            use_cache=False,
            layout=layout,
        ).last_hidden_state
        return hidden

    def _sample(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.config.temperature == 0:
            tokens = logits.argmax(-1)
            log_probs = logits.log_softmax(-1)
        else:
            log_probs = self._likely(logits / self.config.temperature).log_softmax(-1)
            tokens = self._draw(log_probs.exp())
        return tokens, log_probs.gather(-1, tokens[:, None])[:, 0]

    def _likely(self, logits: torch.Tensor) -> torch.Tensor:
        """Return logits in which only the tokens that `top_k` and then `top_p` leave are possible.

        The token at which the sum reaches `top_p` is among them (Holtzman et al. 2020,
        arXiv:1904.09751).
        """
        if 0 < self.config.top_k < logits.shape[-1]:
            least = logits.topk(self.config.top_k, -1).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        if self.config.top_p < 1:
            ordered, places = logits.sort(-1, descending=True)
            probabilities = ordered.softmax(-1)
            beyond = probabilities.cumsum(-1) - probabilities >= self.config.top_p
            logits = logits.masked_fill(beyond.scatter(-1, places, beyond), -torch.inf)
        return logits

    def _draw(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Draw a token for each row by inverting its distribution function.

        `torch.multinomial` draws a number for every token of the vocabulary; this one for a row.
        """
        below = probabilities.cumsum(-1)
        # From (0, 1], so that a token of probability 0 is never drawn.
        drawn = 1 - torch.rand(len(below), 1, generator=self.generator, device=self.device)
        return torch.searchsorted(below, drawn * below[:, -1:])[:, 0]


def _finite(logits: torch.Tensor) -> torch.Tensor:
    """Return logits, if all of them are numbers."""
    if not torch.isfinite(logits).all():
        raise NonFiniteLogitsError(
            "the model's logits are NaN or infinite; lower the learning rate, or load the "
            "model in float32 or bfloat16 instead of float16"
        )
    return logits


def _held(logits: torch.Tensor, openings: Sequence[Opening | None]) -> torch.Tensor:
    """Return logits (batch, vocabulary) in which only what the openings allow is possible."""
    for row, opening in enumerate(openings):
        if opening is None:
            continue
        kept = logits[row, opening.token].clone()
        if opening.wanted:
            logits[row] = -torch.inf
            logits[row, opening.token] = kept
        else:
            logits[row, opening.token] = -torch.inf
    return logits
