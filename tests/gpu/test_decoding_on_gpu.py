from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_models import (
    eager_to_call,
    generated_by_transformers,
    save_base,
    tiny_llama,
    tiny_qwen3,
    with_adapter,
)

import agents.cuda_graphs
from agents.engine import Conversations, SamplingConfig
from agents.models import add_adapter, load_model
from agents.shared_prompt import completion_log_probs

END, PAD = 1511, 1509
MODELS: dict[str, Callable[[], Any]] = {
    "qwen3": tiny_qwen3,
    "llama": tiny_llama,
    "adapter": lambda: with_adapter(tiny_qwen3()),
    "ends often": lambda: eager_to_call(tiny_qwen3(), END, 4.0),
}


def played(
    model: Any, config: SamplingConfig, check: Callable[[list[int], list[int]], None] | None = None
) -> tuple[list[list[int]], list[list[float]], Conversations]:
    """Three turns of conversations in which rows leave; what was said, and how likely it was."""
    rng = random.Random(0)
    prompts = [[rng.randrange(1500) for _ in range(rng.randint(1, 40))] for _ in range(3)]
    contexts = [list(prompts[row % 3]) for row in range(8)]
    engine = Conversations(model, END, PAD, config)
    engine.start(contexts)
    ids, log_probs = [], []
    for _ in range(3):
        for context, turn in zip(contexts, engine.generate(), strict=True):
            if check:
                check(context, turn.ids)
            ids.append(turn.ids)
            log_probs.append(turn.log_probs)
            context += turn.ids
        rows = sorted(rng.sample(range(len(contexts)), len(contexts) - 1))
        heard = [[rng.randrange(1500) for _ in range(rng.randint(1, 12))] for _ in rows]
        engine.extend(rows, heard)
        contexts = [[*contexts[row], *more] for row, more in zip(rows, heard, strict=True)]
    return ids, log_probs, engine


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("stretch", [10, 128])
def test_greedy_turns_from_graphs_equal_generate(
    name: str, stretch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents.cuda_graphs, "STRETCH", stretch)
    model = MODELS[name]().cuda()

    def check(context: list[int], said: list[int]) -> None:
        assert said == generated_by_transformers(model, context, 30, end=END, pad=PAD)

    engine = played(model, SamplingConfig(max_turn_tokens=30), check)[2]
    assert engine._recorder._latest is not None


def test_what_graphs_sample_is_as_likely_as_the_update_says() -> None:
    model = with_adapter(tiny_qwen3()).cuda()
    engine = Conversations(model, END, PAD, SamplingConfig(1.0, max_turn_tokens=40, seed=3))
    prompts = [tuple(range(3, 30))] * 4 + [tuple(range(5, 12))] * 2
    engine.start(prompts)
    turns = engine.generate()
    with torch.no_grad():
        expected = completion_log_probs(model, prompts, [turn.ids for turn in turns])[0]
    for row, turn in enumerate(turns):
        found = torch.tensor(turn.log_probs, device="cuda")
        torch.testing.assert_close(found, expected[row, : len(found)], atol=1e-3, rtol=1e-3)


def test_the_same_seed_samples_the_same_with_graphs_and_without() -> None:
    model = tiny_qwen3().cuda()
    with_graphs, without = (
        played(model, SamplingConfig(0.7, max_turn_tokens=30, seed=5, cuda_graphs=on))
        for on in (True, False)
    )
    assert with_graphs[0] == without[0]
    assert without[2]._recorder._latest is None


def test_a_model_that_cannot_be_recorded_is_played_without_graphs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = tiny_qwen3().cuda()
    layer = model.model.layers[0]
    layer.register_forward_hook(lambda module, given, found: found[0].sum().item() and None)
    with caplog.at_level(logging.WARNING):
        found = played(model, SamplingConfig(max_turn_tokens=30))
    assert "it goes on without" in caplog.text
    without = played(model, SamplingConfig(max_turn_tokens=30, cuda_graphs=False))
    assert found[0] == without[0]
    assert played(model, SamplingConfig(max_turn_tokens=30))[0] == without[0]
    assert caplog.text.count("it goes on without") == 1
    assert torch.isfinite(torch.randn(8, device="cuda")).all()  # random numbers are there again
    kept = torch.zeros(2**28, device="cuda")
    before = torch.cuda.memory_reserved()
    del kept
    torch.cuda.empty_cache()  # and the allocator gives back again
    assert torch.cuda.memory_reserved() <= before - 2**30


def test_recordings_share_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents.cuda_graphs, "STRETCH", 10)
    model = tiny_qwen3().cuda()
    config = SamplingConfig(max_turn_tokens=30)
    played(model, config)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    for _ in range(5):
        played(model, config)
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= before + 2**26


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_log_probs_and_gradients_on_a_gpu_are_those_of_a_cpu(precision: str) -> None:
    prompts = [tuple(range(3, 40))] * 3 + [tuple(range(9, 20))] * 2
    completions = [[5, 17, 8, 2], [11, 4], [6, 10, 7], [3], [9, 9, 9, 9, 9, 9]]
    found = []
    for device in ("cpu", "cuda"):
        model = with_adapter(tiny_qwen3()).to(device)
        mixed = torch.autocast(
            device, getattr(torch, precision), enabled=device == "cuda" and precision != "float32"
        )
        with mixed:
            log_probs, _ = completion_log_probs(model, prompts, completions)
        log_probs.sum().backward()
        gradients = [part.grad.flatten() for part in model.parameters() if part.requires_grad]
        found.append((log_probs.detach().cpu(), torch.cat(gradients).cpu()))
    close = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}[precision]
    for one, other in zip(*found, strict=True):
        assert float((one - other).norm() / one.norm()) < close


def test_nf4_weights_are_played_and_trained_as_their_values_say(tmp_path: Any) -> None:
    """The base in NF4, and one whose weights are what NF4 rounds to, with the same adapter."""
    folder = save_base(tmp_path / "base", hidden_size=64, intermediate_size=128)
    quantised = load_model(folder, load_in_4bit=True, precision="float32")
    plain = load_model(folder, load_in_4bit=True, precision="float32").dequantize().float().cuda()
    found = []
    for model in (quantised, plain):
        model = add_adapter(model, rank=4, alpha=8, seed=0).cuda()
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        model.eval()
        said, _, engine = played(model, SamplingConfig(max_turn_tokens=20))
        assert engine._recorder._latest is not None
        prompts, completions = [tuple(range(3, 40))] * 4, [turn[:5] for turn in said[:4]]
        log_probs, _ = completion_log_probs(model, prompts, completions)
        log_probs.sum().backward()
        gradients = [part.grad.flatten() for part in model.parameters() if part.requires_grad]
        found.append((said, log_probs.detach(), torch.cat(gradients)))
    assert found[0][0] == found[1][0]
    for one, other in zip(found[0][1:], found[1][1:], strict=True):
        assert float((one - other).norm() / other.norm()) < 1e-3
