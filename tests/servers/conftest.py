from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from envs.event_loop import event_loop
from envs.servers.reaper import reaper
from tests.envs.servers.test_process import left_behind, open_files, wait_for
from tests.servers.real_servers import SERVERS, SHOP

INSTALLED = SERVERS / ".installed"
REQUIRED = "MCP_GYM_REQUIRE_SERVERS"


@pytest.fixture(scope="session", autouse=True)
def installed() -> None:
    """Skip where the servers are not installed, or fail where somebody counts on them."""
    if INSTALLED.exists():
        return
    problem = f"{INSTALLED} is missing; run `make servers`"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(problem)
    pytest.skip(problem)


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """Check that a test leaves no process, no temporary folder and no open file.

    The folder for temporary files is not pytest's (`tmp_path` is only asked for to be made before):
    its path is too long for Chromium's socket.
    """
    event_loop()
    folder = Path(tempfile.mkdtemp(prefix="t-"))
    reaper().forget_folder(folder)  # starts the reaper, which stays
    before = open_files()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        yield
        assert list(folder.iterdir()) == []
        assert left_behind() == []
    wait_for(lambda: open_files() <= before)  # the site's connections to a browser that is gone
    shutil.rmtree(folder)


class _Shop(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(SHOP.encode())

    def log_message(self, *_: object) -> None:
        """Keep the test's output free of requests."""


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """Serve the shop on localhost and return its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Shop)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join(timeout=10)
