"""Attention in parts: what rows share is read once, what is their own is added exactly.

A softmax over two sets of keys can be computed set by set and merged by the logarithm of the sum
of each set's weights (the identity behind FlashAttention, Dao et al. 2022, arXiv:2205.14135). So
the keys of a prompt that eight rows have in common need neither be copied eight times nor be
masked for each of them. Gradients go the same way: with the merged output and the merged sum, each
part's backward gives exactly its share.

After `use_layouts(model)` a forward may be told to attend by a layout: `model(..., layout=layout)`.
The layout says which queries see which keys:

    agents/packed.py      training: prompts and completions in one row without padding
    agents/kv_cache.py    rollouts: conversations that go on from shared prompts

What computes a part depends on the device (`read`, `read_gradients`):

    CPU       PyTorch's flash kernel for CPUs: takes a bias, gives the logarithm of the sum of the
              weights, and never holds the scores.
    GPU       PyTorch's memory-efficient kernel, which does the same. (Its flash kernel for GPUs
              takes no bias and needs compute capability 8.0; a T4 has 7.5.) Few queries at many
              keys of one batch are read in parts of the keys: a block of the kernel computes some
              queries of one head, and a prompt that all rows share would be left to a few blocks.
    others    And what the kernel does not take, such as float64: plain products, scores in
              float32, of so many queries at once that at most `PAIRS_AT_ONCE` scores are held;
              causal ones skip the keys behind them.

Without a layout it is transformers' `sdpa`, on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.backends.cuda import SDPAParams, can_use_efficient_attention
from torch.nn.functional import pad
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from agents.errors import UnsupportedModelError

NAME = "mcp_gym_layout"
HIDDEN = -1e30
"""Added to the score of a key that is not seen. Finite, so that a query without keys is no NaN."""
PAIRS_AT_ONCE = 2**24
"""Most scores that are held at once where there is no kernel (see above): 64 MiB in float32."""
FEW_QUERIES, MANY_KEYS = 64, 1024
"""At most so many queries look at so many keys or more in parts, on a GPU."""
PARTS = 16
"""The number of parts; each is a multiple of 16 keys, and what is left is one part more."""
SPECIAL = ("sliding_window", "softcap", "s_aux", "position_bias")
"""What attention of transformers may be told that changes it: windows, caps, sinks, biases."""


class Layout(Protocol):
    """Says which queries see which keys."""

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        """Return what each query has read.

        Args:
            layer: Index of the layer.
            query: Scaled queries (batch, heads, tokens, size).
            key: Keys (batch, key-value heads, slots, size).
            value: Values, of the same shape.

        Returns:
            (batch, tokens, heads, size).
        """


@dataclass(frozen=True)
class Sight:
    """Which keys a batch of queries sees: all, those up to its own place, or what a bias leaves.

    Attributes:
        causal: Each query sees the keys up to its own number.
        bias: Added to the scores (batch, 1, 1 or queries, keys), or None.
    """

    causal: bool = False
    bias: torch.Tensor | None = None

    def added(self, dtype: torch.dtype) -> torch.Tensor | None:
        """Return the bias in a compute type, finite: the sum of two infinities is no number."""
        if self.bias is None or self.bias.dtype == dtype:
            return self.bias
        return self.bias.clamp(min=torch.finfo(dtype).min).to(dtype)


def read(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, sight: Sight
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what queries read in some keys, and the logarithm of the sum of their weights.

    Args:
        query: Scaled queries (batch, heads, queries, size).
        key: (batch, heads, keys, size).
        value: The same shape.
        sight: Which keys are seen.

    Returns:
        (batch, heads, queries, size) and (batch, heads, queries).
    """
    if query.device.type == "cpu":
        out, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, sight.causal, attn_mask=sight.added(query.dtype), scale=1.0
        )
        return out, log_sum
    if not _kernel_takes(query, key, value):
        return _plain_read(query, key, value, sight)
    if _better_in_parts(query, key, sight):
        return _read_in_parts(_kernel_read, query, key, value, sight)
    return _kernel_read(query, key, value, sight)


