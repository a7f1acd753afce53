"""Which checkpoint a run is resumed from."""

from __future__ import annotations

import json
from pathlib import Path

STATE_FILE = "trainer_state.json"


def last_checkpoint(folder: Path, wanted: str | bool | None) -> str | None:
    """Return the checkpoint to resume from.

    Args:
        folder: The output folder.
        wanted: A checkpoint folder; `true` for the last complete one; None to start anew.

    Raises:
        SystemExit: If there is none.
    """
    if wanted in (None, False, "", "false", "False"):
        return None
    if wanted not in (True, "true", "True", "last"):
        if not is_complete(Path(str(wanted))):
            raise SystemExit(f"{wanted} is not a complete checkpoint (no {STATE_FILE})")
        return str(wanted)
    complete = [path for path in folder.glob("checkpoint-*") if is_complete(path)]
    if not complete:
        raise SystemExit(f"no complete checkpoint in {folder}; leave out --resume_from_checkpoint")
    return str(max(complete, key=lambda path: int(path.name.rpartition("-")[2])))


def is_complete(checkpoint: Path) -> bool:
    """Return whether a checkpoint was written to its end: its state file is written last."""
    try:
        json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
