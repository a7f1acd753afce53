"""Summaries: policies side by side, and the stages of a training run.

`sft.train` records the stages `base` and `sft`, `rl.grpo` records `grpo` and `rl.ppo` records
`ppo`, all on the same test tasks, as `RUN_DIR/episodes/STAGE.jsonl`. Every figure of
`RUN_DIR/summary.json` and of `python -m rl.report` is made from these files, so that it can be made
again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypedDict

from agents.figures import Comparison, PolicyFigures, compare, figures
from rewards.episode import Episode
from rewards.errors import did_you_mean
from rewards.serialise import read_episodes, write_episodes

STAGES = ("base", "sft", "grpo", "ppo")
"""In the order in which they are shown."""

TRAINED_FROM = {"base": (), "sft": ("base",), "grpo": ("base", "sft"), "ppo": ("base", "sft")}
"""The stages that each is trained on top of."""


class Summary(TypedDict):
    """Figures by policy, and tests of neighbours by the name that `pair_name` gives."""

    policies: dict[str, PolicyFigures]
    mcnemar: dict[str, Comparison]


def summarise(episodes_by_policy: Mapping[str, Sequence[Episode]]) -> Summary:
    """Return figures of each policy, and exact McNemar tests between consecutive policies."""
    return {
        "policies": {name: figures(played) for name, played in episodes_by_policy.items()},
        "mcnemar": {
            pair_name(first, second): compare(episodes_by_policy[first], episodes_by_policy[second])
            for first, second in pairwise(episodes_by_policy)
        },
    }


def pair_name(first: str, second: str) -> str:
    """Return the key of a comparison."""
    return f"{first}->{second}"


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
    """Store the test episodes of a stage and return the file.

    Earlier episodes of the stage are replaced. Those of later stages are removed: they came from
    a policy that was trained on top of the earlier one.
    """
    path = stage_file(run_dir, stage)
    write_episodes(path, episodes)
    for later in STAGES:
        if stage in TRAINED_FROM[later]:
            stage_file(run_dir, later).unlink(missing_ok=True)
    return path


def read_stages(run_dir: str | Path) -> dict[str, list[Episode]]:
    """Return the episodes of each recorded stage, in the order of training.

    Raises:
        FormatError: A file is damaged; the message names file and line.
    """
    files = {stage: stage_file(run_dir, stage) for stage in STAGES}
    return {stage: list(read_episodes(path)) for stage, path in files.items() if path.is_file()}


def summarise_stages(run_dir: str | Path) -> Summary:
    """Return the figures of the stages that a run has recorded.

    Each stage is compared with the one before it, and with all that it was trained from.
    """
    stages = read_stages(run_dir)
    summary = summarise(stages)
    for stage in stages:
        for earlier in TRAINED_FROM[stage]:
            if earlier in stages:
                compared = compare(stages[earlier], stages[stage])
                summary["mcnemar"].setdefault(pair_name(earlier, stage), compared)
    return summary


def write_stage_summary(run_dir: str | Path) -> Path:
    """Write `RUN_DIR/summary.json` from the recorded stages and return its path."""
    summary = summarise_stages(run_dir)
    path = Path(run_dir) / "summary.json"
    write_json(path, {"stages": summary["policies"], "mcnemar": summary["mcnemar"]})
    return path


def write_json(path: Path, data: Mapping[str, object]) -> None:
    """Write an object as indented JSON, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
