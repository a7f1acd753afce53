"""A small MCP server with a state, steered by files; standard library only, so it starts at once.

    python -I -S steered_server.py FOLDER

FOLDER/tools.json    the tools that it lists, when it is asked for them
FOLDER/world.json    the texts of its resources, by URI; without it there are none
FOLDER/broken        if there is such a file, it exits at its start
FOLDER/silent        the same, it says nothing
FOLDER/starts        each start adds its process id
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

notes: list[str] = []


def remember(text: str) -> str:
    notes.append(text)
    return json.dumps(notes)


def recall() -> str:
    return json.dumps(notes)


def forget() -> str:
    notes.clear()
    return "forgotten"


def where() -> str:
    return json.dumps({"work": str(Path.cwd()), "home": os.environ["HOME"], "pid": os.getpid()})


def write(path: str, text: str) -> str:
    Path(path).write_text(text)
    return "written"


def fill(path: str, size: int) -> str:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    Path(path).write_bytes(b"x" * size)
    return "written"


def scatter(number: int) -> str:
    for name in range(number):
        Path(str(name)).touch()
    return "scattered"


def nap(seconds: float) -> str:
    time.sleep(seconds)
    return "rested"


def complain() -> str:
    raise ValueError("Unknown tool of a carpenter: hammer")


def die() -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


TOOLS = {
    tool.__name__: tool
    for tool in (remember, recall, forget, where, write, fill, scatter, nap, complain, die)
}
METHODS = ("initialize", "tools/list", "tools/call", "resources/list", "resources/read")
READING = ("recall", "where")
TYPES = {"str": "string", "int": "integer", "float": "number"}


def listed() -> list[dict[str, Any]]:
    """Return the tools as the server lists them where no file says otherwise."""
    found = []
    for name, tool in TOOLS.items():
        hints = {key: kind for key, kind in tool.__annotations__.items() if key != "return"}
        properties = {key: {"type": TYPES[kind]} for key, kind in hints.items()}
        schema = {"type": "object", "properties": properties, "required": list(hints)}
        about = {"readOnlyHint": name in READING}
        found.append({"name": name, "inputSchema": schema, "annotations": about})
    return found


def resources(folder: Path, params: dict[str, Any]) -> dict[str, Any]:
    file = folder / "world.json"
    texts = json.loads(file.read_text()) if file.exists() else {}
    if "uri" in params:
        return {"contents": [{"uri": params["uri"], "text": texts[params["uri"]]}]}
    return {"resources": [{"uri": uri, "name": uri} for uri in texts]}


def handle(folder: Path, message: dict[str, Any]) -> dict[str, Any]:
    method, params = message["method"], message.get("params", {})
    if method == "initialize":
        info = {"name": "toy", "version": "1"}
        version = params["protocolVersion"]
        able = {"tools": {}, "resources": {}}
        return {"protocolVersion": version, "capabilities": able, "serverInfo": info}
    if method.startswith("resources/"):
        return resources(folder, params)
    if method == "tools/list":
        file = folder / "tools.json"
        return {"tools": json.loads(file.read_text()) if file.exists() else listed()}
    names = [tool["name"] for tool in handle(folder, {"method": "tools/list"})["tools"]]
    error = False
    try:
        if params["name"] not in names:
            raise ValueError(f"Unknown tool: {params['name']}")
        text = TOOLS[params["name"]](**params.get("arguments", {}))
    except (ValueError, OSError) as problem:
        text, error = str(problem), True
    return {"content": [{"type": "text", "text": text}], "isError": error}


def main() -> None:
    folder = Path(sys.argv[1])
    with (folder / "starts").open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    if (folder / "broken").exists():
        sys.exit("it is broken")
    if (folder / "silent").exists():
        sys.stdin.read()
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] in METHODS:
            answer["result"] = handle(folder, message)
        else:
            answer["error"] = {"code": -32601, "message": "no such method"}
        print(json.dumps(answer), flush=True)  # noqa: T201 - that is the protocol


if __name__ == "__main__":
    main()
