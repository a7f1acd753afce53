from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import bitsandbytes
import pytest
import torch
from exported import TASKS, TOKENS, make_run
from safetensors.torch import load_file, save_file
from tiny_models import save_base
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

import sft.export
from agents.engine import SamplingConfig
from agents.models import EMBEDDED_FOLDER, base_of_adapter, load_model, load_player
from agents.rollout import rollout
from agents.template import ChatTemplate
from sft.export import main

Said = list[tuple[int, ...]]
TOKENIZER = {"chat_template.jinja", "tokenizer.json", "tokenizer_config.json"}
BESIDE = {"README.md", "export.json", "rollout_template.jinja", "chat_template_kwargs.json"}


class Made(NamedTuple):
    adapter: Path
    folder: Path
    text: str


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, base: str) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), base)


@pytest.fixture
def command(adapter: Path, tmp_path: Path) -> list[str]:
    return ["--adapter", str(adapter), "--output_dir", str(tmp_path / "out"), "--prompts", "2"]


def exported(adapter: Path, folder: Path, *flags: str, capsys: Any) -> Made:
    place = ["--adapter", str(adapter), "--output_dir", str(folder), "--prompts", "6"]
    assert main([*place, *flags]) == 0
    return Made(adapter, folder, capsys.readouterr().out)


