"""Players: anything that answers the environment with raw text.

A `LanguagePlayer` also says which token ids it was shown and which it sampled, so that what it
played can be trained on without tokenising anything again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from agents.engine import Conversations, Opening, SamplingConfig
from agents.merged import folded_adapter
from agents.repeated import conversations_with
from agents.template import ChatTemplate
from agents.vllm_engine import VLLMConversations
from envs.policies import TextPolicy

Info = Mapping[str, Any]


@dataclass(frozen=True)
class Sampled:
    """One turn of a player.

    Attributes:
        text: The raw turn.
        context_ids: What the player was shown since its last turn (the prompt at first).
        token_ids: The sampled tokens.
        log_probs: Log-probability of each of them under the distribution sampled from.
    """

    text: str
    context_ids: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()


class Player(Protocol):
    """Anything that plays episodes."""

    name: str

    def begin(self, infos: Sequence[Info]) -> None:
        """Take the infos of freshly reset episodes, one per row."""

    def act(self, rows: Sequence[int], infos: Sequence[Info]) -> Sequence[Sampled | None]:
        """Return a turn for each of `rows`, given their latest infos; None ends a lost episode."""


class ScriptedPlayer:
    """Plays a text policy (a canary, the oracle).

    Args:
        policy: The policy.
        seed: Seed of its choices; each episode has a generator of its own.
    """

    def __init__(self, policy: TextPolicy, seed: int = 0) -> None:
        self.name = policy.name
        self._policy = policy
        self._seed = seed
        self._generators: list[random.Random] = []

    def begin(self, infos: Sequence[Info]) -> None:
        """Seed one generator per episode from the task's id."""
        self._generators = [
            random.Random(f"{self._seed}/{self.name}/{info['task'].id}") for info in infos
        ]

    def act(self, rows: Sequence[int], infos: Sequence[Info]) -> list[Sampled]:
        """Ask the policy for each row."""
        turns = []
        for row, info in zip(rows, infos, strict=True):
            rng = self._generators[row]
            text = self._policy.act(info["task"], info["tools"], info["messages"], rng)
            turns.append(Sampled(text))
        return turns


class LanguagePlayer:
    """Plays a language model.

    Args:
        model: A causal language model, with or without adapter.
        tokenizer: Its tokenizer, with a chat template.
        config: How turns are sampled.
        name: Shown in tables.
        thinking: Let the model fill its `<think>` block.
        conversations: What samples the turns; our own engine by default.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        config: SamplingConfig,
        name: str = "model",
        *,
        thinking: bool = False,
        conversations: Conversations | VLLMConversations | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.config = config
        self.template = ChatTemplate(tokenizer, thinking=thinking)
        self._conversations = conversations or conversations_with(
            model, tokenizer.eos_token_id, tokenizer.pad_token_id, config
        )
        self._ready = False
        self._started = False
        self._rows: list[int] = []
        self._cut: set[int] = set()
        self._prompts: list[list[int]] = []
        self._openings: list[Opening | None] = []

    def begin(self, infos: Sequence[Info]) -> None:
        """Render the prompts."""
        self._prompts = [self.template.prompt_ids(i["messages"], i["tools"]) for i in infos]
        self._openings = []
        self._started = False
        self._cut = set()

    def hold_first_turns(self, calls_first: Sequence[bool | None]) -> None:
        """Hold the first turns of the episodes that `begin` took.

        Args:
            calls_first: For each row whether its first turn must open with a call (True), must not
                (False), or is free (None).

        Raises:
            ValueError: If a turn is to open with a call where the model would think first.
        """
        if all(wanted is None for wanted in calls_first):
            return
        if self.template.thinking:
            raise ValueError("a first turn cannot be held to a call where the model thinks first")
        token = self.template.call_opener
        self._openings = [None if held is None else Opening(token, held) for held in calls_first]

    def act(self, rows: Sequence[int], infos: Sequence[Info]) -> list[Sampled]:
        """Sample one turn for each row; rows that are not named leave the batch."""
        with self._model_ready():
            contexts = self._contexts(rows, infos)
            turns = self._conversations.generate(
                [self._openings[row] for row in rows] if self._openings else ()
            )
            self._openings = []  # they hold for the first turn
        return [
            self._sampled(row, context, turn.ids, turn.log_probs)
            for row, context, turn in zip(rows, contexts, turns, strict=True)
        ]

    @contextmanager
    def twins(self, count: int) -> Iterator[list[LanguagePlayer]]:
        """Give players of the same model that may play side by side, each with a seed of its own.

        The model must not be changed while they play.
        """
        with self._model_ready():
            players = []
            for number in range(count):
                seed = random.Random(f"{self.config.seed}/{number}").getrandbits(31)
                twin = LanguagePlayer(
                    self.model,
                    self.tokenizer,
                    replace(self.config, seed=seed),
                    self.name,
                    thinking=self.template.thinking,
                )
                twin._ready = True
                players.append(twin)
            yield players

    @contextmanager
    def _model_ready(self) -> Iterator[None]:
        """Put the model in evaluation mode with its adapter folded in, unless it already is."""
        if self._ready:
            yield
            return
        was_training = self.model.training
        self.model.eval()
        self._ready = True
        try:
            with torch.no_grad(), folded_adapter(self.model):
                yield
        finally:
            self._ready = False
            self.model.train(was_training)

    def _contexts(self, rows: Sequence[int], infos: Sequence[Info]) -> list[list[int]]:
        if not self._started:
            contexts = [self._prompts[row] for row in rows]
            self._conversations.start(contexts)
            self._started = True
        else:
            contexts = [
                # A turn that was cut has no end-of-turn token: the environment says it.
                [self.tokenizer.eos_token_id] * (row in self._cut)
                + self.template.observation_ids(info["new_messages"])
                for row, info in zip(rows, infos, strict=True)
            ]
            places = {row: place for place, row in enumerate(self._rows)}
            self._conversations.extend([places[row] for row in rows], contexts)
        self._rows = list(rows)
        return contexts

    def _sampled(
        self, row: int, context: list[int], ids: list[int], log_probs: list[float]
    ) -> Sampled:
        ended = bool(ids) and ids[-1] == self.tokenizer.eos_token_id
        self._cut.discard(row) if ended else self._cut.add(row)
        text = self.tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=False)
        return Sampled(text, tuple(context), tuple(ids), tuple(log_probs))
