from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from watched_trainer import Build

from rl.pieces import divided, loss_share, packed_tokens, rows_of

ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 30)), min_size=1, max_size=12)
PROMPTS = ([1, 2], [1, 2, 3], [4], [5, 6, 7, 8])
LOSSES = ("grpo", "dr_grpo", "bnpo", "dapo")


def batch_of(rows: list[tuple[int, int]]) -> dict[str, Any]:
    """A batch of rows, each with the number of its prompt and the length of its completion."""
    prompts = [PROMPTS[number] for number, _ in rows]
    width = max(map(len, prompts))
    longest = max(length for _, length in rows)
    return {
        "prompt_ids": torch.tensor([[0] * (width - len(one)) + one for one in prompts]),
        "prompt_mask": torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts]),
        "completion_mask": torch.tensor(
            [[1] * length + [0] * (longest - length) for _, length in rows]
        ),
        "num_items_in_batch": torch.tensor(7),
    }


@given(ROWS, st.data())
def test_every_row_is_in_one_piece_and_no_piece_is_empty(
    rows: list[tuple[int, int]], data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, len(rows)))
    pieces = divided(batch_of(rows), count)
    assert len(pieces) == count
    assert all(len(piece) for piece in pieces)
    assert sorted(torch.cat(pieces).tolist()) == list(range(len(rows)))


@given(ROWS)
def test_tokens_are_counted_as_they_go_through_the_model(rows: list[tuple[int, int]]) -> None:
    prompts = {number for number, _ in rows}
    expected = sum(len(PROMPTS[number]) for number in prompts) + sum(n for _, n in rows)
    assert packed_tokens(batch_of(rows)) == expected


def test_rows_with_the_same_prompt_stay_together_and_pieces_are_alike() -> None:
    batch = batch_of([(0, 4), (1, 4), (0, 4), (1, 4), (2, 4), (2, 4)])
    pieces = [piece.tolist() for piece in divided(batch, 3)]
    assert pieces == [[0, 2], [1, 3], [4, 5]]
    piece = rows_of(batch, torch.tensor([4, 5]))
    assert packed_tokens(piece) == 1 + 8
    assert piece["num_items_in_batch"] == 7


# --- the trainer ----------------------------------------------------------------------------------


def scored(trainer: Any) -> Any:
    batch = trainer.scored()
    trainer.current_gradient_accumulation_steps = 1  # as in training
    batch["advantages"] = torch.tensor([0.5, -0.5, 0.3, -0.3])
    return batch


def learned(trainer: Any, batch: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    def learn(piece: Any) -> torch.Tensor:
        loss: torch.Tensor = trainer._compute_loss(trainer.model, piece)
        return loss * loss_share(trainer.loss_type, piece, batch)

    loss = trainer._learn_in_pieces(trainer.model, batch, learn)
    found = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad()
    return loss, found


@pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")
@pytest.mark.parametrize("loss_type", LOSSES)
def test_the_pieces_of_a_batch_give_its_loss_and_gradient(build: Build, loss_type: str) -> None:
    trainer: Any = build(loss_type=loss_type)
    batch = scored(trainer)
    loss, expected = learned(trainer, batch)
    trainer._tokens_per_forward = packed_tokens(batch) // 3
    assert trainer._pieces(batch) > 2
    parts, found = learned(trainer, batch)
    torch.testing.assert_close(parts, loss, atol=1e-6, rtol=1e-4)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-3)


@pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")
def test_without_memory_the_step_goes_on_in_smaller_pieces(
    build: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trainer: Any = build()
    batch = scored(trainer)
    loss, expected = learned(trainer, batch)
    noted = {name: len(values) for name, values in trainer._metrics["train"].items()}
    whole = packed_tokens(batch)
    compute = type(trainer)._compute_loss

    def short_of_memory(self: Any, model: Any, piece: Any) -> torch.Tensor:
        result: torch.Tensor = compute(self, model, piece)
        if packed_tokens(piece) > 0.6 * whole:
            result.backward()  # what is half done must not be kept
            raise torch.OutOfMemoryError
        return result

    monkeypatch.setattr(type(trainer), "_compute_loss", short_of_memory)
    with caplog.at_level(logging.WARNING, logger="rl.trainer"):
        parts, found = learned(trainer, batch)
    assert "out of memory" in caplog.text
    assert f"{trainer._tokens_per_forward} tokens at once" in caplog.text
    assert trainer._tokens_per_forward < whole
    torch.testing.assert_close(parts, loss, atol=1e-6, rtol=1e-4)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-3)
    pieces = trainer._pieces(batch)
    counts = {name: len(values) for name, values in trainer._metrics["train"].items()}
    assert counts["entropy"] == noted["entropy"] + pieces


@pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")
def test_a_row_that_does_not_fit_is_an_error_that_names_the_flags(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer: Any = build()
    batch = scored(trainer)

    def no_memory(*arguments: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(type(trainer), "_compute_loss", no_memory)
    with pytest.raises(torch.OutOfMemoryError, match="--max_length_tokens"):
        learned(trainer, batch)


def test_the_share_of_a_loss_that_is_not_known_is_refused() -> None:
    batch = batch_of([(0, 1), (1, 1)])
    with pytest.raises(ValueError, match="--loss_type odd cannot be divided"):
        loss_share("odd", rows_of(batch, torch.tensor([0])), batch)
