"""What an episode has changed in its working folder: the evidence for `FolderState` goals."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from envs.errors import FolderError
from rewards.episode import MAX_FILE_TEXT, FileEvidence

MAX_DEPTH = 64
RACY_NS = 2_000_000_000
"""A write this close to the reading of a file may have left its times as they were."""

_CHUNK = 1 << 20
# No permission, or something of another kind has just taken its place. Other faults, such as too
# many open files, are not evidence.
_UNREADABLE = {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.ENXIO}
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a pipe that has taken the place of a file must not block.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class _Seen:
    """An entry as it was last read.

    Attributes:
        evidence: What it was.
        stamp: Device, inode, type, size and times; equal as long as nobody wrote to it.
        read_ns: When reading began, in ns.
    """

    evidence: FileEvidence
    stamp: tuple[int, ...]
    read_ns: int

    def still_holds(self, info: os.stat_result) -> bool:
        """Return whether the entry surely is what it was.

        The change time of a file cannot be set by a program, unlike its other times. But a clock
        tick later than the last write may be the same number, so that what was written shortly
        before it was read is read again (as git does with its index).
        """
        return self.stamp == _stamp(info) and info.st_ctime_ns < self.read_ns - RACY_NS


class FolderWatch:
    """The changes of a folder since this object was made.

    Every entry counts, hidden ones too: files by content, folders, symbolic links by their target.
    Links are never followed. Permissions and times are no evidence. Files that nobody wrote to
    since they were last read are not read again.

    Args:
        folder: The folder, as it is at the start of the episode.
        max_entries: Most entries that it may ever hold.
        max_bytes: Most bytes that its files may ever hold together.

    Raises:
        FolderError: If there is no such folder, or it holds too much.
    """

    def __init__(self, folder: Path, max_entries: int = 5_000, max_bytes: int = 64 * 2**20) -> None:
        self._folder = folder.resolve()
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._seen: dict[str, _Seen] = {}
        self._start: dict[str, FileEvidence] = {}
        if not os.access(self._folder, os.R_OK | os.X_OK) or not self._folder.is_dir():
            raise FolderError(f"the working folder {folder} is missing, or is no readable folder")
        self._start = {path: _identity(seen.evidence) for path, seen in self._look().items()}
        self._seen = {path: self._without_text(path, one) for path, one in self._seen.items()}

    def changes(self) -> dict[str, FileEvidence | None]:
        """Return what differs from the start: path -> the entry now, None where it was removed.

        Paths are relative to the folder, with `/`, and sorted. A folder that is gone altogether
        has lost every entry.

        Raises:
            FolderError: If the folder holds too much by now.
        """
        now = self._look()
        paths = sorted({*self._start, *now})
        changed = {path: now[path].evidence if path in now else None for path in paths}
        return {
            path: entry
            for path, entry in changed.items()
            if entry is None or _identity(entry) != self._start.get(path)
        }

    def _look(self) -> Mapping[str, _Seen]:
        """Read what has changed since the last look."""
        now: dict[str, _Seen] = {}
        size = 0
        for path, one in self._entries():
            now[path] = self._without_text(path, one)
            size += one.evidence.size
            if len(now) > self._max_entries:
                raise self._too_much(f"{self._max_entries} entries")
            if size > self._max_bytes:
                raise self._too_much(f"{self._max_bytes} bytes")
        self._seen = now
        return now

    def _without_text(self, path: str, one: _Seen) -> _Seen:
        """Drop the text of a file that is what it was at the start: it will never be asked for."""
        identity = _identity(one.evidence)
        return replace(one, evidence=identity) if self._start.get(path) == identity else one

    def _too_much(self, limit: str) -> FolderError:
        return FolderError(f"the working folder {self._folder} holds more than {limit}")

    def _entries(self) -> Iterator[tuple[str, _Seen]]:
        try:
            folder = os.open(self._folder, _FOLDER)
        except OSError as error:
            if error.errno not in {*_UNREADABLE, errno.ENOENT}:
                raise
            return
        try:
            yield from self._inside(folder, "", 1)
        finally:
            os.close(folder)

    def _inside(self, folder: int, prefix: str, depth: int) -> Iterator[tuple[str, _Seen]]:
        if depth > MAX_DEPTH:
            raise self._too_much(f"{MAX_DEPTH} levels of folders")
        for name in os.listdir(folder):
            path = prefix + name
            try:
                one = self._entry(folder, name, path)
            except FileNotFoundError:
                continue  # it vanished after it was listed
            yield path, one
            if one.evidence.kind == "folder":
                yield from self._subfolder(folder, name, path, depth)

    def _subfolder(
        self, folder: int, name: str, path: str, depth: int
    ) -> Iterator[tuple[str, _Seen]]:
        try:
            child = os.open(name, _FOLDER, dir_fd=folder)
        except FileNotFoundError:
            return  # it vanished after it was seen
        try:
            yield from self._inside(child, f"{path}/", depth + 1)
        finally:
            os.close(child)

    def _entry(self, folder: int, name: str, path: str) -> _Seen:
        read_ns = time.time_ns()
        info = os.stat(name, dir_fd=folder, follow_symlinks=False)
        seen = self._seen.get(path)
        if seen is not None and seen.still_holds(info):
            return seen
        return _Seen(self._read(folder, name, info), _stamp(info), read_ns)

    def _read(self, folder: int, name: str, info: os.stat_result) -> FileEvidence:
        if stat.S_ISLNK(info.st_mode):
            return FileEvidence("link", text=os.readlink(name, dir_fd=folder))
        try:
            if stat.S_ISDIR(info.st_mode):
                os.close(os.open(name, _FOLDER, dir_fd=folder))
                return FileEvidence("folder")
            if stat.S_ISREG(info.st_mode):
                return self._read_file(folder, name)
        except OSError as error:
            if error.errno not in _UNREADABLE:
                raise
        return FileEvidence("other")

    def _read_file(self, folder: int, name: str) -> FileEvidence:
        file = os.open(name, _FILE, dir_fd=folder)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return FileEvidence("other")
            digest, start, size = hashlib.sha256(), b"", 0
            while chunk := os.read(file, _CHUNK):
                digest.update(chunk)
                start = start or chunk
                size += len(chunk)
                if size > self._max_bytes:
                    raise self._too_much(f"{self._max_bytes} bytes")
        finally:
            os.close(file)
        return FileEvidence("file", size, digest.hexdigest(), _text(start, size))


def _stamp(info: os.stat_result) -> tuple[int, ...]:
    times = (info.st_mtime_ns, info.st_ctime_ns)
    return (info.st_dev, info.st_ino, info.st_mode, info.st_size, *times)


def _identity(evidence: FileEvidence) -> FileEvidence:
    """Return what two equal entries share; the text of a file is in its hash."""
    return replace(evidence, text=None) if evidence.kind == "file" else evidence


def _text(data: bytes, size: int) -> str | None:
    """Return the text of a file, of whose bytes `data` are the first."""
    if size > min(MAX_FILE_TEXT, len(data)):
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None
