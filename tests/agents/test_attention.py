from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import tiny_qwen3

from agents.attention import by_kv_head, by_token, use_layouts
from agents.attention_parts import (
    HIDDEN,
    Sight,
    _better_in_parts,
    _plain_gradients,
    _plain_read,
    _read_in_parts,
    _scores,
    merge,
    read,
    read_gradients,
)
from agents.errors import UnsupportedModelError

SIZES = {"first": 7, "second": 4}


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def usual(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    return (query @ key.transpose(-1, -2) + bias).softmax(-1) @ value


@pytest.fixture
def parts() -> dict[str, Any]:
    """Queries, and keys and values in two parts; some keys of the first are hidden."""
    hidden = torch.zeros(2, 1, 1, 7, dtype=torch.float64)
    hidden[0, ..., 5:] = HIDDEN
    return {
        "query": numbers(2, 3, 5, 8),
        "first": (numbers(2, 3, 7, 8, seed=1), numbers(2, 3, 7, 8, seed=2)),
        "second": (numbers(2, 3, 4, 8, seed=3), numbers(2, 3, 4, 8, seed=4)),
        "sights": (Sight(bias=hidden), Sight()),
        "bias": torch.cat([hidden, torch.zeros(2, 1, 1, 4)], dim=-1),
    }


def whole(parts: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(
        torch.cat(pair, dim=2) for pair in zip(parts["first"], parts["second"], strict=True)
    )


@pytest.mark.parametrize("reader", [read, _plain_read])
def test_merged_parts_are_the_attention_over_all_keys(parts: dict[str, Any], reader: Any) -> None:
    found = [
        reader(parts["query"], *parts[name], sight)
        for name, sight in zip(SIZES, parts["sights"], strict=True)
    ]
    out, log_sum = merge(*found)
    key, value = whole(parts)
    scores = parts["query"] @ key.transpose(-1, -2) + parts["bias"]
    torch.testing.assert_close(out, usual(parts["query"], key, value, parts["bias"]))
    torch.testing.assert_close(log_sum, scores.logsumexp(-1))


@pytest.mark.parametrize("gradients_of", [read_gradients, _plain_gradients])
def test_gradients_of_parts_add_up_to_those_of_the_whole(
    parts: dict[str, Any], gradients_of: Any
) -> None:
    query, (key, value) = parts["query"], whole(parts)
    leaves = [part.clone().requires_grad_() for part in (query, key, value)]
    out = usual(*leaves, parts["bias"])
    grad = numbers(*out.shape, seed=5)
    expected = torch.autograd.grad(out, leaves, grad)
    _, log_sum = merge(
        *(
            read(query, *parts[name], sight)
            for name, sight in zip(SIZES, parts["sights"], strict=True)
        )
    )
    shares = [
        gradients_of(grad, query, *parts[name], out.detach(), log_sum, sight)
        for name, sight in zip(SIZES, parts["sights"], strict=True)
    ]
    torch.testing.assert_close(shares[0][0] + shares[1][0], expected[0])
    for place in (1, 2):
        joined = torch.cat([share[place] for share in shares], dim=2)
        torch.testing.assert_close(joined, expected[place])


@pytest.mark.parametrize("reader", [read, _plain_read])
def test_a_causal_query_sees_the_keys_up_to_its_own(reader: Any) -> None:
    query, key, value = (numbers(1, 2, 6, 8, seed=seed) for seed in range(3))
    later = torch.full((6, 6), float("-inf"), dtype=torch.float64).triu(1)
    out, _ = reader(query, key, value, Sight(causal=True))
    torch.testing.assert_close(out, usual(query, key, value, later))


@pytest.mark.parametrize("at_once", [1, 7 * 6, 2**24])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("biased", ["no", "keys", "queries and keys"])
def test_queries_one_after_another_read_and_learn_what_all_at_once_do(
    monkeypatch: pytest.MonkeyPatch, at_once: int, causal: bool, biased: str
) -> None:
    query, grad = numbers(2, 3, 6, 8), numbers(2, 3, 6, 8, seed=3)
    key, value = numbers(2, 3, 6, 8, seed=1), numbers(2, 3, 6, 8, seed=2)
    bias = torch.zeros(2, 1, 6 if "queries" in biased else 1, 6, dtype=torch.float64)
    bias[0, ..., 4:] = HIDDEN
    sight = Sight(causal, None if biased == "no" else bias)
    leaves = [part.clone().requires_grad_() for part in (query, key, value)]
    later = torch.full((6, 6), HIDDEN, dtype=torch.float64).triu(1) if causal else 0.0
    added = bias if biased != "no" else 0.0
    scores = leaves[0] @ leaves[1].transpose(-1, -2) + added + later
    expected = scores.softmax(-1) @ leaves[2]
    monkeypatch.setattr("agents.attention_parts.PAIRS_AT_ONCE", at_once)
    out, log_sum = _plain_read(query, key, value, sight)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(log_sum, scores.logsumexp(-1))
    found = _plain_gradients(grad, query, key, value, out, log_sum, sight)
    for mine, theirs in zip(found, torch.autograd.grad(expected, leaves, grad), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_no_more_scores_are_held_than_are_allowed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    def count(*arguments: Any) -> torch.Tensor:
        found = _scores(*arguments)
        held.append(found.numel())
        return found

    monkeypatch.setattr("agents.attention_parts._scores", count)
    monkeypatch.setattr("agents.attention_parts.PAIRS_AT_ONCE", 2 * 3 * 40 * 8)
    query, key, value, grad = (numbers(2, 3, 40, 8, seed=seed) for seed in range(4))
    sight = Sight(causal=True)
    out, log_sum = _plain_read(query, key, value, sight)
    _plain_gradients(grad, query, key, value, out, log_sum, sight)
    # Five times eight queries, which see the keys up to the last of them, there and back.
    assert held == [2 * 3 * 8 * 8 * number for number in (1, 2, 3, 4, 5)] * 2


@pytest.mark.parametrize("keys", [256, 300, 1029])
@pytest.mark.parametrize("biased", [False, True])
def test_keys_read_in_parts_are_read_as_a_whole(keys: int, biased: bool) -> None:
    query, key, value = numbers(1, 3, 5, 8), numbers(1, 3, keys, 8, seed=1), numbers(1, 3, keys, 8)
    hidden = torch.where(numbers(1, 1, 1, keys, seed=2) < 0, HIDDEN, 0.0).double()
    sight = Sight(bias=hidden if biased else None)
    counts: list[int] = []

    def reader(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        counts.append(arguments[1].shape[2])
        return _plain_read(*arguments)

    found = _read_in_parts(reader, query, key, value, sight)
    assert counts == [keys // 16 // 16 * 16, *([keys % 256] if keys % 256 else [])]
    for mine, theirs in zip(found, _plain_read(query, key, value, sight), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_only_few_queries_that_see_the_same_many_keys_read_them_in_parts() -> None:
    few, many, keys = numbers(1, 2, 64, 8), numbers(1, 2, 65, 8), numbers(1, 2, 1024, 8)
    same, own = torch.zeros(1, 1, 1, 1024), torch.zeros(1, 1, 64, 1024)
    assert _better_in_parts(few, keys, Sight())
    assert _better_in_parts(few, keys, Sight(bias=same))
    assert not _better_in_parts(few, keys, Sight(bias=own))
    assert not _better_in_parts(few, keys, Sight(causal=True))
    assert not _better_in_parts(many, keys, Sight())
    assert not _better_in_parts(few, keys[:, :, 1:], Sight())
    assert not _better_in_parts(torch.cat([few, few]), torch.cat([keys, keys]), Sight())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_query_that_sees_nothing_reads_numbers(dtype: torch.dtype) -> None:
    """Holes of a ragged batch: what they read is used by nobody, but must not be NaN."""
    query, key, value = (numbers(1, 1, 2, 8, seed=seed).to(dtype) for seed in range(3))
    nothing = Sight(bias=torch.full((1, 1, 1, 2), HIDDEN))
    for out in (*read(query, key, value, nothing), *_plain_read(query, key, value, nothing)):
        assert torch.isfinite(out).all()


def test_queries_are_grouped_by_the_key_value_head_they_share() -> None:
    query = numbers(2, 3, 4, 5)
    grouped = by_kv_head(query, 2)
    assert grouped.shape == (2, 2, 6, 5)
    # Heads 0 and 1 of each token belong to the first key-value head, token after token.
    assert torch.equal(grouped[0, 0], query[0, :, :2].reshape(6, 5))
    assert torch.equal(by_token(grouped, 3), query)


def test_without_a_layout_a_model_says_what_it_said_before() -> None:
    model, ids = tiny_qwen3(), torch.arange(12).view(2, 6)
    mask = torch.tensor([[1] * 6, [0, 0, 1, 1, 1, 1]])
    with torch.no_grad():
        before = model(ids, attention_mask=mask).logits
        use_layouts(model)
        assert torch.equal(model(ids, attention_mask=mask).logits, before)


def test_a_model_whose_layers_see_a_window_is_refused() -> None:
    model = tiny_qwen3()
    model.config.layer_types = ["full_attention", "sliding_attention"]
    with pytest.raises(UnsupportedModelError, match="sliding_attention"):
        use_layouts(model)
