"""The test episodes of each training stage, stored so that any figure can be made again.

`sft.train` records the stages `base` and `sft`, `rl.grpo` records `grpo`, on the same tasks:
`RUN_DIR/episodes/STAGE.jsonl`. `rl.report` reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rewards.episode import Episode
from rewards.errors import did_you_mean
from rewards.serialise import read_episodes, write_episodes

STAGES = ("base", "sft", "grpo")
"""In the order in which they are trained."""


def stage_file(run_dir: str | Path, stage: str) -> Path:
    """Return where the episodes of a stage are stored.

    Raises:
        ValueError: There is no such stage.
    """
    if stage not in STAGES:
        known = ", ".join(STAGES)
        raise ValueError(f'no stage "{stage}" (known: {known}){did_you_mean(stage, STAGES)}')
    return Path(run_dir) / "episodes" / f"{stage}.jsonl"


def record_stage(run_dir: str | Path, stage: str, episodes: Sequence[Episode]) -> Path:
    """Store the test episodes of a stage, replacing earlier ones, and return the file."""
    path = stage_file(run_dir, stage)
    write_episodes(path, episodes)
    return path


def read_stages(run_dir: str | Path) -> dict[str, list[Episode]]:
    """Return the episodes of each recorded stage, in the order of training.

    Raises:
        FormatError: A file is damaged; the message names file and line.
    """
    files = {stage: stage_file(run_dir, stage) for stage in STAGES}
    return {stage: list(read_episodes(path)) for stage, path in files.items() if path.is_file()}
