"""One part of attention: what queries read in some keys, and the gradients of that.

What computes it depends on the device (`read`, `read_gradients`):

    CPU       PyTorch's flash kernel for CPUs: takes a bias, gives the logarithm of the sum of the
              weights, and never holds the scores.
    GPU       PyTorch's memory-efficient kernel, which does the same. (Its flash kernel for GPUs
              takes no bias and needs compute capability 8.0; a T4 has 7.5.) Few queries at many
              keys of one batch are read in parts of the keys: a block of the kernel computes some
              queries of one head, and a prompt that all rows share would be left to a few blocks.
    others    And what the kernel does not take, such as float64: plain products, scores in
              float32, of so many queries at once that at most `PAIRS_AT_ONCE` scores are held;
              causal ones skip the keys behind them.

`merge` joins what was read in two sets of keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.backends.cuda import SDPAParams, can_use_efficient_attention
from torch.nn.functional import pad

HIDDEN = -1e30
"""Added to the score of a key that is not seen. Finite, so that a query without keys is no NaN."""
PAIRS_AT_ONCE = 2**24
"""Most scores that are held at once where there is no kernel (see above): 64 MiB in float32."""
FEW_QUERIES, MANY_KEYS = 64, 1024
"""At most so many queries look at so many keys or more in parts, on a GPU."""
PARTS = 16
"""The number of parts; each is a multiple of 16 keys, and what is left is one part more."""


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
