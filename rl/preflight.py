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
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, Qwen3Config
from trl import GRPOConfig, SFTConfig

from agents.cli import fail, parse_all_flags, say
from agents.errors import AgentError, ModelFileError, ModelNotFoundError
from agents.kv_cache import GROWTH
from agents.models import LOAD_ERRORS, base_of_adapter, is_adapter, resolve
from rl.grpo import GroupArguments
from rl.ppo import PPOArguments
from rl.start import RolloutArguments
from sft.flags import PolicyArguments, TaskArguments
from sft.train import WarmStartArguments

GIB = 2**30
OVERHEAD = GIB // 2
"""Assumed, not measured: the CUDA context and cuBLAS workspaces, or Python and its libraries."""
EVALUATION_BATCH = 64
"""Default `batch_size` of `agents.rollout.rollout`, which the evaluation of a stage uses."""
TILE = (4096, 32768)
"""Tokens and vocabulary of a tile of TRL's fused head (trl/kernels/chunked_logprob.py)."""
PLAIN_READ, PLAIN_GRADIENTS, MATH_GRADIENTS = 12, 16, 8
"""Bytes for each pair of a query and a key that are held on a GPU beside what is saved: three and
four float32 tensors in `_plain_read` and `_plain_gradients` of `agents.attention`, two in the
backward pass of PyTorch's math kernel."""
SCORES = 16
"""Bytes for each token and word of the vocabulary in `CompletionStates.scores`: logits,
log-probabilities, probabilities and their product, in float32."""

QWEN3 = {  # hidden, intermediate, layers, heads; of the config.json files of these models
    "Qwen/Qwen3-0.6B": (1024, 3072, 28, 16),
    "Qwen/Qwen3-1.7B": (2048, 6144, 28, 16),
    "Qwen/Qwen3-4B": (2560, 9728, 36, 32),
}
MOMENTS = ("load", "evaluation", "prompts", "turns", "scoring", "logits", "layers")
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


# --- the model ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """What a model is made of.

    Attributes:
        linears: Inputs and outputs of every linear layer but the head, one entry for each.
        embeddings: Parameters of the embeddings, and of the head if it is not tied to them.
        others: All other parameters (norms, biases).
        layers: Number of layers.
        hidden: Width of the hidden states.
        mlp: Width inside the MLP.
        heads: Attention heads.
        kv_heads: Key-value heads.
        head_size: Width of a head.
        vocabulary: Words.
        normed_heads: Queries and keys are normed (Qwen3).
    """

    linears: tuple[tuple[int, int], ...]
    embeddings: int
    others: int
    layers: int
    hidden: int
    mlp: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    normed_heads: bool

    @property
    def largest(self) -> int:
        """Return the number of weights of the largest linear layer."""
        return max(one * other for one, other in self.linears)

    def lora(self, rank: int) -> int:
        """Return the parameters of LoRA on all linear layers (peft leaves the head out)."""
        return rank * sum(one + other for one, other in self.linears)


def shape_of(config: Any) -> Shape:
    """Count a model's parameters on torch's meta device, where tensors have a shape but no data."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    linears = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    ]
    weights = {id(p): p.numel() for p in (model.get_input_embeddings().weight, head.weight)}
    every = sum(parameter.numel() for parameter in model.parameters())
    heads = config.num_attention_heads
    return Shape(
        linears=tuple((module.in_features, module.out_features) for module in linears),
        embeddings=sum(weights.values()),
        others=every - sum(weights.values()) - sum(module.weight.numel() for module in linears),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        mlp=config.intermediate_size,
        heads=heads,
        kv_heads=config.num_key_value_heads,
        head_size=getattr(config, "head_dim", None) or config.hidden_size // heads,
        vocabulary=config.vocab_size,
        normed_heads=any(name.endswith("q_norm") for name, _ in model.named_modules()),
    )


