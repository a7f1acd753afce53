"""Ship a trained policy: `python -m sft.export`.

    python -m sft.export --adapter runs/grpo --output_dir shipped                 merged, float32
    python -m sft.export --adapter runs/grpo --output_dir shipped --form adapter

Writes OUTPUT_DIR whole or not at all:

    model.safetensors, config.json, generation_config.json    merged: base and adapter in one
    adapter_model.safetensors, adapter_config.json            adapter: as it was trained
    tokenizer.json, ..., chat_template.jinja                  the tokenizer with its own template
    rollout_template.jinja, chat_template_kwargs.json         how rollouts render (`serving.py`)
    README.md                                                 the card, made from the run
    export.json                                               what was exported, and from what

Merged weights are loaded again from the folder and compared with the adapter on prompts of the
run's tasks. What belongs to training stays behind: PPO's value head, the frozen reference,
checkpoints, logs.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError, safe_open

from agents.cli import fail, parse_flags, run, say
from agents.errors import ModelFileError
from agents.models import (
    ADAPTER_FILES,
    EMBEDDED,
    Precision,
    base_of_adapter,
    check_adapter,
    load_tokenizer,
    resolve,
)
from envs.tasks.load import load_tasks
from rewards.episode import Task
from sft.export_folder import ExportError, check_space, check_target, mark, push, whole_folder
from sft.hub import HubError, hub_api
from sft.merge import Agreement, Trained, agreement, first_turns, generation_config, merged_model
from sft.model_card import Shipped, write_card
from sft.recipe import Recipe, read_recipe
from sft.run_record import Run, read_run
from sft.serving import response_template, serve_adapter, serve_merged, write_template_options

PROGRAM = "python -m sft.export"

DESCRIPTION = (
    "Ship a trained adapter, as it is or merged into its base, with tokenizer, generation config "
    "and a model card made from the run; to a folder and, with --push, the hub. Prints the "
    "commands that serve it."
)

SIDE_FILES = 64_000_000
"""Bytes that tokenizer, card and the like may take."""


@dataclass(frozen=True)
class ExportFlags:
    """Flags of `python -m sft.export`."""

    output_dir: str = field(metadata={"help": "Folder to write; a former export is replaced."})
    adapter: str = field(
        default="runs/grpo", metadata={"help": "Adapter folder of sft.train, rl.grpo or rl.ppo."}
    )
    form: Literal["adapter", "merged"] = field(
        default="merged", metadata={"help": "The adapter alone, or merged into its base."}
    )
    precision: Literal["float32", "float16", "bfloat16"] = field(
        default="float32", metadata={"help": "Type of the merged weights."}
    )
    do_sample: bool = field(
        default=False,
        metadata={
            "help": "Let `transformers serve` sample at the temperature of a request, so that "
            "traces can be collected; otherwise merged weights answer greedily, as was measured."
        },
    )
    load_in_4bit: bool | None = field(
        default=None,
        metadata={"help": "The base was in NF4 when it was trained (default: as the recipe says)."},
    )
    run_dir: str = field(
        default="",
        metadata={"help": "Run that the card is made from (default: the folder of the adapter)."},
    )
    licence: str = field(
        default="", metadata={"help": "Licence of what is shipped, by its id on the hub."}
    )
    tasks: str = field(
        default="",
        metadata={
            "help": "Tasks whose prompts merged weights are compared on: a suite or a JSONL file "
            "(default: those of the recipe, or starter)."
        },
    )
    servers: str = field(
        default="",
        metadata={"help": "Config file of their MCP servers (default: that of the recipe)."},
    )
    prompts: int = field(default=50, metadata={"help": "How many prompts."})
    push: str = field(
        default="", metadata={"help": "Upload to this model on the hub, NAME/MODEL, as well."}
    )

    def __post_init__(self) -> None:
        """Refuse to compare nothing, and what an adapter alone cannot say."""
        if self.prompts < 1:
            raise ValueError(f"--prompts must be at least 1, not {self.prompts}")
        if self.do_sample and self.form == "adapter":
            raise ValueError("--do_sample is for merged weights; an adapter decodes as its base")


def export(flags: ExportFlags) -> None:
    """Write the export and say how it is served.

    Raises:
        ExportError: If nothing was exported, or it did not reach the hub.
        HubError: If it cannot be put on the hub, said before anything is made.
        AgentError: If the adapter or its base cannot be loaded.
        EnvsError: If there are no such tasks or servers.
    """
    folder = Path(flags.output_dir).expanduser()
    check_target(folder)
    api = hub_api(flags.push, "--push") if flags.push else None
    if flags.run_dir and not Path(flags.run_dir).is_dir():
        raise ExportError(f"no run {flags.run_dir}; without --run_dir: the folder of the adapter")
    adapter = checked_adapter(flags.adapter)
    recipe = read_recipe(adapter)
    found = read_run(adapter, Path(flags.run_dir) if flags.run_dir else adapter.parent, recipe)
    if flags.form == "adapter":
        _export_adapter(flags, adapter, folder, found)
    else:
        _export_merged(flags, adapter, folder, found)
    say(f"wrote {folder}")
    if api:
        say(f"pushed to {push(folder, flags.push, api)} (a new model is private)")
    say("serve it with one of:")
    for command in serve_commands(flags, found, str(folder), resolve(base_of_adapter(adapter))):
        say(f"  {command}")


def checked_adapter(name: str) -> Path:
    """Return the folder of a whole LoRA adapter.

    Raises:
        ModelNotFoundError: If there is no such folder.
        ModelFileError: If a file is missing, damaged, or of another kind of adapter.
    """
    folder = Path(name).expanduser()
    check_adapter(folder)
    base_of_adapter(folder)
    weights = folder / ADAPTER_FILES[1]
    try:
        with safe_open(weights, "pt") as tensors:
            names = tensors.keys()
    except (OSError, SafetensorError) as error:
        raise ModelFileError(
            f"{weights} is damaged ({error}); it may be half written, train it again"
        ) from error
    if not any("lora_" in name for name in names):
        raise ModelFileError(f"{weights} holds no LoRA weights; only LoRA adapters are exported")
    return folder


def trained_policy(adapter: Path, recipe: Recipe, load_in_4bit: bool | None) -> Trained:
    """Return how an adapter's policy was trained, as far as its recipe says."""
    flags = recipe.flags
    in_4bit = bool(flags.get("load_in_4bit", False)) if load_in_4bit is None else load_in_4bit
    precision: Any = flags.get("precision", "float32")
    if precision not in get_args(Precision):
        raise ModelFileError(f"the recipe of {adapter} names no known precision: {precision}")
    tokens = int(flags.get("max_turn_tokens", Trained.max_turn_tokens))
    thinking = bool(flags.get("enable_thinking", False))
    return Trained(str(adapter), in_4bit, precision, tokens, thinking)


