from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from agents.models import EMBEDDED_FOLDER


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(EMBEDDED_FOLDER)


def tiny_qwen3(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=1536,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        tie_word_embeddings=True,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=1511,
        pad_token_id=1509,
    )
    return Qwen3ForCausalLM(config).eval()


def tiny_llama(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=1536,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=1511,
        pad_token_id=1509,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def tiny_model() -> Any:
    return tiny_qwen3()


@pytest.fixture(params=["qwen3", "llama"])
def any_tiny_model(request: pytest.FixtureRequest) -> Any:
    return {"qwen3": tiny_qwen3, "llama": tiny_llama}[request.param]()
