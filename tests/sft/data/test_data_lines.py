from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft.data import json_array
from sft.data.errors import DataFileError
from sft.data.json_array import members
from sft.data.jsonl import read_lines
from sft.data.whole_file import WholeFile


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_every_line_is_a_row_or_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    lines = [
        b'{"a": 1}',
        b"",
        b'{"a": ',
        b"[1]",
        b'{"a": "\xff"}',
        '{"a": "é"}'.encode("latin-1"),
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 400 + b"}",
        b'{"a": 1, "a": 2}',
        b'{"a": "\\ud800"}',
        b'{"a": ' + b"[" * 65 + b"]" * 65 + b"}",
        b"[" * 100_000,
        b'{"a": 1} {"b": 2}',
        b"\xef\xbb\xbf{}",
        '{"a": "é 字"}'.encode(),
        b' {"a": 2}\r',
    ]
    path = write(tmp_path / "a.jsonl", b"\n".join(lines))
    found = list(read_lines(path))
    assert [(line.number, str(line.reason or "")) for line in found] == [
        (1, ""),
        (3, "broken_json"),
        (4, "not_an_object"),
        (5, "not_utf8"),
        (6, "not_utf8"),
        (7, "broken_json"),
        (8, "broken_json"),
        (9, "broken_json"),
        (10, "broken_json"),
        (11, "broken_json"),
        (12, "too_deep"),
        (13, "too_deep"),
        (14, "broken_json"),
        (15, "broken_json"),
        (16, ""),
        (17, ""),
    ]
    assert [line.value for line in found if not line.error] == [{"a": 1}, {"a": "é 字"}, {"a": 2}]
    assert found[1].raw == b'{"a": '
    assert "byte 8" in found[3].error
    assert '"a" occurs twice' in found[8].error


def test_a_byte_order_mark_at_the_beginning_belongs_to_no_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"a": 1}\n')
    assert [line.value for line in read_lines(path)] == [{"a": 1}]


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "is empty"), ('{"a": 1}\n'.encode("utf-16"), "UTF-16"), (None, "No such file")],
)
def test_a_file_that_cannot_be_read_is_one_error(
    tmp_path: Path, content: bytes | None, told: str
) -> None:
    path = tmp_path / "a.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataFileError, match=told):
        list(read_lines(path))


def test_a_line_above_the_limit_is_passed_over_and_told(tmp_path: Path) -> None:
    long = b'{"a": "' + b"x" * 3_000_000 + b'"}'
    path = write(tmp_path / "a.jsonl", b'{"a": 1}\n' + long + b'\n{"a": 2}\n' + long)
    first, second, third, fourth = read_lines(path, limit_bytes=1_000)
    assert (first.value, third.value, third.number) == ({"a": 1}, {"a": 2}, 3)
    assert str(second.reason) == str(fourth.reason) == "too_long"
    assert f"{len(long):,} bytes" in fourth.error
    assert second.raw == long[:1_000]


def test_a_line_as_long_as_the_limit_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'{"a": 1}\n{"a": 12}\n')
    assert [bool(line.error) for line in read_lines(path, limit_bytes=8)] == [False, True]


def test_a_json_file_may_be_one_array(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"a": '],}\\"'}, {"b": [1, {"c": 2}]}, {}]
    for indent in (None, 2):
        path = write(tmp_path / "a.json", json.dumps(rows, indent=indent).encode())
        assert [(line.number, line.value) for line in read_lines(path)] == [
            (number, row) for number, row in enumerate(rows, start=1)
        ]


def test_a_json_file_may_be_one_object_of_many_rows(tmp_path: Path) -> None:
    rows = {"k1": {"a": 1}, "k2": {"b": [2]}}
    path = write(tmp_path / "a.json", json.dumps(rows, indent=1).encode())
    assert [line.value for line in read_lines(path)] == [{"k1": {"a": 1}}, {"k2": {"b": [2]}}]


def test_a_json_file_may_hold_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", b'\n{"a": 1}\n{"a": 2}\n')
    assert [line.value for line in read_lines(path)] == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("content", "reasons"),
    [
        (b"[]", []),
        (b"[{}, ]", [""]),
        (b'[{"a": 1}, {"a": ', ["", "broken_json"]),
        (b'[{"a": 1]', ["broken_json"]),
        (b"[{}] and more", ["", "broken_json"]),
        (b"[{}, 3]", ["", "not_an_object"]),
        (b"\xef\xbb\xbf[{}]", [""]),
        (b"[{}]}", [""]),
    ],
)
def test_a_broken_array_loses_no_row_in_silence(
    tmp_path: Path, content: bytes, reasons: list[str]
) -> None:
    path = write(tmp_path / "a.json", content)
    assert [str(line.reason or "") for line in read_lines(path)] == reasons


