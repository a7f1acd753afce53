"""Log-probabilities of many completions of few prompts, every prompt computed once.

A GRPO group is G completions of one prompt. The usual forward runs over G copies of the prompt;
here each distinct prompt goes through the model once, in one packed row with all completions
(`agents/packed.py`). The result and its gradients are those of the repeated form (tested at
float64); the cost falls from G * (P + R) tokens to P + G * R, and nothing is padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from agents.attention import no_mask, use_layouts
from agents.packed import PackedLayout


@dataclass(frozen=True)
class CompletionStates:
    """The model's last hidden states where it was about to say tokens of completions.

    Attributes:
        hidden: One state for each wanted token: that at the token before it (wanted, size).
        logits: What the model's head makes of them (wanted, vocabulary), as float32 or more.
        targets: The wanted tokens (wanted,).
        places: Row and column of each wanted token among the completions.
        shape: Number of completions, length of the longest.
    """

    hidden: torch.Tensor
    logits: torch.Tensor
    targets: torch.Tensor
    places: tuple[torch.Tensor, torch.Tensor]
    shape: tuple[int, int]

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """Return one value for each wanted token (wanted,) in its place: `shape`, 0 elsewhere."""
        return values.new_zeros(self.shape).index_put(self.places, values)

    def scores(self, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log-probabilities and entropies, each of `shape`.

        Args:
            temperature: The logits are divided by it.
        """
        log_probs = (self.logits / temperature).log_softmax(-1)
        with torch.no_grad():
            entropies = -(log_probs.exp() * log_probs).sum(-1)
        chosen = log_probs.gather(-1, self.targets[:, None])[:, 0]
        return self.spread(chosen), self.spread(entropies)


def completion_log_probs(
    model: Any,
    prompts: Sequence[tuple[int, ...]],
    completions: Sequence[Sequence[int]],
    temperature: float = 1.0,
    wanted: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probabilities and entropies of completion tokens.

    Args:
        model: A causal language model.
        prompts: One prompt per row; equal prompts are computed once.
        completions: One non-empty completion per row.
        temperature: The logits are divided by it.
        wanted: Bool tensor (rows, longest completion): the tokens that are asked for; all by
            default.

    Returns:
        Two float tensors (rows, longest completion); 0 where nothing is asked for and after the
        end of a completion.
    """
    return completion_states(model, prompts, completions, wanted).scores(temperature)


def completion_states(
    model: Any,
    prompts: Sequence[tuple[int, ...]],
    completions: Sequence[Sequence[int]],
    wanted: torch.Tensor | None = None,
) -> CompletionStates:
    """Return what `completion_log_probs` reads its results off; arguments as there."""
    device = next(model.parameters()).device
    unique: dict[tuple[int, ...], int] = {}
    owner = [unique.setdefault(tuple(prompt), len(unique)) for prompt in prompts]
    order = sorted(range(len(completions)), key=lambda row: owner[row])
    layout = PackedLayout(
        [len(prompt) for prompt in unique],
        [len(completions[row]) for row in order],
        [owner[row] for row in order],
        device,
    )
    packed = [token for prompt in unique for token in prompt]
    # The token before each token of a completion: the prompt's last one for the first.
    before = [
        place
        for row, completion in zip(order, layout.completions, strict=True)
        for place in (layout.prompts[owner[row]].stop - 1, *completion[:-1])
    ]
    for row in order:
        packed += completions[row]
    rows = [row for row in order for _ in completions[row]]
    columns = [column for row in order for column in range(len(completions[row]))]
    places = (torch.tensor(rows, device=device), torch.tensor(columns, device=device))
    asked = torch.ones_like(places[0], dtype=torch.bool) if wanted is None else wanted[places]
    use_layouts(model)
    hidden = model.get_decoder()(
        input_ids=torch.tensor([packed], device=device),
        attention_mask=no_mask(device),
        position_ids=layout.positions[None],
        use_cache=False,
        layout=layout,
    ).last_hidden_state[0]
    hidden = hidden.index_select(0, torch.tensor(before, device=device)[asked])
    return CompletionStates(
        hidden,
        model.get_output_embeddings()(hidden).float(),
        torch.tensor(packed, device=device)[-len(asked) :][asked],
        (places[0][asked], places[1][asked]),
        (len(completions), max(len(completion) for completion in completions)),
    )
