"""What the runs of a study came to: a table, a plot, and the figures as JSON.

A line is an arm and a stage with one seed, or with all seeds together. It is compared with the
same stage and seeds of a named arm on the same tasks: an exact McNemar test for one seed, and for
all of them an exact sign-flip test in which a task counts once (`agents/stats.py`), since seeds
that play the same tasks are no further tasks. Success is that on tasks that need tools, of the
kinds of training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from agents.figures import part
from agents.stats import sign_flip_exact, wilson
from agents.summary import read_stages
from agents.tables import STAGE_TITLES, markdown, p_value, percent
from rewards.episode import MODEL_STATUSES, Episode
from sft.studies.runs import Run, StudyError

ALL = "all"

HEADER = ["arm", "stage", "seed", "success", "better", "worse", "p"]


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        arm: The arm.
        stage: `sft` or `grpo`.
        seed: The seed, or `all`.
        rates: Share of the tasks that were solved, of each seed.
        n: Tasks that each seed played.
        differences: Task -> how many more seeds solved it than those of the other arm, of the tasks
            that both played.
    """

    arm: str
    stage: str
    seed: str
    rates: tuple[float, ...]
    n: int
    differences: Mapping[str, int]

    @property
    def rate(self) -> float:
        """Mean over the seeds."""
        return sum(self.rates) / len(self.rates)

    @property
    def better(self) -> int:
        """Tasks that more seeds solved than of the other arm."""
        return sum(one > 0 for one in self.differences.values())

    @property
    def worse(self) -> int:
        """Tasks that fewer seeds solved than of the other arm."""
        return sum(one < 0 for one in self.differences.values())

    @property
    def p(self) -> float:
        """Exact test against the other arm; 1 for that arm itself."""
        return sign_flip_exact(list(self.differences.values()))

    @property
    def ends(self) -> tuple[float, float]:
        """Wilson 95 % interval of a seed; lowest and highest of several."""
        if self.seed == ALL:
            return min(self.rates), max(self.rates)
        return wilson(round(self.rate * self.n), self.n)


def lines_of(runs: Sequence[Run], against: str) -> list[Line]:
    """Return the lines of finished runs: for every arm and stage each seed, then all.

    Args:
        runs: The runs; arms in the order in which they are shown.
        against: The arm that the others are compared with.

    Raises:
        StudyError: If a run has recorded nothing.
    """
    played = {(run.arm, run.seed): _stages(run) for run in runs}
    lines: list[Line] = []
    for arm in dict.fromkeys(run.arm for run in runs):
        for stage in dict.fromkeys(stage for run in runs for stage, _ in run.commands):
            seeds = [run.seed for run in runs if run.arm == arm and stage in played[arm, run.seed]]
            one_each = [
                _line(arm, stage, seed, played[arm, seed], played.get((against, seed), {}))
                for seed in seeds
            ]
            lines += one_each
            lines += [_together(one_each)] if one_each else []
    return lines


def table(lines: Sequence[Line], against: str) -> str:
    """Return a markdown table with a legend."""
    rows = [HEADER, *map(list, _cells(lines, against))]
    return (
        f"{markdown(rows)}\n\nSuccess in % on tasks that need tools: a seed with its Wilson 95 % "
        f"interval, all seeds as their mean [lowest, highest]; better, worse: tasks that more, or "
        f"fewer, of its seeds solved than of `{against}`; p: exact test of the two (McNemar; "
        "sign flips by task for all seeds)."
    )


def figures_of(lines: Sequence[Line], against: str) -> dict[str, Any]:
    """Return what the table says, as JSON."""
    names = ("arm", "stage", "seed", "n", "rate", "rates", "ends", "better", "worse", "p")
    rows = [{name: getattr(one, name) for name in names} for one in lines]
    return {"against": against, "lines": rows}


def plot(lines: Sequence[Line], path: Path, title: str, label: str) -> Path:
    """Draw success against the arms: each seed a point, all seeds a bar; numbers are joined.

    Args:
        lines: The lines.
        path: The PNG to write; its folder is made.
        title: Shown above.
        label: What the arms are.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    arms = list(dict.fromkeys(one.arm for one in lines))
    mean = "_-" if all(arm.isdecimal() for arm in arms) else "_"
    for number, stage in enumerate(dict.fromkeys(one.stage for one in lines)):
        colour = f"C{number}"
        for seeds, mark in ((False, mean), (True, "o")):
            some = [one for one in lines if one.stage == stage and (one.seed != ALL) == seeds]
            x, y = [arms.index(one.arm) for one in some], [100 * one.rate for one in some]
            name = "" if seeds else f"{STAGE_TITLES[stage]}, all seeds"
            size = 6 if seeds else 18
            axes.plot(
                x, y, mark, ms=size, color=colour, alpha=0.5 if seeds else 1, label=name or None
            )
    axes.set_xticks(range(len(arms)), arms)
    axes.set_xlabel(label)
    axes.set_ylabel("success, %")
    axes.set_ylim(-2, 102)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    axes.set_title(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def _stages(run: Run) -> dict[str, list[Episode]]:
    stages = read_stages(run.folder)
    if not stages:
        raise StudyError(f"{run.folder} holds no episodes; remove it to run it again")
    return stages


def _line(
    arm: str,
    stage: str,
    seed: int,
    played: dict[str, list[Episode]],
    other: dict[str, list[Episode]],
) -> Line:
    mine, others = _solved(played[stage]), _solved(other.get(stage, []))
    if not mine:
        raise StudyError(f"{arm}, seed {seed}: no task that needs tools was played to its end")
    differences = {task: mine[task] - others[task] for task in mine if task in others}
    rate = sum(mine.values()) / len(mine)
    return Line(arm, stage, str(seed), (rate,), len(mine), differences)


def _solved(episodes: Sequence[Episode]) -> dict[str, bool]:
    """Return whether a task was solved, for each that counts as success and no fault ended."""
    return {
        one.task.id: one.success
        for one in episodes
        if one.status in MODEL_STATUSES and part(one.task) == "success"
    }


def _together(lines: Sequence[Line]) -> Line:
    first = lines[0]
    differences: Counter[str] = Counter()
    for one in lines:
        differences.update(one.differences)
    rates = tuple(one.rate for one in lines)
    return Line(first.arm, first.stage, ALL, rates, first.n, differences)


def _cells(lines: Sequence[Line], against: str) -> Iterator[list[str]]:
    for one in lines:
        low, high = (100 * end for end in one.ends)
        success = f"{percent(one.rate)} [{low:.1f}, {high:.1f}] n={one.n}"
        test = [str(one.better), str(one.worse), p_value(one.p)]
        rest = ["-"] * 3 if one.arm == against else test
        yield [one.arm, STAGE_TITLES[one.stage], one.seed, success, *rest]