def test_a_member_above_the_limit_is_passed_over_and_told(tmp_path: Path) -> None:
    rows = [{"a": 1}, {"a": "x" * 5_000}, {"a": 2}]
    path = write(tmp_path / "a.json", json.dumps(rows, separators=(",", ": ")).encode())
    found = list(read_lines(path, limit_bytes=2_000))
    assert [str(line.reason or "") for line in found] == ["", "too_long", ""]
    assert "5,009 bytes" in found[1].error
    assert len(found[1].raw) == 1_000


ROWS = st.lists(
    st.dictionaries(
        st.text(max_size=3),
        st.recursive(st.text(max_size=6), lambda v: st.lists(v, max_size=2), max_leaves=4),
        max_size=2,
    ),
    max_size=5,
)


@given(ROWS, st.integers(1, 7), st.sampled_from([None, 1]), st.booleans())
def test_members_are_found_wherever_a_chunk_ends(
    rows: list[dict[str, Any]], chunk: int, indent: int | None, escaped: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_array, "CHUNK_BYTES", chunk)
        content = json.dumps(rows, indent=indent, ensure_ascii=escaped).encode()
        found = list(members(io.BytesIO(content), 1_000, 10))
    assert [json.loads(member) for member, _, _ in found] == rows
    assert all(too_long == 0 for _, _, too_long in found)


def test_parquet_rows_are_read_with_times_as_text(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    when = pyarrow.array([0, 1], pyarrow.timestamp("s"))
    table = pyarrow.table({"a": ["x", None], "b": [[1], []], "t": when})
    pyarrow.parquet.write_table(table, path)
    assert [line.value for line in read_lines(path)] == [
        {"a": "x", "b": [1], "t": "1970-01-01T00:00:00"},
        {"a": None, "b": [], "t": "1970-01-01T00:00:01"},
    ]


@pytest.mark.parametrize(
    ("table", "told"),
    [({"a": [b"x"]}, "holds bytes"), ({"a": pyarrow.array([], "string")}, "is empty")],
)
def test_parquet_that_holds_no_json_is_one_error(
    tmp_path: Path, table: dict[str, Any], told: str
) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    with pytest.raises(DataFileError, match=told):
        list(read_lines(path))


def test_what_is_no_parquet_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="cannot read"):
        list(read_lines(write(tmp_path / "a.parquet", b"PAR1 nothing")))


def test_a_file_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.jsonl"
    with WholeFile(path) as file:
        file.write({"a": "é"})
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == '{"a": "é"}\n'
    assert list(path.parent.iterdir()) == [path]


def fill(path: Path, rows: int, *, interrupted: bool = False) -> None:
    with WholeFile(path) as file:
        for _ in range(rows):
            file.write({"a": "x" * 100})
        if interrupted:
            raise KeyboardInterrupt


def test_a_failed_run_leaves_what_stood_there_before(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b"before\n")
    with pytest.raises(KeyboardInterrupt):
        fill(path, 1, interrupted=True)
    assert path.read_bytes() == b"before\n"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_run_left_is_found_and_written_anew(tmp_path: Path) -> None:
    left = write(tmp_path / "a.jsonl.partial", b'{"a": 1}\n{"a"')
    with WholeFile(tmp_path / "a.jsonl") as file:
        assert file.found == left
        file.write({"b": 2})
    assert (tmp_path / "a.jsonl").read_bytes() == b'{"b": 2}\n'
    assert not left.exists()


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.partial").symlink_to("/dev/full")
    with pytest.raises(DataFileError, match=r"cannot write .*a\.jsonl: the disk is full"):
        fill(tmp_path / "a.jsonl", 10_000)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_at_the_last_moment_is_an_error_too(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.partial").symlink_to("/dev/full")
    with pytest.raises(DataFileError, match="the disk is full"):
        fill(tmp_path / "a.jsonl", 1)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="it is a folder"):
        WholeFile(tmp_path)
    file = write(tmp_path / "file", b"")
    with pytest.raises(DataFileError, match="cannot write"):
        WholeFile(file / "a.jsonl")
