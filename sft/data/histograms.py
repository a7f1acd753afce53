"""Histograms of a set of rows as one PNG."""

from __future__ import annotations

from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sft.data.measures import Numbers, Tally
from sft.data.whole_file import WholeFile

DRAWN_NUMBERS = ("turns", "calls", "tools", "characters", "tokens", "trained tokens")
DRAWN_LABELS = ("source", "outcome", "language")
MOST_BARS = 8
MOST_LETTERS = 28
BINS = 40


def plot_tally(tally: Tally, path: Path, title: str = "") -> Path:
    """Draw the numbers as histograms and the labels as bars, and return the file.

    Args:
        tally: What was counted.
        path: The PNG to write; its folder is made.
        title: Shown above.

    Raises:
        DataFileError: If the file cannot be written.
    """
    figure = Figure(figsize=(13, 10), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(3, 3).flat)
    for one, name in zip(axes, DRAWN_NUMBERS, strict=False):
        _histogram(one, name, tally.numbers[name])
    for one, name in zip(axes[len(DRAWN_NUMBERS) :], DRAWN_LABELS, strict=True):
        _bars(one, name, tally.labels[name])
    # matplotlib reads a dollar sign as the beginning of a formula.
    figure.suptitle(title.replace("$", r"\$"))
    picture = BytesIO()
    figure.savefig(picture, dpi=100, format="png")
    with WholeFile(path) as file:
        file.write_line(picture.getvalue())  # PNG readers stop at its last chunk
    return path


def _histogram(axes: Axes, name: str, numbers: Numbers) -> None:
    values = numbers.values()
    axes.set_title(f"{name} of a row")
    axes.set_ylabel("rows")
    axes.grid(alpha=0.3, axis="y")
    if not values:
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
        return
    low, high = min(values), max(values)
    if high - low < BINS:
        edges = np.arange(low, high + 2) - 0.5
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        edges = np.linspace(low, high, BINS + 1)
    axes.hist(values, bins=edges.tolist(), color="tab:blue", edgecolor="white", linewidth=0.4)
    middle = numbers.spread()["median"]
    axes.axvline(middle, color="tab:red", linestyle="--", label=f"median {middle:,}")
    axes.legend(fontsize="small")


def _bars(axes: Axes, name: str, found: Counter[str]) -> None:
    shown = found.most_common(MOST_BARS)
    rest = sum(found.values()) - sum(count for _, count in shown)
    if rest:
        shown.append((f"{len(found) - MOST_BARS} others", rest))
    names = [_short(value) for value, _ in reversed(shown)]
    bars = axes.barh(range(len(shown)), [count for _, count in reversed(shown)], color="tab:green")
    axes.set_yticks(range(len(shown)), names)
    axes.bar_label(bars, padding=3, fontsize="small")
    axes.margins(x=0.15)
    axes.set_title(f"rows by {name}")
    axes.set_xlabel("rows")


def _short(value: str) -> str:
    text = value if len(value) <= MOST_LETTERS else value[: MOST_LETTERS - 1] + "…"
    return text.replace("$", r"\$")
