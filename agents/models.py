"""Loading of policies: a folder, a hub id, an adapter, 4 bits; and the embedded policy.

A model is named by a folder, a hub id, or `embedded` (the tiny policy that ships with the
package). An adapter folder may stand in the place of a model: its configuration names the base.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from agents.engine import SamplingConfig
from agents.errors import AgentError, ModelFileError, ModelNotFoundError
from agents.players import LanguagePlayer

EMBEDDED = "embedded"
EMBEDDED_FOLDER = Path(__file__).parent / "embedded"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
# What the libraries below raise for files that are missing, cut off or not what they should be.
LOAD_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError, SafetensorError)

Precision = Literal["float32", "float16", "bfloat16", "auto"]


def resolve(name: str) -> str:
    """Return what transformers can load for `name`; `embedded` becomes the shipped folder."""
    if name == EMBEDDED:
        return str(EMBEDDED_FOLDER)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelNotFoundError(
            f"no folder {name}; give a model folder, an adapter folder, a hub id such as "
            "Qwen/Qwen3-1.7B, or 'embedded'"
        )
    return name


def is_adapter(name: str | Path) -> bool:
    """Return True if `name` is the folder of a peft adapter."""
    return (Path(name) / ADAPTER_FILES[0]).is_file()


def base_of_adapter(folder: str | Path) -> str:
    """Return the name of the model that an adapter was trained on."""
    check_adapter(folder)
    path = Path(folder) / ADAPTER_FILES[0]
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelFileError(f"{path} is damaged ({error}); train the adapter again") from error
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if not isinstance(base, str):
        raise ModelFileError(f"{path} does not name base_model_name_or_path; pass the base model")
    return base


def check_adapter(folder: str | Path) -> None:
    """Raise a clear error if an adapter folder is missing or incomplete."""
    if not Path(folder).is_dir():
        raise ModelNotFoundError(
            f"no adapter folder {folder}; make one with: python -m sft.train --output_dir {folder}"
        )
    for name in ADAPTER_FILES:
        if not (Path(folder) / name).is_file():
            raise ModelFileError(f"{folder} has no {name}; it is not a complete adapter folder")


def load_tokenizer(name: str) -> Any:
    """Return the tokenizer of a model (with a padding token)."""
    source = base_of_adapter(name) if is_adapter(name) else name
    try:
        tokenizer = AutoTokenizer.from_pretrained(resolve(source))
    except LOAD_ERRORS as error:
        raise _load_error(f"the tokenizer of {source}", source, error) from error
    if len(tokenizer) < 2:
        # Without its files, transformers makes an empty tokenizer of the model's type.
        raise ModelFileError(f"{source} has no tokenizer.json; copy the files of its tokenizer")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(
    name: str,
    *,
    adapter: str | None = None,
    load_in_4bit: bool = False,
    precision: Precision = "float32",
    trainable: bool = False,
    use_cpu: bool = False,
) -> Any:
    """Load a causal language model.

    Args:
        name: Folder, hub id or `embedded`; an adapter folder loads its base and the adapter.
        adapter: Adapter folder to put on the model.
        load_in_4bit: NF4 with double quantisation (bitsandbytes).
        precision: Compute type.
        trainable: Load the adapter for training. (Without it peft freezes it silently.)
        use_cpu: Keep weights in 4 bits on the CPU, also where there is a GPU.

    Raises:
        ModelNotFoundError: If there is nothing at the name.
        ModelFileError: If a file is missing or damaged.
    """
    if is_adapter(name):
        return load_model(
            base_of_adapter(name),
            adapter=name,
            load_in_4bit=load_in_4bit,
            precision=precision,
            trainable=trainable,
            use_cpu=use_cpu,
        )
    model = _load_base(name, load_in_4bit, precision, use_cpu)
    if adapter is None:
        return model
    check_adapter(adapter)
    try:
        with warnings.catch_warnings():
            # peft leaves tensors that are not in the file as they were drawn, and only warns.
            warnings.filterwarnings("error", message="Found missing adapter keys")
            return PeftModel.from_pretrained(model, adapter, is_trainable=trainable)
    except (*LOAD_ERRORS, UserWarning) as error:
        raise ModelFileError(
            f"cannot load the adapter {adapter} onto {name} ({type(error).__name__}: {error}); "
            "it is damaged or was trained on another model"
        ) from error


def add_adapter(model: Any, *, rank: int, alpha: int, seed: int) -> Any:
    """Put a fresh LoRA adapter on all linear layers of a model from `load_model`.

    Args:
        model: The base model.
        rank: Rank of the adapter.
        alpha: Its scale; what is added is `alpha / rank` times the product of its matrices.
        seed: Seed of its first values.
    """
    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        base_model_name_or_path=model.name_or_path,
    )
    return get_peft_model(model, config)


def _load_base(name: str, load_in_4bit: bool, precision: Precision, use_cpu: bool) -> Any:
    dtype = precision if precision == "auto" else getattr(torch, precision)
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": "sdpa"}
    if load_in_4bit:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32 if precision == "auto" else dtype,
        )
        if use_cpu:  # by default transformers puts them on the GPU, if there is one
            options["device_map"] = {"": "cpu"}
    try:
        model = AutoModelForCausalLM.from_pretrained(resolve(name), **options)
    except LOAD_ERRORS as error:
        raise _load_error(f"the model {name}", name, error) from error
    keep_quantized_weights_on_cpu(model)
    # Adapters remember their base by this name; the shipped policy is `embedded` on any machine.
    model.name_or_path = name
    model.config._name_or_path = name
    return model


def _load_error(what: str, name: str, error: Exception) -> AgentError:
    there = Path(resolve(name)).is_dir()
    kind: type[AgentError] = ModelFileError if there else ModelNotFoundError
    return kind(f"cannot load {what}: {error}")


def keep_quantized_weights_on_cpu(model: Any) -> None:
    """Stop bitsandbytes from repacking NF4 weights on CPUs with AVX512-BF16.

    The repacking happens at the first forward in eval mode, and gradients of adapters are wrong
    after it, with no more than a warning.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def load_player(
    name: str,
    *,
    adapter: str | None = None,
    load_in_4bit: bool = False,
    precision: Precision = "float32",
    config: SamplingConfig | None = None,
    thinking: bool = False,
    use_cpu: bool = False,
) -> LanguagePlayer:
    """Load a model and its tokenizer as a player, on the GPU if there is one (see `place`)."""
    model = load_model(
        name, adapter=adapter, load_in_4bit=load_in_4bit, precision=precision, use_cpu=use_cpu
    )
    place(model, use_cpu=use_cpu)
    label = Path(adapter or name).name
    sampling = config or SamplingConfig()
    return LanguagePlayer(model.eval(), load_tokenizer(name), sampling, label, thinking=thinking)


def place(model: Any, *, use_cpu: bool = False) -> None:
    """Put a model on the GPU, if there is one; a trainer does that with the model it trains.

    Weights in 4 bits stay where `load_model` put them.

    Args:
        model: A model from `load_model`.
        use_cpu: Leave it on the CPU.
    """
    if torch.cuda.is_available() and not use_cpu and not getattr(model, "is_loaded_in_4bit", False):
        model.to("cuda")


def cast_trainable_to_float32(model: Any) -> None:
    """Make every trained parameter float32.

    TRL casts adapters of quantised models to bfloat16; under float16 mixed precision (a T4) the
    gradient scaler then fails, and small updates are lost. Call it after the trainer is built.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
