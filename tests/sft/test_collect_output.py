from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rewards.errors import FormatError
from rewards.serialise import to_line
from sft.collecting.output import Earlier, RowWriter, resume

LINES = [to_line({"id": f"é{n}", "model": "tiny", "messages": []}) for n in range(4)]


def test_a_missing_file_holds_nothing(tmp_path: Path) -> None:
    assert resume(tmp_path / "none.jsonl", "tiny") == Earlier()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len("".join(LINES).encode())))
def test_wherever_writing_stopped_whole_rows_stay_and_nothing_else(
    tmp_path: Path, size: int
) -> None:
    path = tmp_path / "traces.jsonl"
    whole = "".join(LINES).encode()
    path.write_bytes(whole[:size])
    earlier = resume(path, "tiny")
    kept = path.read_bytes()
    assert kept.endswith(b"\n") or not kept
    assert whole.startswith(kept)
    assert len(earlier.ids) == kept.count(b"\n")
    assert earlier.discarded == (len(kept) < size)
    # A row is only missing if its text was not all there.
    assert len(earlier.ids) == sum(
        len("".join(LINES[: n + 1]).encode()) - 1 <= size for n in range(len(LINES))
    )


def test_a_damaged_line_in_the_middle_is_named_and_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    damaged = LINES[0].encode() + b"\xff\n" + LINES[1].encode()
    path.write_bytes(damaged)
    with pytest.raises(FormatError, match=r"traces.jsonl:2: not UTF-8"):
        resume(path, "tiny")
    assert path.read_bytes() == damaged


def test_a_row_is_in_the_file_before_the_next_one_is_played(tmp_path: Path) -> None:
    path = tmp_path / "new" / "traces.jsonl"
    writer = RowWriter(path)
    writer.write({"id": "a", "model": "tiny", "text": "\ud83d é"})
    assert resume(path, "tiny").ids == {"a"}
    writer.close()