def read_gradients(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    log_sum: torch.Tensor,
    sight: Sight,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients of queries, keys and values of `read`.

    `out` and `log_sum` may be those of more keys than these: then this is these keys' share.

    Args:
        grad: Gradient of the output (batch, heads, queries, size); 0 for queries that are padding.
        query: As in `read`, like `key` and `value`.
        key: See above.
        value: See above.
        out: What the queries have read, (batch, heads, queries, size).
        log_sum: (batch, heads, queries).
        sight: As in `read`.
    """
    if query.device.type == "cpu":
        gradients: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
        gradients = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad,
            query,
            key,
            value,
            out,
            log_sum,
            0.0,
            sight.causal,
            attn_mask=sight.added(query.dtype),
            scale=1.0,
        )
        return gradients
    if not _kernel_takes(query, key, value):
        return _plain_gradients(grad, query, key, value, out, log_sum, sight)
    nothing = torch.zeros((), dtype=torch.long, device=query.device)  # state of a dropout of 0
    by_query, by_key, by_value, _ = torch.ops.aten._scaled_dot_product_efficient_attention_backward(
        grad,
        query,
        key,
        value,
        _bias_for_kernel(query, sight),
        # The kernel takes it for granted that the heads of a query follow one another.
        out.transpose(1, 2).contiguous().transpose(1, 2),
        pad(log_sum, (0, -log_sum.shape[2] % 32), value=torch.inf).contiguous(),
        nothing,
        nothing,
        0.0,
        [True, True, True, False],
        sight.causal,
        scale=1.0,
    )
    return by_query, by_key, by_value


def _kernel_takes(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    """Return whether PyTorch's memory-efficient kernel takes tensors like these."""
    if query.device.type != "cuda":
        return False
    takes: bool = can_use_efficient_attention(
        SDPAParams(query, key, value, None, 0.0, False, False)
    )
    return takes


def _kernel_read(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, sight: Sight
) -> tuple[torch.Tensor, torch.Tensor]:
    """`read` by PyTorch's memory-efficient kernel."""
    out, log_sum, _, _ = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, _bias_for_kernel(query, sight), True, 0.0, sight.causal, scale=1.0
    )
    return out, log_sum[..., : query.shape[2]]


def _bias_for_kernel(query: torch.Tensor, sight: Sight) -> torch.Tensor | None:
    """Return the bias (batch, heads, queries, keys), whose rows begin at multiples of 16."""
    bias = sight.added(query.dtype)
    if bias is None:
        return None
    keys = bias.shape[-1]
    return pad(bias, (0, -keys % 16))[..., :keys].expand(*query.shape[:3], keys)


def _better_in_parts(query: torch.Tensor, key: torch.Tensor, sight: Sight) -> bool:
    """Return whether few queries of one batch, which all see the same, look at many keys."""
    alike = not sight.causal and (sight.bias is None or sight.bias.shape[2] == 1)
    return alike and len(query) == 1 and query.shape[2] <= FEW_QUERIES and key.shape[2] >= MANY_KEYS


Reader = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, Sight], tuple[torch.Tensor, torch.Tensor]
]


