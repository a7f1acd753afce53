"""MCP over HTTP: the SDK's two HTTP transports behind one guard.

    Connection(HttpTransport("https://mcp.example/mcp", headers={"Authorization": "Bearer ..."}))

The SDK speaks the protocol; every request and answer passes through `_Guard`, which adds what a
training run needs: clear errors, a cap on the length of an answer, a deadline on every wait, and
the rules of `addresses.py` for where a request may go. What ends a call but not the session (an
HTTP error, an answer that is too long) becomes a JSON-RPC error, so that it reaches the caller as
an `MCPError` with a readable message. What ends the session (the server is gone, or has forgotten
the session) is raised, and the session's task ends with it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from types import TracebackType
from typing import Any

import anyio
import httpx2
from anyio.abc import TaskGroup
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import INTERNAL_ERROR, REQUEST_TIMEOUT

from envs.errors import ClientError, ServerGoneError
from envs.servers.addresses import CheckedNetwork, Resolver, resolve_name

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
CONNECT_S = 10.0
WAIT_S = 300.0
"""Also how long a stream that listens for events may be silent."""

SESSION_HEADER = "mcp-session-id"
CAP_WORDS = "byte limit"
"""In every message about an answer that is too long, ours and the SDK's."""

_HINTS = {
    401: "put an Authorization header in the config",
    403: "check the token in the config's headers, and whether the server accepts this host name",
    404: 'check the path of the URL (often /mcp); an old server needs "type": "sse"',
    405: 'check the path of the URL (often /mcp); an old server needs "type": "sse"',
    429: "it limits the rate of requests; run fewer episodes side by side",
}


class HttpTransport(AbstractAsyncContextManager[Any]):
    """An MCP server at a URL, as a transport for one `mcp.Client`.

    Args:
        url: The server's endpoint, `http://` or `https://`.
        headers: Sent with every request; a server with a state per episode reads its name here.
        sse: Speak the HTTP+SSE transport of 2024-11-05, for old servers. The SDK caps its answers
            at 1 MiB, and a longer one ends the session.
        max_body_bytes: Cap on the length of one answer.
        wait_s: Longest wait, in seconds, for the next bytes of an answer; not shorter than the
            deadlines of the `Connection`.
        own_network: The host's name may lead to an address that is not public.
        resolve: Finds the addresses of a public name.

    Raises:
        ClientError: If the URL or a header cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        sse: bool = False,
        max_body_bytes: int = MAX_BODY_BYTES,
        wait_s: float = WAIT_S,
        own_network: bool = False,
        resolve: Resolver = resolve_name,
    ) -> None:
        self._url = _checked(url)
        # A packed answer could unpack to any length.
        self._headers = {**_checked_headers(headers or {}), "accept-encoding": "identity"}
        self._sse = sse
        self._max_body_bytes = max_body_bytes
        self._wait_s = wait_s
        self._own_network = own_network
        self._resolve = resolve
        self._opened: AbstractAsyncContextManager[Any] | None = None

    async def __aenter__(self) -> Any:
        self._opened = self._open()
        return await self._opened.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        opened, self._opened = self._opened, None
        return await opened.__aexit__(kind, error, trace) if opened else None

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Any]:
        network = CheckedNetwork(self._url, self._own_network, self._resolve)
        guard = _Guard(self._url, self._sse, self._max_body_bytes, network)
        client = httpx2.AsyncClient(
            transport=guard,
            headers=self._headers,
            timeout=httpx2.Timeout(self._wait_s, connect=CONNECT_S),
            trust_env=False,
        )
        async with (
            aclosing(guard),
            anyio.create_task_group() as guard.session,
            self._spoken(client) as streams,
        ):
            yield streams

    def _spoken(self, client: httpx2.AsyncClient) -> AbstractAsyncContextManager[Any]:
        url = str(self._url)
        if self._sse:
            return sse_client(url, httpx_client_factory=lambda *_, **__: client)
        return streamable_http_client(
            url, http_client=client, max_sse_event_size=self._max_body_bytes
        )


def is_too_long(error: BaseException | None) -> bool:
    """Return whether a call, or its session, ended because an answer was longer than the cap.

    Args:
        error: What the call raised, or what the session's task ended with.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return CAP_WORDS in str(error)


