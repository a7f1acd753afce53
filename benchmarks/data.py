"""How fast tool-calling data is converted and checked, and in how much memory.

    python benchmarks/data.py
    python benchmarks/data.py --rows 20000 --json runs/data.json
    python benchmarks/data.py --rows 100000 --near --json runs/data-near.json

Synthetic rows of glaive's second version (about 2 kB each, as the real ones; a third without tools,
3,000 tools that return again and again, and one row in twenty with a tool that never does) are
converted by `python -m sft.data convert` on two cores: read, checked against the schema of their
own tools, and written. `--near` has `validate` look for near-duplicates among the canonical rows
and render each of them; one row in ten is then nearly another one.

Memory is the sum of the resident sets of all processes, so what they share counts for each.

Keys of the JSON: `rows`, `convert` and, with `--near`, `validate`, each with `seconds`,
`cpu_seconds`, `rows_per_second`, `minutes_per_million` and `peak_gib`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

CORES = 2
TOOLS = 3_000
WORDS = (
    *("price", "stock", "flight", "hotel", "weather", "recipe", "movie", "song", "route", "bank"),
    *("loan", "patient", "order", "invoice", "museum", "ticket", "budget", "garden", "photo"),
    *("letter", "meeting", "calendar", "contact", "payment", "exercise", "language"),
)
TYPES = ("string", "integer", "number", "boolean")
POLL_S = 0.2
LEAD = (
    "SYSTEM: You are a helpful assistant with access to the following functions. "
    "Use them if required -\n"
)
NO_TOOLS = "SYSTEM: You are a helpful assistant, with no access to external functions.\n"


@dataclass(frozen=True)
class Figures:
    """What one command took.

    Attributes:
        seconds: Wall time.
        cpu_seconds: Processor time of all its processes; on two cores that nothing else uses, half
            of it is what the wall time would be at least.
        rows_per_second: Rows a second of wall time.
        minutes_per_million: Minutes of wall time that a million rows take at that rate.
        peak_gib: Largest sum of the resident sets of its processes, in GiB.
    """

    seconds: float
    cpu_seconds: float
    rows_per_second: float
    minutes_per_million: float
    peak_gib: float

    def row(self, name: str) -> str:
        """Return a line of the table."""
        return (
            f"{name:<10}{self.seconds:>10,.1f}{self.cpu_seconds:>10,.1f}"
            f"{self.rows_per_second:>12,.0f}"
            f"{self.minutes_per_million:>20,.1f}{self.peak_gib:>12,.2f}"
        )


def say(line: str) -> None:
    """Write one line."""
    sys.stdout.write(line + "\n")


def tool(number: int) -> dict[str, object]:
    """Return the `number`-th tool, the same in every run."""
    rng = random.Random(f"tool/{number}")
    names = rng.sample(WORDS, rng.randint(1, 5))
    properties = {
        name: {"type": rng.choice(TYPES), "description": f"The {name} that is asked for"}
        for name in names
    }
    return {
        "name": f"get_{names[0]}_{number}",
        "description": f"Get the {' and the '.join(names)}",
        "parameters": {"type": "object", "properties": properties, "required": names[:1]},
    }


def arguments_for(function: dict[str, object], rng: random.Random) -> dict[str, object]:
    """Return arguments that fit a tool."""
    values: dict[str, object] = {
        "string": f"{rng.choice(WORDS)}'s no. {rng.randint(1, 10**6)}",
        "integer": rng.randint(1, 10**6),
        "number": rng.randint(1, 10**6) / 8,
        "boolean": rng.random() < 0.5,
    }
    parameters = function["parameters"]
    assert isinstance(parameters, dict)
    return {name: values[schema["type"]] for name, schema in parameters["properties"].items()}


def prose(rng: random.Random, words: int) -> str:
    """Return words in a row."""
    return " ".join(rng.choice(WORDS) for _ in range(words)) + "."


def glaive_row(number: int) -> dict[str, str]:
    """Return the `number`-th row, the same in every run."""
    # One row in ten says nearly what the one ten before it says.
    rng = random.Random(f"row/{number - 10 if number % 10 == 9 else number}")
    if rng.random() < 1 / 3:
        chat = [f"USER: {prose(rng, 60)} {number}", f"ASSISTANT: {prose(rng, 90)} <|endoftext|>"]
        return {"system": NO_TOOLS, "chat": "\n\n\n".join(chat * 2)}
    known = [rng.randrange(TOOLS) for _ in range(rng.randint(1, 2))]
    functions = [tool(TOOLS + number if number % 20 == 0 else known[0])]
    functions += [tool(place) for place in known[1:] if place != known[0]]
    called = functions[0]
    quoted = json.dumps(arguments_for(called, rng))
    chat = [
        f"USER: {prose(rng, 40)} {number}",
        f"""ASSISTANT: <functioncall> {{"name": "{called["name"]}", "arguments": '{quoted}'}} """
        "<|endoftext|>",
        f"FUNCTION RESPONSE: {json.dumps({'result': prose(rng, 12)})}",
        f"ASSISTANT: {prose(rng, 60)} <|endoftext|>",
    ]
    system = LEAD + "\n\n".join(json.dumps(function, indent=4) for function in functions)
    return {"system": system + "\n", "chat": "\n\n\n".join(chat)}


def write_rows(path: Path, rows: int) -> None:
    """Write the file of rows."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            file.write(json.dumps(glaive_row(number)) + "\n")


def measure(command: Sequence[str | Path], rows: int) -> Figures:
    """Run a command and return what it took."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "sft.data", *map(str, command)])
    peak = 0
    cpu: dict[int, float] = {}
    while process.poll() is None:
        family = list(used(process.pid))
        peak = max(peak, sum(resident for _, _, resident in family))
        cpu |= {pid: seconds for pid, seconds, _ in family}
        time.sleep(POLL_S)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"the command failed with code {process.returncode}")
    per_million = seconds / rows * 1e6 / 60
    return Figures(seconds, sum(cpu.values()), rows / seconds, per_million, peak / 2**30)


def used(pid: int) -> Iterator[tuple[int, float, int]]:
    """Yield id, processor seconds and resident bytes of a process and of each descendant."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            times = member.cpu_times()
            yield member.pid, times.user + times.system, member.memory_info().rss
        except psutil.NoSuchProcess:
            continue


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows (default: a million)")
    parser.add_argument(
        "--near", action="store_true", help="also validate: near-duplicates and rendering"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = arguments()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    record: dict[str, object] = {"rows": options.rows, "cores": CORES}
    with tempfile.TemporaryDirectory() as folder:
        rows, converted, rejects = (Path(folder) / name for name in ("in.jsonl", "out.jsonl", "r"))
        write_rows(rows, options.rows)
        size = rows.stat().st_size
        say(f"{options.rows:,} rows, {size / options.rows:,.0f} bytes each\n")
        commands: dict[str, list[str | Path]] = {
            "convert": [
                *("convert", "--format", "glaive", "--model", "none", "--workers", str(CORES)),
                *(rows, converted, "--rejects", rejects),
            ]
        }
        if options.near:
            commands["validate"] = ["validate", "--threshold", "0", converted]
        heads = f"{'seconds':>10}{'CPU s':>10}{'rows/s':>12}{'minutes a million':>20}"
        table = [f"{'':<10}{heads}{'peak GiB':>12}"]
        for name, command in commands.items():
            figures = measure(command, options.rows)
            record[name] = asdict(figures)
            table.append(figures.row(name))
    say("\n" + "\n".join(table))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        say(f"wrote {options.json}")


if __name__ == "__main__":
    main()
