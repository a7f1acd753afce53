from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import tiny_qwen3, with_adapter

from agents.merged import merged_adapter


def scaled_up(model: Any) -> Any:
    """The adapter's B matrices start at zero; give them something to add."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    return model.eval()


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def test_a_merged_adapter_says_the_same_and_leaves_every_weight_as_it_was() -> None:
    model, ids = scaled_up(with_adapter(tiny_qwen3())), torch.arange(12)[None]
    before, said = weights(model), model(ids).logits
    base = next(name for name in before if "base_layer" in name)
    with merged_adapter(model):
        assert not torch.equal(dict(model.named_parameters())[base], before[base])
        torch.testing.assert_close(model(ids).logits, said, atol=1e-4, rtol=1e-3)
    after = weights(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(model(ids).logits, said)


def test_weights_are_put_back_after_an_error() -> None:
    model = scaled_up(with_adapter(tiny_qwen3()))
    before = weights(model)

    def play() -> None:
        with merged_adapter(model):
            raise RuntimeError("the server is gone")

    with pytest.raises(RuntimeError, match="the server is gone"):
        play()
    after = weights(model)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("kind", ["without adapter", "half precision"])
def test_a_model_that_cannot_be_merged_exactly_is_left_alone(kind: str) -> None:
    model = tiny_qwen3()
    if kind == "half precision":
        model = scaled_up(with_adapter(model.to(torch.bfloat16)))
    before = weights(model)
    with merged_adapter(model):
        assert all(torch.equal(before[name], value) for name, value in weights(model).items())
