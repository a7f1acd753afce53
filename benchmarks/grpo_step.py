"""What a step of GRPO costs, beside TRL's own trainer with its `environment_factory`.

    python benchmarks/grpo_step.py
    python benchmarks/grpo_step.py --json runs/grpo_step.json
    python benchmarks/grpo_step.py --scaling        ours alone: how the cost grows
    python benchmarks/grpo_step.py --gpu            a Qwen3-1.7B in NF4 on the GPU

Both sides train a Qwen3 of 6 layers x 256 (vocabulary 4,000, random weights, LoRA on all linear
layers), on a GPU one of the shape of Qwen3-1.7B, for whole steps of `trainer.train()`: rollout,
update, optimizer. They see the same prompt, say and hear the same number of tokens, and reach the
same gradient (checked in every step); see `grpo_sides.py`. First TRL tries its settings (rows at
once, checkpointing) and takes the fastest; then both take steps in turn, each in a process of its
own. Memory is measured by one more step of each, in processes that give back at once what they
free: otherwise what an allocator keeps for later hides what is needed (a GPU's allocator counts
what is needed).

Keys of the JSON: `step_speedup`, `rollout_speedup`, `update_speedup` (TRL's seconds by ours) and
`memory_ratio` (ours by TRL's peak above the idle process) for the long prompt,
`short_prompt_speedup` for the short one: medians over the rounds; `rounds` has every figure.

The bounds: an update cannot gain more than (G (P + R)) / (P + G R), the tokens that go through the
model (P prompt, R completion, G episodes); a rollout cannot be faster than one prefill of the
prompt and the decoding of its tokens with all keys and values at hand, which is measured with
plain transformers.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from grpo_sides import Setting, Step, serve
from random_policy import device, large_on_gpu, model, now
from transformers import DynamicCache

STEP_S = 600.0
"""How long a step may take."""

GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": str(2**18)}
"""glibc gives blocks above this size (bytes) back to the system as soon as they are freed."""

TARGETS = {
    "step_speedup": 3.0,
    "rollout_speedup": 2.5,
    "update_speedup": 3.0,
    "memory_ratio": 0.6,
    "short_prompt_speedup": 1.0,
}
"""At least this; `memory_ratio`: at most."""

CLOSE = {"float32": 1e-3, "bfloat16": 0.1}
"""Most that the sides' gradients may differ in size: both round, in another order."""

TRIALS = {
    "ours": [{"checkpointing": True}],
    "trl": [{"micro_batch": rows} for rows in (1, 2, 4, 8)] + [{"checkpointing": True}],
}
"""What each side tries; TRL takes the fastest. Ours computes activations again, as its recipes for
a small GPU do: that costs a fifth of a step and saves three quarters of the memory."""

TRIALS_ON_GPU = {
    "ours": [{"checkpointing": True}],
    "trl": [{"micro_batch": rows, "checkpointing": True} for rows in (8, 2)],
}
"""The same on a GPU, where a small one has no room for all activations of any side."""


class Side:
    """A trainer in a process of its own.

    Args:
        setting: What it does.
        environment: Added to the environment of the process.
    """

    def __init__(self, setting: Setting, environment: Mapping[str, str]) -> None:
        os.environ.update(environment)  # the C library of the new process reads it when it starts
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self.setting = setting
        self._process = context.Process(target=serve, args=(theirs, setting), daemon=True)
        self._process.start()
        for name in environment:
            del os.environ[name]
        theirs.close()
        self._receive()

    def step(self) -> Step:
        """Take one step."""
        self._connection.send("step")
        step = self._receive()
        assert isinstance(step, Step)
        return step

    def _receive(self) -> Step | None:
        connection: Connection = self._connection
        try:
            if connection.poll(STEP_S):
                found: Step | None = connection.recv()
                return found
        except EOFError:
            pass
        raise SystemExit(f"{self.setting.side} ended or took over {STEP_S:.0f} s for a step")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


@contextmanager
def side(setting: Setting, environment: Mapping[str, str] = MappingProxyType({})) -> Iterator[Side]:
    """Give a side, ended at the end."""
    one = Side(setting, environment)
    try:
        yield one
    finally:
        one.close()


def fastest(setting: Setting, trials: Sequence[dict[str, Any]]) -> Setting:
    """Return the setting of a side whose first step is fastest; print all that were tried."""
    if len(trials) == 1:
        return replace(setting, **trials[0])
    found = []
    for trial in trials:
        chosen = replace(setting, **trial)
        with side(chosen) as one:
            step = one.step()
        found.append((step.seconds, len(found), chosen))
        memory = step.memory / 2**20
        sys.stdout.write(
            f"{chosen.side}: {chosen.describe()}: {step.seconds:.2f} s, {memory:.0f} MiB\n"
        )
        sys.stdout.flush()
    return min(found)[2]


