"""Models and plans whose memory is measured: what the tests of the preflight share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import Qwen3Config, Qwen3ForCausalLM

from agents.attention_parts import _plain_gradients, _plain_read
from agents.merged import folded_adapter
from agents.models import add_adapter, load_model
from agents.shared_prompt import completion_log_probs
from rl.preflight.memory import OVERHEAD, estimate
from rl.preflight.plan import Plan
from rl.preflight.shape import Shape, shape_of

RANK = 16
PLAN = Plan(
    kind="grpo",
    on_gpu=False,
    load_in_4bit=False,
    weight_bytes=4,
    mixed=False,
    checkpointing=False,
    state_bytes=0,
    rank=RANK,
    reference=False,
    gathers=False,
    accumulates=False,
    scored=True,
    prompt=500,
    completion=40,
    sampled=40,
    turns=1,
    group=4,
    rows=4,
    batch=4,
    micro=4,
    row=300,
    evaluated=1,
)
AS_ON_T4 = replace(PLAN, on_gpu=True, load_in_4bit=True, weight_bytes=2, mixed=True)
"""With bfloat16 in the place of float16, which a CPU is slow at."""


def small_qwen3(layers: int = 4, vocabulary: int = 4000) -> Any:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        tie_word_embeddings=True,
        eos_token_id=1,
        pad_token_id=0,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config)


def loader(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Plan, Any], tuple[Any, Shape]]:
    """Loads a model as a plan says; attention on this CPU is then computed as on a GPU."""

    def make(plan: Plan, model: Any) -> tuple[Any, Shape]:
        place = str(folder / f"{model.config.num_hidden_layers}")
        model.save_pretrained(place)
        loaded = load_model(
            place,
            load_in_4bit=plan.load_in_4bit,
            precision="bfloat16" if plan.weight_bytes == 2 else "float32",
        )
        shape = shape_of(loaded.config)
        loaded = add_adapter(loaded, rank=RANK, alpha=32, seed=0).train()
        if plan.checkpointing:
            loaded.enable_input_require_grads()
            loaded.activation_checkpointing_enable()
        if plan.on_gpu:
            for module in ("agents.packed", "agents.kv_cache"):
                monkeypatch.setattr(f"{module}.read", _plain_read)
            monkeypatch.setattr("agents.packed.read_gradients", _plain_gradients)
            # peft asks whether there is autocast on GPUs.
            enabled = torch.is_autocast_enabled
            monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: enabled("cpu"))
        return loaded, shape

    return make


def autocast(plan: Plan) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16) if plan.mixed else nullcontext()


def group_of(plan: Plan) -> tuple[list[tuple[int, ...]], list[list[int]]]:
    groups = plan.micro // plan.group
    prompts = [tuple(range(2 + i, 2 + i + plan.prompt)) for i in range(groups)]
    completions = [[5 + row] * plan.completion for row in range(plan.micro)]
    return [prompts[row // plan.group] for row in range(plan.micro)], completions


def scored(model: Any, plan: Plan) -> torch.Tensor:
    fold = nullcontext() if plan.checkpointing else folded_adapter(model)
    with autocast(plan), fold:
        return completion_log_probs(model, *group_of(plan))[0].sum()


def most_allocated(run: Callable[[], Any]) -> int:
    """Return the most bytes that were allocated at once while something ran, by the profiler."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = profiler.profiler.kineto_results.events()
    now = most = 0
    for event in sorted(
        (event for event in events if event.name() == "[memory]"), key=lambda e: e.start_ns()
    ):
        now += event.nbytes()
        most = max(most, now)
    return most


def bytes_of(model: Any) -> int:
    """Return the bytes of a model's tensors, those of its 4-bit layers included."""
    tensors = list(model.parameters())
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            state = module.weight.quant_state
            tensors += [state.absmax, state.code, state.offset, state.state2.absmax]
            tensors.append(state.state2.code)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def estimated(shape: Shape, plan: Plan, *moments: str) -> int:
    """Return the most of some moments, without what is assumed for the process."""
    parts = estimate(shape, plan)
    return max(sum(row.get(name, 0) for row in parts.values()) for name in moments) - OVERHEAD
