from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.grids import WASTE, Grid, similar

CPU = torch.device("cpu")
ROWS = st.lists(st.integers(1, 30), min_size=1, max_size=20)


def grid_of(lengths: list[int]) -> Grid:
    """Rows of consecutive numbers, the last row first."""
    ends = torch.tensor(lengths).cumsum(0).tolist()
    return Grid.of([range(e - n, e) for e, n in zip(ends, lengths, strict=True)][::-1], CPU)


@given(ROWS)
def test_what_is_gathered_comes_back_to_its_members(lengths: list[int]) -> None:
    grid = grid_of(lengths)
    values = torch.arange(sum(lengths) * 6).view(-1, 3, 2)
    placed = grid.gather(values)
    assert placed.shape == (len(lengths), 3, max(lengths), 2)
    assert torch.equal(grid.of_members(placed), values[grid.members])
    assert sorted(grid.members.tolist()) == list(range(sum(lengths)))


def test_a_row_stands_at_the_left_of_its_place() -> None:
    grid = Grid.of([[4, 2, 7], [5]], CPU)
    assert grid.numbers.tolist() == [[4, 2, 7], [5, 0, 0]]
    assert grid.real.tolist() == [[True, True, True], [True, False, False]]
    assert grid.members.tolist() == [4, 2, 7, 5]
    assert grid.places.tolist() == [0, 1, 2, 3]


@given(ROWS)
def test_rows_of_similar_length_waste_little(lengths: list[int]) -> None:
    groups = similar(lengths)
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    for group in groups:
        sizes = [lengths[row] for row in group]
        assert sum(sizes) >= (1 - WASTE) * max(sizes) * len(sizes) - 1e-9
