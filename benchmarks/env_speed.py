"""How fast episodes are: steps through `step()` and `make_vec(64)`, resets, and OpenEnv beside it.

    python benchmarks/env_speed.py
    python benchmarks/env_speed.py --json runs/env_speed.json

Every step is one tool call through the real MCP session, with parsing, strict validation,
execution, judging and the reward. OpenEnv's in-process MCP environment is measured in the same
run, round by round in turn, on the same core: only the call of one trivial tool, without parsing,
validation or reward. It gets a virtual environment of its own in a cache folder, made once.

Keys of the JSON: `vector_steps_per_second`, `single_steps_per_second`, `reset_ms_median`,
`peer_steps_per_second` (the fastest form that OpenEnv's guides describe), `ratio_to_peer`, and
under `rates` every measured rate with its number of steps, smallest and largest round.
`open_sessions` among them is faster than any described form: what OpenEnv's WebSocket server does
inside.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from envs.mcp_env import MCPGymEnv
from envs.policies import render_calls
from envs.tasks import load_tasks
from envs.vector_env import MCPVectorEnv
from rewards.episode import Outcome, Task

PEER = "openenv-core"
PEER_SCRIPT = Path(__file__).with_name("openenv_peer.py")
DESCRIBED_FORMS = ("step", "step_async")
PEER_FORMS = (*DESCRIBED_FORMS, "open_sessions")
STEPS_PER_EPISODE = 4
EXPECTED = Outcome.TOOL_EXECUTION


@dataclass
class Rate:
    """Rounds of one measurement."""

    steps: int = 0
    rounds: list[float] = field(default_factory=list)

    def add(self, steps: int, seconds: float) -> None:
        """Add a round."""
        self.steps += steps
        self.rounds.append(steps / seconds)

    @property
    def median(self) -> float:
        """Steps per second in the median round."""
        return statistics.median(self.rounds)

    def row(self, name: str) -> str:
        """Return a line of the table."""
        low, high = min(self.rounds), max(self.rounds)
        return f"{name:<34}{self.median:>10,.0f}{low:>10,.0f}{high:>10,.0f}{self.steps:>9,}"


class Peer:
    """OpenEnv in a process of its own."""

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [python, PEER_SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.version = str(self._read()["version"])

    def _read(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the {PEER} process ended; what it wrote is above")
        record: dict[str, float] = json.loads(line)
        return record

    def play(self, form: str) -> tuple[int, float]:
        """Play one round; return its steps and seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write(form + "\n")
        self._process.stdin.flush()
        record = self._read()
        return int(record["steps"]), record["seconds"]

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def peer_python(folder: Path) -> Path:
    """Return the Python of a virtual environment with OpenEnv, made at the first call."""
    place = folder / "openenv"
    python, done = place / "bin" / "python", place / ".complete"
    if not done.exists():
        say(f"installing {PEER} into {place} (once)")
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", PEER]
        if subprocess.run(install, check=False).returncode:
            raise SystemExit(f"{PEER} could not be installed; --no_peer measures without it")
        done.touch()
    return python


def call_tasks(count: int) -> tuple[list[Task], list[str]]:
    """Return tasks whose first reference turn is one call that can be repeated."""
    found = [
        task
        for task in load_tasks("mock", "train")
        if len(task.reference) > 1 and len(task.reference[0].calls) == 1 and not task.faults
    ]
    random.Random(0).shuffle(found)
    env = MCPGymEnv(tasks=found)
    tasks: list[Task] = []
    # A call that fails, at once or when it is repeated, would be cheap.
    while len(tasks) < count:
        task = found.pop()
        env.reset(options={"task": task})
        turn = render_calls(task.reference[0].calls)
        outcomes = {env.step(turn)[4]["outcome"] for _ in range(STEPS_PER_EPISODE)}
        tasks += [task] if outcomes == {Outcome.TOOL_EXECUTION} else []
    env.close()
    return tasks, [render_calls(task.reference[0].calls) for task in tasks]


def vector_round(
    env: MCPVectorEnv, tasks: Sequence[Task], turns: Sequence[str]
) -> tuple[int, float]:
    """Play one call in every row, some times over; return steps and seconds without the reset."""
    env.reset(options={"tasks": tasks})
    started = time.perf_counter()
    for _ in range(STEPS_PER_EPISODE):
        env.step(turns)
    seconds = time.perf_counter() - started
    check([str(info["outcome"]) for info in env.infos])
    return STEPS_PER_EPISODE * len(turns), seconds


