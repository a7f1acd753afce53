from __future__ import annotations

import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from curated_rows import read, row, run, write
from hypothesis import given
from hypothesis import strategies as st

from sft.data.rows import Located, conversation
from sft.data.sides import Groups, deal, group_sizes
from sft.data.unroll import unrolled

SIDES = ("train", "validation", "test")


def many(count: int) -> list[dict[str, Any]]:
    """Rows of `count` conversations, each unrolled into two."""
    words = random.Random(0)
    names = [f"{words.getrandbits(60):x} {words.getrandbits(60):x}" for _ in range(count)]
    return [one for name in names for one in unrolled(row(name))]


def sides_of(folder: Path) -> dict[str, set[str]]:
    """Conversation -> the files that it stands in."""
    found = defaultdict(set)
    for name in SIDES:
        for one in read(folder / f"{name}.jsonl"):
            found[conversation(one)].add(name)
    return found


def test_no_conversation_is_on_two_sides_and_no_row_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = many(60)
    path = write(tmp_path / "in.jsonl", rows)
    assert run("split", path, tmp_path / "out", "--shares", 0.8, 0.1, 0.1) == 0
    found = sides_of(tmp_path / "out")
    assert len(found) == 60
    assert all(len(names) == 1 for names in found.values())
    written = [one for name in SIDES for one in read(tmp_path / "out" / f"{name}.jsonl")]
    assert sorted(map(json.dumps, written)) == sorted(map(json.dumps, rows))
    assert [len(read(tmp_path / "out" / f"{name}.jsonl")) for name in SIDES] == [96, 12, 12]
    assert "80.0" in capsys.readouterr().out


def test_the_seed_alone_decides_not_the_order_of_the_rows(tmp_path: Path) -> None:
    rows = many(40)
    path = write(tmp_path / "in.jsonl", rows)
    other = write(tmp_path / "other.jsonl", random.Random(1).sample(rows, len(rows)))
    shares = ("--shares", 0.6, 0.2, 0.2)
    for name, data, seed in (("a", path, 3), ("b", other, 3), ("c", path, 4)):
        assert run("split", data, tmp_path / name, *shares, "--seed", seed) == 0
    first, again, third = (sides_of(tmp_path / name) for name in "abc")
    assert first == again != third


def test_rows_that_say_nearly_the_same_stay_together_unless_told_otherwise(tmp_path: Path) -> None:
    text = "Please give me the temperature, the wind and the chance of rain for every day"
    rows = many(40)
    for number in range(20):
        said = json.loads(json.dumps(row(f"n{number}")))
        said["messages"][0]["content"] = f"{text} of the coming week in this city, number {number}"
        said["messages"][1:] = [{"role": "assistant", "content": text * 2}]
        rows.append(said)
    path = write(tmp_path / "in.jsonl", rows)
    shares = ("--shares", 0.5, 0.25, 0.25)
    for name, similarity in (("near", 0.7), ("exact", 0)):
        folder = tmp_path / name
        assert run("split", path, folder, *shares, "--near_duplicates", similarity) == 0
    near, exact = (
        set().union(
            *(found for name, found in sides_of(tmp_path / folder).items() if name[0] == "n")
        )
        for folder in ("near", "exact")
    )
    assert len(near) == 1
    assert len(exact) == 3


def test_exact_copies_under_another_id_always_stay_together() -> None:
    rows = [{**row("Rome"), "id": f"copy-{number}"} for number in range(5)]
    groups, sizes = group_sizes((Located(Path("x"), 1, one) for one in rows), 0)
    assert len({groups.root(name) for name in sizes}) == 1


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=4), st.integers(1, 9), min_size=1),
    st.lists(st.tuples(st.text("abc", max_size=4), st.text("abc", max_size=4)), max_size=6),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(0, 99),
)
def test_groups_are_whole_and_shares_are_met_up_to_the_largest_group(
    sizes: dict[str, int], pairs: list[tuple[str, str]], weights: list[int], seed: int
) -> None:
    groups = Groups()
    for first, second in pairs:
        if first in sizes and second in sizes:
            groups.join(first, second)
    shares = [weight / sum(weights) for weight in weights]
    sides = deal(groups, sizes, shares, seed)
    assert sides.keys() == sizes.keys()
    of_group = defaultdict(set)
    rows_of_group: dict[str, int] = defaultdict(int)
    for name, side in sides.items():
        of_group[groups.root(name)].add(side)
        rows_of_group[groups.root(name)] += sizes[name]
    assert all(len(found) == 1 for found in of_group.values())
    total = sum(sizes.values())
    for side, share in enumerate(shares):
        count = sum(size for name, size in sizes.items() if sides[name] == side)
        assert count - share * total <= max(rows_of_group.values())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--shares", 0.5, 0.6), "3 --names but 2 --shares"),
        (("--shares", 0.5, 0.3, 0.3), "must be above 0 and sum to 1, not 1.1"),
        (("--shares", 1, 0, 0), "must be above 0"),
        (("--names", "a", "a", "b"), '"a" is no name of a file, or is given twice'),
        (("--names", "a", "../b", "c"), '"../b" is no name of a file'),
    ],
)
def test_flags_that_make_no_split_are_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[object, ...],
    message: str,
) -> None:
    path = write(tmp_path / "in.jsonl", many(5))
    assert run("split", path, tmp_path / "out", *flags) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_empty_side_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "in.jsonl", many(3))
    assert run("split", path, tmp_path / "out") == 2
    assert "3 conversations are too few for a share of 0.05" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_similarity_is_a_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("split", tmp_path / "in.jsonl", tmp_path / "out", "--near_duplicates", 2)
    assert "2 is no share from 0 to 1" in capsys.readouterr().err
