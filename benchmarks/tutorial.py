"""How long `docs/your-own-server.md` takes: its commands as they stand there, in an empty folder.

    python tests/examples/peers.py       once: what `transformers serve` needs
    python benchmarks/tutorial.py        prints the seconds of every block; the target is 600 in all

What the commands print is in FOLDER/commands.log and FOLDER/server.log.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "docs" / "your-own-server.md"
SERVING = ROOT / ".cache" / "peers" / "serving" / "bin" / "python"
SERVES = "transformers serve"
"""A block that begins with this runs in a terminal of its own, beside those that follow it."""
PORT = "8000"
TARGET_S = 600.0

START_S, BLOCK_S, STOP_S = 240.0, 900.0, 20.0


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of a language, in order."""
    text = TUTORIAL.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


class Reader:
    """Somebody who follows the tutorial: one terminal for commands, another one for servers.

    Args:
        folder: The empty folder.
        serving: A Python whose `transformers` has what serving needs.
        settings: What the reader changes in the first block: variable -> value.

    Attributes:
        spent: Each block that was run, with the seconds it took; for a server, until it answered.
    """

    def __init__(self, folder: Path, serving: Path, settings: Mapping[str, int]) -> None:
        self.folder = folder
        self.spent: list[tuple[str, float]] = []
        self._port = free_port()
        self._env = {**os.environ, "PATH": self._path(serving)}
        self._env.pop("OPENAI_API_KEY", None)
        first, *self._rest = (block.replace(PORT, str(self._port)) for block in blocks("bash"))
        for name, value in settings.items():
            first, found = re.subn(rf"\b{name}=\d+", f"{name}={value}", first)
            if found != 1:
                raise ValueError(f"the first block does not set {name}")
        self._first = first

    def _path(self, serving: Path) -> str:
        """Return a PATH on which this Python and that `transformers` are found."""
        program = self.folder.parent / "programs" / "transformers"
        program.parent.mkdir(exist_ok=True)
        command = f'exec {serving} -m transformers.cli.transformers "$@"'
        program.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
        program.chmod(0o755)
        path = [str(program.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
        return os.pathsep.join(path)

    def follow(self) -> None:
        """Run every block; a server runs until the next one is started, or to the end.

        Raises:
            RuntimeError: If a block fails, or is not done in time.
        """
        servers = [place for place, block in enumerate(self._rest) if block.startswith(SERVES)]
        for block in self._rest[: servers[0]]:
            self._run(block)
        for start, end in zip(servers, [*servers[1:], len(self._rest)], strict=True):
            with self._serving(self._rest[start]):
                for block in self._rest[start + 1 : end]:
                    self._run(block)

    def _run(self, block: str) -> None:
        begin = time.monotonic()
        with self._started(block, "commands.log") as process:
            try:
                code = process.wait(BLOCK_S)
            except subprocess.TimeoutExpired:
                code = -1
        if code != 0:
            raise RuntimeError(f"{block}\nended with {code}\n{self._log('commands.log')}")
        self.spent.append((block, time.monotonic() - begin))

    @contextmanager
    def _serving(self, block: str) -> Iterator[None]:
        begin = time.monotonic()
        with self._started(block, "server.log") as process:
            while not self._answers():
                if process.poll() is not None or time.monotonic() > begin + START_S:
                    raise RuntimeError(f"{block}\ndoes not answer\n{self._log('server.log')}")
                time.sleep(0.1)
            self.spent.append((block, time.monotonic() - begin))
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


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def send(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to what is left of a process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def main() -> None:
    """Follow the tutorial and print what it took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/tutorial/empty"))
    parser.add_argument("--serving", type=Path, default=SERVING, help="Python that can serve")
    parser.add_argument("--json", type=Path, help="write the figures here")
    flags = parser.parse_args()
    if not flags.serving.exists():
        raise SystemExit(f"no {flags.serving}: run python tests/examples/peers.py")
    if flags.folder.exists():
        raise SystemExit(f"{flags.folder} is there already: the tutorial begins in an empty folder")
    flags.folder.mkdir(parents=True)
    reader = Reader(flags.folder.resolve(), flags.serving.absolute(), {})
    reader.follow()
    lines = [(block.splitlines()[0][:72], seconds) for block, seconds in reader.spent]
    for first, seconds in lines:
        sys.stdout.write(f"{seconds:7.1f} s  {first}\n")
    total = sum(seconds for _, seconds in lines)
    sys.stdout.write(f"{total:7.1f} s  in all, n=1 (target: at most {TARGET_S:.0f})\n")
    if flags.json:
        flags.json.parent.mkdir(parents=True, exist_ok=True)
        figures = {"total_s": total, "blocks": lines}
        flags.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
