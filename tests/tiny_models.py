"""Tiny random models for tests: they speak the shipped tokenizer's vocabulary, badly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from agents.models import EMBEDDED_FOLDER, load_model

SIZE: dict[str, Any] = {
    "vocab_size": 1536,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": 1507,
    "pad_token_id": 1505,
}


def shipped_tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(EMBEDDED_FOLDER)


def tiny_qwen3(seed: int = 0, **options: Any) -> Any:
    torch.manual_seed(seed)
    config = Qwen3Config(
        **{
            **SIZE,
            "num_hidden_layers": 2,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "tie_word_embeddings": True,
            **options,
        }
    )
    return Qwen3ForCausalLM(config).eval()


def tiny_llama(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = LlamaConfig(**SIZE, num_hidden_layers=3, num_key_value_heads=4)
    return LlamaForCausalLM(config).eval()


def eager_to_call(model: Any, token: int, factor: float = 12.0) -> Any:
    """Make a token likely in some contexts and impossible in others."""
    with torch.no_grad():
        model.get_input_embeddings().weight[token] *= factor
    return model


def with_adapter(model: Any, *, seed: int = 0, std: float = 0.1, **options: Any) -> Any:
    """Put a LoRA adapter on a model that does something (as a trained one does)."""
    torch.manual_seed(seed)
    lora = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    model = get_peft_model(model, LoraConfig(**{**lora, **options}))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=std)
    return model


def save_base(folder: Path, seed: int = 0, **options: Any) -> str:
    """Save a tiny base model with the shipped tokenizer; returns its name."""
    tokenizer = shipped_tokenizer()
    call = tokenizer.convert_tokens_to_ids("<tool_call>")
    eager_to_call(tiny_qwen3(seed, **options), call).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def save_adapter(folder: Path, base: str, **options: Any) -> str:
    """Save an adapter of a base that lies on disk; returns its folder."""
    model = with_adapter(load_model(base), base_model_name_or_path=base, **options)
    model.save_pretrained(folder)
    return str(folder)


def generated_by_transformers(
    model: Any, context: list[int], limit: int, *, end: int, pad: int
) -> list[int]:
    """What transformers' own greedy decoding says next."""
    output = model.generate(
        torch.tensor([context], device=model.device),
        attention_mask=torch.ones(1, len(context), dtype=torch.long, device=model.device),
        max_new_tokens=limit,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=pad,
    )
    ids: list[int] = output[0, len(context) :].tolist()
    return ids
