from __future__ import annotations

import hashlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import envs.evidence
from envs.errors import EnvsError
from envs.evidence import MAX_DEPTH, FolderError, FolderWatch
from rewards.episode import MAX_FILE_TEXT, FileEvidence


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    (made / "notes").mkdir(parents=True)
    (made / "a.txt").write_text("alpha")
    (made / "notes" / "b.txt").write_text("beta")
    return made


def file(data: bytes, text: str | None) -> FileEvidence:
    return FileEvidence("file", len(data), hashlib.sha256(data).hexdigest(), text)


def test_a_folder_that_nobody_touched_has_not_changed(folder: Path) -> None:
    watch = FolderWatch(folder)
    assert watch.changes() == {}
    assert watch.changes() == {}


def test_what_was_added_edited_and_removed_is_named_by_its_path(folder: Path) -> None:
    watch = FolderWatch(folder)
    (folder / "a.txt").write_text("caff\u00e8\r\n", newline="")
    (folder / "notes" / "b.txt").unlink()
    (folder / "new" / "deep").mkdir(parents=True)
    (folder / "new" / "deep" / ".hidden").write_bytes(b"\xff\x00")
    assert watch.changes() == {
        "a.txt": file("caff\u00e8\r\n".encode(), "caff\u00e8\r\n"),
        "new": FileEvidence("folder"),
        "new/deep": FileEvidence("folder"),
        "new/deep/.hidden": file(b"\xff\x00", None),
        "notes/b.txt": None,
    }
    assert list(watch.changes()) == ["a.txt", "new", "new/deep", "new/deep/.hidden", "notes/b.txt"]


def test_what_is_put_back_as_it_was_has_not_changed(folder: Path) -> None:
    watch = FolderWatch(folder)
    (folder / "a.txt").unlink()
    (folder / "notes").rename(folder / "elsewhere")
    assert set(watch.changes()) == {"a.txt", "notes", "notes/b.txt", "elsewhere", "elsewhere/b.txt"}
    (folder / "a.txt").write_text("alpha")
    (folder / "elsewhere").rename(folder / "notes")
    assert watch.changes() == {}


def test_an_edit_that_leaves_size_and_times_as_they_were_is_seen(folder: Path) -> None:
    path = folder / "a.txt"
    os.utime(path, ns=(10**18, 10**18))
    watch = FolderWatch(folder)
    path.write_text("ALPHA")
    os.utime(path, ns=(10**18, 10**18))
    assert watch.changes()["a.txt"] == file(b"ALPHA", "ALPHA")


def test_edits_in_quick_succession_are_all_seen(folder: Path) -> None:
    watch = FolderWatch(folder)
    for number in range(200):
        text = f"{number:05}"
        (folder / "a.txt").write_text(text)
        entry = watch.changes()["a.txt"]
        assert entry is not None
        assert entry.text == text


def test_a_file_that_nobody_wrote_to_is_not_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if everything had been written long before it is read.
    monkeypatch.setattr(envs.evidence, "RACY_NS", -(10**12))
    watch = FolderWatch(folder)
    (folder / "notes" / "b.txt").write_text("changed")
    read: list[str] = []

    def counted(self: FolderWatch, inside: int, name: str) -> FileEvidence:
        read.append(name)
        return original(self, inside, name)

    original = FolderWatch._read_file
    monkeypatch.setattr(FolderWatch, "_read_file", counted)
    first = watch.changes()
    assert read == ["b.txt"]
    assert watch.changes() == first
    assert read == ["b.txt"]


def test_a_link_is_evidence_of_its_own_and_never_followed(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("hidden")
    watch = FolderWatch(folder)
    (folder / "to_folder").symlink_to(secret)
    (folder / "to_file").symlink_to("../secret/key")
    (folder / "to_nothing").symlink_to("nowhere")
    (folder / "a.txt").unlink()
    (folder / "a.txt").symlink_to("notes/b.txt")
    assert watch.changes() == {
        "a.txt": FileEvidence("link", text="notes/b.txt"),
        "to_file": FileEvidence("link", text="../secret/key"),
        "to_folder": FileEvidence("link", text=str(secret)),
        "to_nothing": FileEvidence("link", text="nowhere"),
    }


def test_a_link_that_points_elsewhere_has_changed(folder: Path) -> None:
    link = folder / "link"
    link.symlink_to("a.txt")
    watch = FolderWatch(folder)
    link.unlink()
    link.symlink_to("b.txt")
    assert watch.changes() == {"link": FileEvidence("link", text="b.txt")}


def test_a_pipe_or_a_socket_is_named_and_does_not_block(folder: Path) -> None:
    watch = FolderWatch(folder)
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(folder / "socket"))
        assert watch.changes() == {
            "pipe": FileEvidence("other"),
            "socket": FileEvidence("other"),
        }


