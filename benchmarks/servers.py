"""Episodes on MCP servers: calls, resets and memory, beside the plain SDK and two peers.

    python benchmarks/servers.py
    python benchmarks/servers.py --json runs/servers.json
    python benchmarks/servers.py --skip-peers --episodes 1 16

Everybody calls the same tool of the same toy server, in memory, over stdio (in Python and on node)
and over HTTP on loopback. What is measured of ours, and against what, is said at the top of
`server_sides.py`. Four tables:

    calls     per second, and what ours takes more per call than the SDK's client does
    peers     the calls per second of openenv-core and gem-llm, each in a virtual environment of
              its own that is made once in a cache folder, and the ratio of ours to theirs
    resets    of all episodes at once without a pause, so that the pool is empty: what a server's
              start costs; and the memory of an episode
    pool      resets after episodes that leave the pool the time to start their successors

Times are medians over rounds in which all take turns, with quartiles, so that a busy minute hits
everybody alike. The overheads are medians of the ratios within each round.

Keys of the JSON: `calls`, `resets` and `pool` hold a record per case; `targets` holds what the
project promises, with the figure and whether it is `met`.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from server_cases import (
    Case,
    PeerCommand,
    measure_calls,
    measure_pool,
    measure_resets,
    share,
    spread,
)
from server_sides import HTTP, MEMORY, PYTHON_SERVER, STDIO_PYTHON, TRANSPORTS
from server_tables import (
    CALLS_HEAD,
    OURS,
    PEERS_HEAD,
    POOL_HEAD,
    POOL_LIMITS_MS,
    RESETS_HEAD,
    SDK,
    calls_row,
    keeping_up,
    peer_rows,
    pool_row,
    resets_row,
    target_row,
    targets,
)

HERE = Path(__file__).parent
OPENENV, GEM = "openenv-core", "gem-llm"
PACKAGES = {OPENENV: "openenv-core", GEM: "gem-llm[mcp]"}
Record = dict[str, Any]
CALLS = 256
POOL_EPISODES = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        episodes: Numbers of episodes side by side.
        rounds: Of calls.
        calls: Fewest calls of each side in a round.
        reset_rounds: Of resets without a pause.
        pool_episodes: The same for resets from the pool.
        pool_rounds: Episodes in each row there.
        episode_s: How long each of them lasts.
    """

    episodes: tuple[int, ...]
    rounds: int
    calls: int
    reset_rounds: int
    pool_episodes: tuple[int, ...] = POOL_EPISODES
    pool_rounds: int = 8
    episode_s: float = 2.0


# --- peers --------------------------------------------------------------------------------------


def peer_python(package: str, cache: Path) -> str:
    """Return the Python of a virtual environment with a peer, made at the first call."""
    place = cache / package.removesuffix("-core")  # env_speed.py shares it
    python, done = place / "bin" / "python", place / ".complete"
    if not done.exists():
        say(f"installing {package} into {place} (once)")
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        install = f"{python} -m pip install -q --disable-pip-version-check".split()
        if subprocess.run([*install, PACKAGES[package]], check=False).returncode:
            raise SystemExit(f"{package} could not be installed; --skip-peers measures without it")
        done.touch()
    return str(python)


def versions(pythons: dict[str, str]) -> dict[str, str]:
    """Return the versions of what is measured."""
    ask = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
    asked = {name: [python, "-c", ask, name] for name, python in pythons.items()}
    asked |= {"mcp": [sys.executable, "-c", ask, "mcp"], "node": ["node", "--version"]}
    return {
        name: subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        for name, command in asked.items()
    }


def peers_of(transport: str, episodes: int, pythons: dict[str, str]) -> tuple[PeerCommand, ...]:
    """Return the peers that can do what a case does."""
    places = {
        MEMORY: ["memory"],
        HTTP: ["{url}"],
        STDIO_PYTHON: [sys.executable, str(PYTHON_SERVER)],
    }
    if not pythons or transport not in places:
        return ()
    if transport == STDIO_PYTHON and episodes > 1:
        return ()  # GEM starts a server for every call; to see that, one episode is enough
    gem = (pythons[GEM], str(HERE / "gem_peer.py"), str(episodes), *places[transport])
    found = [PeerCommand(GEM, gem, ("sync", "async"))]
    if transport == MEMORY:  # the only one that OpenEnv's environments have
        command = (pythons[OPENENV], str(HERE / "openenv_peer.py"), str(episodes))
        found.append(PeerCommand(OPENENV, command, ("step", "step_async", "open_sessions")))
    return tuple(found)


# --- measuring ----------------------------------------------------------------------------------