def _read_in_parts(
    reader: Reader, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, sight: Sight
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `reader` does, called once for parts of the keys and once for what is left.

    Args:
        reader: As `read`.
        query: Of a batch of one, (1, heads, queries, size).
        key: See `read`.
        value: See `read`.
        sight: Not causal, the same for all queries.
    """
    size = key.shape[2] // (16 * PARTS) * 16
    keys = size * PARTS

    def in_parts(tokens: torch.Tensor) -> torch.Tensor:  # heads in the place of the batch
        parts: torch.Tensor = tokens[0, :, :keys].unflatten(1, (PARTS, size))
        return parts

    bias, left = sight.bias, sight.bias
    if bias is not None:
        left = bias[..., keys:]
        bias = bias[0, 0, 0, :keys].view(1, PARTS, 1, size).expand(query.shape[1], -1, -1, -1)
    asking = query[0, :, None].expand(-1, PARTS, -1, -1)
    out, log_sum = reader(asking, in_parts(key), in_parts(value), Sight(bias=bias))
    total = log_sum.logsumexp(1)
    weights = (log_sum - total[:, None]).exp()[..., None]
    found = (out * weights).sum(1).to(query.dtype)[None], total[None]
    if keys == key.shape[2]:
        return found
    rest = reader(query, key[:, :, keys:], value[:, :, keys:], Sight(bias=left))
    return merge(found, rest)


def _plain_read(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, sight: Sight
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same as the kernel for CPUs, for other devices: some queries after others."""
    found = [
        _read_some(query[:, :, rows], key[:, :, keys], value[:, :, keys], part, rows.start)
        for rows, keys, part in _at_once(query, key, sight)
    ]
    outs, log_sums = zip(*found, strict=True)
    return torch.cat(outs, dim=2), torch.cat(log_sums, dim=2)


def _read_some(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, sight: Sight, first: int
) -> tuple[torch.Tensor, torch.Tensor]:
    scores = _scores(query, key, sight, first)
    log_sum = scores.logsumexp(-1)
    return (scores - log_sum[..., None]).exp().to(value.dtype) @ value, log_sum


def _plain_gradients(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    log_sum: torch.Tensor,
    sight: Sight,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    by_query = torch.empty_like(query)
    # Summed up over the queries in the type of the scores.
    by_key, by_value = (torch.zeros_like(part, dtype=log_sum.dtype) for part in (key, value))
    for rows, keys, part in _at_once(query, key, sight):
        found = _gradients_of_some(
            grad[:, :, rows],
            query[:, :, rows],
            key[:, :, keys],
            value[:, :, keys],
            out[:, :, rows],
            log_sum[:, :, rows],
            part,
            rows.start,
        )
        by_query[:, :, rows] = found[0]
        by_key[:, :, keys] += found[1]
        by_value[:, :, keys] += found[2]
    return by_query, by_key.to(key.dtype), by_value.to(value.dtype)


def _gradients_of_some(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    log_sum: torch.Tensor,
    sight: Sight,
    first: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    weights = (_scores(query, key, sight, first) - log_sum[..., None]).exp()
    by_value = weights.to(grad.dtype).transpose(-1, -2) @ grad
    inner = (grad @ value.transpose(-1, -2)).to(weights.dtype)
    scores = (weights * (inner - (grad * out).sum(-1, keepdim=True))).to(query.dtype)
    return scores @ key, scores.transpose(-1, -2) @ query, by_value


def _at_once(
    query: torch.Tensor, key: torch.Tensor, sight: Sight
) -> Iterator[tuple[slice, slice, Sight]]:
    """Yield the queries whose scores are held at once, the keys that they may see, and how."""
    batch, heads, queries, _ = query.shape
    keys = key.shape[2]
    count = max(1, PAIRS_AT_ONCE // (batch * heads * keys))
    for start in range(0, queries, count):
        stop = min(start + count, queries)
        seen = min(stop, keys) if sight.causal else keys
        bias = sight.bias
        if bias is not None:
            bias = (bias[:, :, start:stop] if bias.shape[2] > 1 else bias)[..., :seen]
        yield slice(start, stop), slice(0, seen), Sight(sight.causal, bias)


def _scores(query: torch.Tensor, key: torch.Tensor, sight: Sight, first: int) -> torch.Tensor:
    """Return the scores of queries, of which the first has the number `first`."""
    scores = query @ key.transpose(-1, -2)
    if scores.dtype != torch.float64:
        scores = scores.float()
    if sight.bias is not None:
        scores = scores + sight.bias
    if sight.causal:
        shape = scores.shape[-2:]
        later = torch.ones(shape, dtype=torch.bool, device=scores.device).triu(first + 1)
        scores = scores.masked_fill(later, HIDDEN)
    return scores


def merge(
    one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return attention over the keys of two parts; `log_sum` has one dimension less than `out`."""
    log_sum = torch.logaddexp(one[1], other[1])
    first = (one[1] - log_sum).exp()[..., None].to(one[0].dtype)
    second = (other[1] - log_sum).exp()[..., None].to(other[0].dtype)
    return one[0] * first + other[0] * second, log_sum


def by_kv_head(tokens: torch.Tensor, kv_heads: int) -> torch.Tensor:
    """Put queries that share a key-value head side by side, so that no key is repeated for them.

    Args:
        tokens: (batch, tokens, heads, ...).
        kv_heads: Number of key-value heads.

    Returns:
        (batch, key-value heads, tokens * heads per key-value head, ...).
    """
    batch, count, heads, *rest = tokens.shape
    grouped = tokens.view(batch, count, kv_heads, heads // kv_heads, *rest)
    return grouped.transpose(1, 2).reshape(batch, kv_heads, -1, *rest)


def by_token(grouped: torch.Tensor, count: int) -> torch.Tensor:
    """Undo `by_kv_head`: return (batch, tokens, heads, ...)."""
    batch, kv_heads, _, *rest = grouped.shape
    return grouped.reshape(batch, kv_heads, count, -1, *rest).transpose(1, 2).flatten(2, 3)


def _by_layout(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    layout: Layout | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as the layout says; without one, as transformers' `sdpa` does."""
    if layout is None:
        found: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return found
    special = [name for name in SPECIAL if options.get(name) is not None]
    if special:
        raise UnsupportedModelError(
            f"{type(module).__name__} attends with {', '.join(special)}, which no layout knows; "
            "only models with plain attention can play here, such as Qwen3"
        )
    # Under autocast the values come in half precision, the rotated queries and keys do not.
    query, key = (query * scaling).to(value.dtype), key.to(value.dtype)
    return layout.attend(module.layer_idx, query, key, value), None


AttentionInterface.register(NAME, _by_layout)
AttentionMaskInterface.register(NAME, sdpa_mask)


def use_layouts(model: Any) -> None:
    """Let the forward of a model take a `layout`; without one it stays what it was with `sdpa`.

    Args:
        model: A model of transformers whose layers all see the whole context.

    Raises:
        UnsupportedModelError: If a layer sees a window only.
    """
    config = model.config
    others = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    if others:
        raise UnsupportedModelError(
            f"{config.model_type} has layers of the kind {', '.join(sorted(others))}; "
            "only models whose layers all see the whole context can play here, such as Qwen3"
        )
    config._attn_implementation = NAME


def no_mask(device: torch.device) -> torch.Tensor:
    """Return a mask that a model passes on as it is; layouts do not look at it."""
    return torch.zeros(1, 1, 1, 1, device=device)