def _checked(url: str) -> httpx2.URL:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ClientError(f"{url!r} is no URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ClientError(f"{url!r} is no URL of an MCP server; it begins with http:// or https://")
    return parsed


def _checked_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in headers.items():
        if value != value.strip() or not value.isprintable():
            # Its value is likely to be a secret.
            raise ClientError(
                f"the header {name!r} has blanks around its value or a control character in it; "
                "does a line end follow the token?"
            )
    return headers


def _public(url: httpx2.URL) -> str:
    """Return a URL for a message, without the parts that may hold secrets."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))


class _Guard(httpx2.AsyncBaseTransport):
    """What every request of one session passes through.

    Attributes:
        session: A task group around the session; what is raised in it ends the session.
    """

    session: TaskGroup

    def __init__(
        self, url: httpx2.URL, sse: bool, max_body_bytes: int, network: CheckedNetwork
    ) -> None:
        self._server = _public(url)
        self._sse = sse
        self._max_body_bytes = max_body_bytes
        self._network = network

    async def aclose(self) -> None:
        await self._network.aclose()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            answer = await self._network.handle_async_request(request)
            return await self._judged(request, answer)
        except httpx2.ReadTimeout:
            wait_s = request.extensions["timeout"]["read"]
            return _refusal(REQUEST_TIMEOUT, f"{self._server} sent nothing for {wait_s:g} s")
        except (httpx2.TransportError, ClientError) as error:
            raise self._lost(request, error) from error

    def _lost(self, request: httpx2.Request, error: Exception) -> ClientError:
        """End the session where the SDK would only log what it has lost."""
        if not isinstance(error, ClientError):
            said = str(error) or type(error).__name__
            error = ServerGoneError(f"no connection to {self._server} ({said}); is it running?")
        if request.method == "POST" or self._sse:
            self.session.start_soon(_raise, error)
        return error

    async def _judged(self, request: httpx2.Request, answer: httpx2.Response) -> httpx2.Response:
        """Return an answer that the SDK can do something sensible with."""
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        problem = self._problem(answer)
        asked = request.method == "POST" or self._sse
        if problem or (asked and answer.status_code >= 400):
            return await self._refused(request, answer, kind, problem)
        if not asked or answer.status_code == 202 or self._sse:
            return answer
        if kind == "text/event-stream":
            stream = _Watched(answer, lambda error: self._lost(request, error))
            return httpx2.Response(200, headers=answer.headers, stream=stream)
        if kind != "application/json":
            await answer.aclose()
            told = f"{self._server} answered with {kind or 'nothing'}, which is not MCP"
            return _refusal(INTERNAL_ERROR, f"{told}; {_HINTS[404]}")
        body = await _read(answer, self._max_body_bytes)
        if body is None:
            told = f"the answer exceeded the {self._max_body_bytes} {CAP_WORDS}."
            return _refusal(INTERNAL_ERROR, told)
        return httpx2.Response(200, headers=answer.headers, content=body)

    def _problem(self, answer: httpx2.Response) -> str:
        if answer.headers.get("content-encoding", "identity") != "identity":
            return f"{self._server} packed its answer though it was asked not to"
        if 300 <= answer.status_code < 400:
            place = _public(httpx2.URL(self._server).join(answer.headers.get("location", "")))
            return f"{self._server} redirects to {place}; if you trust that, put it in the config"
        return ""

    async def _refused(
        self, request: httpx2.Request, answer: httpx2.Response, kind: str, problem: str
    ) -> httpx2.Response:
        status = answer.status_code
        body = await _read(answer, MAX_ERROR_BYTES) or b""
        # Servers in TypeScript answer 400 when they do not know a session (any more).
        forgotten = status == 404 or (status == 400 and b"session" in body.lower())
        if forgotten and request.method == "POST" and SESSION_HEADER in request.headers:
            raise ServerGoneError(f"{self._server} has forgotten the session")
        if not problem:
            problem = f"{self._server} answered {status} {answer.reason_phrase}".rstrip()
            problem += f"; {_HINTS[status]}" if status in _HINTS else _said(kind, body)
        if self._sse:
            raise ServerGoneError(problem)
        if _is_rpc_error(kind, body) and status not in (401, 403):
            return httpx2.Response(status, headers=answer.headers, content=body)
        return _refusal(INTERNAL_ERROR, problem)


class _Watched(httpx2.AsyncByteStream):
    """A stream of events that ends its session when it breaks."""

    def __init__(self, answer: httpx2.Response, lost: Any) -> None:
        self._answer = answer
        self._lost = lost

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._answer.aiter_raw():
                yield chunk
        except (httpx2.NetworkError, httpx2.ProtocolError) as error:
            self._lost(error)
            # The session is about to be cancelled. Were the SDK to see the end of the stream first,
            # it would take it for an answer.
            await anyio.sleep_forever()

    async def aclose(self) -> None:
        await self._answer.aclose()


async def _raise(error: Exception) -> None:
    raise error


async def _read(answer: httpx2.Response, limit: int) -> bytes | None:
    """Return a body, or None if it is longer than `limit`; the rest is not read."""
    body = bytearray()
    async with aclosing(answer):
        if int(answer.headers.get("content-length", 0)) > limit:
            return None
        async for chunk in answer.aiter_raw():
            body += chunk
            if len(body) > limit:
                return None
    return bytes(body)


def _refusal(code: int, told: str) -> httpx2.Response:
    """Return what the SDK turns into the error of the request that was refused."""
    error = {"code": code, "message": told}
    return httpx2.Response(502, json={"jsonrpc": "2.0", "id": None, "error": error})


def _is_rpc_error(kind: str, body: bytes) -> bool:
    if kind != "application/json":
        return False
    try:
        error = json.loads(body)["error"]
        return isinstance(error["code"], int) and isinstance(error["message"], str)
    except (ValueError, LookupError, TypeError, RecursionError):
        return False


def _said(kind: str, body: bytes) -> str:
    """Return the beginning of what a server wrote, where that is for people to read."""
    if kind == "text/html":
        return " with an HTML page"
    text = "".join(c if c.isprintable() else " " for c in body.decode(errors="replace"))
    return f": {' '.join(text.split())[:200]}" if text.strip() else ""
