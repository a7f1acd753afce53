"""Policies of random weights for benchmarks, and clocks and memory that fit where they compute."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from agents.models import Precision, add_adapter, load_model, load_tokenizer, place

SIZES: dict[str, dict[str, int]] = {
    "small": {
        "vocab_size": 4000,
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 32,
    },
    "qwen3-1.7b": {
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
}


@dataclass(frozen=True)
class Loading:
    """How a policy is loaded, and where it computes.

    Attributes:
        use_cpu: Compute on the CPU; otherwise on the GPU.
        weights: Folder of the base model (see `save_weights`); empty for the small one.
        load_in_4bit: Load it in NF4.
        precision: Type of the other weights; trainers autocast to bfloat16 if it is that.
    """

    use_cpu: bool = True
    weights: str = ""
    load_in_4bit: bool = False
    precision: Precision = "float32"


def large_on_gpu(folder: str) -> Loading:
    """Make a base of the shape of Qwen3-1.7B in a folder; return how to load it in NF4 on the GPU.

    Raises:
        SystemExit: If there is no GPU.
    """
    if not torch.cuda.is_available():
        raise SystemExit("--gpu: PyTorch sees no GPU here")
    save_weights("qwen3-1.7b", folder, torch.bfloat16)
    return Loading(use_cpu=False, weights=folder, load_in_4bit=True, precision="bfloat16")


def base(size: str) -> Any:
    """Return a Qwen3 of random weights, the same for everybody."""
    torch.manual_seed(0)
    tokenizer = load_tokenizer("embedded")
    return Qwen3ForCausalLM(
        Qwen3Config(
            **SIZES[size],
            tie_word_embeddings=True,
            max_position_embeddings=32768,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def save_weights(size: str, folder: str, dtype: torch.dtype) -> None:
    """Save a base model, made where it is fastest, to be loaded as any other one."""
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        base(size).to(dtype).save_pretrained(folder)
    torch.cuda.empty_cache()  # the sides, in processes of their own, need the room


def model(loading: Loading) -> Any:
    """Return the policy: random weights, the same for everybody, with a LoRA adapter."""
    if loading.weights:
        loaded = load_model(
            loading.weights,
            load_in_4bit=loading.load_in_4bit,
            precision=loading.precision,
            use_cpu=loading.use_cpu,
        )
    else:
        loaded = base("small")
    found = add_adapter(loaded, rank=16, alpha=32, seed=0)
    for name, parameter in found.named_parameters():
        if "lora_B" in name:  # zero at first, as in the middle of a training they are not
            torch.nn.init.normal_(parameter, std=0.02)
    place(found, use_cpu=loading.use_cpu)
    return found


def device(loading: Loading, threads: int) -> str:
    """Return what a policy is computed on, in words."""
    if loading.use_cpu:
        return f"{threads} threads"
    kind = "NF4" if loading.load_in_4bit else loading.precision
    return f"{torch.cuda.get_device_name()}, {kind}"


def now() -> float:
    """Return a time in seconds, when the GPU has done what it was told."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def used_memory() -> int:
    """Return the bytes that are in use now: on the GPU if it is used, else of this process."""
    if torch.cuda.is_initialized():
        return torch.cuda.memory_allocated()
    return resident("VmRSS")


def peak_memory() -> int:
    """Return the most bytes that were in use since `forget_peak`."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    return resident("VmHWM")


def resident(name: str) -> int:
    """Return a figure of this process's memory in bytes: VmRSS (now) or VmHWM (largest)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def forget_peak() -> None:
    """Let the peak begin anew."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
        return
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
