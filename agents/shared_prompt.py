"""Log-probabilities of many completions of few prompts, every prompt computed once.

A GRPO group is G completions of one prompt. The usual forward runs over G copies of the prompt;
here each distinct prompt goes through the model once, in one packed row with all completions
(`agents/packed.py`). The result and its gradients are those of the repeated form (tested at
float64); the cost falls from G * (P + R) tokens to P + G * R, and nothing is padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from agents.attention import no_mask, use_layouts
from agents.packed import PackedLayout


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
    targets = torch.tensor(packed, device=device)[-len(asked) :][asked]
    hidden = hidden.index_select(0, torch.tensor(before, device=device)[asked])
    logits = model.get_output_embeddings()(hidden).float() / temperature
    width = max(len(completion) for completion in completions)
    there = (places[0][asked], places[1][asked])
    empty = torch.zeros(len(completions), width, device=device, dtype=logits.dtype)
    log_probs, entropies = _scores(logits, targets)
    return empty.index_put(there, log_probs), empty.index_put(there, entropies)


def _scores(logits: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-probability of each id and the entropy of its distribution."""
    log_probs = logits.log_softmax(-1)
    with torch.no_grad():
        entropy = -(log_probs.exp() * log_probs).sum(-1)
    return log_probs.gather(-1, ids[:, None])[:, 0], entropy
