"""Whether the world has changed as a `FinalState` goal wants.

`Turn.state` holds, for every table that changed since the episode began, the rows that changed:
the row as it is now, or None where it was removed. An expected row matches a row whose named
fields are all EQUAL. A row id that starts with `+` stands for any row that changed or was added
and that the goal does not name; several such rows of one table are matched one to one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rewards.findings import Finding, same_json, show
from rewards.goals import FinalState

Row = Mapping[str, Any] | None
Rows = Mapping[str, Row]


def check_state(goal: FinalState, state: Mapping[str, Rows], digest: str) -> Finding:
    """Return whether the changes of the world are those of `goal`.

    Args:
        goal: The goal.
        state: Table -> row id -> the row as it is now, or None; only what changed.
        digest: Digest of the world, or "" where none was recorded.

    Returns:
        The finding.
    """
    if goal.digest is not None:
        if digest != goal.digest:
            return Finding(False, f"the state digest is {show(digest)}, not {show(goal.digest)}")
        if not goal.changes:
            return Finding(True, "the state digest is the expected one")
    for table, expected in goal.changes.items():
        finding = _check_table(table, expected, state.get(table, {}))
        if not finding.holds:
            return finding
    if goal.only:
        return _nothing_else(goal, state)
    return Finding(True, "the expected rows changed as wanted")


def _check_table(table: str, expected: Rows, actual: Rows) -> Finding:
    for row_id, row in expected.items():
        if row_id.startswith("+"):
            continue
        if row_id not in actual:
            return Finding(False, f"{table} {row_id} did not change")
        problem = _difference(row, actual[row_id])
        if problem:
            return Finding(False, f"{table} {row_id}: {problem}")
    return _check_new_rows(table, expected, actual)


def _difference(expected: Row, actual: Row) -> str:
    """Return what keeps a row from being the expected one, or ""."""
    if expected is None or actual is None:
        if expected is None and actual is None:
            return ""
        return "the row is still there" if expected is None else "the row was removed"
    for field, value in expected.items():
        if field not in actual:
            return f"the row has no field {field}"
        if not same_json(actual[field], value):
            return f"{field} is {show(actual[field])}, the goal wants {show(value)}"
    return ""


def _check_new_rows(table: str, expected: Rows, actual: Rows) -> Finding:
    wanted = [row for row_id, row in expected.items() if row_id.startswith("+")]
    candidates = _unnamed_rows(expected, actual)
    matched = _match_all(wanted, list(candidates.values()))
    if matched:
        return Finding(True, "")
    if len(candidates) == 1 and len(wanted) == 1:
        row_id, row = next(iter(candidates.items()))
        return Finding(False, f"{table} {row_id}: {_difference(wanted[0], row)}")
    found = f"{len(candidates)} changed" if candidates else "none was added"
    return Finding(False, f"{table}: no new row for each of {show(wanted)} ({found})")


def _unnamed_rows(expected: Rows, actual: Rows) -> dict[str, Row]:
    return {key: row for key, row in actual.items() if key not in expected and row is not None}


def _match_all(wanted: Sequence[Row], candidates: Sequence[Row]) -> bool:
    """Return whether every wanted row has a candidate of its own (Kuhn's bipartite matching)."""
    fits = [[not _difference(row, other) for other in candidates] for row in wanted]
    owner: dict[int, int] = {}

    def place(index: int, tried: set[int]) -> bool:
        for candidate, fit in enumerate(fits[index]):
            if not fit or candidate in tried:
                continue
            tried.add(candidate)
            if candidate not in owner or place(owner[candidate], tried):
                owner[candidate] = index
                return True
        return False

    return all(place(index, set()) for index in range(len(wanted)))


def _nothing_else(goal: FinalState, state: Mapping[str, Rows]) -> Finding:
    for table, actual in state.items():
        expected = goal.changes.get(table, {})
        new = sum(row_id.startswith("+") for row_id in expected)
        others = [row_id for row_id in actual if row_id not in expected]
        if len(others) > new:
            shown = ", ".join(others[:4])
            allowed = f" (only {new} new)" if new else ""
            return Finding(False, f"{table} changed elsewhere as well: {shown}{allowed}")
    return Finding(True, "the world changed as wanted and nothing else did")
