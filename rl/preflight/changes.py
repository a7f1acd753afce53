"""What could be changed so that a run fits, in the order in which it is tried."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trl import GRPOConfig, SFTConfig

from agents.cli import parse_all_flags
from rl.flags import RolloutArguments
from rl.grpo import GroupArguments
from rl.ppo import PPOArguments
from rl.preflight.memory import Parts, estimate, peak
from rl.preflight.plan import Plan, packed, plan_of
from rl.preflight.shape import read_config, shape_of
from sft.flags import PolicyArguments, TaskArguments
from sft.train import WarmStartArguments

COMMANDS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "sft": ("sft.train", (PolicyArguments, TaskArguments, WarmStartArguments, SFTConfig)),
    "grpo": (
        "rl.grpo",
        (PolicyArguments, TaskArguments, RolloutArguments, GroupArguments, GRPOConfig),
    ),
    "ppo": (
        "rl.ppo",
        (PolicyArguments, TaskArguments, RolloutArguments, PPOArguments, GRPOConfig),
    ),
}

Step = dict[str, str]
"""Flags that change a run, without their dashes."""


@dataclass(frozen=True)
class Preflight:
    """An estimate and what it was made from.

    Attributes:
        given: The dataclasses of the run's command, filled.
        plan: What they come to.
        parts: What takes the memory (see `estimate`).
    """

    given: tuple[Any, ...]
    plan: Plan
    parts: Parts

    def peak(self) -> int:
        """Return the bytes at the peak."""
        return peak(self.parts)[1]


class Reader:
    """Reads a run's flags, with changes, and estimates it.

    Args:
        kind: sft, grpo or ppo.
        arguments: The command line of the run.
        prompt: Tokens of a prompt (0: see `plan_of`).
        on_gpu: Whether it is to run on a GPU; None where the flags decide.
        model_config: What to read in place of the model's own configuration.
    """

    def __init__(
        self, kind: str, arguments: Sequence[str], prompt: int, on_gpu: bool, model_config: str
    ) -> None:
        self.kind = kind
        self._arguments = list(arguments)
        self._prompt = prompt
        self._on_gpu = on_gpu
        given = self._given({})
        config = read_config(model_config or given[0].model_name_or_path)
        self._dtype, self._shape = getattr(config, "dtype", None), shape_of(config)

    def _given(self, changed: Step) -> tuple[Any, ...]:
        command, dataclasses = COMMANDS[self.kind]
        flags = [part for name, value in changed.items() for part in (f"--{name}", value)]
        return parse_all_flags(dataclasses, f"python -m {command}", "", [*self._arguments, *flags])

    def read(self, changed: Step) -> Preflight:
        """Return the estimate of the run with some flags changed."""
        changed = dict(changed)
        prompt = int(changed.pop("tokens_per_prompt", self._prompt))
        given = self._given(changed)
        on_gpu = self._on_gpu and not given[-1].use_cpu
        plan = plan_of(given, self.kind, prompt, on_gpu, self._dtype)
        return Preflight(given, plan, estimate(self._shape, plan))


def _halves(value: int, least: int = 1) -> Iterator[int]:
    """Yield the halves of a number, while they are whole multiples of the least."""
    while value % 2 == 0 and value // 2 >= least and (value // 2) % least == 0:
        value //= 2
        yield value


def _fewer_evaluated(run: Preflight) -> list[Step]:
    """Fewer test tasks side by side."""
    sizes = [2**power for power in range(10, -1, -1)]
    return [
        {"per_device_eval_batch_size": str(size)} for size in sizes if size < run.plan.evaluated
    ]


def _checkpointing(run: Preflight) -> list[Step]:
    return [] if run.plan.checkpointing else [{"activation_checkpointing": "true"}]


def _smaller_micro_batch(run: Preflight) -> list[Step]:
    """Less at once, and as much in all."""
    plan, config = run.plan, run.given[-1]
    if plan.kind != "sft":
        tokens = packed(plan, plan.batch, plan.group)
        return [
            {"tokens_per_forward": str(math.ceil(tokens * size / plan.batch))}
            for size in _halves(plan.batch)
            if size < plan.micro
        ]
    return [
        {
            "per_device_train_batch_size": str(size),
            "gradient_accumulation_steps": str(
                config.gradient_accumulation_steps * plan.micro // size
            ),
        }
        for size in _halves(plan.micro)
    ]


def _four_bits(run: Preflight) -> list[Step]:
    return [] if run.plan.load_in_4bit else [{"load_in_4bit": "true"}]


def _of_rows(run: Preflight, rows: int) -> Step:
    """Return the flags of a generation of fewer rows."""
    micro = min(rows, run.given[-1].per_device_train_batch_size)
    step = {"per_device_train_batch_size": str(micro)}
    return step if run.plan.kind == "ppo" else {**step, "steps_per_generation": str(rows // micro)}


def _fewer_groups(run: Preflight) -> list[Step]:
    """Fewer prompts in a generation; rl.grpo gathers as many for an optimizer step."""
    return [_of_rows(run, rows) for rows in _halves(run.plan.rows, run.plan.group)]


def _fewer_generations(run: Preflight) -> list[Step]:
    plan = run.plan
    groups = plan.rows // plan.group
    return [
        {"num_generations": str(size), **_of_rows(run, groups * size)}
        for size in _halves(plan.group)
        if size > 1
    ]


def _shorter_completions(run: Preflight) -> list[Step]:
    plan, policy = run.plan, run.given[0]
    return [
        {
            "max_turn_tokens": str(max(1, policy.max_turn_tokens * left // plan.completion)),
            "max_length_tokens": str(plan.prompt + left),
        }
        for left in (plan.completion // 2, plan.completion // 4)
        if left
    ]


def _smaller_prompt(run: Preflight) -> list[Step]:
    plan = run.plan
    steps = []
    for prompt in (plan.prompt // 2, plan.prompt // 4):
        step = {
            "tokens_per_prompt": str(prompt),
            "max_length_tokens": str(prompt + plan.completion),
        }
        if plan.kind == "sft":
            step["max_length"] = step["max_length_tokens"]
        steps.append(step)
    return steps


CHANGES = (
    _fewer_evaluated,
    _checkpointing,
    _smaller_micro_batch,
    _four_bits,
    _fewer_groups,
    _fewer_generations,
    _shorter_completions,
    _smaller_prompt,
)
"""What can be changed, in the order in which it is tried: what costs the least comes first."""


def first_that_fits(reader: Reader, memory: int) -> Step | None:
    """Return the first change that fits, alone if one does, else with those before it.

    Args:
        reader: The run.
        memory: Bytes.
    """
    start = reader.read({})
    kinds = [kind for kind in CHANGES if start.plan.kind != "sft" or kind not in _ONLY_PLAYED]
    for kind in kinds:
        for step in kind(start):
            if reader.read(step).peak() <= memory:
                return step
    together: Step = {}
    for kind in kinds:
        steps = kind(reader.read(together))
        for step in steps:
            if reader.read(together | step).peak() <= memory:
                return together | step
        together |= steps[-1] if steps else {}
    return None


_ONLY_PLAYED = (_fewer_groups, _fewer_generations)
