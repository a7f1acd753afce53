"""The runs of a study: commands in folders of their own; what is finished is kept.

StudyError      a study cannot be run or read; the message says why
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 7200.0
"""Seconds that a command may take."""


class StudyError(Exception):
    """A study cannot be run or read."""


@dataclass(frozen=True)
class Run:
    """One arm with one seed.

    Attributes:
        arm: The arm.
        seed: The seed.
        folder: Its folder.
        commands: Stage (`sft`, `grpo`) and the command that records it, in order.
    """

    arm: str
    seed: int
    folder: Path
    commands: tuple[tuple[str, tuple[str, ...]], ...]


def is_finished(run: Run) -> bool:
    """Return whether every stage of a run was recorded by the command that would be run now.

    Raises:
        StudyError: If a stage was recorded by another command.
    """
    return all(_recorded(run, stage, command) for stage, command in run.commands)


def finish_all(runs: Sequence[Run], jobs: int, threads: int) -> None:
    """Run what is not finished, so many runs side by side.

    Raises:
        StudyError: If a command fails, or a stage was recorded by another command.
    """
    waiting = [run for run in runs if not is_finished(run)]
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda run: _finish(run, threads), waiting))


def _finish(run: Run, threads: int) -> None:
    run.folder.mkdir(parents=True, exist_ok=True)
    for stage, command in run.commands:
        if not _recorded(run, stage, command):
            _execute(run, stage, command, threads)
            _mark(run, stage).write_text(_text(command), encoding="utf-8")


def _execute(run: Run, stage: str, command: Sequence[str], threads: int) -> None:
    path = run.folder / f"{stage}.log"
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    with path.open("w", encoding="utf-8") as log:
        log.write(_text(command))
        log.flush()
        try:
            subprocess.run(
                command, stdout=log, stderr=log, check=True, timeout=LIMIT_S, env=environment
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise StudyError(f"{run.arm}, seed {run.seed}: {error}; see {path}") from error


def _recorded(run: Run, stage: str, command: Sequence[str]) -> bool:
    mark = _mark(run, stage)
    if not mark.is_file():
        return False
    if mark.read_text(encoding="utf-8") != _text(command):
        raise StudyError(
            f"{mark} names another command than would be run now; choose another --run_dir, or "
            f"remove {run.folder}"
        )
    return True


def _mark(run: Run, stage: str) -> Path:
    return run.folder / f"{stage}.finished"


def _text(command: Sequence[str]) -> str:
    return shlex.join(command[1:]) + "\n"
