"""What the shipped recipe learns, over seeds, beside the alternatives.

    python benchmarks/learning.py --seeds 0 1 2

Recipes (each run goes to RUN_DIR/RECIPE/seedN; finished runs are kept and only read):

    recipe          SFT on 60 traces, then GRPO (configs/starter-sft.yaml, starter-grpo.yaml)
    no-warm-start   GRPO from the base model
    sft-long        SFT on the same traces with about GRPO's compute
    sft-600         SFT on ten times the traces (in 10 views each instead of 50)

From the warm start of `recipe`:

    ppo             PPO (configs/starter-ppo.yaml) for as many steps
    episode-credit  every turn is credited with the whole episode, not with what came from it on
    group-scaled    the same, returns divided by the spread of each group
    ungated         as `episode-credit`; groups without a success teach too
    scaled-ungated  both
    outcome-only    as `episode-credit`; an episode is worth whether it ended in success
    unshared        as `episode-credit`; every conversation computed by itself in every turn

Prints a markdown table of every run; `--json FILE` writes the figures of each, `--plot FILE.png`
draws the learning curves.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rl.plots import Step, plot_beside, read_metrics

Flags = tuple[str, ...] | None
ONCE = ("--eval_base", "false")  # the base policy is the same in every run
EPISODE = ("--credit", "episode")
UNGATED = ("--gate_groups", "false")
SCALED = ("--scale_rewards", "group")
AS_LONG = ("--max_steps", "105", "--lr_scheduler_kwargs", '{"num_decay_steps": 35}')
RECIPES: dict[str, tuple[Flags, Flags]] = {
    "recipe": ((), ()),
    "no-warm-start": (None, ("--adapter", "none")),
    "sft-long": ((*ONCE, "--num_train_epochs", "6"), None),
    "sft-600": ((*ONCE, "--num_traces", "600", "--views", "10"), None),
    "ppo": (None, AS_LONG),
    "episode-credit": (None, EPISODE),
    "group-scaled": (None, (*EPISODE, *SCALED)),
    "ungated": (None, (*EPISODE, *UNGATED)),
    "scaled-ungated": (None, (*EPISODE, *UNGATED, *SCALED)),
    "outcome-only": (None, (*EPISODE, "--reward", "outcome")),
    "unshared": (None, (*EPISODE, "--share_prompts", "false")),
}
"""Flags for `sft.train` and for `rl.grpo` (`rl.ppo`: `ppo`); None: that stage is left out."""

LIMIT_S = 3600.0


def commands(recipe: str, seed: int, root: Path, threads: int) -> list[list[str]]:
    """Return the commands of one run; RL without an SFT stage starts from that of `recipe`."""
    sft_flags, rl_flags = RECIPES[recipe]
    folder = place(root, recipe, seed)
    warm = folder if sft_flags is not None else place(root, "recipe", seed)
    common = ["--run_dir", str(folder), "--seed", str(seed), "--threads", str(threads)]
    result = []
    if sft_flags is not None:
        sft = [sys.executable, "-m", "sft.train", "--output_dir", str(folder / "sft")]
        result.append([*sft, *common, *sft_flags])
    if rl_flags is not None:
        program = "ppo" if recipe == "ppo" else "grpo"
        learn = [sys.executable, "-m", f"rl.{program}", "--output_dir", str(folder / program)]
        result.append([*learn, "--adapter", str(warm / "sft"), *common, *rl_flags])
    return result


def from_recipe(recipe: str) -> bool:
    """Return whether a recipe is the shipped one or starts from its warm start."""
    return recipe == "recipe" or (RECIPES[recipe][0] is None and recipe != "no-warm-start")


def place(root: Path, recipe: str, seed: int) -> Path:
    """Return the folder of a run."""
    return root / recipe / f"seed{seed}"


def run(recipe: str, seed: int, root: Path, threads: int) -> Path:
    """Run one recipe with one seed unless it is finished; return its folder."""
    folder = place(root, recipe, seed)
    if (folder / "finished").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        for command in commands(recipe, seed, root, threads):
            log.write(" ".join(command) + "\n")
            log.flush()
            subprocess.run(
                command, stdout=log, stderr=log, check=True, timeout=LIMIT_S, env=environment
            )
    (folder / "finished").touch()
    return folder


def figures(folder: Path) -> dict[str, object]:
    """Return the figures of a finished run."""
    summary: dict[str, object] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return summary


def curves(runs: Sequence[tuple[str, int]], folders: Sequence[Path]) -> dict[str, list[list[Step]]]:
    """Return recipe -> the steps of its seeds, of those that learned from rollouts."""
    found: dict[str, list[list[Step]]] = {}
    for (recipe, _), folder in zip(runs, folders, strict=True):
        for logged in sorted(folder.glob("*/metrics.jsonl")):
            found.setdefault(recipe, []).append(read_metrics(logged))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the chosen recipes and print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="Runs side by side.")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each run.")
    parser.add_argument("--run_dir", type=Path, default=Path("runs/learning"))
    parser.add_argument("--json", type=Path, help="Write the figures here.")
    parser.add_argument("--plot", type=Path, help="Draw the curves of all chosen RL runs here.")
    flags = parser.parse_args(arguments)
    wanted = [(recipe, seed) for recipe in flags.recipes for seed in flags.seeds]
    first = sorted({seed for recipe, seed in wanted if from_recipe(recipe)})
    with ThreadPoolExecutor(flags.jobs) as pool:
        # Others start from its warm start, so the recipe itself comes first.
        list(pool.map(lambda seed: run("recipe", seed, flags.run_dir, flags.threads), first))
        folders = list(pool.map(lambda w: run(*w, flags.run_dir, flags.threads), wanted))
    if flags.json:
        result = {f"{r}/seed{s}": figures(f) for (r, s), f in zip(wanted, folders, strict=True)}
        flags.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if flags.plot:
        plot_beside(curves(wanted, folders), flags.plot)
    report = [sys.executable, "-m", "rl.report", "--seeds", *map(str, folders)]
    subprocess.run(report, check=True, timeout=LIMIT_S)


if __name__ == "__main__":
    main()
