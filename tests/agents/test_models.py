from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_adapter, save_base, tiny_qwen3, with_adapter
from transformers import AutoModelForCausalLM

from agents.engine import SamplingConfig
from agents.errors import ModelFileError, ModelNotFoundError
from agents.models import (
    EMBEDDED_FOLDER,
    base_of_adapter,
    cast_trainable_to_float32,
    is_adapter,
    load_model,
    load_player,
    load_tokenizer,
    place,
    resolve,
)

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, base: str) -> str:
    return save_adapter(tmp_path_factory.mktemp("adapter"), base)


@pytest.fixture
def copied(tmp_path: Path, adapter: str) -> Path:
    """A copy of the adapter to damage."""
    return Path(shutil.copytree(adapter, tmp_path / "sft"))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model.eval()(IDS).logits
    return result


# --- what is loaded -----------------------------------------------------------------------------


def test_an_adapter_folder_stands_for_its_base_with_the_adapter(base: str, adapter: str) -> None:
    whole = logits(load_model(adapter))
    torch.testing.assert_close(whole, logits(load_model(base, adapter=adapter)))
    assert not torch.allclose(whole, logits(load_model(base)), atol=1e-2)
    assert base_of_adapter(adapter) == base
    assert is_adapter(adapter)
    assert not is_adapter(base)


def test_an_adapter_loaded_for_training_is_trainable_and_the_base_is_not(
    base: str, adapter: str
) -> None:
    model = load_model(base, adapter=adapter, trainable=True)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    lora = {name for name, _ in model.named_parameters() if "lora_" in name}
    assert trained == lora
    # q, k, v, o, gate, up and down of two layers, A and B each.
    assert len(lora) == 2 * 7 * 2


def test_an_adapter_is_frozen_unless_it_is_loaded_for_training(base: str, adapter: str) -> None:
    model = load_model(base, adapter=adapter)
    assert not any(p.requires_grad for p in model.parameters() if p is not None)


def test_the_embedded_policy_is_named_so_on_any_machine(
    tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve("embedded") == str(EMBEDDED_FOLDER)
    monkeypatch.setattr("agents.models.EMBEDDED_FOLDER", Path(base))
    model = load_model("embedded")
    assert model.name_or_path == "embedded"
    # "auto" would ask the hub whether there is a model of that name.
    with_adapter(model).save_pretrained(tmp_path, save_embedding_layers=False)
    assert base_of_adapter(tmp_path) == "embedded"


def test_a_player_is_ready_to_play(adapter: str) -> None:
    player = load_player(adapter, config=SamplingConfig(max_turn_tokens=3))
    assert player.name == Path(adapter).name
    assert not player.model.training
    assert player.tokenizer.eos_token == "<|im_end|>"
    assert not player.template.thinking
    assert load_player(adapter, thinking=True).template.thinking


@pytest.mark.parametrize("use_cpu", [False, True])
def test_four_bit_weights_stay_on_the_cpu_if_that_is_asked_for(
    base: str, use_cpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    load = AutoModelForCausalLM.from_pretrained

    def noted(name: str, **options: Any) -> Any:
        asked.append(options.get("device_map"))
        return load(name, **options)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", noted)
    model = load_model(base, load_in_4bit=True, use_cpu=use_cpu)
    assert asked == [{"": "cpu"} if use_cpu else None]
    assert {part.device.type for part in model.parameters()} == {"cpu"}


@pytest.mark.parametrize(
    ("gpu", "use_cpu", "in_4_bits", "moves"),
    [
        (True, False, False, ["cuda"]),
        (True, True, False, []),
        (False, False, False, []),
        (True, False, True, []),  # bitsandbytes has put it there
    ],
)
def test_a_model_is_placed_on_the_gpu_if_there_is_one_and_it_may_be_used(
    gpu: bool, use_cpu: bool, in_4_bits: bool, moves: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, found = tiny_qwen3(), list[str]()
    model.is_loaded_in_4bit = in_4_bits
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(model, "to", found.append)
    place(model, use_cpu=use_cpu)
    assert found == moves


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_the_precision_is_that_of_the_weights(base: str, precision: Any, dtype: Any) -> None:
    assert load_model(base, precision=precision).dtype == dtype


def test_a_tokenizer_always_has_a_padding_token(tmp_path: Path, base: str) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "base"))
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("pad_token")
    path.write_text(json.dumps(config), encoding="utf-8")
    assert load_tokenizer(str(folder)).pad_token_id == load_tokenizer(base).eos_token_id


# --- what is missing or damaged -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["./no/such", "/no/such", "~/no-such", "a/b/c"])
def test_a_missing_folder_is_an_error_that_says_what_to_give(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match=rf"no folder {name}; .*'embedded'"):
        load_model(name)


def test_an_unknown_hub_id_is_an_error_that_names_it() -> None:
    with pytest.raises(ModelNotFoundError, match="cannot load the model nobody/nothing"):
        load_model("nobody/nothing")
    with pytest.raises(ModelNotFoundError, match="cannot load the tokenizer of nobody/nothing"):
        load_tokenizer("nobody/nothing")


def test_a_missing_adapter_names_the_command_that_makes_one(base: str, tmp_path: Path) -> None:
    folder = tmp_path / "sft"
    with pytest.raises(ModelNotFoundError, match=rf"python -m sft\.train --output_dir {folder}"):
        load_model(base, adapter=str(folder))


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_without_a_file_names_the_file(base: str, copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(ModelFileError, match=f"has no {name}"):
        load_model(base, adapter=str(copied))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe\x00", b"[]", b"{}", b'{"peft_type": "NOTHING"}'],
    ids=["empty", "cut", "binary", "list", "no keys", "unknown type"],
)
def test_a_damaged_adapter_config_is_an_error_that_names_the_folder(
    base: str, copied: Path, content: bytes
) -> None:
    (copied / "adapter_config.json").write_bytes(content)
    with pytest.raises(ModelFileError, match=str(copied)):
        load_model(base, adapter=str(copied))
    with pytest.raises(ModelFileError, match=str(copied)):
        load_model(str(copied))


@pytest.mark.parametrize("kept", [0, 7, 200, -100])
def test_damaged_adapter_weights_are_an_error_that_names_the_folder(
    base: str, copied: Path, kept: int
) -> None:
    path = copied / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelFileError, match=str(copied)):
        load_model(base, adapter=str(copied))


