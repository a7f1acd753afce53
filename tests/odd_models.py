"""Tiny random models that no layout can be told to: other attention, or another head."""

from __future__ import annotations

from typing import Any

import torch
from tiny_models import SIZE, tiny_qwen3
from transformers import GraniteConfig, GraniteForCausalLM, MistralConfig, MistralForCausalLM


def windowed_qwen3() -> Any:
    """The second layer sees six tokens only, and its configuration says so."""
    return tiny_qwen3(use_sliding_window=True, sliding_window=6, max_window_layers=1)


def windowed_mistral() -> Any:
    """Every layer sees six tokens only; it is told when it attends."""
    torch.manual_seed(0)
    config = MistralConfig(**SIZE, num_hidden_layers=2, num_key_value_heads=2, sliding_window=6)
    return MistralForCausalLM(config).eval()


def scaled_granite() -> Any:
    """Its logits are what comes out of the head, divided by a number."""
    torch.manual_seed(0)
    config = GraniteConfig(**SIZE, num_hidden_layers=2, num_key_value_heads=2, logits_scaling=4.0)
    return GraniteForCausalLM(config).eval()


ODD = {
    "sliding_attention": windowed_qwen3,
    "MistralAttention attends with sliding_window": windowed_mistral,
    "% off": scaled_granite,
}
"""By what is said of why they share no prompts."""
