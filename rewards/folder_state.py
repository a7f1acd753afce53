"""Whether the working folder has changed as a `FolderState` goal wants.

`Turn.files` holds every entry that differs from the start of the episode, so an entry that is not
in it is what it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from rewards.episode import MAX_FILE_TEXT, FileEvidence
from rewards.findings import Finding, show
from rewards.goals import FolderState, WantedEntry

Files = Mapping[str, FileEvidence | None]

_SHA256 = re.compile("[0-9a-f]{64}")


def check_folder(goal: FolderState, files: Files) -> Finding:
    """Return whether the changes of the working folder are those of `goal`.

    Args:
        goal: The goal.
        files: Path -> the entry as it is now, or None where it was removed; only what changed.

    Returns:
        The finding.
    """
    for path, wanted in goal.files.items():
        problem = _difference(wanted, files[path]) if path in files else "did not change"
        if problem:
            return Finding(False, f"{show(path)} {problem}")
    others = [path for path in files if not _expected(path, files[path], goal)]
    if goal.only and others:
        return Finding(False, f"changed elsewhere as well: {', '.join(map(show, others[:4]))}")
    beside = " and nothing else did" if goal.only else ""
    return Finding(True, f"the folder changed as wanted{beside}")


def folder_problems(goal: FolderState) -> Iterator[str]:
    """Yield what keeps a goal from being judged, one clause each."""
    if not goal.files and not goal.only:
        yield "wants nothing: name files, or set only"
    for path, wanted in goal.files.items():
        if not _is_relative(path):
            yield f"{show(path)} is not a path in the folder; write it relative, without . and .."
        if wanted is not None:
            yield from (f"{show(path)}: {problem}" for problem in _entry_problems(wanted))


def _difference(wanted: WantedEntry | None, entry: FileEvidence | None) -> str:
    """Return what keeps a changed entry from being the wanted one, or ""."""
    if wanted is None or entry is None:
        if wanted is None and entry is None:
            return ""
        return "is still there" if wanted is None else "was removed"
    kind = "folder" if wanted.folder else "file"
    if entry.kind != kind:
        return f"is no {kind} ({entry.kind})"
    if wanted.sha256 is not None:
        same = entry.sha256 == wanted.sha256
        return "" if same else f"has the hash {entry.sha256[:12]}…, not {wanted.sha256[:12]}…"
    return _text_difference(wanted, entry)


def _text_difference(wanted: WantedEntry, entry: FileEvidence) -> str:
    if wanted.folder:
        return ""
    if entry.text is None:
        return f"is no UTF-8 text of at most {MAX_FILE_TEXT} bytes ({entry.size} bytes)"
    missing = [part for part in wanted.contains if part not in entry.text]
    if missing:
        return f"does not contain {show(missing[0])}"
    if wanted.text is None or _same_text(wanted.text, entry.text, wanted.exact):
        return ""
    return f"holds {show(entry.text)}, the goal wants {show(wanted.text)}"


def _same_text(wanted: str, text: str, exact: bool) -> bool:
    return text == wanted if exact else text.rstrip() == wanted.rstrip()


def _expected(path: str, entry: FileEvidence | None, goal: FolderState) -> bool:
    """Return whether a change is named, or is a folder on the way to what is named."""
    is_folder = entry is None or entry.kind == "folder"
    return path in goal.files or (
        is_folder and any(name.startswith(f"{path}/") for name in goal.files)
    )


def _is_relative(path: str) -> bool:
    pure = PurePosixPath(path)
    return str(pure) == path != "." and not pure.is_absolute() and ".." not in pure.parts


def _entry_problems(wanted: WantedEntry) -> Iterator[str]:
    given = (wanted.text is not None, bool(wanted.contains), wanted.sha256 is not None)
    if sum((*given, wanted.folder)) != 1:
        yield "give one of text, contains, sha256 and folder"
    if wanted.exact and wanted.text is None:
        yield "exact goes with text"
    if not all(wanted.contains):
        yield "every file contains the empty text"
    if wanted.sha256 is not None and not _SHA256.fullmatch(wanted.sha256):
        yield "sha256 is not 64 lower-case hexadecimal digits"
    texts = wanted.contains if wanted.text is None else (wanted.text,)
    if any(len(text.encode("utf-8", "surrogatepass")) > MAX_FILE_TEXT for text in texts):
        yield f"a text of more than {MAX_FILE_TEXT} bytes is not recorded; give its sha256"
