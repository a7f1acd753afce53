"""`python -m rl.report`: what the stages of a run came to, from their stored test episodes.

    python -m rl.report --run_dir runs              one run: table, summary.json, curve-grpo.png
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
from agents.summary import (
    STAGES,
    TRAINED_FROM,
    Summary,
    pair_name,
    stage_file,
    summarise_stages,
    write_stage_summary,
)
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
    "Show what base, SFT, GRPO and PPO came to on the same test tasks. Reads the episodes that "
    "sft.train, rl.grpo and rl.ppo stored in RUN_DIR/episodes; plays nothing."
)

COMMANDS = {
    "base": "python -m sft.train",
    "sft": "python -m sft.train",
    "grpo": "python -m rl.grpo",
}
"""What records each stage of the main job."""

SEED_HEADER = [
    "run",
    "base",
    "SFT",
    "GRPO",
    "PPO",
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
    "Success in % [Wilson 95 %] on tasks that need tools; gain: points from SFT to the run's last "
    "stage; p: exact McNemar of the two; the rest after the last stage: held-out parts, "
    "abstention, turns with invalid JSON or a structural fail (% of turns on `success` tasks), "
    "kinds of task, the largest loss of a kind since SFT. A dash: the run has no such stage."
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


def write_curves(run_dir: str | Path) -> list[Path]:
    """Draw `RUN_DIR/curve-STAGE.png` from `RUN_DIR/STAGE/metrics.jsonl`, for GRPO and PPO.

    Raises:
        MetricsError: A file is damaged.
    """
    drawn = []
    for stage in ("grpo", "ppo"):
        metrics = Path(run_dir) / stage / "metrics.jsonl"
        if metrics.is_file():
            curve = Path(run_dir) / f"curve-{stage}.png"
            drawn.append(plot_curve(read_metrics(metrics), curve, f"{stage.upper()}, {run_dir}"))
    return drawn


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
    for curve in write_curves(run_dir):
        say(f"wrote {curve}")
    missing = [stage for stage in COMMANDS if stage not in summary["policies"]]
    if missing:
        say(f"next: {COMMANDS[missing[0]]}   (stage {missing[0]} has not been recorded yet)")
    else:
        adapter = Path(run_dir) / "grpo"
        say(f"next: python -m agents.evaluate --policies {adapter} oracle silent --suite starter")


def _seed_cells(summary: Summary) -> list[str]:
    stages = summary["policies"]
    name = list(stages)[-1]
    sft, last = stages.get("sft"), stages[name]
    gain = p = change = "-"
    if sft and "sft" in TRAINED_FROM[name]:
        rates: list[Any] = [one["success"]["rate"] for one in (sft, last)]
        gain = "-" if None in rates else f"{100 * (rates[1] - rates[0]):+.1f}"
        p = p_value(summary["mcnemar"][pair_name("sft", name)]["success"]["p"])
        loss = largest_loss(sft["kinds"], last["kinds"])
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
