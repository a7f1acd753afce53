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
    cache = DynamicCache(config=model.config)
    prompt_hidden = decoder(
        input_ids=prompt_ids,
        attention_mask=_causal(prompt_real)[:, None],
        position_ids=_positions(prompt_real),
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    lengths = prompt_real.sum(1)
    width = max(len(completion) for completion in completions)
    scores = torch.zeros(2, len(completions), width, device=device)
    for rows in _buckets(completions):
        owners = owner[rows]
        ids, real = _padded([completions[row] for row in rows], device)
        seen = prompt_real[owners][:, None, :].expand(-1, ids.shape[1], -1)
        hidden = decoder(
            input_ids=ids,
            attention_mask=torch.cat([seen, _causal(real)], dim=2)[:, None],
            position_ids=_positions(real) + lengths[owners][:, None],
            past_key_values=_selected(cache, owners, model.config),
            use_cache=True,
        ).last_hidden_state
        # The prompt's last token predicts the first token of the completion.
        first = prompt_hidden[owners, lengths[owners] - 1]
        before = torch.cat([first[:, None], hidden[:, :-1]], dim=1)
        found = _scores(head(before[real]).float() / temperature, ids[real])
        row, column = real.nonzero(as_tuple=True)
        place = (torch.tensor(rows, device=device)[row], column)
        scores = torch.stack(
            [s.to(f.dtype).index_put(place, f) for s, f in zip(scores, found, strict=True)]
        )
    return scores[0], scores[1].detach()


def _scores(logits: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-probability of each id and the entropy of its distribution."""
    log_probs = logits.log_softmax(-1)
    with torch.no_grad():
        entropy = -(log_probs.exp() * log_probs).sum(-1)
    return log_probs.gather(-1, ids[:, None])[:, 0], entropy


def _buckets(completions: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return row numbers in groups of similar length, so that little is padded.

    A new group begins where padding would waste more than a quarter of the group.
    """
    order = sorted(range(len(completions)), key=lambda row: -len(completions[row]))
    groups: list[list[int]] = []
    real = 0
    for row in order:
        size = len(completions[row])
        if groups:
            padded = (len(groups[-1]) + 1) * len(completions[groups[-1][0]])
            if real + size >= 0.75 * padded:
                groups[-1].append(row)
                real += size
                continue
        groups.append([row])
        real = size
    return groups


def _selected(cache: DynamicCache, rows: torch.Tensor, config: Any) -> DynamicCache:
    """Return a new cache with the chosen rows; gradients flow back into the old one."""
    chosen = DynamicCache(config=config)
    for index, layer in enumerate(cache.layers):
        chosen.update(layer.keys[rows], layer.values[rows], index)
    return chosen


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
