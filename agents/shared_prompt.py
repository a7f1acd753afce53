"""Log-probabilities of many completions of few prompts, every prompt computed once.

A GRPO group is G completions of one prompt. The usual forward runs over G copies of the prompt;
here each distinct prompt goes through the model once and its keys and values, still part of the
autograd graph, are what the completions attend to. The result and its gradients are those of the
repeated form (tested at float64); the cost falls from G * (P + R) tokens to P + G * R.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache


def completion_log_probs(
    model: Any,
    prompts: Sequence[tuple[int, ...]],
    completions: Sequence[Sequence[int]],
    temperature: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probabilities and entropies of completion tokens.

    Args:
        model: A causal language model without gradient checkpointing (it needs its cache).
        prompts: One prompt per row; equal prompts are computed once.
        completions: One non-empty completion per row.
        temperature: The logits are divided by it.

    Returns:
        Two float tensors (rows, longest completion); 0 after the end of a completion.
    """
    device = next(model.parameters()).device
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    unique: dict[tuple[int, ...], int] = {}
    owner = torch.tensor([unique.setdefault(prompt, len(unique)) for prompt in prompts]).to(device)
    prompt_ids, prompt_real = _padded([list(prompt) for prompt in unique], device)
    ids, real = _padded(completions, device)

    cache = DynamicCache(config=model.config)
    prompt_hidden = decoder(
        input_ids=prompt_ids,
        attention_mask=_causal(prompt_real)[:, None],
        position_ids=_positions(prompt_real),
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    cache.batch_select_indices(owner)
    lengths = prompt_real.sum(1)[owner]
    seen = prompt_real[owner][:, None, :].expand(-1, ids.shape[1], -1)
    hidden = decoder(
        input_ids=ids,
        attention_mask=torch.cat([seen, _causal(real)], dim=2)[:, None],
        position_ids=_positions(real) + lengths[:, None],
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state

    # The prompt's last token predicts the first token of the completion.
    first = prompt_hidden[owner, lengths - 1]
    before = torch.cat([first[:, None], hidden[:, :-1]], dim=1)
    logits = head(before[real]).float() / temperature
    log_probs = logits.log_softmax(-1)
    chosen = log_probs.gather(-1, ids[real][:, None])[:, 0]
    with torch.no_grad():
        entropy = -(log_probs.exp() * log_probs).sum(-1)
    empty = torch.zeros(real.shape, dtype=chosen.dtype, device=device)
    return empty.masked_scatter(real, chosen), empty.masked_scatter(real, entropy)


def _padded(
    rows: Sequence[Sequence[int]], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and the mask of real tokens, both (rows, longest row), padded on the right."""
    width = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    real = torch.zeros(len(rows), width, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(list(row))
        real[index, : len(row)] = True
    return ids.to(device), real.to(device)


def _positions(real: torch.Tensor) -> torch.Tensor:
    return (real.long().cumsum(1) - 1).clamp(min=0)


def _causal(real: torch.Tensor) -> torch.Tensor:
    """Return (rows, width, width): each token sees the real tokens up to itself."""
    width = real.shape[1]
    lower = torch.ones(width, width, dtype=torch.bool, device=real.device).tril()
    # A padding token must see something, or its softmax is empty; it sees itself.
    itself = torch.eye(width, dtype=torch.bool, device=real.device)
    return (real[:, None, :] & lower) | itself
