from __future__ import annotations

import hashlib

import pytest

from rewards import FileEvidence, FolderState, WantedEntry
from rewards.folder_state import check_folder


def file(text: str) -> FileEvidence:
    data = text.encode()
    return FileEvidence("file", len(data), hashlib.sha256(data).hexdigest(), text)


FOLDER = FileEvidence("folder")
BINARY = FileEvidence("file", 3, "ab" * 32)
HELLO = FolderState({"a.txt": WantedEntry(text="hello")})


@pytest.mark.parametrize("text", ["hello", "hello\n", "hello \n\n"])
def test_white_space_at_the_end_of_a_file_is_free(text):
    assert check_folder(HELLO, {"a.txt": file(text)}).holds


def test_white_space_at_the_end_counts_where_the_text_is_exact():
    exact = FolderState({"a.txt": WantedEntry(text="hello\n", exact=True)})
    assert check_folder(exact, {"a.txt": file("hello\n")}).holds
    assert not check_folder(exact, {"a.txt": file("hello")}).holds


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, '"a.txt" did not change'),
        ({"b.txt": file("hello")}, '"a.txt" did not change'),
        ({"a.txt": None}, '"a.txt" was removed'),
        ({"a.txt": file("hello, world")}, '"a.txt" holds "hello, world", the goal wants "hello"'),
        ({"a.txt": file(" hello")}, '"a.txt" holds'),
        ({"a.txt": file("Hello")}, '"a.txt" holds'),
        ({"a.txt": FOLDER}, '"a.txt" is no file (folder)'),
        ({"a.txt": FileEvidence("link", text="hello")}, '"a.txt" is no file (link)'),
        ({"a.txt": BINARY}, '"a.txt" is no UTF-8 text of at most 65536 bytes (3 bytes)'),
    ],
)
def test_a_file_that_is_not_the_wanted_one_is_named_with_what_is_wrong(files, why):
    finding = check_folder(HELLO, files)
    assert not finding.holds
    assert finding.why.startswith(why)


def test_a_file_may_be_wanted_by_parts_of_its_text():
    goal = FolderState({"a": WantedEntry(contains=("Rome", "Oslo"))})
    assert check_folder(goal, {"a": file("From Oslo to Rome.")}).holds
    assert check_folder(goal, {"a": file("Rome")}).why == '"a" does not contain "Oslo"'


def test_a_file_may_be_wanted_by_its_hash():
    goal = FolderState({"a": WantedEntry(sha256="ab" * 32)})
    assert check_folder(goal, {"a": BINARY}).holds
    assert "has the hash 2cf24dba5fb0…" in check_folder(goal, {"a": file("hello")}).why


def test_a_file_may_be_wanted_gone():
    goal = FolderState({"a": None})
    assert check_folder(goal, {"a": None}).holds
    assert check_folder(goal, {"a": file("x")}).why == '"a" is still there'
    assert check_folder(goal, {}).why == '"a" did not change'


def test_a_folder_may_be_wanted():
    goal = FolderState({"a": WantedEntry(folder=True)})
    assert check_folder(goal, {"a": FOLDER}).holds
    assert check_folder(goal, {"a": file("x")}).why == '"a" is no folder (file)'


@pytest.mark.parametrize("other", [None, file("x"), FOLDER, FileEvidence("link", text="a.txt")])
def test_a_model_that_changes_something_else_as_well_fails(other):
    files = {"a.txt": file("hello"), "other": other}
    finding = check_folder(HELLO, files)
    assert (finding.holds, finding.why) == (False, 'changed elsewhere as well: "other"')
    assert check_folder(FolderState(HELLO.files, only=False), files).holds


def test_folders_on_the_way_to_a_named_file_come_and_go_with_it():
    goal = FolderState({"new/deep/a": WantedEntry(text="x"), "old/b": None})
    there = {"new": FOLDER, "new/deep": FOLDER, "new/deep/a": file("x")}
    gone = {"old": None, "old/b": None}
    assert check_folder(goal, there | gone).holds
    assert not check_folder(goal, there | gone | {"old/c": None}).holds
    assert not check_folder(goal, there | gone | {"ne": FOLDER}).holds
    link = {"new": FileEvidence("link", text="/tmp")}
    assert not check_folder(goal, there | gone | link).holds
