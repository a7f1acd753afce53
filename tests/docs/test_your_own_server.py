"""The commands of `docs/your-own-server.md`, run as they stand, in an empty folder."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rewards.serialise import read_episodes
from tests.examples.peers import free_port, python_of

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "your-own-server.md"
SERVES = "transformers serve"
"""A block that begins with this runs in a terminal of its own, beside those that follow it."""
PORT = "8000"

FEWER = {"views": 8, "episodes": 60, "epochs": 2, "tasks": 24}
"""What is set at the top of the tutorial, for a test of minutes: the path, not what is learned."""

START_S, BLOCK_S, STOP_S = 240.0, 900.0, 20.0


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of a language, in order."""
    text = TUTORIAL.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


class Reader:
    """Somebody who follows the tutorial: one terminal for commands, another one for servers.

    Args:
        folder: The empty folder.
        programs: Folders of the programs, before those of the PATH.
        settings: What the reader changes in the first block: variable -> value.
    """

    def __init__(self, folder: Path, programs: list[Path], settings: dict[str, int]) -> None:
        self.folder = folder
        self._port = free_port()
        path = [*map(str, programs), os.environ["PATH"]]
        self._env = {**os.environ, "PATH": os.pathsep.join(path)}
        self._env.pop("OPENAI_API_KEY", None)
        first, *self._rest = (block.replace(PORT, str(self._port)) for block in blocks("bash"))
        for name, value in settings.items():
            first, found = re.subn(rf"\b{name}=\d+", f"{name}={value}", first)
            assert found == 1, f"the first block does not set {name}"
        self._first = first

    def follow(self) -> None:
        """Run every block; a server runs until the next one is started, or to the end."""
        servers = [place for place, block in enumerate(self._rest) if block.startswith(SERVES)]
        for block in self._rest[: servers[0]]:
            self._run(block)
        for start, end in zip(servers, [*servers[1:], len(self._rest)], strict=True):
            with self._serving(self._rest[start]):
                for block in self._rest[start + 1 : end]:
                    self._run(block)

    def _run(self, block: str) -> None:
        with self._started(block, "commands.log") as process:
            try:
                code = process.wait(BLOCK_S)
            except subprocess.TimeoutExpired:
                code = -1
        assert code == 0, f"{block}\nended with {code}\n{self._log('commands.log')}"

    @contextmanager
    def _serving(self, block: str) -> Iterator[None]:
        with self._started(block, "server.log") as process:
            deadline = time.monotonic() + START_S
            while not self._answers():
                running = process.poll() is None and time.monotonic() < deadline
                assert running, f"{block}\ndoes not answer\n{self._log('server.log')}"
                time.sleep(0.1)
            yield

    @contextmanager
    def _started(self, block: str, log: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start a block in a process group of its own, of which nothing is left afterwards."""
        script = ["bash", "-euo", "pipefail", "-c", f"{self._first}\n{block}"]
        with (self.folder / log).open("ab") as output:
            process = subprocess.Popen(
                script, cwd=self.folder, env=self._env, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            yield process
        finally:
            send(process, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            send(process, signal.SIGKILL)
            process.wait(STOP_S)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("localhost", self._port), 1).close()
        except OSError:
            return False
        return True

    def _log(self, name: str) -> str:
        return (self.folder / name).read_text(errors="replace")[-3000:]


def send(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to what is left of a process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@pytest.fixture
def programs(tmp_path: Path) -> list[Path]:
    """The project's Python, and a `transformers` that has what serving needs."""
    serving = tmp_path / "programs" / "transformers"
    serving.parent.mkdir()
    command = f'exec {python_of("serving")} -m transformers.cli.transformers "$@"'
    serving.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
    serving.chmod(0o755)
    return [serving.parent, Path(sys.executable).parent]


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def outcomes(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Return what was said and what came of it, turn by turn, by the id of the task."""
    return {
        episode.task.id: [(turn.raw.strip(), str(turn.outcome)) for turn in episode.turns]
        for episode in read_episodes(path)
    }


@pytest.mark.slow
def test_the_tutorial_leads_from_an_empty_folder_to_an_export_that_plays_as_in_process(
    tmp_path: Path, programs: list[Path]
) -> None:
    # It takes longer than the time after which pytest takes a test for hanging; every wait here
    # has a deadline of its own.
    faulthandler.cancel_dump_traceback_later()
    folder = tmp_path / "empty"
    folder.mkdir()
    Reader(folder, programs, FEWER).follow()
    assert lines(folder / "traces.jsonl") == FEWER["episodes"]
    assert 0 < lines(folder / "curated.jsonl") <= lines(folder / "solved.jsonl")
    evaluated = json.loads((folder / "runs/evaluation/summary.json").read_text(encoding="utf-8"))
    policies = evaluated["suites"]["tasks"]["policies"]
    assert [one["success"]["n"] for one in policies.values()] == [FEWER["tasks"]] * 2
    assert policies["runs/own/sft"]["success"]["successes"] > 0
    here, there = sorted((folder / "runs/served/episodes").iterdir(), key=lambda path: path.name)
    assert (here.name, "@" in there.name) == ("shipped.jsonl", True)
    assert len(outcomes(here)) == FEWER["tasks"]
    assert outcomes(there) == outcomes(here)


def test_the_splits_of_the_example_share_no_statue_museum_keeper_or_order(tmp_path: Path) -> None:
    program = [sys.executable, str(ROOT / "examples" / "own-server" / "make_tasks.py")]
    subprocess.run([*program, "tasks.jsonl"], cwd=tmp_path, check=True, timeout=120)
    named: dict[str, set[str]] = {}
    for line in (tmp_path / "tasks.jsonl").read_text(encoding="utf-8").splitlines():
        task = json.loads(line)
        key = re.search(r"(?:statue|museum|order|keeper) ([A-Z]\w+(?: [A-Z]\w+)?)", task["prompt"])
        assert key is not None
        named.setdefault(task["split"], set()).add(key[1])
    assert named.keys() == {"train", "validation", "test"}
    assert not named["train"] & (named["test"] | named["validation"])
    assert not named["validation"] & named["test"]
