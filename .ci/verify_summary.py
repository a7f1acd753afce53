"""Check that a training run left a complete and consistent `summary.json`.

Learning is not judged here (the run is a shortened one): every stage must be there, counted over
enough tasks, with rates and intervals that follow from the counts.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

STAGES = ("base", "sft", "grpo")
FIGURES = ("success", "abstention", "heldout")


def figure_problems(name: str, figure: dict[str, Any]) -> list[str]:
    """Return what is wrong with one figure: counts, rate, interval."""
    successes, n, rate = figure["successes"], figure["n"], figure["rate"]
    if not (isinstance(successes, int) and isinstance(n, int) and 0 <= successes <= n and n > 0):
        return [f"{name}: {successes} successes of {n}"]
    problems = []
    if not math.isclose(rate, successes / n, abs_tol=1e-9):
        problems.append(f"{name}: rate {rate} is not {successes}/{n}")
    low, high = figure.get("interval", (0.0, 1.0))
    if not 0.0 <= low <= rate <= high <= 1.0:
        problems.append(f"{name}: the interval [{low}, {high}] does not hold {rate}")
    return problems


def summary_problems(summary: dict[str, Any]) -> list[str]:
    """Return everything that is wrong with a summary."""
    problems = []
    for stage in STAGES:
        entry = summary["stages"][stage]
        for name in FIGURES:
            problems += figure_problems(f"{stage}.{name}", entry[name])
        for kind, figure in entry["kinds"].items():
            problems += figure_problems(f"{stage}.kinds.{kind}", figure)
        if not entry["kinds"]:
            problems.append(f"{stage}: no kinds")
    return problems


def main() -> int:
    """Read the file named on the command line and say what is wrong with it."""
    path = Path(sys.argv[1])
    problems = summary_problems(json.loads(path.read_text(encoding="utf-8")))
    sys.stdout.writelines(f"{path}: {problem}\n" for problem in problems)
    if not problems:
        sys.stdout.write(f"{path}: every stage is there and consistent\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
