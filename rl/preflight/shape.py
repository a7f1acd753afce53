"""What a model is made of, read off its `config.json`: nothing is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, Qwen3Config

from agents.errors import AgentError, ModelNotFoundError
from agents.models import LOAD_ERRORS, base_of_adapter, is_adapter, resolve

QWEN3 = {  # hidden, intermediate, layers, heads; of the config.json files of these models
    "Qwen/Qwen3-0.6B": (1024, 3072, 28, 16),
    "Qwen/Qwen3-1.7B": (2048, 6144, 28, 16),
    "Qwen/Qwen3-4B": (2560, 9728, 36, 32),
}


@dataclass(frozen=True)
class Shape:
    """What a model is made of.

    Attributes:
        linears: Inputs and outputs of every linear layer but the head, one entry for each.
        embeddings: Parameters of the embeddings, and of the head if it is not tied to them.
        others: All other parameters (norms, biases).
        layers: Number of layers.
        hidden: Width of the hidden states.
        mlp: Width inside the MLP.
        heads: Attention heads.
        kv_heads: Key-value heads.
        head_size: Width of a head.
        vocabulary: Words.
        normed_heads: Queries and keys are normed (Qwen3).
    """

    linears: tuple[tuple[int, int], ...]
    embeddings: int
    others: int
    layers: int
    hidden: int
    mlp: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    normed_heads: bool

    @property
    def largest(self) -> int:
        """Return the number of weights of the largest linear layer."""
        return max(one * other for one, other in self.linears)

    def lora(self, rank: int) -> int:
        """Return the parameters of LoRA on all linear layers (peft leaves the head out)."""
        return rank * sum(one + other for one, other in self.linears)


def shape_of(config: Any) -> Shape:
    """Count a model's parameters on torch's meta device, where tensors have a shape but no data."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    linears = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    ]
    weights = {id(p): p.numel() for p in (model.get_input_embeddings().weight, head.weight)}
    every = sum(parameter.numel() for parameter in model.parameters())
    heads = config.num_attention_heads
    return Shape(
        linears=tuple((module.in_features, module.out_features) for module in linears),
        embeddings=sum(weights.values()),
        others=every - sum(weights.values()) - sum(module.weight.numel() for module in linears),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        mlp=config.intermediate_size,
        heads=heads,
        kv_heads=config.num_key_value_heads,
        head_size=getattr(config, "head_dim", None) or config.hidden_size // heads,
        vocabulary=config.vocab_size,
        normed_heads=any(name.endswith("q_norm") for name, _ in model.named_modules()),
    )


def read_config(name: str) -> Any:
    """Return the configuration of a model; its weights are not looked at.

    Args:
        name: Folder, `config.json`, adapter folder, `embedded` or hub id.

    Raises:
        ModelNotFoundError: If it cannot be read or fetched.
        ModelFileError: If an adapter folder is damaged.
    """
    if is_adapter(name):
        name = base_of_adapter(name)
    if name in QWEN3:
        hidden, mlp, layers, heads = QWEN3[name]
        return Qwen3Config(
            vocab_size=151936,
            hidden_size=hidden,
            intermediate_size=mlp,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=8,
            head_dim=128,
            tie_word_embeddings=True,
            dtype="bfloat16",
        )
    try:
        return AutoConfig.from_pretrained(name if Path(name).is_file() else resolve(name))
    except (*LOAD_ERRORS, AgentError) as error:
        raise ModelNotFoundError(
            f"cannot read the configuration of {name} ({' '.join(str(error).split())[:200]}); "
            "give its config.json, or the folder it lies in, with --model_config"
        ) from error
