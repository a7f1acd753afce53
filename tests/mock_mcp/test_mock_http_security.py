from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

DEADLINE_S = 60.0
ROOT = Path(__file__).parents[2]
MAX_REQUEST_BYTES = 4 * 1024 * 1024
PARAMS = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}
HELLO = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": PARAMS}
HEADERS = {
    "accept": "application/json, text/event-stream",
    "content-type": "application/json",
    "mcp-episode": "security",
}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server process on a free port, killed at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    words = ["--transport", "streamable-http", "--port", str(port), "--domains", "math"]
    server = subprocess.Popen(
        [sys.executable, "-m", "mock_mcp", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    try:
        end = time.monotonic() + DEADLINE_S
        while not answers("127.0.0.1", port):
            assert time.monotonic() < end, "the server did not start"
            assert server.poll() is None, "the server ended"
            time.sleep(0.05)
        yield port
    finally:
        server.kill()
        server.wait(DEADLINE_S)


def answers(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(DEADLINE_S)
        return probe.connect_ex((address, port)) == 0


def post(port: int, content: bytes, **headers: str) -> httpx2.Response:
    sent = {**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
    url = f"http://127.0.0.1:{port}/mcp"
    return httpx2.post(url, content=content, headers=sent, timeout=DEADLINE_S, trust_env=False)


def greeted(port: int, **headers: str) -> int:
    return post(port, json.dumps(HELLO).encode(), **headers).status_code


@pytest.fixture(autouse=True)
def the_server_still_works(port: int) -> Iterator[None]:
    yield
    assert greeted(port) == 200


def test_only_this_machine_can_connect(port: int) -> None:
    listening = [
        line.split()[1]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{port:04X}")
    ]
    assert listening == [f"0100007F:{port:04X}"]  # 127.0.0.1 and nothing else


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_request_that_names_this_machine_is_answered(port: int, host: str) -> None:
    assert greeted(port, host=f"{host}:{port}") == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}"),
        *("localhost.evil.example:{port}", "evil-localhost:{port}", "evil@localhost"),
        *("10.0.0.1:{port}", "0.0.0.0:{port}", "localhost", ""),
    ],
)
def test_a_request_for_another_host_name_is_refused(port: int, host: str) -> None:
    """A page at evil.example whose name was re-bound to 127.0.0.1 still says its own name."""
    assert greeted(port, host=host.format(port=port)) == 421


@pytest.mark.parametrize(
    "origin",
    [
        *("http://evil.example", "https://evil.example:{port}", "null"),
        *("http://localhost.evil.example:{port}", "http://evil.example#localhost:{port}"),
    ],
)
def test_a_page_of_another_origin_is_refused(port: int, origin: str) -> None:
    assert greeted(port, origin=origin.format(port=port)) == 403


def test_a_form_of_a_web_page_is_refused(port: int) -> None:
    """Browsers send these three types across origins without asking first."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert greeted(port, content_type=kind) == 400


def test_a_request_that_is_too_long_is_refused(port: int) -> None:
    assert post(port, b" " * (MAX_REQUEST_BYTES + 1)).status_code == 413


def test_a_request_that_only_says_that_it_is_too_long_is_refused_unread(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as client:
        head = f"POST /mcp HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: {10**12}\r\n"
        client.sendall((head + "Content-Type: application/json\r\n\r\n").encode())
        assert b" 413 " in client.recv(1000)


def test_a_request_without_an_end_is_refused_at_the_cap(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as client:
        head = f"POST /mcp HTTP/1.1\r\nHost: localhost:{port}\r\nTransfer-Encoding: chunked\r\n"
        client.sendall((head + "Content-Type: application/json\r\n\r\n").encode())
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        for _ in range(MAX_REQUEST_BYTES // 0x10000 + 1):
            client.sendall(chunk)
        assert b" 413 " in client.recv(1000)


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b'"text"', b"\xff\xfe", b"[]"])
def test_a_body_that_is_no_request_is_refused(port: int, body: bytes) -> None:
    assert post(port, body).status_code == 400
