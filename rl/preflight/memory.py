"""How many bytes each moment of a run holds; a formula stands in each docstring."""

from __future__ import annotations

import math

from agents.attention_parts import PAIRS_AT_ONCE
from agents.kv_cache import GROWTH
from rl.preflight.plan import Plan
from rl.preflight.shape import Shape

GIB = 2**30
OVERHEAD = GIB // 2
"""Assumed, not measured: the CUDA context and cuBLAS workspaces, or Python and its libraries."""
TILE = (4096, 32768)
"""Tokens and vocabulary of a tile of TRL's fused head (trl/kernels/chunked_logprob.py)."""
PLAIN_READ, PLAIN_GRADIENTS, MATH_GRADIENTS = 12, 16, 8
"""Bytes for each pair of a query and a key that are held on a GPU beside what is saved: three and
four float32 tensors in `_plain_read` and `_plain_gradients` of `agents.attention_parts`, of at most
`PAIRS_AT_ONCE` pairs; two of all pairs in the backward pass of PyTorch's math kernel."""
SCORES = 16
"""Bytes for each token and word of the vocabulary in `CompletionStates.scores`: logits,
log-probabilities, probabilities and their product, in float32."""

MOMENTS = ("load", "evaluation", "prompts", "turns", "scoring", "logits", "layers")


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
    attention += PLAIN_READ * min(looked, PAIRS_AT_ONCE) if plan.on_gpu else 0
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
    scores = PLAIN_GRADIENTS * min(pairs(shape, plan, plan.micro, prompts), PAIRS_AT_ONCE)
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