@pytest.fixture
def merged(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Made:
    return exported(adapter, tmp_path / "shipped" / "merged", capsys=capsys)


def said_in_process(name: str | Path, **options: Any) -> Said:
    config = SamplingConfig(temperature=0.0, max_turn_tokens=TOKENS)
    player = load_player(str(name), config=config, **options)
    return [one.completion_ids for one in rollout(player, TASKS[:6], max_turns=1)]


def said_by_plain_transformers(folder: Path, adapter: Path) -> Said:
    """What comes out of the folder without any of our code but the prompts."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    player = load_player(str(adapter), config=SamplingConfig(max_turn_tokens=1))
    prompts = [list(one.prompt_ids) for one in rollout(player, TASKS[:6], max_turns=1)]
    outputs = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        said = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS)
        outputs.append(tuple(said[0, len(prompt) :].tolist()))
    assert tokenizer.eos_token_id == model.generation_config.eos_token_id
    return outputs


# --- merged -------------------------------------------------------------------------------------


def test_plain_transformers_says_with_the_merged_model_what_the_adapter_says(merged: Made) -> None:
    expected = said_in_process(merged.adapter)
    assert said_by_plain_transformers(merged.folder, merged.adapter) == expected
    assert said_in_process(base_of_adapter(merged.adapter)) != expected
    assert len(set(expected)) > 2


def test_a_merged_export_holds_the_model_and_nothing_of_the_training(merged: Made) -> None:
    files = {path.relative_to(merged.folder).as_posix() for path in merged.folder.rglob("*")}
    model = {"model.safetensors", "config.json", "generation_config.json"}
    assert files == model | TOKENIZER | BESIDE
    names = load_file(merged.folder / "model.safetensors").keys()
    assert not [name for name in names if "lora" in name or "value_head" in name]
    assert [path.name for path in merged.folder.parent.iterdir()] == ["merged"]


def test_the_template_is_the_original_to_the_byte(merged: Made) -> None:
    shipped = (EMBEDDED_FOLDER / "chat_template.jinja").read_bytes()
    assert (merged.folder / "chat_template.jinja").read_bytes() == shipped
    assert (merged.folder / "rollout_template.jinja").read_bytes() != shipped


def test_answers_are_read_as_text_by_the_exported_tokenizer_alone(
    merged: Made, tokenizer: Any
) -> None:
    shipped = AutoTokenizer.from_pretrained(merged.folder)
    said = "<tool_call>\n{'name': 1"
    read = shipped.parse_response(said + shipped.eos_token, prefix="<|im_start|>assistant\n")
    assert read == {"role": "assistant", "content": said}
    assert tokenizer.response_template is None


def test_generation_is_greedy_and_ends_where_a_turn_ends(merged: Made, tokenizer: Any) -> None:
    config = GenerationConfig.from_pretrained(merged.folder)
    assert config.do_sample is False
    assert config.eos_token_id == tokenizer.eos_token_id
    assert config.pad_token_id == tokenizer.pad_token_id
    assert config.temperature is None


def test_an_export_may_let_the_server_sample(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = exported(adapter, tmp_path / "sampling", "--do_sample", "true", capsys=capsys)
    assert GenerationConfig.from_pretrained(made.folder).do_sample is True
    assert "6 of 6 outputs" in made.text  # it is compared greedily all the same
    with pytest.raises(SystemExit):
        main([*["--output_dir", "x", "--form", "adapter", "--do_sample", "true"]])
    assert "--do_sample is for merged weights" in capsys.readouterr().err


def test_the_agreement_and_the_commands_are_printed(merged: Made) -> None:
    assert "merged into the base, in float32. Against the adapter: 6 of 6 outputs" in merged.text
    lines = merged.text.splitlines()
    assert f"wrote {merged.folder}" in lines
    assert lines[-3].startswith(f"  transformers serve {merged.folder} --chat-template-kwargs")
    assert lines[-2].startswith(f"  vllm serve {merged.folder} --enable-auto-tool-choice")
    assert lines[-1].startswith(f"  python convert_hf_to_gguf.py {merged.folder}")
    card = (merged.folder / "README.md").read_text(encoding="utf-8")
    assert "6 of 6 outputs are equal (100.0 %)" in card
    facts = json.loads((merged.folder / "export.json").read_text(encoding="utf-8"))
    assert (facts["form"], facts["stage"], facts["agreement"]["equal"]) == ("merged", "ppo", 6)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_every_weight_is_in_16_bits_where_asked(
    adapter: Path, tmp_path: Path, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = exported(adapter, tmp_path / "half", "--precision", precision, capsys=capsys)
    dtype = getattr(torch, precision)
    weights = load_file(made.folder / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {dtype}
    assert AutoModelForCausalLM.from_pretrained(made.folder).dtype == dtype
    assert f"in {precision}. Against the adapter: " in made.text
    whole = load_model(str(adapter)).merge_and_unload().state_dict()
    for name, tensor in weights.items():
        assert torch.equal(tensor, whole[name].to(dtype)), name


def test_an_adapter_of_a_four_bit_base_is_merged_into_that_base(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = make_run(tmp_path / "run", base, load_in_4bit=True)
    made = exported(adapter, tmp_path / "out", capsys=capsys)
    assert "into the base as it was trained on (NF4, dequantised), in float32" in made.text
    assert "6 of 6 outputs are equal" in made.text
    assert "NF4, dequantised" in (made.folder / "README.md").read_text(encoding="utf-8")
    layer = "model.layers.0.mlp.up_proj"
    part = load_model(base, load_in_4bit=True).get_submodule(layer).weight
    expected = bitsandbytes.functional.dequantize_4bit(part.data, part.quant_state)
    lora = load_file(adapter / "adapter_model.safetensors")
    a, b = (lora[f"base_model.model.{layer}.lora_{one}.weight"] for one in "AB")
    merged = load_file(made.folder / "model.safetensors")[f"{layer}.weight"]
    torch.testing.assert_close(merged, expected + 8 / 4 * b @ a)
    original = load_model(base).get_submodule(layer).weight
    assert not torch.allclose(merged, original + 8 / 4 * b @ a, atol=1e-2)
    assert "quantization_config" not in json.loads((made.folder / "config.json").read_text())


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_a_policy_that_was_trained_to_think_is_served_and_compared_thinking(
    base: str, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = make_run(tmp_path / "run", base, thinking=True)
    made = exported(adapter, tmp_path / "out", "--form", form, capsys=capsys)
    text = (made.folder / "chat_template_kwargs.json").read_text(encoding="utf-8")
    assert json.loads(text)["enable_thinking"] is True
    card = (made.folder / "README.md").read_text(encoding="utf-8")
    for place in (made.text, card):
        assert '"enable_thinking": true' in place
        assert '"enable_thinking": false' not in place
    assert "Ask with `enable_thinking` true" in card
    if form == "merged":
        assert "6 of 6 outputs are equal" in made.text


def test_the_flag_says_more_than_the_recipe(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = exported(adapter, tmp_path / "out", "--load_in_4bit", "true", capsys=capsys)
    assert "NF4, dequantised" in made.text


# --- adapter ------------------------------------------------------------------------------------


def test_an_adapter_is_exported_as_it_was_trained(
    adapter: Path, base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = exported(adapter, tmp_path / "out", "--form", "adapter", capsys=capsys)
    weights = {"adapter_config.json", "adapter_model.safetensors"}
    files = {path.relative_to(made.folder).as_posix() for path in made.folder.rglob("*")}
    assert files == weights | TOKENIZER | BESIDE
    for name in weights:
        assert (made.folder / name).read_bytes() == (adapter / name).read_bytes()
    template = (made.folder / "chat_template.jinja").read_bytes()
    assert template == (EMBEDDED_FOLDER / "chat_template.jinja").read_bytes()
    assert said_in_process(made.folder) == said_in_process(adapter)
    assert f"  vllm serve {base} --enable-lora --max-lora-rank 8" in made.text
    assert "transformers serve" not in made.text
    assert "library_name: peft" in (made.folder / "README.md").read_text(encoding="utf-8")


def test_a_training_template_beside_the_adapter_is_not_shipped(
    adapter: Path, tmp_path: Path, tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = Path(shutil.copytree(adapter, tmp_path / "ppo"))
    training = ChatTemplate(tokenizer)._template
    (copied / "chat_template.jinja").write_text(training, encoding="utf-8")
    made = exported(copied, tmp_path / "out", "--form", "adapter", capsys=capsys)
    template = (made.folder / "chat_template.jinja").read_bytes()
    assert template == (EMBEDDED_FOLDER / "chat_template.jinja").read_bytes()


def test_a_former_export_is_replaced_as_a_whole(
    merged: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(merged.adapter, merged.folder, "--form", "adapter", capsys=capsys)
    assert not (merged.folder / "model.safetensors").exists()
    assert (merged.folder / "adapter_model.safetensors").exists()
    assert [path.name for path in merged.folder.parent.iterdir()] == ["merged"]


# --- what is refused ----------------------------------------------------------------------------


def refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Assert that a command ends with one clear line and leaves nothing behind."""
    assert main(arguments) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("error: ")
    assert message in told
    out = Path(arguments[arguments.index("--output_dir") + 1])
    assert not out.exists()
    assert not list(out.parent.glob(f".{out.name}*"))


def test_a_missing_adapter_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--adapter", str(tmp_path / "no"), "--output_dir", str(tmp_path / "out")]
    refused(arguments, f"no adapter folder {tmp_path / 'no'}", capsys)


@pytest.mark.parametrize("form", ["adapter", "merged"])
@pytest.mark.parametrize(
    ("name", "kept", "message"),
    [
        ("adapter_model.safetensors", None, "has no adapter_model.safetensors"),
        ("adapter_config.json", None, "has no adapter_config.json"),
        ("adapter_model.safetensors", 900, "is damaged"),
        ("adapter_model.safetensors", 0, "is damaged"),
        ("adapter_config.json", 40, "is damaged"),
    ],
)
def test_half_an_adapter_is_refused(
    adapter: Path,
    tmp_path: Path,
    form: str,
    name: str,
    kept: int | None,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copied = Path(shutil.copytree(adapter, tmp_path / "ppo"))
    content = (copied / name).read_bytes()
    (copied / name).unlink() if kept is None else (copied / name).write_bytes(content[:kept])
    place = ["--adapter", str(copied), "--output_dir", str(tmp_path / "out")]
    refused([*place, "--form", form], message, capsys)


def test_an_adapter_of_another_kind_is_refused(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = Path(shutil.copytree(adapter, tmp_path / "ppo"))
    save_file({"prompt_embeddings": torch.zeros(2, 2)}, copied / "adapter_model.safetensors")
    place = ["--adapter", str(copied), "--output_dir", str(tmp_path / "out")]
    refused(place, "only LoRA adapters are exported", capsys)


def test_an_unknown_precision_in_the_recipe_is_refused(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = Path(shutil.copytree(adapter, tmp_path / "ppo"))
    (copied / "recipe.yaml").write_text("precision: int3\n", encoding="utf-8")
    place = ["--adapter", str(copied), "--output_dir", str(tmp_path / "out")]
    refused(place, "names no known precision: int3", capsys)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tasks", "stater"], 'did you mean "starter"?'),
        (["--run_dir", "no/such/run"], "no run no/such/run"),
        (["--push", "nobody"], '--push takes OWNER/NAME, not "nobody"'),
    ],
)
def test_flags_that_name_nothing_are_refused(
    command: list[str], flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused([*command, *flags], message, capsys)


def test_without_a_token_nothing_is_written(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sft.hub.get_token", lambda: None)
    refused([*command, "--push", "me/model"], "no token of the hub: run `hf auth login`", capsys)


@pytest.mark.parametrize("form", ["adapter", "merged"])
def test_what_does_not_fit_on_the_disk_is_not_begun(
    command: list[str],
    form: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    usage = shutil.disk_usage("/")._replace(free=5_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage)
    refused([*command, "--form", form], "the export needs 0.06 GB and", capsys)


def test_a_disk_that_fills_up_leaves_the_former_export_as_it_was(
    merged: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in merged.folder.iterdir()}

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sft.export, "write_card", full)
    place = ["--adapter", str(merged.adapter), "--output_dir", str(merged.folder)]
    assert main([*place, "--form", "adapter"]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in merged.folder.iterdir()} == before
    assert [path.name for path in merged.folder.parent.iterdir()] == ["merged"]


def test_no_prompts_at_all_are_refused(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*command[:-1], "0"])
    assert "--prompts must be at least 1" in capsys.readouterr().err
