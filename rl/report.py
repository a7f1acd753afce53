"""`python -m rl.report`: what the stages of a run came to, from their stored test episodes.

    python -m rl.report --run_dir runs              one run: table, summary.json, curve.png
    python -m rl.report --seeds runs/seed0 runs/seed1 runs/seed2    one markdown row per run

Nothing is played again: `sft.train` and `rl.grpo` stored the episodes, and every figure is made
from them anew.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.cli import fail, parse_flags, say
from agents.figures import PolicyFigures
from agents.summary import STAGES, Summary, stage_file, summarise_stages, write_stage_summary
from agents.tables import (
    bad_turn_share,
    largest_loss,
    lowest_kind,
    markdown,
    p_value,
    percent,
    stage_table,
    with_interval,
    with_n,
)
from rewards.errors import RewardsError
from rl.plots import MetricsError, plot_curve, read_metrics

PROGRAM = "python -m rl.report"

DESCRIPTION = (
    "Show what base, SFT and GRPO came to on the same test tasks. Reads the episodes that "
    "sft.train and rl.grpo stored in RUN_DIR/episodes; plays nothing."
)

COMMANDS = {
    "base": "python -m sft.train",
    "sft": "python -m sft.train",
    "grpo": "python -m rl.grpo",
}

SEED_HEADER = [
    "run",
    "base",
    "SFT",
    "GRPO",
    "gain",
    "p",
    "phrasing",
    "tools",
    "depth",
    "abstention SFT",
    "abstention",
    "invalid + structural",
    "lowest kind",
    "worst change of a kind",
]

SEED_LEGEND = (
    "Success in % [Wilson 95 %] on tasks that need tools; gain: points from SFT to GRPO; p: exact "
    "McNemar, SFT against GRPO; the rest after the run's last stage: held-out parts, abstention, "
    "turns with invalid JSON or a structural fail (% of turns on `success` tasks), kinds of task, "
    "the largest loss of a kind from SFT to GRPO. A dash: the run has no such stage."
)


class ReportError(Exception):
    """There is nothing to report on."""


@dataclass(frozen=True)
class ReportFlags:
    """Flags of `python -m rl.report`."""

    run_dir: str = field(
        default="runs", metadata={"help": "Folder of one run; summary.json is written there."}
    )
    seeds: list[str] = field(
        default_factory=list,
        metadata={"help": "Folders of several runs: print a markdown table with a row for each."},
    )


def read_run(run_dir: str | Path) -> Summary:
    """Return the figures of the stages that a run has recorded.

    Raises:
        ReportError: The run has recorded none.
        FormatError: A file of episodes is damaged.
    """
    summary = summarise_stages(run_dir)
    if not summary["policies"]:
        place = stage_file(run_dir, STAGES[0]).parent
        raise ReportError(f"no episodes in {place}; they are made by: python -m sft.train")
    return summary


def write_curve(run_dir: str | Path) -> Path | None:
    """Draw `RUN_DIR/curve.png` from `RUN_DIR/grpo/metrics.jsonl`; None without that file.

    Raises:
        MetricsError: The file is damaged.
    """
    metrics = Path(run_dir) / "grpo" / "metrics.jsonl"
    if not metrics.is_file():
        return None
    return plot_curve(read_metrics(metrics), Path(run_dir) / "curve.png", f"GRPO, {run_dir}")


def seed_table(run_dirs: Sequence[str]) -> str:
    """Return a markdown table with one row per run."""
    rows = [SEED_HEADER]
    for run_dir in run_dirs:
        path = Path(run_dir)
        name = path.name if len(path.parts) < 2 else f"{path.parent.name}/{path.name}"
        rows.append([name, *_seed_cells(read_run(run_dir))])
    return f"{markdown(rows)}\n\n{SEED_LEGEND}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    flags = parse_flags(ReportFlags, PROGRAM, DESCRIPTION, arguments)
    try:
        if flags.seeds:
            say(seed_table(flags.seeds))
        else:
            _report(flags.run_dir)
    except (MetricsError, ReportError, RewardsError) as error:
        return fail(error)
    return 0


def _report(run_dir: str) -> None:
    summary = read_run(run_dir)
    say(stage_table(summary))
    say(f"\nwrote {write_stage_summary(run_dir)}")
    curve = write_curve(run_dir)
    if curve:
        say(f"wrote {curve}")
    missing = [stage for stage in STAGES if stage not in summary["policies"]]
    if missing:
        say(f"next: {COMMANDS[missing[0]]}   (stage {missing[0]} has not been recorded yet)")
    else:
        adapter = Path(run_dir) / "grpo"
        say(f"next: python -m agents.evaluate --policies {adapter} oracle silent --suite starter")


def _seed_cells(summary: Summary) -> list[str]:
    stages = summary["policies"]
    last = stages[[name for name in STAGES if name in stages][-1]]
    sft, grpo = stages.get("sft"), stages.get("grpo")
    gain = p = change = "-"
    if sft and grpo:
        rates: list[Any] = [one["success"]["rate"] for one in (sft, grpo)]
        gain = "-" if None in rates else f"{100 * (rates[1] - rates[0]):+.1f}"
        p = p_value(summary["mcnemar"]["sft->grpo"]["success"]["p"])
        loss = largest_loss(sft["kinds"], grpo["kinds"])
        change = f"{loss.kind} {loss.points:+.1f}" if loss else "-"
    return [
        *(with_interval(stages[one]["success"]) if one in stages else "-" for one in STAGES),
        gain,
        p,
        *(with_n(last["heldout_by"].get(part)) for part in ("phrasing", "tools", "depth")),
        with_n(sft["abstention"] if sft else None),
        with_n(last["abstention"]),
        percent(bad_turn_share(last["outcomes_by"]["success"])),
        _lowest(last),
        change,
    ]


def _lowest(figures: PolicyFigures) -> str:
    if not figures["kinds"]:
        return "-"
    kind, count = lowest_kind(figures["kinds"])
    return f"{kind} {with_n(count)}"


if __name__ == "__main__":
    sys.exit(main())
