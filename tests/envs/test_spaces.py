from __future__ import annotations

import copy

import numpy as np
import pytest
from gymnasium.vector.utils import batch_space, iterate

from envs.parsing import parse_turn
from envs.spaces import TextSpace


@pytest.mark.parametrize("text", ["", '{"a": [1]}', "é 世 \x00", "a" * 1000])
def test_any_text_is_in_the_space(text: str) -> None:
    assert text in TextSpace()


@pytest.mark.parametrize("other", [None, b"bytes", 1, ["a"], np.array("a")])
def test_nothing_but_text_is_in_the_space(other: object) -> None:
    assert other not in TextSpace()


def test_a_text_that_is_too_long_is_not_in_the_space() -> None:
    assert "aaa" in TextSpace(3)
    assert "aaaa" not in TextSpace(3)


def test_samples_are_in_the_space_and_differ() -> None:
    space = TextSpace(seed=0)
    samples = [space.sample() for _ in range(200)]
    assert all(sample in space for sample in samples)
    assert len(set(samples)) > 150


def test_samples_reach_several_kinds_of_turn() -> None:
    space = TextSpace(seed=0)
    faults = {parse_turn(space.sample()).fault for _ in range(500)}
    assert len(faults) >= 3


def test_the_same_seed_gives_the_same_samples() -> None:
    first, second = TextSpace(seed=5), TextSpace()
    second.seed(5)
    assert [first.sample() for _ in range(9)] == [second.sample() for _ in range(9)]


def test_spaces_are_equal_by_their_length() -> None:
    assert TextSpace(5) == copy.deepcopy(TextSpace(5))
    assert hash(TextSpace(5)) == hash(TextSpace(5))
    assert TextSpace(5) != TextSpace(6)
    assert repr(TextSpace(5)) == "TextSpace(5)"


def test_a_batch_of_spaces_holds_tuples_of_texts() -> None:
    batch = batch_space(TextSpace(seed=0), 3)
    sample = batch.sample()
    assert sample in batch
    assert list(iterate(batch, sample)) == list(sample)
    assert ("a", "b", "c") in batch
    assert ("a", "b") not in batch
