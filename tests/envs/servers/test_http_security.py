from __future__ import annotations

import gzip
import json
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from http_server import McpProcess, Scripted, answer, scripted

from envs.calls import call_all
from envs.client import Connection, Deadlines, connect
from envs.errors import ClientError, ServerStartError
from envs.servers import addresses
from envs.servers.addresses import is_loopback, is_public_address, is_public_name
from envs.servers.http import HttpTransport
from rewards.episode import ToolCall, ToolResult

PATIENT = Deadlines(start=60.0, call=60.0, close=5.0)
SHORT = Deadlines(start=0.5, close=0.2)


def failure(url: str, deadlines: Deadlines = PATIENT, **more: Any) -> str:
    with pytest.raises(ServerStartError) as raised:
        connect(HttpTransport(url, **more), deadlines)
    return str(raised.value)


def one(connection: Connection, name: str, **arguments: Any) -> ToolResult:
    return call_all([[(connection, ToolCall(name, arguments))]])[0][0]


class FakeDns:
    """A name server in the hands of a stranger: it gives the next list at every question."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0)


@pytest.fixture(scope="module")
def server() -> Iterator[McpProcess]:
    started = McpProcess("streamable-http-json")
    yield started
    started.stop()


@pytest.fixture
def elsewhere() -> Iterator[Scripted]:
    """A server that nobody may be led to."""
    with scripted(lambda handler, _, __: answer(handler, 500)) as script:
        yield script
        assert script.requests == []


@pytest.fixture
def loopback_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a server on this machine stand for one on the internet, at 127.0.0.1 only."""
    monkeypatch.setattr(addresses, "is_public_address", lambda address: address == "127.0.0.1")


# --- which addresses a name may lead to ---------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1"),
        *("169.254.169.254", "100.100.100.200", "192.0.0.192", "168.63.129.16", "100.64.0.1"),
        *("224.0.0.1", "255.255.255.255", "240.0.0.1", "198.18.0.1"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "ff02::1", "::127.0.0.1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::"),
    ],
)
def test_a_public_name_may_not_lead_into_this_machine_its_network_or_its_cloud(
    elsewhere: Scripted, address: str
) -> None:
    assert not is_public_address(address)
    for found in ([address], ["8.8.8.8", address]):
        told = failure(f"http://mcp.example:{elsewhere.port}/mcp", resolve=FakeDns(found))
        assert f"mcp.example leads to {address}" in told


