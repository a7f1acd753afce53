"""The estimate beside real tensors: equal where it counts, within 15 % where it is a peak."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import bitsandbytes
import pytest
import torch
from preflight_models import (
    AS_ON_T4,
    PLAN,
    RANK,
    autocast,
    bytes_of,
    estimated,
    most_allocated,
    scored,
    small_qwen3,
)
from tiny_models import tiny_llama, tiny_qwen3
from torch.nn.attention import SDPBackend, sdpa_kernel
from trl.trainer.utils import add_fused_lm_head

from agents.engine import Conversations, SamplingConfig
from agents.merged import folded_adapter
from agents.models import add_adapter
from rl.preflight.memory import (
    OVERHEAD,
    cache_bytes,
    estimate,
    own_slots,
    peak,
    saved_in_layer,
    weights_bytes,
)
from rl.preflight.plan import Plan, state_bytes
from rl.preflight.shape import read_config, shape_of

# --- what is counted exactly --------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [tiny_qwen3(), tiny_qwen3(tie_word_embeddings=False), tiny_llama()],
    ids=["qwen3", "head of its own", "llama"],
)
def test_parameters_are_those_of_the_built_model_and_of_its_adapter(model: Any) -> None:
    shape = shape_of(model.config)
    linears = sum(one * other for one, other in shape.linears)
    assert linears + shape.embeddings + shape.others == model.num_parameters()
    model.name_or_path = "tiny"
    adapted = add_adapter(model, rank=4, alpha=8, seed=0)
    trained = [p.numel() for p in adapted.parameters() if p.requires_grad]
    assert shape.lora(4) == sum(trained)


@pytest.mark.parametrize(
    ("name", "billions"), [("0.6B", 0.44), ("1.7B", 1.41), ("4B", 3.63)]
)  # "Number of Parameters (Non-Embedding)" on the model cards: 0.44B, 1.4B, 3.6B
def test_qwen3_is_known_without_a_network(name: str, billions: float) -> None:
    shape = shape_of(read_config(f"Qwen/Qwen3-{name}"))
    inside = sum(one * other for one, other in shape.linears) + shape.others
    assert inside / 1e9 == pytest.approx(billions, abs=0.005)


@pytest.mark.parametrize("plan", [PLAN, AS_ON_T4, replace(PLAN, weight_bytes=2)])
def test_weights_take_the_bytes_of_the_loaded_model(load: Any, plan: Plan) -> None:
    model, shape = load(plan, small_qwen3(layers=2))
    assert bytes_of(model) == weights_bytes(shape, plan) + 4 * shape.lora(RANK)


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("paged_adamw_8bit", bitsandbytes.optim.PagedAdamW8bit),
        ("adamw_torch_fused", torch.optim.AdamW),
        ("sgd", torch.optim.SGD),
    ],
)
def test_the_optimizer_keeps_the_bytes_of_its_state(name: str, make: Any) -> None:
    parameter = torch.nn.Parameter(torch.randn(256, 64))
    parameter.grad = torch.randn(256, 64)
    optimizer = make([parameter], lr=0.1)
    optimizer.step()
    kept = [
        value
        for key, value in optimizer.state[parameter].items()
        if isinstance(value, torch.Tensor) and value.ndim and not key.startswith("qmap")
    ]
    assert sum(t.numel() * t.element_size() for t in kept) == state_bytes(name) * 256 * 64


def test_the_cache_keeps_a_prompt_once_and_the_tokens_of_each_row() -> None:
    model, rows, prompt, sampled = small_qwen3(layers=2), 4, 30, 90
    config = SamplingConfig(max_turn_tokens=sampled, max_length=1000)
    conversations = Conversations(model.eval(), -1, 0, config)
    conversations.start([tuple(range(2, 2 + prompt))] * rows)
    conversations.generate()
    cache = conversations._cache
    layers = [part for layer in cache._prompts.layers for part in layer]
    own = [buffer for slots in cache._own for buffer in slots.buffers]
    found = [sum(t.numel() * t.element_size() for t in kept) for kept in (layers, own)]
    shape = shape_of(model.config)
    # The last token of a prompt is the first of a row's own.
    assert found == [
        cache_bytes(shape, PLAN, prompt - 1),
        cache_bytes(shape, PLAN, rows * own_slots(sampled)),
    ]


def saved_bytes(model: Any, plan: Plan) -> int:
    """Return the bytes of what a forward pass saves, tensors that share memory counted once."""
    known = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scored(model, plan)
    return sum(t.untyped_storage().nbytes() for key, t in saved.items() if key not in known)


@pytest.mark.parametrize(
    "plan",
    [
        replace(PLAN, prompt=60, completion=20),
        replace(AS_ON_T4, prompt=60, completion=20),
        replace(PLAN, prompt=60, completion=20, checkpointing=True),
    ],
    ids=["float32", "as on a T4", "checkpointed"],
)
def test_a_layer_saves_the_bytes_that_autograd_saves(load: Any, plan: Plan) -> None:
    (less, smaller), (more, shape) = (load(plan, small_qwen3(layers)) for layers in (2, 3))
    difference = saved_bytes(more, plan) - saved_bytes(less, plan)
    tokens = plan.prompt + plan.micro * plan.completion
    if plan.checkpointing:
        assert difference == tokens * shape.hidden * plan.weight_bytes
        return
    expected = sum(saved_in_layer(shape, plan, tokens))
    if plan.folds:  # W + s B A of each linear layer
        layer = shape.linears[len(smaller.linears) :]
        expected += 4 * sum(one * other for one, other in layer)
    if plan.mixed:  # autocast's copies of the adapter
        expected += 2 * (shape.lora(RANK) - smaller.lora(RANK))
    assert difference == expected


# --- peaks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(PLAN, id="kernel"),
        pytest.param(replace(AS_ON_T4, checkpointing=True), id="T4"),
        pytest.param(
            replace(PLAN, group=8, rows=8, micro=8, checkpointing=True),
            id="checkpointed, 8",
            marks=pytest.mark.slow,
        ),
        pytest.param(replace(PLAN, on_gpu=True), id="plain", marks=pytest.mark.slow),
        pytest.param(
            replace(
                AS_ON_T4,
                checkpointing=True,
                group=8,
                rows=8,
                micro=8,
                prompt=100,
                completion=80,
                sampled=80,
            ),
            id="T4, long completions, 8",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            replace(AS_ON_T4, prompt=200, completion=80, sampled=80, rows=8, micro=8),
            id="T4, two groups",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_update_and_its_scoring_peak_within_15_percent(load: Any, plan: Plan) -> None:
    model, shape = load(plan, small_qwen3())
    there = bytes_of(model)
    scored(model, plan).backward()  # gradients are there from then on, as `estimate` counts them
    model.zero_grad()
    measured = there + most_allocated(lambda: scored(model, plan).backward())
    assert estimated(shape, plan, "logits", "layers") == pytest.approx(measured, rel=0.15)
    model.zero_grad()
    with torch.no_grad():
        measured = there + most_allocated(lambda: scored(model, plan))
    assert estimated(shape, plan, "scoring") == pytest.approx(measured, rel=0.15)


def test_attention_in_parts_is_estimated_as_it_is_held(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = replace(AS_ON_T4, checkpointing=True)
    model, shape = load(plan, small_qwen3())
    scored(model, plan).backward()
    model.zero_grad()
    peaks = []
    for at_once in (2**24, 2**18):  # all of the prompt's scores, an eighth of them
        for module in ("agents.attention_parts", "rl.preflight.memory"):
            monkeypatch.setattr(f"{module}.PAIRS_AT_ONCE", at_once)
        measured = bytes_of(model) + most_allocated(lambda: scored(model, plan).backward())
        peaks.append(estimated(shape, plan, "logits", "layers"))
        assert peaks[-1] == pytest.approx(measured, rel=0.15)
        model.zero_grad()
    assert peaks[1] < 0.8 * peaks[0]


@pytest.mark.parametrize(
    "plan",
    [
        replace(PLAN, completion=60, sampled=20, turns=2),
        replace(AS_ON_T4, completion=60, sampled=20, turns=2),
        pytest.param(
            replace(AS_ON_T4, prompt=60, completion=140, sampled=40, turns=2, rows=8, group=8),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["kernel", "T4", "T4, long turns"],
)
def test_a_rollout_peaks_within_15_percent(load: Any, plan: Plan) -> None:
    model, shape = load(plan, small_qwen3())
    model.eval()
    prompts = [tuple(range(2, 2 + plan.prompt))] * plan.rows
    observed = plan.completion - plan.sampled
    config = SamplingConfig(1.0, max_turn_tokens=plan.sampled // 2, max_length=10**6)

    def play() -> None:
        with torch.no_grad(), folded_adapter(model):
            conversations = Conversations(model, -1, 0, config)
            conversations.start(prompts)
            conversations.generate()
            conversations.extend(range(plan.rows), [[3] * observed] * plan.rows)
            conversations.generate()

    measured = bytes_of(model) + most_allocated(play)
    parts = estimate(shape, plan)
    parts.pop("copies of half the rows")  # all rows speak to the end
    _, most = peak({name: pick(row, "prompts", "turns") for name, row in parts.items()})
    assert most - OVERHEAD == pytest.approx(measured, rel=0.15)


def pick(row: dict[str, int], *moments: str) -> dict[str, int]:
    return {name: size for name, size in row.items() if name in moments}


@pytest.mark.parametrize(
    "plan",
    [
        replace(PLAN, kind="sft", micro=3),
        replace(PLAN, kind="sft", micro=1, checkpointing=True),
        replace(AS_ON_T4, kind="sft", micro=1, row=600, checkpointing=True),
    ],
    ids=["three rows", "checkpointed", "T4"],
)
def test_an_sft_step_peaks_within_15_percent(load: Any, plan: Plan) -> None:
    model, shape = load(plan, small_qwen3())
    add_fused_lm_head(model.get_base_model())
    ids = torch.randint(2, 3000, (plan.micro, plan.row))
    mask = torch.ones_like(ids)
    mask[1:, plan.row // 2 :] = 0
    fold = nullcontext() if plan.checkpointing else folded_adapter(model)

    def step() -> None:
        inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
        with autocast(plan), fold:
            if not plan.on_gpu:
                output = model(**inputs, labels=ids, fused_lm_head=True)
                output.log_probs.sum().backward()
                return
            # TRL's head is another one on a GPU; the layers are measured without it.
            with sdpa_kernel(SDPBackend.MATH):
                model.get_decoder()(**inputs).last_hidden_state.sum().backward()

    measured = bytes_of(model) + most_allocated(step)
    moments = ("layers",) if plan.on_gpu else ("logits", "layers")
    assert estimated(shape, plan, *moments) == pytest.approx(measured, rel=0.15)
