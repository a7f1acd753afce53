"""What a step of GRPO costs: our rollout and update beside the usual forms of both.

    python benchmarks/grpo_step.py
    python benchmarks/grpo_step.py --json runs/grpo_step.json

The embedded policy plays groups of training tasks of the starter family. In the same run, in turn:

    rollout    ours: a kept cache, prompts kept once, batches side by side
               peer: transformers' `generate` for every turn, on the whole conversation of each row
    update     ours: one packed row, each prompt once, sampled tokens only, adapter folded
               peer: every row with its own copy of the prompt, padded, 16 rows at a time

Both sides of the update get the same episodes, all of them with an advantage, and their gradients
are compared before anything is measured. Keys of the JSON: `rollout_ratio`, `update_ratio` (peer's
seconds by ours, medians of the rounds, with the smallest and largest) and the seconds themselves.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from agents.engine import GeneratedTurn, Opening, SamplingConfig
from agents.merged import folded_adapter
from agents.models import add_adapter, load_model, load_tokenizer
from agents.players import LanguagePlayer
from agents.rollout import Trajectory, rollout
from agents.shared_prompt import completion_log_probs
from envs.tasks.load import load_tasks
from rewards.episode import Task

SAMPLING = SamplingConfig(temperature=0.8, max_turn_tokens=48, seed=0)
MAX_TURNS = 4
MICRO_BATCH = 16
"""Rows that the peer's update computes at once; larger ones were slower here."""


class GeneratePerTurn:
    """The usual engine: `generate` on the whole conversation of every row, padded on the left."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.contexts: list[list[int]] = []

    def start(self, prompts: Sequence[Sequence[int]]) -> None:
        """Begin conversations."""
        self.contexts = [list(prompt) for prompt in prompts]

    def extend(self, rows: Sequence[int], ids: Sequence[Sequence[int]]) -> None:
        """Keep some rows and append to them."""
        self.contexts = [[*self.contexts[row], *new] for row, new in zip(rows, ids, strict=True)]

    def generate(self, openings: Sequence[Opening | None] = ()) -> list[GeneratedTurn]:
        """Sample a turn for every row; nothing is held in this benchmark."""
        pad, width = self.tokenizer.pad_token_id, max(map(len, self.contexts))
        ids = torch.tensor([[*[pad] * (width - len(c)), *c] for c in self.contexts])
        real = torch.tensor([[*[0] * (width - len(c)), *[1] * len(c)] for c in self.contexts])
        with torch.no_grad():
            output = self.model.generate(
                ids,
                attention_mask=real,
                do_sample=True,
                temperature=SAMPLING.temperature,
                top_k=0,
                max_new_tokens=SAMPLING.max_turn_tokens,
                pad_token_id=pad,
                eos_token_id=self.tokenizer.eos_token_id,
            )
        turns = []
        for context, row in zip(self.contexts, output[:, width:].tolist(), strict=True):
            end = self.tokenizer.eos_token_id
            said = row[: row.index(end) + 1] if end in row else row
            turns.append(GeneratedTurn(said, [0.0] * len(said)))
            context += said
        return turns


def repeated_log_probs(model: Any, played: Sequence[Trajectory]) -> Iterator[torch.Tensor]:
    """Yield sums of the sampled tokens' log-probabilities, every row with its own prompt."""
    for start in range(0, len(played), MICRO_BATCH):
        some = played[start : start + MICRO_BATCH]
        rows = [[*one.prompt_ids, *one.completion_ids] for one in some]
        width = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
        real = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        kept = width - min(len(one.prompt_ids) for one in some) + 1
        logits = model(ids, attention_mask=real, logits_to_keep=kept).logits
        total = torch.zeros(())
        for row, one in enumerate(some):
            first = len(one.prompt_ids) - 1 - (width - kept)
            scores = logits[row, first : first + len(one.completion_ids)] / SAMPLING.temperature
            said = torch.tensor(one.mask).bool()
            chosen = torch.tensor(one.completion_ids)[said, None]
            total = total + scores[said].log_softmax(-1).gather(-1, chosen).sum()
        yield total