@pytest.mark.parametrize("address", ["8.8.8.8", "::ffff:8.8.8.8", "2606:4700::1"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public_address(address)


@pytest.mark.parametrize("host", ["mcp.example", "MCP.Example.", "127.0.0.1.nip.io", "0x7f.0.0.1"])
def test_names_that_strangers_answer_for_are_public(host: str) -> None:
    assert is_public_name(host)


@pytest.mark.parametrize(
    "host", ["localhost", "box", "mcp.localhost", "nas.local", "db.internal", "10.0.0.1", "::1"]
)
def test_names_and_addresses_that_the_user_answers_for_are_not_public(host: str) -> None:
    assert not is_public_name(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_is_reached_when_the_user_names_it(server: McpProcess, host: str) -> None:
    connection = connect(HttpTransport(f"http://{host}:{server.port}/mcp"), PATIENT)
    assert one(connection, "add", a=1, b=2).text == "3"
    connection.close()


def test_a_public_name_of_the_own_network_is_reached_when_the_user_says_so() -> None:
    # The name server of the test is asked by nobody then, and the real one does not know the name.
    dns = FakeDns()
    assert "is it running?" in failure("http://mcp.invalid/mcp", own_network=True, resolve=dns)
    assert dns.asked == []


def test_a_name_without_an_address_is_no_connection() -> None:
    async def unknown(host: str, port: int) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    told = failure("http://mcp.example/mcp", resolve=unknown)
    assert "no connection to http://mcp.example/mcp (Name or service not known)" in told


def host_seen(handler: BaseHTTPRequestHandler, _: bytes, __: Scripted) -> None:
    """Answer, and hang up, so that the next request needs a new connection."""
    answer(handler, 503, "text/plain", b"busy", Connection="close")


@pytest.mark.usefixtures("loopback_is_public")
def test_the_address_that_was_checked_is_the_one_that_is_connected_to() -> None:
    dns = FakeDns(["127.0.0.1"])  # a second question would fail the test
    with scripted(host_seen) as script:
        told = failure(f"http://mcp.example:{script.port}/mcp", resolve=dns)
    assert "503" in told
    assert len(script.requests) >= 2
    assert {headers["Host"] for _, headers in script.requests} == {f"mcp.example:{script.port}"}
    assert dns.asked == ["mcp.example"]


@pytest.mark.usefixtures("loopback_is_public")
def test_every_session_checks_the_name_anew(elsewhere: Scripted) -> None:
    dns = FakeDns(["127.0.0.1"], ["127.0.0.2"])
    with scripted(host_seen) as script:
        assert "503" in failure(f"http://mcp.example:{script.port}/mcp", resolve=dns)
    assert "leads to 127.0.0.2" in failure(f"http://mcp.example:{elsewhere.port}/", resolve=dns)


def test_the_next_address_of_a_name_is_tried_when_the_first_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(addresses, "is_public_address", lambda _: True)
    dns = FakeDns(["127.0.0.2", "127.0.0.3", "127.0.0.1"])
    with scripted(host_seen) as script:
        assert "503" in failure(f"http://mcp.example:{script.port}/mcp", resolve=dns)


# --- redirects ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sse", [False, True])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_its_target_is_named_without_secrets(
    elsewhere: Scripted, status: int, sse: bool
) -> None:
    target = f"http://user:secret@127.0.0.1:{elsewhere.port}/internal?token=secret"

    def redirect(handler: BaseHTTPRequestHandler, _: bytes, __: Scripted) -> None:
        answer(handler, status, Location=target)

    with scripted(redirect) as script:
        told = failure(script.url, sse=sse)
    assert f"{script.url} redirects to http://127.0.0.1:{elsewhere.port}/internal;" in told
    assert "secret" not in told


def test_a_redirect_within_the_server_names_the_url_for_the_config() -> None:
    def redirect(handler: BaseHTTPRequestHandler, _: bytes, __: Scripted) -> None:
        answer(handler, 307, Location="/mcp/")

    with scripted(redirect) as script:
        told = failure(script.url)
    assert f"redirects to {script.url}/; if you trust that, put it in the config" in told


def test_a_session_is_ended_without_following_a_redirect(elsewhere: Scripted) -> None:
    """DELETE at the end of a session is a request like any other."""
    initialized = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "serverInfo": {"name": "leads away", "version": "1"},
    }

    def play(handler: BaseHTTPRequestHandler, body: bytes, _: Scripted) -> None:
        request = json.loads(body or b"{}")
        if request.get("method") == "initialize":
            told = {"jsonrpc": "2.0", "id": request["id"], "result": initialized}
            kept = {"mcp_session_id": "s"}
            answer(handler, 200, "application/json", json.dumps(told).encode(), **kept)
        elif handler.command == "POST":
            answer(handler, 202)
        else:
            answer(handler, 307, Location=elsewhere.url)

    with scripted(play) as script:
        connect(HttpTransport(script.url), PATIENT, "legacy").close()
    # The session's listening GET may be tried once more, before or after.
    assert any(request[0].startswith("DELETE") for request in script.requests)


def test_an_old_server_may_not_send_the_messages_elsewhere(elsewhere: Scripted) -> None:
    def lead_away(handler: BaseHTTPRequestHandler, _: bytes, seen: Scripted) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        handler.wfile.write(f"event: endpoint\ndata: {elsewhere.url}\n\n".encode())
        handler.wfile.flush()
        handler.close_connection = True
        seen.release.wait()

    with scripted(lead_away) as script:
        failure(script.url, SHORT, sse=True)
    assert len(script.requests) == 1


# --- answers ------------------------------------------------------------------------------------


def test_a_packed_answer_is_neither_asked_for_nor_unpacked() -> None:
    bomb = gzip.compress(b" " * 10_000_000)

    def pack(handler: BaseHTTPRequestHandler, _: bytes, __: Scripted) -> None:
        answer(handler, 200, "application/json", bomb, Content_Encoding="gzip")

    with scripted(pack) as script:
        assert "packed its answer" in failure(script.url)
    assert {headers["accept-encoding"] for _, headers in script.requests} == {"identity"}


@pytest.mark.parametrize("status", [200, 500])
def test_an_endless_answer_is_refused_at_the_cap(status: int) -> None:
    def pour(handler: BaseHTTPRequestHandler, _: bytes, __: Scripted) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while True:  # until the client hangs up
            handler.wfile.write(b"1000\r\n" + b" " * 0x1000 + b"\r\n")

    with scripted(pour) as script:
        told = failure(script.url, max_body_bytes=100_000)
    assert ("exceeded the 100000 byte limit." in told) == (status == 200)
    assert ("answered 500" in told) == (status == 500)


def test_what_a_server_says_in_an_error_cannot_drive_a_terminal() -> None:
    def paint(handler: BaseHTTPRequestHandler, _: bytes, __: Scripted) -> None:
        answer(handler, 500, "text/plain", b"\x1b[2J\x07red\nline" + b"x" * 9000)

    with scripted(paint) as script:
        told = failure(script.url)
    assert told.isprintable()
    assert len(told) < 500


def test_messages_hold_no_secret_of_the_config() -> None:
    with scripted(lambda handler, _, __: answer(handler, 401)) as script:
        url = script.url.replace("://", "://user:secret@") + "?api_key=secret"
        told = failure(url, headers={"Authorization": "Bearer secret"})
    assert "secret" not in told
    assert script.requests[0][0].startswith("POST /mcp?api_key=secret")


@pytest.mark.parametrize("value", ["Bearer secret\n", "Bearer secret\r\nHost: evil", " secret"])
def test_a_header_that_could_not_be_sent_is_named_without_its_value(value: str) -> None:
    with pytest.raises(ClientError, match="the header 'Authorization'") as raised:
        HttpTransport("http://localhost/mcp", headers={"Authorization": value})
    assert "secret" not in str(raised.value)


# --- TLS and proxies ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for mcp.example that no authority has signed."""
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    name = ["-subj", "/CN=mcp.example", "-addext", "subjectAltName=DNS:mcp.example"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    places = ["-keyout", str(file), "-out", str(file.with_suffix(".crt"))]
    subprocess.run(
        ["openssl", "req", "-x509", *key, *name, *places], check=True, capture_output=True
    )
    file.write_text(file.read_text() + file.with_suffix(".crt").read_text())
    return file


@pytest.fixture
def encrypted(certificate: Path) -> Iterator[Scripted]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with scripted(host_seen, context) as script:
        yield script


def test_a_server_whose_certificate_nobody_signed_is_not_talked_to(encrypted: Scripted) -> None:
    told = failure(encrypted.url)
    assert "CERTIFICATE_VERIFY_FAILED" in told
    assert encrypted.requests == []


@pytest.mark.usefixtures("loopback_is_public")
def test_the_certificate_is_checked_against_the_name_and_not_the_address(
    encrypted: Scripted, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting = ssl.create_default_context(cafile=certificate.with_suffix(".crt"))
    monkeypatch.setattr(addresses, "_tls", lambda: trusting)
    dns = FakeDns(["127.0.0.1"], ["127.0.0.1"])
    assert "503" in failure(f"https://mcp.example:{encrypted.port}/", resolve=dns)
    told = failure(f"https://other.example:{encrypted.port}/", resolve=dns)
    assert "Hostname mismatch" in told


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    """A proxy that the environment names."""
    with scripted(lambda handler, _, __: answer(handler, 418)) as script:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, script.url.removesuffix("/mcp"))
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield script


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_proxy_of_the_environment_is_not_used_for_this_machine(
    server: McpProcess, proxy: Scripted, host: str
) -> None:
    connect(HttpTransport(f"http://{host}:{server.port}/mcp"), PATIENT).close()
    assert proxy.requests == []


def test_a_proxy_of_the_environment_is_used_for_all_else_and_resolves_the_name(
    proxy: Scripted,
) -> None:
    assert "418" in failure("http://mcp.example/mcp", resolve=FakeDns())
    assert proxy.requests[0][0] == "POST http://mcp.example/mcp HTTP/1.1"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "a.localhost."])
def test_names_of_this_machine_are_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["localhost.example", "10.0.0.1", "box"])
def test_names_of_other_machines_are_known(host: str) -> None:
    assert not is_loopback(host)
