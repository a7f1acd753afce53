"""Will it fit? `python -m rl.preflight --config configs/NAME.yaml`.

Estimates how much memory a run of sft.train, rl.grpo or rl.ppo needs at its peak, before anything
is loaded: only the model's `config.json` is read. Compares it with the device and, if it does not
fit, names the first change that does. Exit code 0: fits, 1: does not, 2: a mistake in the flags.

A run has moments that each could be its peak; the peak is the largest of them:

    load        the weights, and one matrix more while it is quantised
    evaluation  the test tasks, each with a prompt of its own, side by side
    prompts     a rollout begins: all distinct prompts go through the model
    turns       its later turns: the longest observations go through the model
    scoring     log-probabilities of a whole generation without gradients (KL term, PPO)
    logits      the update, end of the forward pass: everything saved, scores of the vocabulary
    layers      the update, backward pass through the last layer

What each holds is counted from the code that makes it; a formula stands in the docstring of the
function that computes it. Tests compare them with measured tensors on a CPU. NOT covered: vLLM,
several processes, full fine-tuning, decoders whose layers are not alike, fragmentation.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from agents.cli import fail, say
from agents.errors import AgentError
from rl.preflight.changes import COMMANDS, Preflight, Reader, first_that_fits
from rl.preflight.memory import GIB, MOMENTS, Parts, peak


def device_memory(memory_gib: float) -> tuple[str, int, bool]:
    """Return the name of the device, its free bytes, and whether it is a GPU.

    Args:
        memory_gib: Memory of a GPU to plan for; 0 for what this machine has.
    """
    if memory_gib:
        return f"a GPU of {memory_gib:g} GiB", int(memory_gib * GIB), True
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(), torch.cuda.mem_get_info()[0], True
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return "this machine's memory (no GPU)", free, False


def kind_of(config: str) -> str:
    """Return which command a config is for: its first line says it.

    Raises:
        ValueError: If it does not.
    """
    try:
        first = Path(config).read_text(encoding="utf-8").split("\n", 1)[0]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the config file {config}: {error}") from error
    for kind, (command, _) in COMMANDS.items():
        if re.search(rf"python -m {re.escape(command)}\b", first):
            return kind
    raise ValueError(
        f"the first line of {config} does not name its command, such as "
        f"`# python -m rl.grpo --config {config}`; add it, or pass --kind sft, grpo or ppo"
    )


def table(parts: Parts) -> list[str]:
    """Return the lines of a table: parts by moments, in GiB, with their sums."""
    moments = [name for name in MOMENTS if any(name in row for row in parts.values())]
    rows = [(name, [row.get(moment, 0) for moment in moments]) for name, row in parts.items()]
    rows.append(("sum", [sum(row[1][i] for row in rows) for i in range(len(moments))]))
    width = max(len(name) for name, _ in rows)
    lines = [f"{'GiB':{width}}" + "".join(f"{moment:>11}" for moment in moments)]
    for name, sizes in rows:
        cells = "".join(f"{size / GIB:11.2f}" if size else f"{'-':>11}" for size in sizes)
        lines.append(f"{name:{width}}{cells}")
    return lines


def arguments_of(given: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Read the flags of this command; those of the run are left over."""
    parser = argparse.ArgumentParser(
        prog="python -m rl.preflight",
        description="Will it fit? Estimates the memory of a training run at its peak before "
        "anything is loaded (of the model only config.json is read), compares it with the device, "
        "and names the first change that fits if it does not.",
        epilog="Every flag of the run itself may follow (--num_generations 4, --load_in_4bit true) "
        "and wins over the config. "
        "Exit code: 0 it fits, 1 it does not, 2 a mistake in the flags. "
        "Example: python -m rl.preflight --config configs/qwen3-1.7b-t4-grpo.yaml --memory_gib 15",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="YAML file of the run.")
    parser.add_argument(
        "--tokens_per_prompt",
        type=int,
        default=0,
        help="Tokens of a prompt with its tools (30 tools: about 4096, the default; less where "
        "--max_length_tokens is shorter).",
    )
    parser.add_argument(
        "--memory_gib",
        type=float,
        default=0.0,
        help="Plan for a GPU with so much memory (a T4: 14.5); by default for what is free on this "
        "machine's GPU or, without one, in its memory.",
    )
    parser.add_argument(
        "--model_config",
        default="",
        help="config.json of the model, or its folder, where it cannot be fetched. "
        "Qwen3-0.6B, -1.7B and -4B are known.",
    )
    parser.add_argument(
        "--kind",
        choices=[*COMMANDS],
        help="Which command it is for; by default the config's first line says it.",
    )
    parser.add_argument("--json", default="", help="Also write the estimate to this file.")
    mine, rest = parser.parse_known_args(given)
    if mine.tokens_per_prompt < 0 or mine.memory_gib < 0:
        parser.error("--tokens_per_prompt and --memory_gib must not be negative")
    return mine, ["--config", mine.config, *rest]


def main(given: Sequence[str] | None = None) -> int:
    """Estimate, compare, propose; return the exit code."""
    mine, arguments = arguments_of(given)
    try:
        kind = mine.kind or kind_of(mine.config)
        device, memory, is_gpu = device_memory(mine.memory_gib)
        reader = Reader(kind, arguments, mine.tokens_per_prompt, is_gpu, mine.model_config)
        run = reader.read({})
    except (AgentError, ValueError) as error:
        return fail(error)
    moment, most = peak(run.parts)
    fits = most <= memory
    change = None if fits else first_that_fits(reader, memory)
    _report(run, device, memory)
    command = f"python -m {COMMANDS[kind][0]} {' '.join(arguments)}"
    if fits:
        say(f"it fits. next: {command}")
    elif change is None:
        say("it does not fit, whatever is changed: take a smaller model or a larger device")
    else:
        flags = " ".join(f"--{name} {value}" for name, value in change.items())
        say(f"it does not fit. The first change that does ({_gib(reader.read(change).peak())}):")
        if "tokens_per_prompt" in change:
            say("  (tokens_per_prompt is no flag of the run: offer fewer tools)")
        say(f"next: python -m rl.preflight {' '.join(_again(mine, arguments))} {flags}")
    if mine.json:
        result = {
            "kind": kind,
            "plan": asdict(run.plan),
            "parts": run.parts,
            "moment": moment,
            "peak": most,
            "memory": memory,
            "fits": fits,
            "change": change,
        }
        Path(mine.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if fits else 1


def _report(run: Preflight, device: str, memory: int) -> None:
    plan = run.plan
    say(
        f"{COMMANDS[plan.kind][0]}: prompts of {plan.prompt} tokens, completions of up to "
        f"{plan.completion} ({plan.sampled} sampled), {plan.turns} turns"
        + (f", {plan.rows} episodes in groups of {plan.group}" if plan.rows else "")
        + f", {plan.micro} at once in the update"
    )
    say()
    for line in table(run.parts):
        say(line)
    say()
    moment, most = peak(run.parts)
    say(f"peak: {_gib(most)} ({moment}); {device}: {_gib(memory)}")


def _again(mine: argparse.Namespace, arguments: Sequence[str]) -> Iterator[str]:
    """Yield the flags of this command as they were given."""
    yield from arguments
    for name in ("tokens_per_prompt", "memory_gib", "model_config", "kind"):
        value = getattr(mine, name)
        if value:
            yield from (f"--{name}", f"{value:g}" if isinstance(value, float) else str(value))


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"


if __name__ == "__main__":
    sys.exit(main())