def rounds(settings: Sequence[Setting], count: int) -> list[list[Step]]:
    """Return the steps of `count` rounds in which the sides take turns, after one to warm up."""
    with ExitStack() as opened:
        sides = [opened.enter_context(side(setting)) for setting in settings]
        found = [[one.step() for one in sides] for _ in range(count + 1)]
    for steps in found:
        first = steps[0]
        for other in steps[1:]:
            if first.digest != other.digest:
                raise SystemExit(f"the sides do not have the same tokens: {first}, {other}")
            if abs(first.grad_norm / other.grad_norm - 1) > CLOSE[settings[0].loading.precision]:
                raise SystemExit(f"the sides do not have the same gradient: {first}, {other}")
    return found[1:]


def peak(setting: Setting) -> float:
    """Return the peak of a step above the idle process in MiB, without what the C library keeps."""
    with side(setting, GIVE_BACK) as one:
        return one.step().memory / 2**20


def speedups(found: Sequence[Sequence[Step]], part: str) -> list[float]:
    """Return the second side's seconds by the first's, round by round."""
    return [getattr(theirs, part) / getattr(ours, part) for ours, theirs in found]


def decoding_bound(setting: Setting, prompt_tokens: int) -> float:
    """Return the seconds of one prefill and of the decoding of all turns, by plain transformers."""
    torch.set_num_threads(setting.threads)
    policy = model(setting.loading)
    if not setting.loading.load_in_4bit:
        policy = policy.merge_and_unload()
    policy.eval()
    prompt = torch.randint(10, 1000, (1, prompt_tokens), device=policy.device)
    with torch.no_grad():
        started = now()
        cache = DynamicCache(config=policy.config)
        policy(prompt, past_key_values=cache, logits_to_keep=1)
        cache.batch_repeat_interleave(setting.group)
        tokens = torch.full((setting.group, 1), 7, device=policy.device)
        for _ in range(setting.turns * setting.turn_tokens):
            logits = policy(tokens, past_key_values=cache, logits_to_keep=1).logits[:, -1]
            tokens = torch.multinomial(logits.softmax(-1), 1)
        return now() - started


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Return a median with the smallest and largest."""
    middle = statistics.median(values)
    return f"{middle:{form}} ({min(values):{form}} to {max(values):{form}})"


def compare(setting: Setting, flags: argparse.Namespace) -> dict[str, Any]:
    """Compare both sides at one prompt; print the tables and return the figures."""
    trials = TRIALS if setting.loading.use_cpu else TRIALS_ON_GPU
    chosen = [
        fastest(replace(setting, side=name), trials[name][: flags.trials or None])
        for name in ("ours", "trl")
    ]
    found = rounds(chosen, flags.rounds)
    first = found[0][0]
    group, prompt, completion = setting.group, first.prompt_tokens, first.completion_tokens
    bound = group * (prompt + completion) / (prompt + group * completion)
    decoding = statistics.median(decoding_bound(setting, prompt) for _ in range(flags.rounds))
    ratios = {part: speedups(found, part) for part in ("seconds", "rollout", "update")}
    peaks = [
        peak(one) if one.loading.use_cpu else max(steps[i].memory for steps in found) / 2**20
        for i, one in enumerate(chosen)
    ]
    reached = {
        "update": statistics.median(ratios["update"]) / bound,
        "rollout": decoding / statistics.median(ours.rollout for ours, _ in found),
    }
    where = device(setting.loading, setting.threads)
    write = sys.stdout.write
    write(
        f"\nprompt {prompt} tokens ({setting.tools} tools), {group} episodes of {setting.turns} "
        f"turns, {completion} tokens each; {where}, n={flags.rounds} rounds\n"
        + "".join(f"{one.side}: {one.describe()}\n" for one in chosen)
        + "\n| | ours, s | TRL, s | times as fast |\n|---|---|---|---|\n"
    )
    for part, name in (("seconds", "step"), ("rollout", "rollout"), ("update", "update")):
        both = [spread([getattr(pair[i], part) for pair in found]) for i in (0, 1)]
        write(f"| {name} | {both[0]} | {both[1]} | {spread(ratios[part])} |\n")
    write(
        f"| peak above idle, MiB | {peaks[0]:.0f} | {peaks[1]:.0f} | "
        f"ratio {peaks[0] / peaks[1]:.2f} |\n\n"
    )
    write(
        f"update: at most {bound:.2f} times as fast by tokens; {reached['update']:.0%} of it\n"
        f"rollout: one prefill and decoding take {decoding:.2f} s; {reached['rollout']:.0%} of "
        "that speed\n\n"
    )
    return {
        "settings": [asdict(one) for one in chosen],
        "step_speedup": statistics.median(ratios["seconds"]),
        "rollout_speedup": statistics.median(ratios["rollout"]),
        "update_speedup": statistics.median(ratios["update"]),
        "memory_ratio": peaks[0] / peaks[1],
        "peaks_mib": peaks,
        "bound_reached": reached,
        "rounds": [[asdict(one) for one in pair] for pair in found],
    }


SCALES = {"tools": (5, 15, 30, 60), "turns": (1, 2, 4, 8), "group": (2, 4, 8, 16, 32)}


def scaling(setting: Setting, count: int) -> list[dict[str, Any]]:
    """Print how a step of ours grows with each of tools, turns and group; return the figures."""
    found = []
    sys.stdout.write(
        "| tools | turns | group | tokens of a step | step, s | ms per 1,000 tokens | peak, MiB |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    for name, values in SCALES.items():
        for value in values:
            chosen = replace(setting, checkpointing=True, **{name: value})
            with side(chosen) as one:
                steps = [one.step() for _ in range(count + 1)][1:]
            first = steps[0]
            tokens = first.prompt_tokens + chosen.group * first.completion_tokens
            seconds = statistics.median(step.seconds for step in steps)
            memory = peak(chosen)
            sys.stdout.write(
                f"| {chosen.tools} | {chosen.turns} | {chosen.group} | {tokens} | "
                f"{spread([step.seconds for step in steps])} | {1e6 * seconds / tokens:.0f} | "
                f"{memory:.0f} |\n"
            )
            sys.stdout.flush()
            found.append(
                {
                    **asdict(chosen),
                    "tokens": tokens,
                    "peak_mib": memory,
                    "steps": [asdict(step) for step in steps],
                }
            )
    sys.stdout.write("\n" + "\n".join(growth(found)) + "\n")
    return found


def growth(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return, for each of `SCALES`, the straight line through its figures and how well it fits."""
    lines = []
    rest = list(found)
    for name, values in SCALES.items():
        part, rest = rest[: len(values)], rest[len(values) :]
        given = [float(one[name]) for one in part]
        seconds = [statistics.median(step["seconds"] for step in one["steps"]) for one in part]
        each, fit = line(given, seconds)
        more, fit_of_memory = line(given, [one["peak_mib"] for one in part])
        lines.append(
            f"by {name}: {each:.2f} s each (R2 {fit:.3f}), {more:.1f} MiB each "
            f"(R2 {fit_of_memory:.3f})"
        )
    return lines


