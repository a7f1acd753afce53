from __future__ import annotations

import pytest
import torch

from agents.attention_parts import _plain_gradients, _plain_read
from agents.packed import PackedLayout

PROMPTS, COMPLETIONS, OWNERS = [5, 3, 7], [4, 1, 9, 2, 2], [0, 0, 1, 2, 2]
HEADS, KV_HEADS, SIZE = 4, 2, 8
TOKENS = sum(PROMPTS) + sum(COMPLETIONS)
CPU = torch.device("cpu")


def test_positions_restart_behind_the_prompt() -> None:
    layout = PackedLayout([3, 2], [2, 4], [0, 1], CPU)
    assert layout.positions.tolist() == [0, 1, 2, 0, 1, 3, 4, 2, 3, 4, 5]
    assert [list(row) for row in layout.completions] == [[5, 6], [7, 8, 9, 10]]


def seen() -> torch.Tensor:
    """Which token sees which, written down token by token (tokens, tokens)."""
    conversation: list[tuple[int, int, int]] = []  # prompt, completion or -1, position
    for prompt, length in enumerate(PROMPTS):
        conversation += [(prompt, -1, place) for place in range(length)]
    for number, (owner, length) in enumerate(zip(OWNERS, COMPLETIONS, strict=True)):
        conversation += [(owner, number, PROMPTS[owner] + place) for place in range(length)]
    return torch.tensor(
        [
            [p == q and there in (-1, here) and j <= i for q, there, j in conversation]
            for p, here, i in conversation
        ]
    )


def test_packed_attention_and_its_gradients_are_those_of_the_dense_mask() -> None:
    """Exact and dense: every pair of tokens with a mask, which is what the layout saves."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((HEADS, TOKENS, SIZE), (KV_HEADS, TOKENS, SIZE), (KV_HEADS, TOKENS, SIZE))
    leaves = [
        torch.randn(1, *shape, dtype=torch.float64, generator=generator).requires_grad_()
        for shape in shapes
    ]
    query, key, value = leaves
    layout = PackedLayout(PROMPTS, COMPLETIONS, OWNERS, CPU)
    found = layout.attend(0, query, key, value)
    wide = [part.repeat_interleave(HEADS // KV_HEADS, dim=1) for part in (key, value)]
    scores = (query @ wide[0].transpose(-1, -2)).masked_fill(~seen(), float("-inf"))
    expected = (scores.softmax(-1) @ wide[1]).transpose(1, 2)
    torch.testing.assert_close(found, expected)
    grad = torch.randn(found.shape, dtype=torch.float64, generator=generator)
    for mine, theirs in zip(
        torch.autograd.grad(found, leaves, grad),
        torch.autograd.grad(expected, leaves, grad),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_padding_gives_no_gradients_however_much_the_first_token_likes_what_it_does_not_see(
    dtype: torch.dtype, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Places of a grid that hold nothing stand for the first token of the row."""
    if plain:
        monkeypatch.setattr("agents.packed.read", _plain_read)
        monkeypatch.setattr("agents.packed.read_gradients", _plain_gradients)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, 1, TOKENS, SIZE, generator=generator).to(dtype) for _ in range(3)
    )
    query[0, 0, 0] = torch.tensor([100.0] + [0.0] * (SIZE - 1))
    key[0, 0, 1:, 0], key[0, 0, 0, 0] = 2.0, -2.0
    leaves = [part.requires_grad_() for part in (query, key, value)]
    out = PackedLayout(PROMPTS, COMPLETIONS, OWNERS, CPU).attend(0, *leaves)
    scores = (query @ key.transpose(-1, -2)).masked_fill(~seen(), float("-inf"))
    expected = (scores.double().softmax(-1) @ value.double()).transpose(1, 2)
    found = torch.autograd.grad(out.double().sum(), leaves)
    wanted = torch.autograd.grad(expected.sum(), leaves)
    close = {torch.float16: 2e-2, torch.float32: 1e-4}[dtype]
    for mine, theirs in zip(found, wanted, strict=True):
        assert torch.isfinite(mine).all()
        torch.testing.assert_close(mine, theirs, atol=close, rtol=close)
