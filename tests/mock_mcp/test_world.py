from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from typing import Any

import pytest

from mock_mcp.world import DOMAINS, World

WORLD = World.build(7)


class _Table:
    """A domain whose state is one table."""

    def __init__(self, rows: dict[str, dict[str, Any]], writes: int = 0) -> None:
        self.rows = rows
        self.writes = writes

    def copy(self) -> _Table:
        return _Table({key: dict(row) for key, row in self.rows.items()}, self.writes)

    def snapshot(self) -> dict[str, dict[str, dict[str, Any]]]:
        return {"rows": self.rows}


def _small() -> World:
    return World(0, *(_Table({"A1": {"x": 1}, "A2": {"x": 2}}) for _ in DOMAINS))  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_world_and_digest() -> None:
    again = World.build(7)
    assert again.snapshot() == WORLD.snapshot()
    assert again.digest() == WORLD.digest()
    assert World.build(8).digest() != WORLD.digest()


def test_every_domain_differs_between_seeds() -> None:
    other = World.build(8).states()
    for domain, state in WORLD.states().items():
        assert state.snapshot() != other[domain].snapshot(), domain


def test_the_digest_does_not_depend_on_the_process() -> None:
    program = (
        "from mock_mcp.world import World; import sys; sys.stdout.write(World.build(7).digest())"
    )
    for hash_seed in ("1", "2"):
        out = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(filter(None, sys.path))},
        )
        assert out.stdout == WORLD.digest()


def test_the_digest_is_the_hash_of_the_snapshot_as_json() -> None:
    text = json.dumps(WORLD.snapshot(), sort_keys=True, ensure_ascii=False)
    assert WORLD.digest() == hashlib.sha256(text.encode()).hexdigest()


def test_the_snapshot_names_every_domain() -> None:
    assert {name.split(".")[0] for name in WORLD.snapshot()} == {*DOMAINS}


def test_a_fresh_world_has_no_changes_and_a_copy_equals_it() -> None:
    copy = WORLD.copy()
    assert copy.digest() == WORLD.digest()
    assert copy.changes_since(WORLD) == {}
    assert copy.writes == WORLD.writes == 0


def test_changed_added_and_removed_rows_are_told_by_table() -> None:
    before = _small()
    after = before.copy()
    rows: Any = after.data
    rows.rows["A1"]["x"] = 5
    rows.rows["A3"] = {"x": 3}
    del rows.rows["A2"]
    rows.writes = 3
    assert after.changes_since(before) == {
        "data.rows": {"A1": {"x": 5}, "A2": None, "A3": {"x": 3}}
    }
    assert before.data.snapshot() == {"rows": {"A1": {"x": 1}, "A2": {"x": 2}}}
    assert after.writes == 3


def test_a_write_that_restores_the_row_is_no_change() -> None:
    before = _small()
    after = before.copy()
    rows: Any = after.assistant
    rows.writes = 2
    assert after.changes_since(before) == {}


def test_domains_draw_from_generators_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from_math: list[float] = []
    build = type(WORLD.math).build

    def greedy(rng: random.Random) -> Any:
        from_math.append(rng.random())
        return build(rng)

    monkeypatch.setattr(type(WORLD.math), "build", staticmethod(greedy))
    other = World.build(7)
    assert from_math
    assert other.math.snapshot() != WORLD.math.snapshot()
    assert other.search.snapshot() == WORLD.search.snapshot()
    assert other.database.snapshot() == WORLD.database.snapshot()