def apart(measure: Callable[..., Any], *arguments: Any) -> Any:
    """Measure in a process of its own, whose memory nobody has used before."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(measure, *arguments).result()


def calls_record(case: Case) -> Record:
    """Measure the calls of a case."""
    times = apart(measure_calls, case)
    return {
        "transport": case.transport,
        "episodes": case.episodes,
        "calls_per_second": {
            name: asdict(spread([1 / one for one in of])) for name, of in times.items()
        },
        "overhead": {f"{name}/{base}": ratios(times, name, base) for name in OURS for base in SDK},
    }


def ratios(times: dict[str, list[float]], name: str, base: str) -> Record:
    """Return how much more one side takes than another, as a share, from round to round."""
    pairs = zip(times[name], times[base], strict=True)
    return asdict(spread([one / other - 1 for one, other in pairs]))


def resets_record(case: Case) -> Record:
    """Measure the resets and the memory of a case."""
    found = apart(measure_resets, case)
    servers = found["server_bytes"]
    each = spread(servers).median if servers else 0.0
    if case.transport == HTTP:  # one process serves all
        each /= case.episodes
    growth = found["own_bytes"][0] / case.episodes
    return {
        "transport": case.transport,
        "episodes": case.episodes,
        "ours_ms": asdict(spread([1000 * one for one in found["ours"]])),
        "sdk_open_and_close_ms": asdict(spread([1000 * one for one in found["plain"]])),
        "server_mb_per_episode": each / 1e6,
        "own_mb_per_episode": growth / 1e6,
    }


def pool_record(episode_s: float, case: Case) -> Record:
    """Measure the resets from the warm pool."""
    times = [1000 * one for one in apart(measure_pool, case, episode_s)]
    limit, most = POOL_LIMITS_MS[case.transport], share(times, 0.9)
    return {
        "transport": case.transport,
        "episodes": case.episodes,
        "episode_s": episode_s,
        "reset_ms": asdict(spread(times)),
        "reset_ms_p90": most,
        "limit_ms": limit,
        "keeps_up": most <= limit,  # a pool that lags makes some wait, not all
    }


def measure(plan: Plan, pythons: dict[str, str]) -> Record:
    """Measure and print everything, case by case."""
    cases = [(transport, episodes) for transport in TRANSPORTS for episodes in plan.episodes]
    say("\ncalls, and how much more ours takes for one than the plain SDK's client")
    calls = table(
        CALLS_HEAD,
        calls_row,
        calls_record,
        [Case(*case, plan.rounds, plan.calls, peers_of(*case, pythons)) for case in cases],
    )
    if pythons:
        say("\npeers, and the ratio of ours to theirs (* = in no guide of theirs)\n" + PEERS_HEAD)
        for row in (row for record in calls for row in peer_rows(record)):
            say(row)
    say("\nresets of all episodes without a pause, and the memory of an episode")
    resets = table(
        RESETS_HEAD, resets_row, resets_record, [Case(*case, plan.reset_rounds) for case in cases]
    )
    say(f"\nresets from the pool after episodes of {plan.episode_s:g} s that end together")
    pool = table(
        POOL_HEAD,
        pool_row,
        functools.partial(pool_record, plan.episode_s),
        [Case(*one, plan.pool_rounds) for one in product(POOL_LIMITS_MS, plan.pool_episodes)],
    )
    for line in keeping_up(pool):
        say(line)
    return {"calls": calls, "resets": resets, "pool": pool}


def table(
    head: str,
    row: Callable[[Record], str],
    measured: Callable[[Case], Record],
    cases: Sequence[Case],
) -> list[Record]:
    """Measure cases and print a line for each."""
    say(head)
    records = []
    for case in cases:
        records.append(measured(case))
        say(row(records[-1]))
    return records


# --- the command --------------------------------------------------------------------------------


def say(text: str) -> None:
    """Write one line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def arguments() -> argparse.Namespace:
    """Read the command line."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mcp-gym"
    parser = argparse.ArgumentParser(
        description="Episodes on MCP servers: calls, resets and memory, beside the plain SDK."
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of calls")
    parser.add_argument(
        "--episodes", type=int, nargs="+", default=[1, 16, 64], help="episodes side by side"
    )
    parser.add_argument("--quick", action="store_true", help="little of everything, to try it out")
    parser.add_argument("--skip-peers", action="store_true", help="do not measure the peers")
    parser.add_argument("--cache", type=Path, default=cache, help="where the peers are installed")
    return parser.parse_args()


def plan_of(options: argparse.Namespace) -> Plan:
    """Return how much the command line wants measured."""
    if options.quick:
        return Plan((2,), 2, 16, 1, pool_episodes=(2,), pool_rounds=1, episode_s=0.2)
    return Plan(tuple(options.episodes), options.rounds, CALLS, max(2, options.rounds // 5))


def main() -> None:
    """Run the benchmark."""
    options = arguments()
    names = () if options.skip_peers else tuple(PACKAGES)
    pythons = {name: peer_python(name, options.cache) for name in names}
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    say(f"{cores} cores, load {load:.1f} before the start")
    if load > cores / 4:
        say("BUSY: take the ratios for a hint, and nothing for a figure")
    used = versions(pythons)
    say(", ".join(f"{name} {number}" for name, number in used.items()))
    record = measure(plan_of(options), pythons)
    record |= {"targets": targets(record), "versions": used, "cores": cores, "load_before": load}
    say("\ntargets")
    for one in record["targets"]:
        say(target_row(one))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        say(f"wrote {options.json}")


if __name__ == "__main__":
    main()
