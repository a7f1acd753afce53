"""A folder that is there whole or not at all, and its way onto the hub.

ExportError     nothing was exported; the message says why
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi
from safetensors import SafetensorError

from agents.summary import write_json
from sft.hub import HubError, upload

MARKER = "export.json"
"""Says of a folder that an export wrote it, and which files of it."""


class ExportError(Exception):
    """Nothing was exported."""


def check_target(folder: Path) -> None:
    """Refuse to write where there is anything but a former export.

    Raises:
        ExportError: If the place is taken.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ExportError(f"{folder} is a file; choose another --output_dir")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if found and MARKER not in found:
        raise ExportError(
            f"{folder} is not empty and no former export (it has no {MARKER}); "
            "choose another --output_dir"
        )
    foreign = sorted(found - _written(folder))
    if foreign:
        raise ExportError(
            f"{folder} is a former export, but holds files that it did not write "
            f"({', '.join(foreign[:3])}); move them, or choose another --output_dir"
        )


def check_space(folder: Path, needed: int) -> None:
    """Refuse to begin what does not fit on the disk.

    Args:
        folder: Where it will be; it need not exist.
        needed: Bytes.

    Raises:
        ExportError: If there is not enough space.
    """
    place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise ExportError(
            f"the export needs {needed / 1e9:.2f} GB and {place} has {free / 1e9:.2f} GB left; "
            "make room, or choose another --output_dir or a smaller --precision"
        )


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a scratch folder that takes the place of `folder` at the end.

    Whatever goes wrong before, `folder` is as it was.

    Raises:
        ExportError: If something cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
            new, old = Path(scratch) / "new", Path(scratch) / "old"
            new.mkdir()
            yield new
            if folder.exists():
                folder.rename(old)
            try:
                new.rename(folder)
            except BaseException:
                if old.exists():
                    old.rename(folder)
                raise
    except (OSError, SafetensorError) as error:
        raise ExportError(f"cannot write {folder} ({error}); it was left as it was") from error


def mark(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write what was exported, and that this folder is an export; the last file to be written."""
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    write_json(folder / MARKER, {**facts, "files": sorted([*files, MARKER])})


def push(folder: Path, hub_id: str, api: HfApi) -> str:
    """Upload an export; a model that is not there yet is made, for its owner alone.

    Returns:
        The address of the model.

    Raises:
        ExportError: If the hub does not take it; the folder stays.
    """
    try:
        return upload(folder, hub_id, api, "model", private=True)
    except HubError as error:
        raise ExportError(
            f"{error}; the export is whole in {folder}, try again with: hf upload {hub_id} {folder}"
        ) from error


def _written(folder: Path) -> set[str]:
    try:
        return set(json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()
