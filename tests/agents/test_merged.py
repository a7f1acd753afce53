from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import tiny_qwen3, with_adapter

from agents.merged import folded_adapter


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


def test_a_folded_adapter_says_the_same_and_no_weight_changes() -> None:
    model, ids = scaled_up(with_adapter(tiny_qwen3())), torch.arange(12)[None]
    before, said = weights(model), model(ids).logits
    calls: list[str] = []
    for module in model.modules():
        if type(module) is torch.nn.Linear:  # lora_A and lora_B are such, and the base layers
            module.register_forward_pre_hook(lambda module, _: calls.append(str(module)))
    with folded_adapter(model):
        torch.testing.assert_close(model(ids).logits, said, atol=1e-4, rtol=1e-3)
    assert len(calls) == 1  # the head, which has no adapter
    after = weights(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(model(ids).logits, said)


def test_the_adapter_is_unfolded_after_an_error() -> None:
    model, ids = scaled_up(with_adapter(tiny_qwen3())), torch.arange(12)[None]
    said = model(ids).logits

    def play() -> None:
        with folded_adapter(model):
            raise RuntimeError("the server is gone")

    with pytest.raises(RuntimeError, match="the server is gone"):
        play()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.zero_()
    assert not torch.equal(model(ids).logits, said)


def gradients(model: Any, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(ids).logits.log_softmax(-1)[..., 5].sum().backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_a_folded_adapter_has_the_outputs_and_gradients_of_the_usual_one() -> None:
    model, ids = scaled_up(with_adapter(tiny_qwen3())).train(), torch.arange(12)[None]
    said, expected = model(ids).logits, gradients(model, ids)
    with folded_adapter(model):
        torch.testing.assert_close(model(ids).logits, said, atol=1e-4, rtol=1e-3)
        found = gradients(model, ids)
    assert found.keys() == expected.keys()
    assert len(found) == 2 * 2 * 7
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-3, rtol=1e-3)
    assert torch.equal(model(ids).logits, said)


@pytest.mark.parametrize("kind", ["dropout", "half precision", "without adapter"])
def test_what_cannot_be_folded_exactly_is_computed_as_usual(kind: str) -> None:
    model = tiny_qwen3()
    if kind == "dropout":
        model = with_adapter(model, lora_dropout=0.5).train()
    if kind == "half precision":
        model = with_adapter(model.to(torch.bfloat16))
    forwards = [module.forward for module in model.modules()]
    with folded_adapter(model):
        assert [module.forward for module in model.modules()] == forwards


def test_dropout_that_is_off_does_not_hinder_folding() -> None:
    model = scaled_up(with_adapter(tiny_qwen3(), lora_dropout=0.5))
    forwards = [module.forward for module in model.modules()]
    with folded_adapter(model):
        assert [module.forward for module in model.modules()] != forwards
