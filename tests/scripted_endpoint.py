"""A real HTTP server on localhost that says, as an endpoint, what a test wants it to say."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """One HTTP response.

    Attributes:
        body: What is sent.
        status: The status.
        kind: The content type.
        headers: Further headers.
        missing: Bytes that are announced and never sent.
        silent: Nothing is sent at all until the server closes.
        held: The connection stays open behind the body until the server closes.
    """

    body: bytes = b""
    status: int = 200
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    missing: int = 0
    silent: bool = False
    held: bool = False


SILENCE = Reply(silent=True)


def message(content: str | None = None, **rest: Any) -> Reply:
    """Return an answer with a message of the model."""
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    said = {"role": "assistant", "content": content, **rest}
    return Reply(json.dumps({"choices": [{"message": said}], "usage": usage}).encode())


def native(*calls: tuple[str, str], **rest: Any) -> Reply:
    """Return an answer with native tool calls (name, arguments as text)."""
    return message(tool_calls=native_calls(*calls), **rest)


def native_calls(*calls: tuple[str, str]) -> list[dict[str, Any]]:
    return [
        {"id": f"id{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(calls)
    ]


def stream(*deltas: dict[str, Any], end: str = "data: [DONE]\n\n") -> Reply:
    """Return an answer that comes as server-sent events."""
    pieces = [f"data: {json.dumps({'choices': [{'delta': delta}]})}\n\n" for delta in deltas]
    return Reply(("".join(pieces) + end).encode(), kind="text/event-stream")


def refusal(status: int, said: Any = "no", **headers: str) -> Reply:
    """Return an error in OpenAI's form."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(json.dumps({"error": {"message": said}}).encode(), status, headers=named)


def solves_sums(body: Body) -> Reply:
    """Play a task of `tiny_tasks.sum_task` to its end, whichever it is and wherever it stands."""
    last = body["messages"][-1]
    if last["role"] == "tool":
        found = re.search(r"\d+", last["content"])
        return message(f"The result is {found[0] if found else '?'}.")
    asked = re.search(r"17 \+ \d+", last["content"])
    return native(("calculate", json.dumps({"expression": asked[0] if asked else "1"})))


class ScriptedEndpoint(ThreadingHTTPServer):
    """Answers each request with the next reply of the script, or as a function says."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[Reply] = []
        self.respond: Callable[[Body], Reply] = lambda _: self.script.pop(0)
        self.models: Reply = Reply(status=404)
        self.requests: list[Body] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        self.closing = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients hang up in the middle of an answer, as they should."""


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedEndpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        self.server.keys.append(self.headers["Authorization"])
        self.server.paths.append(self.path)
        self._send(self.server.respond(body))

    def do_GET(self) -> None:
        self._send(self.server.models)

    def _send(self, reply: Reply) -> None:
        if reply.silent:
            self.server.closing.wait(60)
            return
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.kind)
        self.send_header("Content-Length", str(len(reply.body) + reply.missing))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)
        if reply.held:
            self.wfile.flush()
            self.server.closing.wait(60)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def scripted_endpoint() -> Iterator[ScriptedEndpoint]:
    """Run an endpoint until it is no longer needed."""
    with ScriptedEndpoint() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join(10)
