"""The learning curve of a run as PNG, from the JSONL of one object per step.

A line of `metrics.jsonl` holds `step`, `success` (share of the step's episodes), `outcomes`
(outcome -> share of turns), `kinds` (kind of task -> success), `mean_return`, `entropy` and `kl`;
other keys are left alone, missing ones leave a gap.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rewards.episode import Outcome

Step = Mapping[str, Any]

SMOOTHING = 5
"""Steps in the running mean of the success curve; single steps are drawn as dots."""

WIDE_SMOOTHING = 15
"""The same where the curves of several runs are to be told apart."""

COLOURS = {
    Outcome.SUCCESS: "tab:green",
    Outcome.TOOL_EXECUTION: "tab:blue",
    Outcome.TOOL_ERROR: "tab:orange",
    Outcome.INVALID_JSON: "tab:red",
    Outcome.STRUCTURAL_FAIL: "tab:gray",
}


class MetricsError(Exception):
    """A file of metrics is missing, damaged or empty."""


def read_metrics(path: str | Path) -> list[Step]:
    """Return the steps of a run, in order.

    A resumed run plays some steps again: the later line of a step counts. A last line that was
    cut by a kill is left out.

    Raises:
        MetricsError: No such file, no step in it, or a line that is not a step.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MetricsError(f"cannot read {path}: {error}") from error
    steps: dict[int, Step] = {}
    for number, line in enumerate(lines, start=1):
        step = _step(line)
        if step is not None:
            steps[step["step"]] = step
        elif line.strip() and number < len(lines):
            raise MetricsError(f"{path}:{number}: not a JSON object with a whole number `step`")
    if not steps:
        raise MetricsError(f"{path} holds no step; it is written by: python -m rl.grpo")
    return [steps[step] for step in sorted(steps)]


def plot_curve(steps: Sequence[Step], path: str | Path, title: str = "") -> Path:
    """Draw success, outcome shares, return and KL over the steps, and return the file.

    A run without a KL term has measured none; its last panel shows the entropy instead.

    Args:
        steps: What `read_metrics` returns.
        path: The PNG to write; its folder is made.
        title: Shown above.
    """
    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    x = [step["step"] for step in steps]
    _plot_success(axes[0, 0], x, steps)
    _plot_outcomes(axes[0, 1], x, steps)
    _plot_line(axes[1, 0], x, series(steps, "mean_return"), "mean return of an episode")
    _plot_line(axes[1, 1], x, *drift(steps))
    for one in axes.flat:
        one.set_xlabel("step")
        one.grid(alpha=0.3)
    figure.suptitle(title)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def plot_beside(runs: Mapping[str, Sequence[Sequence[Step]]], path: str | Path) -> Path:
    """Draw the success of recipes over the steps, a line for each seed, and return the file.

    Args:
        runs: Recipe -> the steps of each of its seeds.
        path: The PNG to write; its folder is made.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, (recipe, seeds) in enumerate(runs.items()):
        for seed, steps in enumerate(seeds):
            means = running_mean(series(steps, "success"), WIDE_SMOOTHING)
            label = f"{recipe}, {len(seeds)} seeds" if seed == 0 else None
            axes.plot([step["step"] for step in steps], means, color=f"C{number}", label=label)
    axes.set_xlabel("step")
    axes.set_ylabel(f"success of sampled episodes, mean of {WIDE_SMOOTHING} steps")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def series(steps: Sequence[Step], key: str) -> list[float]:
    """One value per step; NaN, which is drawn as a gap, where a step has none."""
    return [_number(step.get(key)) for step in steps]


def drift(steps: Sequence[Step]) -> tuple[list[float], str]:
    """How the policy moves, with its title: KL where it was measured, otherwise the entropy."""
    kl = series(steps, "kl")
    if all(math.isnan(value) for value in kl):
        return series(steps, "entropy"), "entropy of the sampled tokens (nats)"
    return kl, "KL to the SFT policy (nats a token)"


def running_mean(values: Sequence[float], width: int = SMOOTHING) -> list[float]:
    """Mean of each value and those up to `width` - 1 steps before it; gaps are left out."""
    windows = (values[max(0, end - width) : end] for end in range(1, len(values) + 1))
    present = ([value for value in window if not math.isnan(value)] for window in windows)
    return [sum(window) / len(window) if window else math.nan for window in present]


def lowest_kind(steps: Sequence[Step]) -> list[float]:
    """Success of the kind of task that is lowest at each step, after the running mean."""
    shares = [step.get("kinds") or {} for step in steps]
    names = {name for share in shares for name in share}
    means = [running_mean([_number(share.get(name)) for share in shares]) for name in names]
    present = (
        [value for value in column if not math.isnan(value)] for column in zip(*means, strict=True)
    )
    return [min(column, default=math.nan) for column in present] or [math.nan] * len(steps)


def _step(line: str) -> Step | None:
    try:
        step = json.loads(line)
    except json.JSONDecodeError:
        return None
    return step if isinstance(step, dict) and type(step.get("step")) is int else None


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _plot_success(axes: Axes, x: Sequence[int], steps: Sequence[Step]) -> None:
    success = series(steps, "success")
    axes.plot(x, success, ".", alpha=0.35, color="tab:green", label="step")
    axes.plot(x, running_mean(success), color="tab:green", label=f"mean of {SMOOTHING} steps")
    axes.plot(x, lowest_kind(steps), "--", color="tab:red", label="lowest kind of task")
    axes.set_ylim(-0.02, 1.02)
    axes.set_title("success of sampled episodes")
    axes.legend(loc="lower right")


def _plot_outcomes(axes: Axes, x: Sequence[int], steps: Sequence[Step]) -> None:
    shares = [step.get("outcomes") or {} for step in steps]
    bands = [[_share(share, outcome) for share in shares] for outcome in COLOURS]
    labels = [outcome.value for outcome in COLOURS]
    axes.stackplot(x, bands, labels=labels, colors=list(COLOURS.values()))
    axes.set_ylim(0, 1)
    axes.set_title("outcomes, share of turns")
    axes.legend(loc="lower right", fontsize="small")


def _share(shares: Mapping[str, Any], outcome: Outcome) -> float:
    value = _number(shares.get(outcome.value, 0.0))
    return 0.0 if math.isnan(value) else value


def _plot_line(axes: Axes, x: Sequence[int], values: Sequence[float], title: str) -> None:
    axes.plot(x, values, color="tab:blue", marker="." if len(x) < 3 else "")
    axes.set_title(title)
