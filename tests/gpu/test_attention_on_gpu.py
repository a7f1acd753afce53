"""The kernel for GPUs beside plain products, and when it is used."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import agents.attention_parts
from agents.attention_parts import (
    HIDDEN,
    Sight,
    _kernel_takes,
    _plain_gradients,
    _plain_read,
    read,
    read_gradients,
)

CLOSE = {torch.float32: 1e-4, torch.float16: 3e-3, torch.bfloat16: 2e-2}
DTYPES = pytest.mark.parametrize("dtype", CLOSE, ids=str)
SIGHTS = pytest.mark.parametrize("seen", ["all", "causal", "keys", "queries and keys"])


def numbers(*shape: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to("cuda", dtype)


def sight(seen: str, batch: int, queries: int, keys: int) -> Sight:
    if seen in ("all", "causal"):
        return Sight(causal=seen == "causal")
    rows = queries if "queries" in seen else 1
    hidden = torch.where(
        numbers(batch, 1, rows, keys, dtype=torch.float32, seed=9) < 0, HIDDEN, 0.0
    )
    hidden[..., 0] = 0.0
    return Sight(bias=hidden)


def assert_close(mine: torch.Tensor, theirs: torch.Tensor, dtype: torch.dtype) -> None:
    assert mine.shape == theirs.shape
    difference = (mine.double() - theirs.double()).norm() / theirs.double().norm()
    assert float(difference) < CLOSE[dtype]


@DTYPES
@SIGHTS
@pytest.mark.parametrize("queries", [2, 33, 64])
def test_the_kernel_reads_and_learns_what_plain_products_do(
    dtype: torch.dtype, seen: str, queries: int
) -> None:
    keys = queries if seen == "causal" else 77
    query = numbers(3, 4, queries, 32, dtype=dtype, seed=0) * 0.3
    key, value = (numbers(3, 4, keys, 32, dtype=dtype, seed=seed) for seed in (1, 2))
    grad = numbers(3, 4, queries, 32, dtype=dtype, seed=3)
    looks = sight(seen, 3, queries, keys)
    assert _kernel_takes(query, key, value)
    expected = _plain_read(*(part.double() for part in (query, key, value)), looks)
    found = read(query, key, value, looks)
    for mine, theirs in zip(found, expected, strict=True):
        assert_close(mine, theirs, dtype)
    inputs = (grad, query, key, value, *expected)
    wanted = _plain_gradients(*(part.double() for part in inputs), looks)
    gradients = read_gradients(grad, query, key, value, *found, looks)
    for mine, theirs in zip(gradients, wanted, strict=True):
        assert_close(mine, theirs, dtype)


@DTYPES
@pytest.mark.parametrize("seen", ["all", "keys"])
@pytest.mark.parametrize("keys", [1024, 1333])
def test_few_queries_at_many_keys_read_what_plain_products_do(
    dtype: torch.dtype, seen: str, keys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[torch.Size] = []
    kernel = agents.attention_parts._kernel_read

    def counted(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(arguments[1].shape)
        return kernel(*arguments)

    monkeypatch.setattr(agents.attention_parts, "_kernel_read", counted)
    query = numbers(1, 8, 16, 64, dtype=dtype, seed=0) * 0.3
    key, value = (numbers(1, 8, keys, 64, dtype=dtype, seed=seed) for seed in (1, 2))
    looks = sight(seen, 1, 16, keys)
    expected = _plain_read(*(part.double() for part in (query, key, value)), looks)
    for mine, theirs in zip(read(query, key, value, looks), expected, strict=True):
        assert_close(mine, theirs, dtype)
    assert calls[0][:2] == (8, 16)
    assert len(calls) == 1 + (keys % 256 > 0)


@DTYPES
def test_a_query_that_sees_nothing_reads_numbers(dtype: torch.dtype) -> None:
    query, key, value = (numbers(1, 1, 2, 32, dtype=dtype, seed=seed) for seed in range(3))
    nothing = Sight(bias=torch.full((1, 1, 1, 2), HIDDEN, device="cuda"))
    for part in read(query, key, value, nothing):
        assert torch.isfinite(part).all()


@pytest.mark.parametrize(("size", "dtype"), [(32, torch.float64), (6, torch.float16)])
def test_what_the_kernel_does_not_take_is_computed_by_plain_products(
    size: int, dtype: torch.dtype
) -> None:
    query, key, value = (numbers(1, 2, 5, size, dtype=dtype, seed=seed) for seed in range(3))
    assert not _kernel_takes(query, key, value)
    found, expected = (by(query, key, value, Sight(causal=True)) for by in (read, _plain_read))
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine, theirs)
