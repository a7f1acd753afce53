"""The toy server that everybody is measured on: one tool that adds two numbers.

    python toy_server.py            over stdio
    python toy_server.py PORT       over streamable HTTP

Needs `mcp` and nothing of this project, so that a peer's own Python can run or import it.
`toy_server.mjs` is the same in JavaScript.
"""

from __future__ import annotations

import sys

from mcp.server import MCPServer
from mcp_types import ToolAnnotations


def make_server() -> MCPServer:
    """Return a new server."""
    server = MCPServer("toy", log_level="CRITICAL")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    async def add(a: int, b: int) -> int:
        """Add two whole numbers."""
        return a + b

    return server


def main() -> None:
    """Serve until the client goes."""
    if len(sys.argv) > 1:
        make_server().run("streamable-http", port=int(sys.argv[1]))
    else:
        make_server().run("stdio")


if __name__ == "__main__":
    main()