def read_config(name: str) -> Any:
    """Return the configuration of a model; its weights are not looked at.

    Args:
        name: Folder, `config.json`, adapter folder, `embedded` or hub id.

    Raises:
        ModelNotFoundError: If it cannot be read or fetched.
        ModelFileError: If an adapter folder is damaged.
    """
    if is_adapter(name):
        name = base_of_adapter(name)
    if name in QWEN3:
        hidden, mlp, layers, heads = QWEN3[name]
        return Qwen3Config(
            vocab_size=151936,
            hidden_size=hidden,
            intermediate_size=mlp,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=8,
            head_dim=128,
            tie_word_embeddings=True,
            dtype="bfloat16",
        )
    try:
        return AutoConfig.from_pretrained(name if Path(name).is_file() else resolve(name))
    except (*LOAD_ERRORS, AgentError) as error:
        raise ModelNotFoundError(
            f"cannot read the configuration of {name} ({' '.join(str(error).split())[:200]}); "
            "give its config.json, or the folder it lies in, with --model_config"
        ) from error


# --- the run ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What a run does with its model, as far as memory is concerned.

    Attributes:
        kind: sft, grpo or ppo.
        on_gpu: On a GPU attention is computed in full, a CPU has a kernel for it.
        load_in_4bit: Linear layers in NF4.
        weight_bytes: Bytes of a weight that is not quantised, and of a hidden state.
        mixed: Trained under autocast to 16 bits.
        checkpointing: Activations of a layer are computed again in the backward pass.
        state_bytes: Optimizer state of one trained parameter.
        rank: Of the adapter.
        reference: A frozen copy of the adapter is kept.
        accumulates: Gradients are there when a batch begins, and `rl.trainer` keeps a copy of them.
        gathers: An optimizer step gathers gradients over several generations.
        scored: Whole generations are scored without gradients.
        prompt: Tokens of a prompt.
        completion: Most tokens of a completion, observations included.
        sampled: Most of them that the policy says.
        turns: Turn limit.
        group: Episodes of one prompt.
        rows: Episodes of a generation.
        batch: Rows that an update learns from.
        micro: Rows of one forward pass with gradients.
        row: Tokens of a padded row of sft.train.
        evaluated: Test tasks that are played side by side.
    """

    kind: str
    on_gpu: bool
    load_in_4bit: bool
    weight_bytes: int
    mixed: bool
    checkpointing: bool
    state_bytes: float
    rank: int
    reference: bool
    gathers: bool
    accumulates: bool
    scored: bool
    prompt: int
    completion: int
    sampled: int
    turns: int
    group: int
    rows: int
    batch: int
    micro: int
    row: int
    evaluated: int

    @property
    def compute_bytes(self) -> int:
        """Return the bytes of what a linear layer makes in training."""
        return 2 if self.mixed else self.weight_bytes

    @property
    def folds(self) -> bool:
        """Return whether `agents.merged` can fold the adapter into the weights."""
        return self.weight_bytes == 4 and not self.load_in_4bit

    @property
    def folds_update(self) -> bool:
        """Return whether it does so in the update."""
        return self.folds and not self.checkpointing


def plan_of(given: Sequence[Any], kind: str, prompt: int, on_gpu: bool, dtype: Any) -> Plan:
    """Return what the flags of a run come to.

    Args:
        given: The dataclasses of its command, filled (see `COMMANDS`).
        kind: sft, grpo or ppo.
        prompt: Tokens of a prompt; 0 for 4096, or three quarters of conversations up to that.
        on_gpu: Whether it runs on a GPU.
        dtype: The type of the model's weights on disk, which `--precision auto` keeps.

    Raises:
        ValueError: If the prompt leaves no room for a completion.
    """
    policy, play, config = given[0], given[1], given[-1]
    limit = policy.max_length_tokens
    prompt = prompt or (4096 if limit > 4096 else 3 * limit // 4)
    room = limit - prompt
    if room < 1:
        raise ValueError(
            f"a prompt of {prompt} tokens leaves no room in --max_length_tokens {limit}; "
            "raise it, or lower --tokens_per_prompt"
        )
    turns = play.max_turns
    precision = str(dtype or "float32") if policy.precision == "auto" else policy.precision
    plan = Plan(
        kind=kind,
        on_gpu=on_gpu,
        load_in_4bit=policy.load_in_4bit,
        weight_bytes=4 if "float32" in precision else 2,
        mixed=bool(config.fp16 or config.bf16),
        checkpointing=bool(config.gradient_checkpointing),
        state_bytes=state_bytes(str(getattr(config.optim, "value", config.optim))),
        rank=policy.lora_r,
        reference=False,
        gathers=False,
        accumulates=False,
        scored=False,
        prompt=prompt,
        completion=room,
        sampled=min(room, turns * policy.max_turn_tokens, policy.max_episode_tokens or sys.maxsize),
        turns=turns,
        group=1,
        rows=0,
        batch=config.per_device_train_batch_size,
        micro=config.per_device_train_batch_size,
        row=min(getattr(config, "max_length", None) or sys.maxsize, policy.max_length_tokens),
        evaluated=_evaluated(play.eval_limit, 1 if on_gpu else policy.threads),
    )
    return plan if kind == "sft" else _with_rollouts(plan, given)


def _with_rollouts(plan: Plan, given: Sequence[Any]) -> Plan:
    """Return the plan of a run that plays, given what all runs have in common."""
    policy, play, rollouts, config = given[0], given[1], given[2], given[-1]
    turns = rollouts.rollout_turns or play.max_turns
    # TRL scores a generation beforehand where the policy that learns from it may be another one.
    often = config.steps_per_generation * config.num_iterations
    late = config.gradient_accumulation_steps % often != 0
    batch = config.per_device_train_batch_size
    if plan.kind == "ppo":
        batch = max(1, config.generation_batch_size // given[3].minibatches)
    # Pieces as `rl.pieces.divided` makes them.
    tokens = packed(plan, batch, config.num_generations)
    pieces = min(batch, math.ceil(tokens / (rollouts.tokens_per_forward or tokens)))
    return replace(
        plan,
        rank=_rank_of(rollouts.adapter, plan.rank),
        reference=config.beta != 0,
        gathers=config.gradient_accumulation_steps > config.steps_per_generation,
        accumulates=config.gradient_accumulation_steps > 1,
        scored=config.beta != 0 or late or plan.kind == "ppo",
        sampled=min(plan.sampled, turns * policy.max_turn_tokens),
        turns=turns,
        group=config.num_generations,
        rows=config.generation_batch_size,
        batch=batch,
        micro=math.ceil(batch / pieces),
    )


def packed(plan: Plan, rows: int, group: int) -> int:
    """Return the tokens of rows in one packed row: a prompt for each group, all completions."""
    return math.ceil(rows / group) * plan.prompt + rows * plan.completion


def _evaluated(limit: int, workers: int) -> int:
    """Return how many test tasks are played side by side; `limit` 0 stands for many."""
    batches = min(workers, math.ceil(limit / EVALUATION_BATCH) if limit else workers)
    return min(limit or sys.maxsize, batches * EVALUATION_BATCH)


def _rank_of(adapter: str, rank: int) -> int:
    """Return the rank of an adapter folder; `rank` if there is none yet."""
    path = Path(adapter) / "adapter_config.json"
    if not path.is_file():
        return rank
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["r"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path} is damaged ({error}); train the adapter again") from error


def state_bytes(optimizer: str) -> float:
    """Return the optimizer's state in bytes for each trained parameter.

    Adam keeps two numbers; bitsandbytes' 8-bit Adam a byte for each, and a float32 constant for
    each block of 256 (Dettmers et al. 2022, arXiv:2110.02861). SGD keeps nothing.
    """
    if optimizer == "sgd":
        return 0
    return 2 * (1 + 4 / 256) if "8bit" in optimizer else 8


# --- what each moment holds ---------------------------------------------------------------------


def nf4_bytes(weights: int) -> int:
    """Return the bytes of a matrix in NF4 with double quantisation (arXiv:2305.14314, section 3).

    Half a byte for each weight; a byte for each block of 64; a float32 constant for each 256
    blocks; the tables of both codes (16 and 256 values) and an offset.
    """
    blocks = math.ceil(weights / 64)
    return math.ceil(weights / 2) + blocks + 4 * math.ceil(blocks / 256) + 4 * (16 + 256 + 1)


def weights_bytes(shape: Shape, plan: Plan) -> int:
    """Return the bytes of the model: linear layers, embeddings and head (once if tied), norms."""
    plain = plan.weight_bytes * (shape.embeddings + shape.others)
    sizes = [one * other for one, other in shape.linears]
    if plan.load_in_4bit:
        return plain + sum(nf4_bytes(size) for size in sizes)
    return plain + plan.weight_bytes * sum(sizes)


def cache_bytes(shape: Shape, plan: Plan, slots: int) -> int:
    """Return the bytes of the keys and values of some tokens in all layers."""
    return 2 * shape.layers * slots * shape.kv_heads * shape.head_size * plan.weight_bytes


def own_slots(completion: int) -> int:
    """Return the slots of a row in `agents.kv_cache.OwnSlots` when a completion is at its longest.

    A buffer that is full grows by `GROWTH` more than the token that it needs room for.
    """
    return math.ceil(completion / (GROWTH + 1)) * (GROWTH + 1)


def saved_in_layer(shape: Shape, plan: Plan, tokens: int) -> tuple[int, int]:
    """Return the bytes that one layer saves for its backward pass: attention part, MLP part.

    For each token, in the type of the linear layers: their inputs (one for queries, keys and
    values, one for gate and up, and that of down); queries, keys, values and what was read, each
    of all heads; gate before and after its activation, and up; what comes out of each LoRA A (if
    the adapter is not folded into the weights). In float32: the inputs of the norms, their scales
    and the logarithm of the sum of attention weights.
    """
    size, norm = plan.compute_bytes, 4
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    lora = 0 if plan.folds_update else size * plan.rank
    attention = size * (shape.hidden + 4 * queries) + 4 * lora + norm * (shape.hidden + 1)
    attention += norm * shape.heads
    if shape.normed_heads:
        attention += norm * (queries + keys + shape.heads + shape.kv_heads)
    mlp = size * (shape.hidden + 4 * shape.mlp) + 3 * lora + norm * (shape.hidden + 1)
    return attention * tokens, mlp * tokens


def pairs(shape: Shape, plan: Plan, rows: int, prompts: int) -> int:
    """Return the pairs of a query and a key in the largest look of `agents.packed.PackedLayout`.

    Prompts at themselves, the completions of a prompt at it, or completions at themselves.
    """
    each = min(rows, plan.group) * plan.completion
    return shape.heads * max(
        prompts * plan.prompt**2, each * plan.prompt, rows * plan.completion**2
    )


def forward_bytes(shape: Shape, plan: Plan, tokens: int, looked: int, *, autocast: bool) -> int:
    """Return the most that one layer holds on the way, without gradients.

    Attention: hidden states, queries, keys and values of all heads, what was read and the copies
    in grids, and on a GPU the scores. MLP: hidden states, gate, up and their product; adapters
    beside 16-bit weights are computed in float32 where there is no autocast (peft).
    """
    size = plan.compute_bytes if autocast else plan.weight_bytes
    queries = shape.heads * shape.head_size
    attention = tokens * (2 * shape.hidden * plan.weight_bytes + 7 * queries * size)
    attention += PLAIN_READ * looked if plan.on_gpu else 0
    inside = 2 * size + (8 if plan.weight_bytes == 2 and not autocast else size)
    mlp = tokens * (2 * shape.hidden * plan.weight_bytes + shape.mlp * inside)
    return max(attention, mlp)


def backward_bytes(shape: Shape, plan: Plan, tokens: int, scores: int) -> int:
    """Return the most that the backward pass through one layer adds to what is saved.

    MLP: two gradients of its width in place of one saved input, a 4-bit matrix in full, or the
    gradient of a folded one. Attention: gradients and copies in grids of queries, keys and values,
    and `scores` bytes on a GPU; by then what the MLP has saved is freed.
    """
    size = plan.compute_bytes
    queries = shape.heads * shape.head_size
    matrix = 0
    if plan.load_in_4bit:
        matrix = size * shape.largest
    elif plan.folds_update:
        matrix = 2 * 4 * shape.largest
    mlp = tokens * (size * shape.mlp + 2 * plan.weight_bytes * shape.hidden) + matrix
    attention = tokens * (8 * queries * size + 2 * plan.weight_bytes * shape.hidden)
    attention += scores if plan.on_gpu else 0
    return max(mlp, attention - saved_in_layer(shape, plan, tokens)[1])


Parts = dict[str, dict[str, int]]
"""Bytes by name of the part and moment."""


def estimate(shape: Shape, plan: Plan) -> Parts:
    """Return what each part of a run's memory takes at each moment, in bytes.

    Adapters are float32, their gradients too. A moment without a part lacks it.
    """
    trained = shape.lora(plan.rank)
    if plan.kind == "ppo":  # the value head: `agents.value_head.ValueHead`
        trained += shape.hidden * (shape.hidden + 1) + shape.hidden + 1
    adapter = 4 * trained
    parts: Parts = {
        "weights": dict.fromkeys(MOMENTS, weights_bytes(shape, plan)),
        "trained parameters": dict.fromkeys(MOMENTS[1:], adapter),
        "reference adapter": dict.fromkeys(MOMENTS[1:], 4 * shape.lora(plan.rank) * plan.reference),
        "optimizer state": dict.fromkeys(MOMENTS[1:], int(plan.state_bytes * trained)),
        "gradients": dict.fromkeys(MOMENTS[2 if plan.gathers else -2 :], adapter),
        "their copy for a retry": dict.fromkeys(MOMENTS[-2:], adapter * plan.accumulates),
        "overhead (assumed)": dict.fromkeys(MOMENTS, OVERHEAD),
    }
    moments = {
        "load": {"a layer on the way": plan.load_in_4bit * plan.weight_bytes * shape.largest},
        "evaluation": _larger(_play(shape, plan, plan.evaluated, plan.evaluated, 1)),
    }
    if plan.kind == "sft":
        moments |= _sft_update(shape, plan)
    else:
        prompts = max(1, plan.rows // plan.group)
        moments |= dict(
            zip(
                ("prompts", "turns"),
                _play(shape, plan, plan.rows, prompts, plan.group),
                strict=True,
            )
        )
        moments |= _update(shape, plan)
    for moment, held in moments.items():
        for name, size in held.items():
            parts.setdefault(name, {})[moment] = size
    used = set(moments)
    return {
        name: {moment: size for moment, size in row.items() if moment in used}
        for name, row in parts.items()
        if any(row.values())
    }


def peak(parts: Parts) -> tuple[str, int]:
    """Return the moment that holds the most, and how much."""
    sums: dict[str, int] = {}
    for row in parts.values():
        for moment, size in row.items():
            sums[moment] = sums.get(moment, 0) + size
    return max(sums.items(), key=lambda item: item[1])


def _larger(moments: tuple[dict[str, int], dict[str, int]]) -> dict[str, int]:
    return max(moments, key=lambda held: sum(held.values()))


def _play(
    shape: Shape, plan: Plan, rows: int, prompts: int, group: int
) -> tuple[dict[str, int], dict[str, int]]:
    """Return what a rollout holds when its prompts are read, and in its later turns.

    Prompts are kept once, completions for each row (`agents/kv_cache.py`). When half of the rows
    have ended their turn, the engine goes on with a copy of the others. Observations are taken to
    share what is left of a conversation evenly.
    """
    folded = 4 * sum(one * other for one, other in shape.linears) if plan.folds else 0
    observed = plan.completion - plan.sampled
    chunk = 1 + (math.ceil(observed / (plan.turns - 1)) if plan.turns > 1 else 0)
    kept = cache_bytes(shape, plan, prompts * plan.prompt)
    own = cache_bytes(shape, plan, rows * own_slots(plan.completion))
    at_prompts = shape.heads * rows * chunk * plan.prompt
    before = plan.completion - plan.sampled // plan.turns  # when the last observation is read
    at_prompts = max(at_prompts, shape.heads * rows * chunk * before)
    tokens = prompts * plan.prompt
    return (
        {
            "folded weights": folded,
            "KV cache of prompts": kept,
            "a layer on the way": forward_bytes(
                shape, plan, tokens, shape.heads * prompts * plan.prompt**2, autocast=False
            ),
        },
        {
            "folded weights": folded,
            "KV cache of prompts": kept,
            "KV cache of completions": own,
            "copies of half the rows": own // 2 if rows > 1 else 0,
            "a layer on the way": forward_bytes(
                shape, plan, rows * chunk, at_prompts, autocast=False
            ),
            "scores of the vocabulary": SCORES * rows * shape.vocabulary,
        },
    )


def _update(shape: Shape, plan: Plan) -> dict[str, dict[str, int]]:
    """Return what scoring and the update of rl.grpo and rl.ppo hold (`agents/shared_prompt.py`).

    One packed row: each prompt once, completions without padding; scores only of what the policy
    said. A generation that is scored without gradients is one packed row too, whatever the micro
    batch (rl.ppo: so many tokens at once), and there every token of the completions has scores.
    """
    prompts = math.ceil(plan.micro / plan.group)
    tokens = prompts * plan.prompt + plan.micro * plan.completion
    scores = PLAIN_GRADIENTS * pairs(shape, plan, plan.micro, prompts)
    head = SCORES * shape.vocabulary * plan.micro * plan.sampled
    moments = _backward(shape, plan, tokens, scores, head)
    if plan.scored:
        rows = plan.rows if plan.reference or plan.kind == "grpo" else plan.micro
        said = plan.sampled if not plan.reference and plan.kind == "ppo" else plan.completion
        groups = math.ceil(rows / plan.group)
        layer = forward_bytes(
            shape,
            plan,
            groups * plan.prompt + rows * plan.completion,
            pairs(shape, plan, rows, groups),
            autocast=True,
        )
        head = SCORES * shape.vocabulary * rows * said
        folded = 4 * sum(one * other for one, other in shape.linears) * plan.folds_update
        moments["scoring"] = {"folded weights": folded}
        bigger = "a layer on the way" if layer > head else "scores of the vocabulary"
        moments["scoring"][bigger] = max(layer, head)
    return moments


def _sft_update(shape: Shape, plan: Plan) -> dict[str, dict[str, int]]:
    """Return what the update of sft.train holds.

    Rows padded to the longest; TRL's fused head makes the scores tile by tile, on a CPU with seven
    float32 copies. On a GPU PyTorch's math kernel is assumed for attention, the one a T4 falls to:
    it saves the attention weights.
    """
    tokens = plan.micro * plan.row
    looked = plan.micro * shape.heads * plan.row**2
    rows = min(tokens, TILE[0])
    copies = 0 if plan.on_gpu else 28 * rows * min(shape.vocabulary, TILE[1])
    head = plan.compute_bytes * rows * TILE[1] + copies + 4 * tokens * shape.hidden
    scores = MATH_GRADIENTS * looked
    return _backward(shape, plan, tokens, scores, head, saved_scores=4 * looked * plan.on_gpu)


def _backward(
    shape: Shape, plan: Plan, tokens: int, scores: int, head: int, saved_scores: int = 0
) -> dict[str, dict[str, int]]:
    """Return what an update holds at the end of the forward pass and in the backward pass.

    Args:
        shape: The model.
        plan: The run.
        tokens: Tokens that go through the model.
        scores: Bytes of attention scores and their gradients that a layer holds on a GPU.
        head: Bytes that the head and the loss hold.
        saved_scores: Attention weights that a layer saves.
    """
    layer = sum(saved_in_layer(shape, plan, tokens)) + saved_scores
    final = 4 * tokens * shape.hidden  # input of the last norm
    folded = casts = 0
    if plan.checkpointing:
        saved = final + shape.layers * tokens * shape.hidden * plan.weight_bytes
        again = layer
    else:
        saved, again = final + shape.layers * layer, 0
        folded = 4 * sum(one * other for one, other in shape.linears) * plan.folds
        casts = 2 * shape.lora(plan.rank) * (plan.mixed and not plan.folds)
    name = "saved layer inputs" if plan.checkpointing else "saved activations"
    shared = {name: saved, "folded weights": folded, "16-bit copies of the adapter": casts}
    return {
        "logits": {**shared, "scores of the vocabulary": head},
        "layers": {
            **shared,
            "one layer computed again": again,
            "a layer on the way": backward_bytes(shape, plan, tokens, scores),
        },
    }


# --- the command --------------------------------------------------------------------------------

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
    sizes = [2**power for power in range(10, -1, -1)]
    return [{"eval_limit": str(size)} for size in sizes if size < run.plan.evaluated]


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
