"""Every conversation in a row of its own: for models that cannot be told to attend by a layout.

Layouts (`agents/attention.py`) ask for layers that see the whole context by plain attention, and
for a head whose output is the logits. Whether a model is like that is tried out by `layout_fault`,
on a few tokens. Where it is not, updates and rollouts go through the model's own forward: a prompt
is computed for each of its completions, and again in each turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import DynamicCache

from agents.engine import Conversations, SamplingConfig
from agents.errors import NonFiniteLogitsError, UnsupportedModelError
from agents.shared_prompt import CompletionStates, completion_states

TRIED = ([tuple(range(3, 12)), tuple(range(9, 14))], [[5, 17, 8, 2], [11, 4], [6, 10, 7]])
"""Two prompts and three completions, the first two of the first prompt."""
CLOSE = {torch.float64: 1e-3, torch.float32: 1e-3}
"""Largest distance of log-probabilities, relative to their size, that is rounding; by type."""
CLOSE_IN_16_BITS = 3e-2


def repeated_states(
    model: Any,
    prompts: Sequence[tuple[int, ...]],
    completions: Sequence[Sequence[int]],
    wanted: torch.Tensor | None = None,
) -> CompletionStates:
    """Return what `agents.shared_prompt.completion_states` does, in another order of the tokens."""
    device = next(model.parameters()).device
    pairs = zip(prompts, completions, strict=True)
    ids, real = _padded([[*prompt, *completion] for prompt, completion in pairs], device)
    first = min(len(prompt) for prompt in prompts) - 1  # of the states that may be asked for
    rows = [row for row, completion in enumerate(completions) for _ in completion]
    columns = [column for completion in completions for column in range(len(completion))]
    places = (torch.tensor(rows, device=device), torch.tensor(columns, device=device))
    asked = torch.ones_like(places[0], dtype=torch.bool) if wanted is None else wanted[places]
    row, column = places[0][asked], places[1][asked]
    starts = torch.tensor([len(prompt) for prompt in prompts], device=device)
    hidden: list[torch.Tensor] = []
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda module, inputs: hidden.append(inputs[0]))
    try:
        logits = model(
            input_ids=ids,
            attention_mask=real.long(),
            use_cache=False,
            logits_to_keep=ids.shape[1] - first,
        ).logits
    finally:
        hook.remove()
    token = starts[row] + column
    return CompletionStates(
        hidden[0][row, token - 1 - first],
        logits[row, token - 1 - first].float(),
        ids[row, token],
        (row, column),
        (len(completions), max(len(completion) for completion in completions)),
    )


_FAULTS: WeakKeyDictionary[torch.nn.Module, str] = WeakKeyDictionary()


def layout_fault(model: Any) -> str:
    """Return why a model cannot share prompts, "" if it can.

    A few tokens go through it both ways, once. A model that cannot keeps the attention that it had.

    Args:
        model: A causal language model, with or without adapter.
    """
    if model not in _FAULTS:
        _FAULTS[model] = _tried(model)
    return _FAULTS[model]


def conversations_with(
    model: Any, end_of_turn: int, pad: int, config: SamplingConfig
) -> Conversations:
    """Return what samples the turns of a model: the engine, or its other form where it must be."""
    engine = RepeatedConversations if layout_fault(model) else Conversations
    return engine(model, end_of_turn, pad, config)


def _tried(model: Any) -> str:
    config, training = model.config, model.training
    attention = config._attn_implementation
    (one, other), completions = TRIED
    prompts = [one, one, other]
    model.eval()
    try:
        with torch.no_grad():
            expected = repeated_states(model, prompts, completions).scores(1.0)[0]
            found = completion_states(model, prompts, completions).scores(1.0)[0]
    except (UnsupportedModelError, TypeError) as error:
        config._attn_implementation = attention
        return str(error)
    finally:
        model.train(training)
    distance = float((found - expected).norm() / expected.norm())
    if distance <= CLOSE.get(model.dtype, CLOSE_IN_16_BITS):
        return ""
    config._attn_implementation = attention
    return f"log-probabilities over a packed row are {distance:.1%} off"


class RepeatedConversations(Conversations):
    """A batch of conversations that is read anew in each turn; used like `engine.Conversations`.

    Args:
        model: A causal language model, with or without a peft adapter.
        end_of_turn: Id of the token that ends a turn.
        pad: Id used to fill holes.
        config: How turns are sampled.
    """

    def __init__(self, model: Any, end_of_turn: int, pad: int, config: SamplingConfig) -> None:
        self.model = model
        self.end_of_turn = end_of_turn
        self.pad = pad
        self.config = config
        self.device = next(model.parameters()).device
        self.generator = torch.Generator(device=self.device).manual_seed(config.seed)
        self._cache: Any = _Contexts([])
        self._pending, self._said = [], []

    def start(self, prompts: Sequence[Sequence[int]]) -> None:
        """Begin a conversation for every prompt."""
        self._cache = _Contexts([list(prompt[:-1]) for prompt in prompts])
        self._pending = [[prompt[-1]] for prompt in prompts]
        self._said = [0] * len(prompts)

    def _feed(self, chunks: Sequence[Sequence[int]]) -> torch.Tensor:
        """Append ragged chunks and read whole conversations; their slots last for this turn."""
        contexts = self._cache
        for row, chunk in zip(contexts.rows, chunks, strict=True):
            row += chunk
        ids, real = _padded([row[::-1] for row in contexts.rows], self.device)
        contexts.past, contexts.real = DynamicCache(config=self.model.config), real.flip(1)
        return self._logits(ids.flip(1), (contexts.real.cumsum(1) - 1).clamp(min=0))

    def _forward(self, ids: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        contexts = self._cache
        for row, token, there in zip(contexts.rows, ids.tolist(), real.tolist(), strict=True):
            row += token * there[0]
        contexts.real = torch.cat([contexts.real, real], dim=1)
        return self._logits(ids, contexts.lengths.to(self.device)[:, None] - 1)

    def _logits(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(
            input_ids=ids,
            attention_mask=self._cache.real.long(),
            position_ids=positions,
            past_key_values=self._cache.past,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        if not torch.isfinite(logits).all():
            raise NonFiniteLogitsError("the model's logits are NaN or infinite")
        return logits.float()


class _Contexts:
    """Whole conversations, and what a model keeps of them while a turn lasts."""

    def __init__(self, rows: list[list[int]]) -> None:
        self.rows = rows
        self.past: Any = None
        self.real = torch.zeros(0)

    @property
    def lengths(self) -> torch.Tensor:
        return torch.tensor([len(row) for row in self.rows])

    def select(self, rows: torch.Tensor) -> None:
        self.rows = [self.rows[row] for row in rows.tolist()]

    def chosen(self, rows: torch.Tensor) -> _Contexts:
        some = _Contexts([list(self.rows[row]) for row in rows.tolist()])
        some.past, some.real = self.past, self.real[rows]
        some.past.batch_select_indices(rows)
        return some

    def take_over(self, part: _Contexts, rows: torch.Tensor) -> None:
        for row, longer in zip(rows.tolist(), part.rows, strict=True):
            self.rows[row] = longer


def _padded(
    rows: Sequence[Sequence[int]], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows of ids, padded on the right, and where there are any."""
    width = max(len(row) for row in rows)
    ids = [[*row, *[0] * (width - len(row))] for row in rows]
    real = torch.arange(width) < torch.tensor([[len(row)] for row in rows])
    return torch.tensor(ids, device=device), real.to(device)
