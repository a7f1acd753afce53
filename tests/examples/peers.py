"""Packages that the examples are tested against and the project does not depend on.

    python tests/examples/peers.py

makes a virtual environment for each under .cache/peers. Without it the tests that need one are
skipped, or fail where MCP_GYM_REQUIRE_PEERS is set (`make test-examples`).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACE = ROOT / ".cache" / "peers"
PACKAGES = {
    "openenv": ["openenv-core==0.3.0", "--editable", str(ROOT)],
    # What `transformers serve` needs beside the project's own packages, which are shared.
    "serving": ["fastapi>=0.115", "openai>=1.98", "uvicorn"],
}
SHARING = ("serving",)
START_S = 120.0


def install(name: str) -> None:
    """Make a peer's environment, unless it is there."""
    folder = PLACE / name
    if (folder / ".complete").exists():
        return
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *PACKAGES[name]], check=True)
    if name in SHARING:
        [packages] = folder.glob("lib/python*/site-packages")
        (packages / "project.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    (folder / ".complete").touch()


def python_of(name: str) -> str:
    """Return the Python of a peer's environment; skip the test where there is none."""
    if not (PLACE / name / ".complete").exists():
        refuse = pytest.fail if "MCP_GYM_REQUIRE_PEERS" in os.environ else pytest.skip
        refuse(f"{name} is not installed; run: python tests/examples/peers.py")
    return str(PLACE / name / "bin" / "python")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(command: list[str], port: int, log: Path) -> Iterator[None]:
    """Run a server from the repository's root until it is no longer needed."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_until_open(process, port, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _wait_until_open(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"the server does not answer: {log.read_text(errors='replace')[-2000:]}")


if __name__ == "__main__":
    for peer in sys.argv[1:] or PACKAGES:
        install(peer)