def prompt_tasks(flags: ExportFlags, recipe: Recipe) -> tuple[list[Task], str | None]:
    """Return the tasks that merged weights are compared on, and their servers."""
    source = flags.tasks or str(recipe.flags.get("tasks", "starter"))
    servers = flags.servers or ("" if flags.tasks else str(recipe.flags.get("servers", "")))
    tasks = load_tasks(source, mock=not servers)
    step = max(1.0, len(tasks) / flags.prompts)
    count = min(flags.prompts, len(tasks))
    return [tasks[int(place * step)] for place in range(count)], servers or None


def serve_commands(flags: ExportFlags, found: Run, folder: str, base: str) -> list[str]:
    """Return the commands that serve an export.

    Args:
        flags: What was exported.
        found: What is known of the adapter.
        folder: Where it lies.
        base: Where its base is found.
    """
    name = Path(flags.output_dir).name
    if flags.form == "merged":
        return serve_merged(folder, name, thinking=found.thinking)
    ranks = [found.lora.get("r") or 0, *(found.lora.get("rank_pattern") or {}).values()]
    return serve_adapter(folder, name, base, max(map(int, ranks)), thinking=found.thinking)


def _export_adapter(flags: ExportFlags, adapter: Path, folder: Path, found: Run) -> None:
    size = sum((adapter / name).stat().st_size for name in ADAPTER_FILES)
    check_space(folder, size + SIDE_FILES)
    tokenizer = load_tokenizer(base_of_adapter(adapter))
    with whole_folder(folder) as scratch:
        for name in ADAPTER_FILES:
            shutil.copyfile(adapter / name, scratch / name)
        _finish(scratch, flags, adapter, tokenizer, found, "An adapter (LoRA) to be put on it.")


def _export_merged(flags: ExportFlags, adapter: Path, folder: Path, found: Run) -> None:
    trained = trained_policy(adapter, found.recipe, flags.load_in_4bit)
    tasks, servers = prompt_tasks(flags, found.recipe)
    length = trained.max_turn_tokens
    said = first_turns(
        str(adapter),
        tasks,
        max_turn_tokens=length,
        precision=trained.precision,
        load_in_4bit=trained.load_in_4bit,
        thinking=trained.thinking,
        servers=servers,
    )
    tokenizer = load_tokenizer(base_of_adapter(adapter))
    model = merged_model(trained, getattr(torch, flags.precision))
    model.generation_config = generation_config(tokenizer, do_sample=flags.do_sample)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    check_space(folder, size + SIDE_FILES)
    with whole_folder(folder) as scratch:
        model.save_pretrained(scratch)
        del model
        tokenizer.save_pretrained(scratch)
        again = first_turns(
            str(scratch),
            tasks,
            max_turn_tokens=length,
            precision=flags.precision,
            thinking=trained.thinking,
            servers=servers,
        )
        agreed = agreement(said, again)
        weights = _weights(trained, flags.precision)
        say(f"{weights} Against the adapter: {agreed}")
        _finish(scratch, flags, adapter, tokenizer, found, weights, agreed)


def _weights(trained: Trained, precision: str) -> str:
    base = (
        "the base as it was trained on (NF4, dequantised)" if trained.load_in_4bit else "the base"
    )
    return f"The adapter is merged into {base}, in {precision}."


def _finish(
    scratch: Path,
    flags: ExportFlags,
    adapter: Path,
    tokenizer: Any,
    found: Run,
    weights: str,
    agreed: Agreement | None = None,
) -> None:
    """Write what goes with the weights: tokenizer, template options, card, marker."""
    tokenizer.response_template = response_template(tokenizer)
    tokenizer.save_pretrained(scratch)
    write_template_options(scratch, tokenizer, thinking=found.thinking)
    base = base_of_adapter(adapter)
    name = Path(flags.output_dir).name
    shipped = Shipped(
        name=flags.push or name,
        base=base,
        form=flags.form,
        weights=weights,
        licence=flags.licence or ("apache-2.0" if base == EMBEDDED else ""),
        serving=serve_commands(flags, found, name, Path(base).name if "/" not in base else base),
        checked=f"Greedily, {agreed}, against the adapter on its base." if agreed else "",
    )
    (scratch / "README.md").write_text(write_card(shipped, found), encoding="utf-8")
    facts = {"form": flags.form, "base": base, "stage": found.stage, "weights": weights}
    mark(scratch, {**facts, "agreement": asdict(agreed) if agreed else None})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    flags = parse_flags(ExportFlags, PROGRAM, DESCRIPTION, arguments)
    try:
        return run(export, [flags])
    except (ExportError, HubError) as error:
        return fail(error)


if __name__ == "__main__":
    sys.exit(main())