def packed_log_probs(model: Any, played: Sequence[Trajectory]) -> Iterator[torch.Tensor]:
    """Yield the same sum by the way the trainer takes."""
    wanted = torch.zeros(len(played), max(len(p.mask) for p in played), dtype=torch.bool)
    for row, one in enumerate(played):
        wanted[row, : len(one.mask)] = torch.tensor(one.mask).bool()
    with folded_adapter(model):
        found, _ = completion_log_probs(
            model,
            [one.prompt_ids for one in played],
            [one.completion_ids for one in played],
            SAMPLING.temperature,
            wanted,
        )
    yield found.sum()


def gradient(
    model: Any, parts: Callable[[Any, Any], Iterator[torch.Tensor]], played: Any
) -> torch.Tensor:
    """Return the gradient of a sum of log-probabilities for all trained parameters."""
    model.zero_grad()
    for part in parts(model, played):
        part.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def play(model: Any, tokenizer: Any, tasks: Sequence[Task], workers: int, seed: int) -> Any:
    """Play the tasks as the trainer does."""
    player = LanguagePlayer(model, tokenizer, replace(SAMPLING, seed=seed))
    share = -(-len(tasks) // workers)
    return rollout(player, tasks, max_turns=MAX_TURNS, batch_size=share, workers=workers)


def play_usual(model: Any, tokenizer: Any, tasks: Sequence[Task]) -> Any:
    """Play the tasks with `generate` for every turn."""
    player = LanguagePlayer(model, tokenizer, SAMPLING)
    player._conversations = GeneratePerTurn(model, tokenizer)  # type: ignore[assignment]
    return rollout(player, tasks, max_turns=MAX_TURNS, batch_size=len(tasks))


def policy(adapter: str | None) -> Any:
    """Return the embedded policy with a trainable adapter."""
    if adapter:
        return load_model("embedded", adapter=adapter, trainable=True)
    return add_adapter(load_model("embedded"), rank=16, alpha=32, seed=0)


def measure(flags: argparse.Namespace) -> dict[str, Any]:
    """Measure all four in turn, round by round."""
    torch.set_num_threads(flags.threads)
    model, tokenizer = policy(flags.adapter), load_tokenizer("embedded")
    chosen = load_tasks("starter", "train")[: flags.groups]
    tasks = [task for task in chosen for _ in range(flags.group_size)]
    played = play(model, tokenizer, tasks, flags.threads, seed=0)
    mine, theirs = (gradient(model, f, played) for f in (packed_log_probs, repeated_log_probs))
    error = float((mine - theirs).norm() / theirs.norm())
    if error > 1e-3:
        raise SystemExit(f"the two gradients differ by {error:.2g} of their size")
    works: dict[str, Callable[[], object]] = {
        "rollout": lambda: play(model, tokenizer, tasks, flags.threads, seed=0),
        "rollout_peer": lambda: play_usual(model, tokenizer, tasks),
        "update": lambda: gradient(model, packed_log_probs, played),
        "update_peer": lambda: gradient(model, repeated_log_probs, played),
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(flags.rounds + 1):
        for name, work in works.items():
            spent = seconds(work)
            if number:  # the first round warms up
                times[name].append(spent)
    result: dict[str, Any] = {"episodes": len(tasks), "gradient_error": error, "seconds": times}
    for name in ("rollout", "update"):
        ratios = [p / o for p, o in zip(times[f"{name}_peer"], times[name], strict=True)]
        result[f"{name}_ratio"] = statistics.median(ratios)
        result[f"{name}_ratio_range"] = [min(ratios), max(ratios)]
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--adapter", help="Adapter of a warm start; a fresh one by default.")
    parser.add_argument("--groups", type=int, default=48, help="Tasks of a step.")
    parser.add_argument("--group_size", type=int, default=4, help="Episodes of each task.")
    parser.add_argument("--rounds", type=int, default=5, help="Measured rounds.")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads.")
    parser.add_argument("--json", type=Path, help="Write the figures here.")
    flags = parser.parse_args(arguments)
    result = measure(flags)
    out = sys.stdout
    out.write(f"{result['episodes']} episodes a step, {flags.rounds} rounds\n")
    for name in ("rollout", "update"):
        ours, peer = (statistics.median(result["seconds"][n]) for n in (name, f"{name}_peer"))
        low, high = result[f"{name}_ratio_range"]
        out.write(
            f"{name:8} ours {ours:6.2f} s, usual form {peer:6.2f} s, ratio "
            f"{result[f'{name}_ratio']:.2f} ({low:.2f} to {high:.2f})\n"
        )
    if flags.json:
        flags.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
