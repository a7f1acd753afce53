"""Real HTTP servers for tests: an MCP server in a process of its own, and a scripted one.

python http_server.py PORT [streamable-http|streamable-http-json|sse]
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context

DEADLINE_S = 60.0


def make_server() -> MCPServer:
    server = MCPServer("http", log_level="CRITICAL")

    @server.tool()
    async def add(a: int, b: int) -> int:
        return a + b

    @server.tool()
    async def header(name: str, context: Context[Any, Any]) -> str:
        request = context.request_context.request
        return request.headers.get(name, "") if request else ""

    @server.tool()
    async def long(size: int) -> str:
        return "x" * size

    @server.tool()
    async def hang() -> str:
        await asyncio.sleep(3600)
        return ""

    @server.tool()
    async def block(seconds: float) -> str:
        time.sleep(seconds)
        return ""

    @server.tool()
    async def die() -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return ""

    return server


def main() -> None:
    port, transport = int(sys.argv[1]), sys.argv[2]
    if transport == "sse":
        make_server().run("sse", port=port)
    else:
        json = transport == "streamable-http-json"
        make_server().run("streamable-http", port=port, json_response=json)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def eventually(holds: Callable[[], bool], told: str) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end, told
        time.sleep(0.01)


class McpProcess:
    """An MCP server in a process of its own, on the same port over all its lives."""

    def __init__(self, transport: str = "streamable-http") -> None:
        self.port = free_port()
        self.transport = transport
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{'sse' if self.transport == 'sse' else 'mcp'}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), str(self.port), self.transport],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(self._listens, f"the server did not start; exit code {self.process.poll()}")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(DEADLINE_S)


@dataclass
class Scripted:
    """What a scripted server saw.

    Attributes:
        url: Where it listens.
        requests: Request line and headers of every request.
        release: Set at the end; a script that must not answer waits for it.
    """

    url: str
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)

    @property
    def port(self) -> int:
        return int(self.url.split(":")[2].partition("/")[0])


Script = Callable[[BaseHTTPRequestHandler, bytes, Scripted], None]


def answer(
    handler: BaseHTTPRequestHandler, status: int, kind: str = "", body: bytes = b"", **headers: str
) -> None:
    """Send one whole answer."""
    handler.send_response(status)
    if kind:
        handler.send_header("Content-Type", kind)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextlib.contextmanager
def scripted(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[Scripted]:
    """Run a server that answers every request by a script."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def play(self) -> None:
            seen.requests.append((self.requestline, dict(self.headers)))
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            # A client that has seen enough hangs up.
            with contextlib.suppress(ConnectionError):
                script(self, body, seen)

        do_GET = do_POST = do_DELETE = play

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Stay quiet when a client does not like the server's certificate."""

    server = Quiet(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    scheme = "https" if tls else "http"
    seen = Scripted(f"{scheme}://127.0.0.1:{server.server_address[1]}/mcp")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield seen
    finally:
        seen.release.set()
        server.shutdown()
        thread.join(DEADLINE_S)
        server.server_close()


if __name__ == "__main__":
    main()
