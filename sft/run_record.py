"""What a run left behind about an adapter: its recipe, its figures, what it was warmed up on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.summary import STAGES, TRAINED_FROM, Summary
from sft.data.sources import flags as origin_flags
from sft.data.sources import licence_of
from sft.export_folder import ExportError
from sft.recipe import Recipe

PROGRAM_STAGES = {"sft.train": "sft", "rl.grpo": "grpo", "rl.ppo": "ppo"}
NOT_STATED = "not stated"


@dataclass(frozen=True)
class Run:
    """What is known of the run that trained it.

    Attributes:
        stage: Stage of the run that made it, or "".
        recipe: Its recipe.
        lora: The adapter's configuration, as peft wrote it.
        summary: Figures of the stages that led to it.
        sources: Rows that it was warmed up on, by source and licence.
        flags: Rows by what has to be known of their origin.
        steps: Optimizer steps of its stage; 0 where they are not known.
    """

    stage: str = ""
    recipe: Recipe = field(default_factory=Recipe)
    lora: Mapping[str, Any] = field(default_factory=dict)
    summary: Summary = field(default_factory=lambda: Summary(policies={}, mcnemar={}))
    sources: Mapping[tuple[str, str], int] = field(default_factory=dict)
    flags: Mapping[str, int] = field(default_factory=dict)
    steps: int = 0

    @property
    def thinking(self) -> bool:
        """Whether it was trained to think before it speaks."""
        return bool(self.recipe.flags.get("enable_thinking", False))


def read_run(adapter: Path, run_dir: Path, recipe: Recipe) -> Run:
    """Read what a run left behind about an adapter.

    Args:
        adapter: Folder of the adapter.
        run_dir: Folder of the run.
        recipe: The adapter's recipe.

    Raises:
        ExportError: If a file is damaged.
    """
    summary = read_summary(run_dir / "summary.json")
    stage = PROGRAM_STAGES.get(recipe.program) or adapter.resolve().name
    stage = stage if stage in summary["policies"] else ""
    sources, flags = count_traces([adapter / "traces.jsonl", run_dir / "sft" / "traces.jsonl"])
    return Run(
        stage=stage,
        recipe=recipe,
        lora=json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8")),
        summary=_leading_to(stage, summary),
        sources=sources,
        flags=flags,
        steps=trained_steps(adapter),
    )


def read_summary(path: Path) -> Summary:
    """Return the figures of a run's stages; none where there is no file.

    Raises:
        ExportError: If the file is damaged.
    """
    if not path.is_file():
        return Summary(policies={}, mcnemar={})
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Summary(
            policies={name: data["stages"][name] for name in STAGES if name in data["stages"]},
            mcnemar=dict(data["mcnemar"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"{path} is no summary of a run ({type(error).__name__}: {error}); make it again with: "
            f"python -m rl.report --run_dir {path.parent}"
        ) from error


def count_traces(places: Sequence[Path]) -> tuple[Counter[tuple[str, str]], Counter[str]]:
    """Count the rows of the first file that is there: by source and licence, and by origin flag.

    Raises:
        ExportError: If a line is no row.
    """
    sources: Counter[tuple[str, str]] = Counter()
    flags: Counter[str] = Counter()
    path = next((path for path in places if path.is_file()), None)
    if path is None:
        return sources, flags
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                sources[str(row.get("source", NOT_STATED)), licence_of(row) or NOT_STATED] += 1
            except (ValueError, AttributeError) as error:
                raise ExportError(f"{path}:{number}: no row ({error})") from error
            flags.update(origin_flags(row))
    return sources, flags


def trained_steps(adapter: Path) -> int:
    """Return the optimizer steps of the newest checkpoint beside an adapter; 0 where none is."""
    steps = 0
    for path in adapter.glob("checkpoint-*/trainer_state.json"):
        try:
            steps = max(steps, int(json.loads(path.read_text(encoding="utf-8"))["global_step"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a checkpoint that was not written to its end
    return steps


def _leading_to(stage: str, summary: Summary) -> Summary:
    """Keep the stages that led to one; all where it is not known which one is exported."""
    if not stage:
        return summary
    kept = (*TRAINED_FROM[stage], stage)
    return Summary(
        policies={name: one for name, one in summary["policies"].items() if name in kept},
        mcnemar={
            pair: test
            for pair, test in summary["mcnemar"].items()
            if set(pair.split("->")) <= set(kept)
        },
    )
