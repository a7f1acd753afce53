"""An MCP server that misbehaves as it is told; standard library only, so that it starts at once.

    python -I -S faulty_server.py [BEHAVIOUR ...]

A behaviour holds from the start. Everything that can go wrong in a call is a tool of that name.
It speaks the handshake era, like the npm servers.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-I", "-S", __file__]
OLD_SERVER = """Traceback (most recent call last):
  File "server.py", line 1, in <module>
    from mcp.server.fastmcp import FastMCP
ModuleNotFoundError: No module named 'mcp.server.fastmcp'. This is mcp 2.x
"""
BANNER = b'\n*** welcome ***\r\n{"level": "info"}\n[1, 2]\nnull\n{"jsonrpc": "2.0"}\n'
NOTE = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}\n'


def say(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def answer(identity: object, **content: Any) -> None:
    say(json.dumps({"jsonrpc": "2.0", "id": identity, **content}).encode() + b"\n")


def told(identity: object, text: str) -> None:
    answer(identity, result={"content": [{"type": "text", "text": text}]})


# Behaviours.


def exits() -> None:
    sys.stderr.write(OLD_SERVER)
    sys.exit(3)


def silent() -> None:
    sys.stdin.buffer.read()


def slow() -> None:
    time.sleep(0.5)


def banner() -> None:
    say(BANNER)


def stubborn() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def chatty() -> None:
    """Writes more to stderr than a pipe holds."""
    for number in range(20_000):
        os.write(2, f"line {number} of a long log\n".encode())


def deaf() -> None:
    """Answers the handshake and reads no more."""
    for _ in range(2):
        handle(json.loads(sys.stdin.buffer.readline()))
    hangs(0)


# Tools.


def echo(identity: int, text: str = "") -> None:
    told(identity, text)


def surroundings(identity: int) -> None:
    told(identity, json.dumps({"env": dict(os.environ), "cwd": str(Path.cwd())}))


def dies(identity: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(identity: int) -> None:
    while True:
        time.sleep(60)


def greets(identity: int, text: str = "") -> None:
    say(BANNER)
    told(identity, text)


def invalid_utf8(identity: int) -> None:
    head, tail = json.dumps(
        {"jsonrpc": "2.0", "id": identity, "result": {"content": [{"type": "text", "text": "|"}]}}
    ).split("|")
    say(head.encode() + b"caf\xe9 \xff" + tail.encode() + b"\n")


def endless_line(identity: int) -> None:
    while True:
        say(b"x" * 65536)


def half_line(identity: int) -> None:
    say(b'{"jsonrpc": "2.0", "id": ')
    hangs(identity)


def wrong_id(identity: int) -> None:
    told(identity + 1000, "this is not for you")
    told("nonsense", "nor this")
    told(None, "nor this")
    told(identity, "this is")


def huge(identity: int, size: int = 50_000_000) -> None:
    say(b'{"result":{"content":[{"type":"text","text":"')
    for _ in range(size // 100_000):
        say(b"x" * 100_000)
    say(f'"}}]}},"jsonrpc":"2.0","id":{identity}}}\n'.encode())


def deep(identity: int, depth: int = 10_000) -> None:
    nested = "[" * depth + "]" * depth
    say(f'{{"jsonrpc":"2.0","id":{identity},"result":{{"content":{nested}}}}}\n'.encode())


def not_a_result(identity: int) -> None:
    answer(identity, result="plain text")


def flood(identity: int, line: str = "") -> None:
    data = line.encode() + b"\n"
    while True:
        say(data * (1 + 65536 // len(data)))


def flood_of_notifications(identity: int) -> None:
    while True:
        say(NOTE * 100)


def flood_of_requests(identity: int) -> None:
    while True:
        say(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n' * 100)


def kin(identity: int) -> None:
    """Starts a child, a grandchild, and one that left the session; and one without variables."""
    pids = [_child(), _child(_child), _child(os.setsid), _child(_bare)]
    told(identity, json.dumps(pids))


def leaves_a_child(identity: int) -> None:
    """Dies, while a child holds its pipes open."""
    _child()
    dies(identity)


def _child(first: Callable[[], object] = lambda: None) -> int:
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        first()
        hangs(0)
    return pid


def _bare() -> None:
    os.setsid()
    os.execve(sys.executable, [*COMMAND[:3], "-c", "import time; time.sleep(600)"], {})


BEHAVIOURS = (exits, silent, slow, banner, stubborn, chatty, deaf)
ANSWERS = (echo, surroundings, greets, invalid_utf8, wrong_id, huge, deep, not_a_result, kin)
STOPS = (dies, hangs, half_line, leaves_a_child)
FLOODS = (endless_line, flood, flood_of_notifications, flood_of_requests)
TOOLS = (*ANSWERS, *STOPS, *FLOODS)


def handle(message: dict[str, Any]) -> None:
    method, identity = message.get("method"), message.get("id")
    if method == "initialize":
        info = {"name": "faulty", "version": "1"}
        version = message["params"]["protocolVersion"]
        hello = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
        answer(identity, result=hello)
    elif method == "tools/list":
        schema = {"type": "object"}
        listed = [{"name": tool.__name__, "inputSchema": schema} for tool in TOOLS]
        answer(identity, result={"tools": listed})
    elif method == "tools/call":
        tools: dict[str, Callable[..., None]] = {tool.__name__: tool for tool in TOOLS}
        tools[message["params"]["name"]](identity, **message["params"].get("arguments", {}))
    elif identity is not None:
        answer(identity, error={"code": -32601, "message": "no such method"})


def main() -> None:
    behaviours = {behaviour.__name__: behaviour for behaviour in BEHAVIOURS}
    for name in sys.argv[1:]:
        behaviours[name]()
    for line in sys.stdin.buffer:
        handle(json.loads(line))
    while "stubborn" in sys.argv:
        time.sleep(60)


if __name__ == "__main__":
    main()
