"""What a decoded token costs: our engine, with CUDA graphs and without, beside `generate`.

    python benchmarks/decoding.py           a small model on the CPU (without graphs)
    python benchmarks/decoding.py --gpu     a model of the shape of Qwen3-1.7B in NF4 on the GPU

Conversations that share a prompt sample two turns, hear an observation between them, and are forced
to the full length of both. The prompt has been read before the clock starts, except by `generate`
of transformers, the peer: it is given the whole conversation for each turn and reads it again,
which is timed beforehand and taken off, so that tokens are compared with tokens. Random weights,
LoRA on all linear layers, in turns, medians over the rounds.

The bound: weights, head, and the keys and values of the context are read once for each token, at
the speed at which this device moves bytes when it copies a gigabyte. The share of the bandwidth is
the bound by what was measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from random_policy import Loading, device, large_on_gpu, model, now

from agents.engine import Conversations, SamplingConfig

NO_END = -1
"""No token ends a turn."""


def ours(policy: Any, prompt: list[int], flags: argparse.Namespace, graphs: bool) -> list[float]:
    """Return the seconds for each token of two turns of our engine."""
    config = SamplingConfig(
        temperature=1.0, max_turn_tokens=flags.tokens, max_length=10**6, cuda_graphs=graphs
    )
    engine = Conversations(policy, NO_END, 0, config)
    engine.start([prompt] * flags.rows)
    found = []
    for _ in range(2):
        started = now()
        engine.generate()
        found.append((now() - started) / flags.tokens)
        engine.extend(list(range(flags.rows)), [prompt[: flags.observation]] * flags.rows)
    return found


def theirs(policy: Any, prompt: list[int], flags: argparse.Namespace) -> list[float]:
    """Return the seconds for each token of transformers' `generate`, its prefill taken off."""
    ids = torch.tensor([prompt] * flags.rows, device=policy.device)
    found = []
    for tokens in (1, flags.tokens + 1):
        started = now()
        policy.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            pad_token_id=0,
        )
        found.append(now() - started)
    return [(found[1] - found[0]) / flags.tokens]


def bytes_of_a_token(policy: Any, flags: argparse.Namespace) -> int:
    """Return the bytes that one token of every row needs to read, half of the turns being said."""
    config = policy.config
    weights = sum(one.numel() * one.element_size() for one in policy.parameters())
    size = next(policy.parameters()).element_size()
    a_slot = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * size
    own = flags.rows * (flags.tokens + flags.observation // 2)
    return int(weights + a_slot * (flags.prompt + own))


def copied_per_second(on: torch.device) -> float:
    """Return the bytes that the device reads and writes in a second when it copies."""
    one = torch.ones(2**28, device=on)
    other = torch.empty_like(one)
    seconds = []
    for _ in range(5):
        started = now()
        other.copy_(one)
        seconds.append(now() - started)
    return 2 * one.numel() * one.element_size() / min(seconds)


def measure(loading: Loading, flags: argparse.Namespace) -> dict[str, Any]:
    """Measure all ways, print a table and return the figures."""
    torch.set_num_threads(flags.threads)
    policy = model(loading).eval()
    torch.manual_seed(0)
    prompt = torch.randint(10, 1000, (flags.prompt,)).tolist()
    ways: dict[str, Callable[[], list[float]]] = {
        "ours, CUDA graphs": lambda: ours(policy, prompt, flags, graphs=True),
        "ours": lambda: ours(policy, prompt, flags, graphs=False),
        "generate": lambda: theirs(policy, prompt, flags),
    }
    if loading.use_cpu:
        del ways["ours, CUDA graphs"]
    found: dict[str, list[float]] = {name: [] for name in ways}
    with torch.no_grad():
        for number in range(flags.rounds + 1):
            for name, way in ways.items():
                seconds = way()
                found[name] += seconds if number else []  # the first one warms up
    bound = bytes_of_a_token(policy, flags) / copied_per_second(policy.device)
    where = device(loading, flags.threads)
    write = sys.stdout.write
    write(
        f"{flags.rows} rows, prompt of {flags.prompt} tokens, turns of {flags.tokens}; "
        f"{where}, n={flags.rounds} rounds of two turns (`generate`: of one)\n\n"
        "| | ms for a token of all rows | times `generate` | share of the bandwidth |\n"
        "|---|---|---|---|\n"
    )
    peer = statistics.median(found["generate"])
    for name, seconds in found.items():
        middle = statistics.median(seconds)
        ms = [1e3 * one for one in (middle, min(seconds), max(seconds))]
        write(
            f"| {name} | {ms[0]:.1f} ({ms[1]:.1f} to {ms[2]:.1f}) | {peer / middle:.1f} | "
            f"{bound / middle:.0%} |\n"
        )
    return {
        "seconds_a_token": found,
        "bound": bound,
        "device": where,
        **vars(flags),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpu", action="store_true", help="on the GPU, by the size of Qwen3-1.7B")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=4096, help="its tokens")
    parser.add_argument("--tokens", type=int, default=128, help="of a turn")
    parser.add_argument("--observation", type=int, default=100, help="tokens heard between turns")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", default="", help="write the figures here")
    flags = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(large_on_gpu(folder) if flags.gpu else Loading(), flags)
    if flags.json:
        Path(flags.json).parent.mkdir(parents=True, exist_ok=True)
        Path(flags.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
