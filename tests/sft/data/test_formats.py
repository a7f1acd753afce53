from __future__ import annotations

import json

import pytest
from canonical_rows import BASE, CANONICAL
from converting import outcomes
from format_rows import ROWS

from sft.data.check import problems
from sft.data.formats import FORMATS
from sft.data.formats.detect import detect


def test_there_is_a_row_of_every_format() -> None:
    assert list(ROWS) == list(CANONICAL) == list(FORMATS)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_becomes_exactly_this_canonical_row(name: str) -> None:
    found = [json.loads(outcome.line) for outcome in outcomes(name, ROWS[name])]
    assert found == [BASE | row for row in CANONICAL[name]]
    assert [problems(row) for row in found] == [[] for _ in found]


@pytest.mark.parametrize("name", ROWS)
def test_a_format_is_told_by_its_rows(name: str) -> None:
    assert detect([(1, ROWS[name])]) == name