def line(given: Sequence[float], found: Sequence[float]) -> tuple[float, float]:
    """Return the slope of the least-squares line and the share of the variance it explains."""
    slope = statistics.linear_regression(given, found).slope
    return slope, statistics.correlation(given, found) ** 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tools", type=int, default=30)
    parser.add_argument("--short_tools", type=int, default=5, help="0: leave the short prompt out")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--turn_tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=0, help="settings tried; 0: all")
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--gpu", action="store_true", help="on the GPU, by the size of Qwen3-1.7B")
    parser.add_argument("--no_cuda_graphs", action="store_true", help="ours decodes without them")
    parser.add_argument("--json", type=Path, help="write the figures here")
    flags = parser.parse_args(arguments)
    setting = Setting(
        "ours",
        flags.tools,
        flags.turns,
        flags.group,
        flags.turn_tokens,
        threads=flags.threads,
        cuda_graphs=not flags.no_cuda_graphs,
    )
    with tempfile.TemporaryDirectory() as folder:
        if flags.gpu:
            setting = replace(setting, loading=large_on_gpu(folder))
        figures = measure(setting, flags)
    if flags.json:
        flags.json.parent.mkdir(parents=True, exist_ok=True)
        flags.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure(setting: Setting, flags: argparse.Namespace) -> dict[str, Any]:
    """Measure what the flags say, and print it; return the figures."""
    figures: dict[str, Any]
    if flags.scaling:
        figures = {"scaling": scaling(setting, flags.rounds)}
    else:
        figures = compare(setting, flags)
        if flags.short_tools:
            short = compare(replace(setting, tools=flags.short_tools, arguments=1), flags)
            figures |= {"short_prompt_speedup": short["step_speedup"], "short_prompt": short}
        for name, target in TARGETS.items():
            if name in figures:
                met = (figures[name] <= target) == (name == "memory_ratio")
                sys.stdout.write(
                    f"{name} {figures[name]:.2f}, target {target}: {'met' if met else 'not met'}\n"
                )
    return figures


if __name__ == "__main__":
    main()
