"""Studies of the data of a warm start: `python -m sft.study NAME`.

    python -m sft.study formats     the same traces in other formats, broken, and cleaned
                                    (`studies/formats.py`)
    python -m sft.study sizes       25 to 800 traces, without GRPO after it and with it

Writes, under RUN_DIR/study/NAME/:

    ARM/seedN/          a run as `sft.train` and `rl.grpo` write it; finished ones are kept
    success.png         success by arm, each seed a point

and prints a markdown table with Wilson intervals and exact McNemar tests against one of the arms.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trl import SFTConfig

from agents.cli import fail, parse_all_flags, parse_flags, say
from agents.summary import write_json
from envs.errors import EnvsError
from envs.tasks.load import load_tasks
from rewards.errors import RewardsError, did_you_mean
from sft.data.rows import Row
from sft.flags import CONFIGS, PolicyArguments, TaskArguments
from sft.studies.formats import ARMS
from sft.studies.report import figures_of, lines_of, plot, table
from sft.studies.runs import Run, StudyError, finish_all, is_finished
from sft.traces import pick_tasks
from sft.train import WarmStartArguments
from sft.views import demonstrations

SIZES = ("25", "50", "100", "200", "400", "800")


@dataclass(frozen=True)
class StudyFlags:
    """Flags of every study."""

    arms: list[str] = field(default_factory=list, metadata={"help": "Arms to run; all if empty."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Their seeds."})
    jobs: int = field(default=1, metadata={"help": "Runs side by side."})
    threads: int = field(default=2, metadata={"help": "CPU threads of each run."})
    run_dir: str = field(default="runs", metadata={"help": "Folder of the results."})
    json: str = field(default="", metadata={"help": "Write the figures here."})
    sft_config: str = field(
        default=str(CONFIGS / "starter-sft.yaml"), metadata={"help": "Recipe of the warm start."}
    )


@dataclass(frozen=True)
class FormatsFlags(StudyFlags):
    """Flags of `formats`."""

    against: str = field(
        default="structured", metadata={"help": "Arm that the others are compared with."}
    )


@dataclass(frozen=True)
class SizesFlags(StudyFlags):
    """Flags of `sizes`."""

    against: str = field(default="100", metadata={"help": "Size that others are compared with."})
    grpo: bool = field(default=True, metadata={"help": "Let GRPO follow every warm start."})
    grpo_config: str = field(
        default=str(CONFIGS / "starter-grpo.yaml"), metadata={"help": "Recipe of GRPO."}
    )
    grpo_steps: int = field(
        default=0, metadata={"help": "Steps of GRPO (0: as many as its recipe says)."}
    )


def formats(flags: FormatsFlags) -> list[Run]:
    """Return the runs of `formats`, the rows of those that are not finished written."""
    arms = chosen(flags, ARMS)
    runs = {}
    for arm in arms:
        for seed in flags.seeds:
            folder = place(flags, "formats", arm, seed)
            own = ("--num_traces", "0", "--data", str(folder / "rows.jsonl"), *ARMS[arm][1])
            sft = ("sft", warm_start(flags, folder, seed, own))
            runs[arm, seed] = Run(arm, seed, folder, (sft,))
    for seed in flags.seeds:
        missing = [arm for arm in arms if not is_finished(runs[arm, seed])]
        traces = traces_of(recipe(flags), seed) if missing else []
        for arm in missing:
            write_rows(runs[arm, seed].folder / "rows.jsonl", ARMS[arm][0](traces, seed))
    return list(runs.values())


def sizes(flags: SizesFlags) -> list[Run]:
    """Return the runs of `sizes`: fewer traces are shown in more views, as many rows in all."""
    if flags.grpo_steps < 0:
        raise StudyError(f"--grpo_steps {flags.grpo_steps} is no number of steps (0: the recipe's)")
    _, warm = recipe(flags)
    rows = warm.num_traces * warm.views
    runs = []
    for arm in chosen(flags, None):
        views = max(1, round(rows / int(arm)))
        for seed in flags.seeds:
            folder = place(flags, "sizes", arm, seed)
            own = ("--num_traces", arm, "--views", str(views))
            commands = [("sft", warm_start(flags, folder, seed, own))]
            if flags.grpo:
                commands.append(("grpo", reinforcement(flags, folder, seed)))
            runs.append(Run(arm, seed, folder, tuple(commands)))
    return runs


def chosen(flags: Any, known: Mapping[str, Any] | None) -> list[str]:
    """Return the arms of a study; without known ones they are sizes.

    Raises:
        StudyError: If there is no such arm, or the one to compare with is not among them.
    """
    arms = flags.arms or list(known or SIZES)
    for arm in arms:
        if known is not None and arm not in known:
            raise StudyError(
                f'no arm "{arm}" (known: {", ".join(known)}){did_you_mean(arm, known)}'
            )
        if known is None and not (arm.isdecimal() and int(arm) > 0):
            raise StudyError(f'a size is a number of traces from 1 on, not "{arm}"')
    if flags.against not in arms:
        raise StudyError(f"--against {flags.against} is none of the arms: {', '.join(arms)}")
    return arms


def recipe(flags: StudyFlags) -> tuple[TaskArguments, WarmStartArguments]:
    """Return what the recipe of the warm start says about tasks and traces."""
    kinds = (PolicyArguments, TaskArguments, WarmStartArguments, SFTConfig)
    given = parse_all_flags(kinds, "python -m sft.train", "", ["--config", flags.sft_config])
    return given[1], given[2]


def traces_of(given: tuple[TaskArguments, WarmStartArguments], seed: int) -> list[Row]:
    """Return the reference traces of a recipe in their views, as `sft.train` shows them."""
    play, warm = given
    every = load_tasks(play.tasks, "train", mock=not play.servers)
    tasks = pick_tasks(every, warm.num_traces, seed)
    return demonstrations(tasks, play.max_turns, warm.shown(), seed, play.servers or None)


def warm_start(flags: StudyFlags, folder: Path, seed: int, own: Sequence[str]) -> tuple[str, ...]:
    """Return the command of a warm start; the base policy is the same in every run."""
    start = (sys.executable, "-m", "sft.train", "--config", flags.sft_config)
    common = ("--output_dir", str(folder / "sft"), *_common(flags, folder, seed))
    return (*start, *common, "--eval_base", "false", *own)


def reinforcement(flags: SizesFlags, folder: Path, seed: int) -> tuple[str, ...]:
    """Return the command of GRPO from the warm start of the same run."""
    start = (sys.executable, "-m", "rl.grpo", "--config", flags.grpo_config)
    places = ("--adapter", str(folder / "sft"), "--output_dir", str(folder / "grpo"))
    steps = ("--max_steps", str(flags.grpo_steps)) if flags.grpo_steps else ()
    return (*start, *places, *steps, *_common(flags, folder, seed))


def place(flags: StudyFlags, name: str, arm: str, seed: int) -> Path:
    """Return the folder of a run."""
    return Path(flags.run_dir) / "study" / name / arm / f"seed{seed}"


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write canonical rows, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


def _common(flags: StudyFlags, folder: Path, seed: int) -> tuple[str, ...]:
    return ("--run_dir", str(folder), "--seed", str(seed), "--threads", str(flags.threads))


STUDIES: Mapping[str, tuple[Any, Any, str]] = {
    "formats": (FormatsFlags, formats, "the same traces in other formats"),
    "sizes": (SizesFlags, sizes, "how many traces are enough"),
}
"""Name -> its flags, its runs, and what it asks."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m sft.study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=list(STUDIES), help="each has its own --help")
    name = parser.parse_args(words[:1]).name
    kind, runs_of, title = STUDIES[name]
    flags = parse_flags(kind, f"python -m sft.study {name}", title, words[1:])
    try:
        runs = runs_of(flags)
        finish_all(runs, flags.jobs, flags.threads)
        lines = lines_of(runs, flags.against)
        say(table(lines, flags.against))
        if flags.json:
            write_json(Path(flags.json), figures_of(lines, flags.against))
        path = Path(flags.run_dir) / "study" / name / "success.png"
        label = "traces" if name == "sizes" else "format"
        say(f"\nwrote {plot(lines, path, title, label)}")
    except (StudyError, EnvsError, RewardsError) as error:
        return fail(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