def test_an_adapter_of_another_model_is_an_error(tmp_path: Path, adapter: str) -> None:
    wider = save_base(tmp_path / "wider", hidden_size=48)
    with pytest.raises(ModelFileError, match="trained on another model"):
        load_model(wider, adapter=adapter)


def test_an_adapter_that_lacks_tensors_is_not_loaded_in_part(base: str, copied: Path) -> None:
    path = copied / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, path)
    with pytest.raises(ModelFileError, match="missing adapter keys"):
        load_model(base, adapter=str(copied))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{ not json", None], ids=["empty", "garbage", "none"])
def test_damaged_or_missing_weights_are_an_error_that_names_the_folder(
    tmp_path: Path, base: str, name: str, content: bytes | None
) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "base"))
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(ModelFileError, match=str(folder)):
        load_model(str(folder))


@pytest.mark.parametrize(
    "content", [b"", b"{ not json", b"{}", None], ids=["empty", "garbage", "no keys", "none"]
)
def test_a_damaged_or_missing_tokenizer_is_an_error_that_names_the_folder(
    tmp_path: Path, base: str, content: bytes | None
) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "base"))
    if content is None:
        for path in folder.glob("tokenizer*"):
            path.unlink()
    else:
        (folder / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelFileError, match=str(folder)):
        load_tokenizer(str(folder))


# --- four bits ----------------------------------------------------------------------------------


def quantised(model: Any) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]


@pytest.fixture(scope="module")
def four_bit(base: str, adapter: str) -> Any:
    """A model loaded on a CPU with AVX512-BF16, whatever the one here has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
        return load_model(base, adapter=adapter, load_in_4bit=True, trainable=True)


def test_a_model_loads_in_nf4_on_a_cpu_and_stays_close_to_itself(
    base: str, adapter: str, four_bit: Any
) -> None:
    layers = quantised(four_bit)
    assert len(layers) == 2 * 7
    for layer in layers:
        assert layer.weight.quant_state.quant_type == "nf4"
        assert layer.weight.quant_state.nested
    exact, rounded = logits(load_model(base, adapter=adapter)), logits(four_bit)
    assert not torch.equal(exact, rounded)
    likeness = torch.nn.functional.cosine_similarity(exact.flatten(), rounded.flatten(), dim=0)
    assert likeness > 0.8


def test_no_quantised_layer_may_repack_its_weights(four_bit: Any) -> None:
    assert [layer.support_avx512bf16_for_cpu for layer in quantised(four_bit)] == [False] * 14


def adapter_gradients(model: Any) -> dict[str, torch.Tensor]:
    model.train().zero_grad()
    model(IDS, labels=IDS).loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}


def test_adapter_gradients_are_the_same_after_a_forward_in_eval_mode(four_bit: Any) -> None:
    weights = [layer.weight.data.clone() for layer in quantised(four_bit)]
    before = adapter_gradients(four_bit)
    logits(four_bit)
    after = adapter_gradients(four_bit)
    assert max(gradient.abs().max() for gradient in before.values()) > 0
    for name, gradient in before.items():
        torch.testing.assert_close(after[name], gradient, msg=name)
    for layer, weight in zip(quantised(four_bit), weights, strict=True):
        assert torch.equal(layer.weight.data, weight)
        assert not getattr(layer.weight.quant_state, "packing_format_for_cpu", False)


def test_trained_parameters_become_float32_and_no_other(base: str) -> None:
    model = with_adapter(load_model(base, precision="bfloat16"))
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()
    cast_trainable_to_float32(model)
    for name, parameter in model.named_parameters():
        expected = torch.float32 if "lora_" in name else torch.bfloat16
        assert parameter.dtype == expected, name


def test_a_four_bit_model_plays(base: str) -> None:
    player = load_player(base, load_in_4bit=True, config=SamplingConfig(max_turn_tokens=3))
    info = {"messages": [{"role": "user", "content": "Hi"}], "tools": []}
    player.begin([info])
    (turn,) = player.act([0], [info])
    assert len(turn.token_ids) == 3
    assert tiny_qwen3().config.vocab_size > max(turn.token_ids)