def test_a_pipe_that_takes_the_place_of_a_file_while_it_is_read_does_not_block(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = FolderWatch(folder)
    path = folder / "a.txt"
    path.write_text("changed")
    original = FolderWatch._read_file

    def swapped(self: FolderWatch, inside: int, name: str) -> FileEvidence:
        if name == "a.txt":
            path.unlink()
            os.mkfifo(path)
        return original(self, inside, name)

    monkeypatch.setattr(FolderWatch, "_read_file", swapped)
    assert watch.changes() == {"a.txt": FileEvidence("other")}


def test_a_link_that_takes_the_place_of_a_file_while_it_is_read_is_not_followed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("hidden")
    watch = FolderWatch(folder)
    path = folder / "a.txt"
    path.write_text("changed")
    original = FolderWatch._read_file

    def swapped(self: FolderWatch, inside: int, name: str) -> FileEvidence:
        if name == "a.txt":
            path.unlink()
            path.symlink_to(tmp_path / "key")
        return original(self, inside, name)

    monkeypatch.setattr(FolderWatch, "_read_file", swapped)
    assert watch.changes() == {"a.txt": FileEvidence("other")}


def test_what_vanishes_while_it_is_looked_at_is_gone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = FolderWatch(folder)
    names = os.listdir

    def with_a_ghost(inside: int) -> list[str]:
        return [*names(inside), "ghost"]

    monkeypatch.setattr(envs.evidence.os, "listdir", with_a_ghost)
    assert watch.changes() == {}


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_what_may_not_be_read_is_named(folder: Path) -> None:
    watch = FolderWatch(folder)
    (folder / "a.txt").chmod(0)
    (folder / "notes").chmod(0)
    changes = watch.changes()
    (folder / "notes").chmod(0o700)
    other = FileEvidence("other")
    assert changes == {"a.txt": other, "notes": other, "notes/b.txt": None}


def test_a_folder_that_is_gone_has_lost_everything(folder: Path) -> None:
    watch = FolderWatch(folder)
    folder.rename(folder.with_name("moved"))
    assert watch.changes() == {"a.txt": None, "notes": None, "notes/b.txt": None}


def test_a_long_file_is_evidence_by_its_hash(folder: Path) -> None:
    watch = FolderWatch(folder)
    data = b"x" * (MAX_FILE_TEXT + 1)
    (folder / "long").write_bytes(data)
    (folder / "just").write_bytes(data[1:])
    (folder / "huge").write_bytes(data * 40)
    assert watch.changes() == {
        "long": file(data, None),
        "just": file(data[1:], data[1:].decode()),
        "huge": file(data * 40, None),
    }


def test_names_that_are_not_utf_8_are_kept(folder: Path) -> None:
    watch = FolderWatch(folder)
    with open(os.fsencode(folder) + b"/caff\xe8", "wb"):  # noqa: PTH123
        pass
    assert list(watch.changes()) == ["caff\udce8"]


def test_a_folder_that_holds_too_much_is_an_error_with_the_limit(folder: Path) -> None:
    watch = FolderWatch(folder, max_entries=5, max_bytes=100)
    (folder / "big").write_bytes(b"x" * 101)
    with pytest.raises(FolderError, match=r"work holds more than 100 bytes"):
        watch.changes()
    (folder / "big").write_bytes(b"x" * 95)
    with pytest.raises(FolderError, match="100 bytes"):
        watch.changes()
    (folder / "big").write_bytes(b"")
    (folder / "more").touch()
    assert set(watch.changes()) == {"big", "more"}
    (folder / "too_many").touch()
    with pytest.raises(FolderError, match=r"more than 5 entries"):
        watch.changes()
    with pytest.raises(FolderError, match=r"more than 5 entries"):
        FolderWatch(folder, max_entries=5)


def test_a_folder_that_is_nested_too_deeply_is_an_error(folder: Path) -> None:
    watch = FolderWatch(folder)
    (folder / "/".join("d" * (MAX_DEPTH - 1))).mkdir(parents=True)
    assert len(watch.changes()) == MAX_DEPTH - 1
    (folder / "/".join("d" * MAX_DEPTH)).mkdir()
    with pytest.raises(FolderError, match=f"{MAX_DEPTH} levels of folders"):
        watch.changes()


def test_a_missing_folder_cannot_be_watched(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("none", "file"):
        with pytest.raises(FolderError, match=f"{name} is missing"):
            FolderWatch(tmp_path / name)
    assert issubclass(FolderError, EnvsError)


def test_a_folder_that_vanishes_while_it_is_looked_at_is_gone_by_the_next_look(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = FolderWatch(folder)
    original = FolderWatch._subfolder

    def late(self: FolderWatch, inside: int, name: str, *rest: Any) -> Iterator[Any]:
        shutil.rmtree(folder / "notes", ignore_errors=True)
        return original(self, inside, name, *rest)

    monkeypatch.setattr(FolderWatch, "_subfolder", late)
    assert watch.changes() == {"notes/b.txt": None}
    assert watch.changes() == {"notes": None, "notes/b.txt": None}


@pytest.mark.parametrize("name", ["work", "a.txt", "notes"])
def test_a_fault_of_the_machine_is_no_evidence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    watch = FolderWatch(folder)
    (folder / "a.txt").write_text("changed")
    original = os.open

    def none_left(path: Any, *arguments: Any, **options: Any) -> int:
        if Path(path).name == name:
            raise OSError(24, "Too many open files")
        return original(path, *arguments, **options)

    monkeypatch.setattr(envs.evidence.os, "open", none_left)
    with pytest.raises(OSError, match="Too many open files"):
        watch.changes()


def test_no_file_descriptor_is_left_open(folder: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    watch = FolderWatch(folder, max_entries=3)
    (folder / "notes" / "one_more").touch()
    with pytest.raises(FolderError):
        watch.changes()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
