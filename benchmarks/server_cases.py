"""What `servers.py` measures, one case at a time; each in a process of its own, for the memory."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server_sides import STEPS, Ours, PlainClients, http_server
from toy_server import make_server

from envs.client import connect

FEWEST_PEER_CALLS = 8


@dataclass(frozen=True)
class PeerCommand:
    """A peer that may be measured.

    Attributes:
        name: Its name and version.
        command: Its process, see `gem_peer.py`.
        forms: What it is told to play.
    """

    name: str
    command: tuple[str, ...]
    forms: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """What is measured in one process.

    Attributes:
        transport: One of `TRANSPORTS`.
        episodes: How many are played side by side.
        rounds: How often everything is measured, in turn.
        calls: Fewest calls of each side in a round; few episodes play more of them.
        peers: Measured in the same rounds; `{url}` in a command stands for the toy server's.
    """

    transport: str
    episodes: int
    rounds: int
    calls: int = 0
    peers: tuple[PeerCommand, ...] = ()


class Peer:
    """A peer in a process of its own, see `gem_peer.py` and `openenv_peer.py`."""

    def __init__(self, peer: PeerCommand, url: str) -> None:
        self._command = [part.replace("{url}", url) for part in peer.command]
        self._name = peer.name
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            shown = " ".join(self._command)
            raise SystemExit(f"{self._name} ended early; to see why, run: {shown}")
        return dict(json.loads(line))

    def play(self, form: str) -> float:
        """Play a round of a form; return its seconds per call."""
        assert self._process.stdin is not None
        calls, seconds = 0, 0.0
        while calls < FEWEST_PEER_CALLS:
            self._process.stdin.write(form + "\n")
            self._process.stdin.flush()
            answer = self._read()
            calls, seconds = calls + answer["steps"], seconds + answer["seconds"]
        return seconds / calls

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def measure_calls(case: Case) -> dict[str, list[float]]:
    """Return the seconds per call of every side and every peer, round by round in turn."""
    steps = max(STEPS, STEPS * -(-case.calls // (STEPS * case.episodes)))
    with contextlib.ExitStack() as stack:
        url, _ = stack.enter_context(http_server(case.transport))
        ours = Ours(case.transport, url, case.episodes, fresh=False)
        stack.callback(ours.close)
        clients = PlainClients(case.transport, url, case.episodes)
        stack.callback(clients.close)
        own = (clients.plain, clients.crossed, ours.call_all, ours.step)
        sides = {side.__name__: per_call(side, steps, case.episodes) for side in own}
        for named in case.peers:
            peer = Peer(named, url)
            stack.callback(peer.close)
            sides |= {f"{named.name} {form}": playing(peer, form) for form in named.forms}
        ours.reset()
        return in_turn(sides, case.rounds)


def per_call(side: Callable[[int], float], steps: int, episodes: int) -> Callable[[], float]:
    """Return a function that plays a round and returns its seconds per call."""
    return lambda: side(steps) / (steps * episodes)


def playing(peer: Peer, form: str) -> Callable[[], float]:
    """Return a function that plays a round and returns its seconds per call."""
    return lambda: peer.play(form)


def in_turn(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure all sides round by round; each round begins with another of them."""
    names = list(sides)
    times: dict[str, list[float]] = {name: [] for name in names}
    for name in names:  # not counted: what happens at the first call only
        sides[name]()
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(sides[name]())
    return times


def measure_resets(case: Case) -> dict[str, list[float]]:
    """Return what a reset of all episodes costs, one after another without pause, and the memory.

    Returns:
        `ours` and `plain` (open, list the tools, close, all side by side), in seconds per episode
        and round; `server_bytes` of every server process; `own_bytes`, by how much this process
        has grown.
    """
    with http_server(case.transport) as (url, http_pid):
        connect(make_server()).close()  # what is loaded at the first connection is nobody's
        before, strangers = resident_bytes(os.getpid()), set(children())
        ours = Ours(case.transport, url, case.episodes, fresh=True)
        try:
            ours.reset()
            servers = (
                [http_pid] if http_pid else [pid for pid in children() if pid not in strangers]
            )
            sizes = sorted(float(resident_bytes(pid)) for pid in servers if is_server(pid))
            memory = sizes[-case.episodes :]  # the others are spares that are not even up yet
            own = float(resident_bytes(os.getpid()) - before)
            times = [ours.reset() / case.episodes for _ in range(case.rounds)]
        finally:
            ours.close()
        plain = [open_and_close(case, url) / case.episodes for _ in range(case.rounds)]
    return {"ours": times, "plain": plain, "server_bytes": memory, "own_bytes": [own]}


def open_and_close(case: Case, url: str) -> float:
    """Return the seconds in which the SDK's clients open, list the tools and close."""
    started = time.perf_counter()
    PlainClients(case.transport, url, case.episodes).close()
    return time.perf_counter() - started


def children() -> list[int]:
    """Return the ids of this process's children."""
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def is_server(pid: int) -> bool:
    """Return whether a process is a toy server that has begun to run."""
    return b"toy_server" in Path(f"/proc/{pid}/cmdline").read_bytes()


def resident_bytes(pid: int) -> int:
    """Return how much memory a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measure_pool(case: Case, episode_s: float) -> list[float]:
    """Return the seconds of every reset from the warm pool.

    All episodes end at the same time, as those of a trainer do: their rows are reset one after
    another, and then run for `episode_s`, in which the pool makes their successors.
    """
    ours = Ours(case.transport, "", case.episodes, fresh=True)
    times: list[float] = []
    try:
        ours.reset()
        for _ in range(case.rounds):
            time.sleep(episode_s)
            times += [ours.reset_row(row) for row in range(case.episodes)]
    finally:
        ours.close()
    return times


@dataclass(frozen=True)
class Spread:
    """The middle of some measurements.

    Attributes:
        median: Their median.
        low: A quarter of them lies below.
        high: A quarter of them lies above.
        n: How many they are.
    """

    median: float
    low: float
    high: float
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Return the middle of at least one measurement."""
    return Spread(statistics.median(values), share(values, 0.25), share(values, 0.75), len(values))


def share(values: Sequence[float], part: float) -> float:
    """Return the value below which a part of the values lies."""
    return sorted(values)[min(int(part * len(values)), len(values) - 1)]
