"""An adapter merged into its base, and whether the result still says what the adapter says.

The product is formed in float32 and rounded once, to the type that is written. What was trained on
NF4 weights is merged into these weights, dequantised: the adapter has learned to make up for their
rounding, and added to the original weights it would make up for an error that is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import GenerationConfig

from agents.engine import SamplingConfig
from agents.models import Precision, base_of_adapter, load_model, load_tokenizer, place
from agents.players import LanguagePlayer
from agents.rollout import rollout
from rewards.episode import Task

MAX_LENGTH = 16_384

Said = Sequence[Sequence[int]]
"""Token ids of an output for each prompt."""


@dataclass(frozen=True)
class Trained:
    """The policy as it was trained.

    Attributes:
        adapter: Folder of the adapter.
        load_in_4bit: Its base was loaded in NF4.
        precision: Compute type.
        max_turn_tokens: Limit of a turn.
        thinking: It thinks before it speaks.
    """

    adapter: str
    load_in_4bit: bool = False
    precision: Precision = "float32"
    max_turn_tokens: int = 96
    thinking: bool = False


@dataclass(frozen=True)
class Agreement:
    """How far two policies say the same, token by token.

    Attributes:
        prompts: Prompts that both were given.
        equal: Prompts to which both said exactly the same.
        tokens: Tokens that the first said.
        equal_tokens: How many of them the second said too, up to the first difference of each.
    """

    prompts: int
    equal: int
    tokens: int
    equal_tokens: int

    def __str__(self) -> str:
        return (
            f"{self.equal} of {self.prompts} outputs are equal "
            f"({100 * self.equal / self.prompts:.1f} %); up to the first difference "
            f"{self.equal_tokens} of {self.tokens} tokens are "
            f"({100 * self.equal_tokens / max(self.tokens, 1):.1f} %)"
        )


def agreement(first: Said, second: Said) -> Agreement:
    """Compare what two policies said to the same prompts."""
    pairs = [(tuple(one), tuple(other)) for one, other in zip(first, second, strict=True)]
    return Agreement(
        prompts=len(pairs),
        equal=sum(one == other for one, other in pairs),
        tokens=sum(len(one) for one, _ in pairs),
        equal_tokens=sum(_common(one, other) for one, other in pairs),
    )


def first_turns(
    name: str,
    tasks: Sequence[Task],
    *,
    max_turn_tokens: int,
    precision: Precision,
    load_in_4bit: bool = False,
    thinking: bool = False,
    servers: str | None = None,
) -> Said:
    """Return what a policy says greedily to the prompts of tasks, each with its tools.

    Args:
        name: Folder of a model or an adapter.
        tasks: The tasks.
        max_turn_tokens: Most tokens of an output.
        precision: Compute type.
        load_in_4bit: Load it in NF4.
        thinking: Let it think before it speaks.
        servers: MCP servers of the tasks; None for the mock world.
    """
    model = load_model(name, load_in_4bit=load_in_4bit, precision=precision).eval()
    place(model)
    greedy = SamplingConfig(max_turn_tokens=max_turn_tokens, max_length=MAX_LENGTH)
    tokenizer = load_tokenizer(name)
    player = LanguagePlayer(model, tokenizer, greedy, name=Path(name).name, thinking=thinking)
    played = rollout(player, tasks, max_turns=1, batch_size=16, servers=servers)
    return [trajectory.completion_ids for trajectory in played]


def merged_model(trained: Trained, dtype: torch.dtype) -> Any:
    """Return the base with the adapter merged in, as a plain model of transformers.

    Args:
        trained: The policy.
        dtype: Type of the merged weights.
    """
    base = load_model(
        base_of_adapter(trained.adapter),
        load_in_4bit=trained.load_in_4bit,
        precision=trained.precision if trained.load_in_4bit else "float32",
    )
    if trained.load_in_4bit:
        base = base.dequantize()
    model = PeftModel.from_pretrained(base.float(), trained.adapter)
    _untie(model)
    model = model.merge_and_unload()
    for parameter in model.parameters():  # buffers stay: a rotary base in 16 bit would be another
        parameter.data = parameter.data.to(dtype)
    return model


def generation_config(tokenizer: Any, *, do_sample: bool) -> GenerationConfig:
    """Return the generation config of an export.

    It ends a turn where the policy ended it; a base may name further tokens.

    Args:
        tokenizer: The policy's tokenizer.
        do_sample: Sample where a request names a temperature; False answers as the policy was
            measured, greedily.
    """
    return GenerationConfig(
        do_sample=do_sample,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _untie(model: Any) -> None:
    """Give a trained output layer or embedding weights of its own.

    Merged into weights that both share, what was learned for one would change the other.
    """
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if not any(isinstance(layer, BaseTunerLayer) for layer in (head, embedding)):
        return
    inner = head.get_base_layer() if isinstance(head, BaseTunerLayer) else head
    inner.weight = torch.nn.Parameter(inner.weight.detach().clone())


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