def single_round(
    env: MCPGymEnv, tasks: Sequence[Task], turns: Sequence[str]
) -> tuple[int, float, list[float]]:
    """Play the same through `step()`; return steps, seconds and the resets' milliseconds."""
    seconds, resets = 0.0, []
    for task, turn in zip(tasks, turns, strict=True):
        started = time.perf_counter()
        env.reset(options={"task": task})
        ready = time.perf_counter()
        for _ in range(STEPS_PER_EPISODE):
            info = env.step(turn)[4]
        seconds += time.perf_counter() - ready
        resets.append(1000 * (ready - started))
        check([info["outcome"]])
    return STEPS_PER_EPISODE * len(tasks), seconds, resets


def check(outcomes: Sequence[str]) -> None:
    """Make sure that every call ran; a refused one would be cheap."""
    if any(outcome != EXPECTED for outcome in outcomes):
        raise SystemExit(f"a call did not run as the benchmark expects: {sorted(set(outcomes))}")


def measure(rounds: int, envs: int, peer: Peer | None) -> tuple[dict[str, Rate], list[float]]:
    """Measure everything in turn, so that a busy minute hits all alike."""
    tasks, turns = call_tasks(envs)
    vector, single = MCPVectorEnv(envs, tasks=tasks), MCPGymEnv(tasks=tasks)
    names = ("vector", "single", *(PEER_FORMS if peer else ()))
    rates, resets = {name: Rate() for name in names}, list[float]()
    # Not counted: worlds are built, and every session reads its tool list at its first call.
    vector_round(vector, tasks, turns)
    single_round(single, tasks, turns)
    for _ in range(rounds):
        rates["vector"].add(*vector_round(vector, tasks, turns))
        steps, seconds, times = single_round(single, tasks, turns)
        rates["single"].add(steps, seconds)
        resets += times
        if peer is not None:
            for form in PEER_FORMS:
                rates[form].add(*peer.play(form))
    vector.close()
    single.close()
    return rates, resets


def report(rates: dict[str, Rate], resets: Sequence[float], version: str) -> dict[str, object]:
    """Print the tables and return what goes into the JSON."""
    say(f"\n{'steps per second':<34}{'median':>10}{'slowest':>10}{'fastest':>10}{'steps':>9}")
    titles = {"vector": "MCP-v0 make_vec", "single": "MCP-v0 step()"}
    for name, rate in rates.items():
        say(rate.row(titles.get(name, f"OpenEnv {version} {name}")))
    low, middle, high = (percentile(resets, share) for share in (0.05, 0.5, 0.95))
    say(f"\nreset: {middle:.3f} ms median, {low:.3f} to {high:.3f} ms (5 to 95 %), n={len(resets)}")
    record: dict[str, object] = {
        "vector_steps_per_second": rates["vector"].median,
        "single_steps_per_second": rates["single"].median,
        "reset_ms_median": middle,
        "peer_steps_per_second": None,
        "ratio_to_peer": None,
        "rates": {
            name: {
                "median": rate.median,
                "slowest": min(rate.rounds),
                "fastest": max(rate.rounds),
                "steps": rate.steps,
            }
            for name, rate in rates.items()
        },
    }
    if "step" in rates:
        described = max(rates[form].median for form in DESCRIBED_FORMS)
        ratio, held = (
            rates["vector"].median / rate for rate in (described, rates["open_sessions"].median)
        )
        say(
            f"ratio to OpenEnv: {ratio:.1f} to its fastest described form, {held:.1f} to sessions "
            "held open by hand"
        )
        record |= {"peer": f"{PEER} {version}", "peer_steps_per_second": described}
        record |= {"ratio_to_peer": ratio, "ratio_to_open_sessions": held}
    return record


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of the values lies."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def say(text: str) -> None:
    """Write one line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def stay_on_one_core() -> None:
    """Keep this process and the peer's on one core, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def arguments() -> argparse.Namespace:
    """Read the command line."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mcp-gym"
    parser = argparse.ArgumentParser(
        description="Steps and resets per second of MCP-v0, with OpenEnv beside it."
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of every measurement")
    parser.add_argument("--num_envs", type=int, default=64, help="rows of the vector form")
    parser.add_argument("--no_peer", action="store_true", help="do not measure OpenEnv")
    parser.add_argument("--cache", type=Path, default=cache, help="where OpenEnv is installed")
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    options = arguments()
    python = None if options.no_peer else peer_python(options.cache)
    stay_on_one_core()
    peer = Peer(python) if python else None
    try:
        rates, resets = measure(options.rounds, options.num_envs, peer)
    finally:
        if peer is not None:
            peer.close()
    record = report(rates, resets, peer.version if peer else "")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        say(f"wrote {options.json}")


if __name__ == "__main__":
    main()
