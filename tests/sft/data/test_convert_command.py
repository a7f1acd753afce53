from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from canonical_rows import BASE, CANONICAL
from format_rows import GLAIVE_CHAT, GLAIVE_SYSTEM, ROWS

from sft.data.__main__ import main
from sft.data.conversion import Refused, Settings, convert_line
from sft.data.jsonl import Line

GLAIVE = ROWS["glaive"]
DEADLINE_S = 120


def write(path: Path, *rows: Any) -> Path:
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def many(count: int) -> list[dict[str, str]]:
    return [
        {"system": GLAIVE_SYSTEM, "chat": GLAIVE_CHAT.replace("degrees", f"degrees, {number}")}
        for number in range(count)
    ]


class Conversion:
    """Runs `convert` in a folder."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        self.out = folder / "out.jsonl"
        self.rejects = folder / "rejects.jsonl"

    def words(self, source: Path | str, *flags: str, name: str = "auto") -> list[str]:
        paths = [str(source), str(self.out), "--rejects", str(self.rejects)]
        model = [] if "--model" in flags else ["--model", "none"]
        return ["convert", "--format", name, *paths, *model, *flags]

    def run(self, source: Path | str, *flags: str, name: str = "auto") -> tuple[int, str, str]:
        code = main(self.words(source, *flags, name=name))
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def start(self, source: Path, *flags: str, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "sft.data", *self.words(source, *flags, name="glaive")]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.read_text(encoding="utf-8").splitlines()]

    def refused(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.rejects.read_text(encoding="utf-8").splitlines()]

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def conversion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Conversion:
    return Conversion(tmp_path, capsys)


def test_every_row_is_accepted_rejected_or_a_duplicate(conversion: Conversion) -> None:
    broken = {**GLAIVE, "chat": "USER: a"}
    silent = {"system": "", "chat": "USER: Hi\nASSISTANT: Hello"}
    source = write(conversion.folder / "rows.jsonl", GLAIVE, b"{", GLAIVE, b"", broken, silent)
    code, out, _ = conversion.run(source)
    assert code == 0
    assert "5 rows = 2 accepted + 2 rejected + 1 duplicates" in out
    assert "accepted: 1 with calls, 1 without" in out
    assert "rejected:         1  broken_json" in out
    assert conversion.rows()[0] == BASE | CANONICAL["glaive"][0]
    assert [row["id"] for row in conversion.rows()] == ["rows-1", "rows-6"]
    assert [(row["line"], row["reason"]) for row in conversion.refused()] == [
        (2, "broken_json"),
        (5, "no_assistant_turn"),
    ]
    assert json.loads(conversion.refused()[1]["row"]) == broken


def test_the_calls_of_accepted_rows_render_and_parse_back(conversion: Conversion) -> None:
    source = write(conversion.folder / "rows.jsonl", GLAIVE)
    code, _, _ = conversion.run(source, "--model", "embedded")
    assert code == 0
    assert conversion.rows() == [BASE | CANONICAL["glaive"][0]]


def test_the_licence_and_what_a_source_spoils_travel_with_the_row(conversion: Conversion) -> None:
    source = write(conversion.folder / "rows.jsonl", ROWS["apigen-mt"])
    _, out, _ = conversion.run(source)
    (row,) = conversion.rows()
    assert (row["licence"], row["contaminates"]) == ("cc-by-nc-4.0", ["tau-bench"])
    assert "spoils tau-bench" in out
    conversion.run(source, "--licence", "mine")
    assert conversion.rows()[0]["licence"] == "mine"


def test_several_processes_write_the_same_bytes_as_one(conversion: Conversion) -> None:
    rows = [*many(700), *many(10), {"system": 5}, *many(40)]
    source = write(conversion.folder / "rows.jsonl", *rows, b"{")
    written = []
    for workers in ("1", "3"):
        code, out, _ = conversion.run(source, "--workers", workers)
        assert code == 0
        assert "752 rows = 700 accepted + 2 rejected + 50 duplicates" in out
        written.append((conversion.out.read_bytes(), conversion.rejects.read_bytes()))
    assert written[0] == written[1]


def test_two_formats_in_one_file_are_an_error_that_names_the_line(conversion: Conversion) -> None:
    near = write(conversion.folder / "near.jsonl", GLAIVE, ROWS["xlam"])
    far = write(conversion.folder / "far.jsonl", *many(300), ROWS["xlam"])
    for source, line in ((near, 2), (far, 301)):
        code, _, err = conversion.run(source)
        assert code == 2
        assert f"line {line} is xlam, and the lines before it are glaive" in err
        assert not conversion.out.exists()
    code, out, _ = conversion.run(far, name="glaive")
    assert code == 0
    assert "rejected:         1  missing_field" in out


def test_rows_of_no_known_format_are_an_error_that_says_what_it_saw(
    conversion: Conversion,
) -> None:
    source = write(conversion.folder / "rows.jsonl", {"prompt": "a", "completion": "b"})
    code, _, err = conversion.run(source)
    assert code == 2
    assert 'line 1 is of no known format: it has "prompt", "completion"' in err


def test_a_later_row_of_no_known_format_is_rejected(conversion: Conversion) -> None:
    source = write(conversion.folder / "rows.jsonl", *many(200), {"prompt": "a"})
    code, _, _ = conversion.run(source)
    assert code == 0
    assert [row["line"] for row in conversion.refused()] == [201]


def test_the_wrong_format_accepts_nothing_and_says_so(conversion: Conversion) -> None:
    source = write(conversion.folder / "rows.jsonl", GLAIVE)
    code, out, _ = conversion.run(source, name="xlam")
    assert code == 1
    assert "1 rows = 0 accepted + 1 rejected" in out


def test_a_format_that_does_not_exist_ends_with_the_list(conversion: Conversion) -> None:
    with pytest.raises(SystemExit) as end:
        conversion.run("rows.jsonl", name="glave")
    assert end.value.code == 2


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda folder: folder / "none.jsonl", "cannot read"),
        (lambda folder: write(folder / "a.jsonl"), "is empty"),
        (lambda folder: write(folder / "a.jsonl", b"", b" "), "holds no rows"),
        (lambda folder: write(folder / "a.jsonl", b"{"), "no line holds a row"),
        (lambda folder: folder / "out.jsonl", "three different files"),
        (lambda folder: "someone/no-such-data-set", "cannot load the data set"),
        (lambda folder: folder, "cannot load the data set"),
    ],
)
def test_a_source_that_cannot_be_used_is_one_line_and_code_2(
    conversion: Conversion, make: Callable[[Path], Any], told: str
) -> None:
    code, _, err = conversion.run(make(conversion.folder))
    assert code == 2
    assert told in err
    assert err.count("\n") == 1
    assert not conversion.out.exists()


@pytest.mark.parametrize("workers", ["0", "-1", "x"])
def test_the_number_of_processes_is_positive(conversion: Conversion, workers: str) -> None:
    with pytest.raises(SystemExit):
        conversion.run("rows.jsonl", "--workers", workers)


def test_a_line_of_a_hundred_megabytes_costs_neither_memory_nor_the_run(
    conversion: Conversion,
) -> None:
    source = conversion.folder / "rows.jsonl"
    with source.open("wb") as file:
        file.write(b'{"system": "')
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n' + json.dumps(GLAIVE).encode() + b"\n")
    tracemalloc.start()
    code, _, _ = conversion.run(source)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert code == 0
    assert peak < 60_000_000
    assert [(row["line"], row["reason"]) for row in conversion.refused()] == [(1, "too_long")]
    assert [row["id"] for row in conversion.rows()] == ["rows-2"]


def test_a_data_set_folder_is_streamed_by_its_training_split(
    conversion: Conversion,
) -> None:
    folder = conversion.folder / "set"
    folder.mkdir()
    write(folder / "train.jsonl", ROWS["trl"], {**ROWS["trl"], "id": "t-2"})
    write(folder / "test.jsonl", GLAIVE)
    code, out, _ = conversion.run(folder)
    assert code == 0
    assert "2 rows = 1 accepted + 0 rejected + 1 duplicates" in out
    (row,) = conversion.rows()
    assert row["messages"] == CANONICAL["trl"][0]["messages"]
    assert row["source"] == "set"


def test_a_data_set_without_a_training_split_must_be_told_apart(conversion: Conversion) -> None:
    folder = conversion.folder / "set"
    folder.mkdir()
    write(folder / "test.jsonl", GLAIVE)
    write(folder / "validation.jsonl", GLAIVE)
    code, _, err = conversion.run(folder)
    assert code == 2
    assert "no split train, but:" in err


def test_a_row_that_does_not_parse_back_is_rejected(conversion: Conversion) -> None:
    source = write(conversion.folder / "rows.jsonl", GLAIVE)
    line = Line(1, json.loads(source.read_bytes()), raw=b"{}")
    settings = Settings("glaive", False, "s", "rows", "", "")
    (outcome,) = convert_line(line, settings, lambda row: False)
    assert isinstance(outcome, Refused)
    assert str(outcome.reason) == "not_round_trip"


def test_a_full_disk_is_one_clear_line_and_leaves_no_output(conversion: Conversion) -> None:
    source = write(conversion.folder / "rows.jsonl", *many(3))
    (conversion.folder / "out.jsonl.partial").symlink_to("/dev/full")
    code, _, err = conversion.run(source)
    assert code == 2
    assert "out.jsonl: the disk is full" in err
    assert conversion.files() == ["rejects.jsonl", "rows.jsonl"]


def test_a_file_that_may_not_grow_is_one_clear_line(conversion: Conversion) -> None:
    source = write(conversion.folder / "rows.jsonl", *many(200))
    limit = 50_000
    process = conversion.start(
        source,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 2
    assert "out.jsonl: File too large" in err
    assert conversion.files() == ["rows.jsonl"]


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not path.exists() or not path.stat().st_size:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.01)


@pytest.fixture
def endless(conversion: Conversion) -> Iterator[Path]:
    """A pipe that delivers rows as long as somebody reads."""
    path = conversion.folder / "rows.jsonl"
    os.mkfifo(path)
    rows = write(conversion.folder / "once.jsonl", *many(2_000))
    script = (
        f"rows = open({str(rows)!r}).read()\n"
        f"pipe = open({str(path)!r}, 'w')\n"
        "while True: pipe.write(rows)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    yield path
    process.kill()
    process.wait(DEADLINE_S)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_leaves_nothing_that_looks_complete(
    conversion: Conversion, endless: Path, workers: str
) -> None:
    process = conversion.start(endless, "--workers", workers, start_new_session=True)
    wait_for(conversion.folder / "out.jsonl.partial", process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert err == "interrupted: nothing was written\n"
    assert conversion.files() == ["once.jsonl", "rows.jsonl"]


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The workers, as soon as there are some: children of the fork server, not of the program."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        family = psutil.Process(process.pid).children(recursive=True)
        if workers := [one for one in family if one.ppid() != process.pid]:
            return workers
        time.sleep(0.05)
    raise AssertionError("the program has no workers")


def test_a_worker_that_dies_ends_the_run_with_one_clear_line(
    conversion: Conversion, endless: Path
) -> None:
    process = conversion.start(endless, "--workers", "2")
    for worker in workers_of(process):
        worker.kill()
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 2
    assert err == "error: a worker process died; is there enough memory? (--workers 1)\n"
    assert conversion.files() == ["once.jsonl", "rows.jsonl"]


def test_a_worker_that_dies_while_another_is_stuck_ends_the_run(
    conversion: Conversion, endless: Path
) -> None:
    process = conversion.start(endless, "--workers", "2")
    wait_for(conversion.folder / "out.jsonl.partial", process)
    stuck, dying = workers_of(process)
    stuck.suspend()
    while stuck.status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    dying.kill()
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 2
    assert err == "error: a worker process died; is there enough memory? (--workers 1)\n"
    assert not stuck.is_running()


def members(group: int) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(place.parent.name))
    return found


def test_a_killed_run_leaves_a_partial_file_and_no_process(
    conversion: Conversion, endless: Path
) -> None:
    process = conversion.start(endless, "--workers", "2", start_new_session=True)
    wait_for(conversion.folder / "out.jsonl.partial", process)
    process.kill()
    process.communicate(timeout=DEADLINE_S)
    end = time.monotonic() + DEADLINE_S
    while members(process.pid):
        assert time.monotonic() < end, "a worker outlives the conversion"
        time.sleep(0.05)
    assert not conversion.out.exists()
    assert not conversion.rejects.exists()
    source = write(conversion.folder / "again.jsonl", GLAIVE)
    code, _, err = conversion.run(source)
    assert code == 0
    assert "out.jsonl.partial of an interrupted run; beginning anew" in err
    assert len(conversion.rows()) == 1
    assert "out.jsonl.partial" not in conversion.files()
