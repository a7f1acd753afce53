"""An MCP server with as many tools as wanted, each with the same short answer, over stdio.

    python step_server.py 30 2      thirty tools with two arguments each

What the tools are called, ask for and answer is read from here by `grpo_sides.py` too, so that both
sides of the benchmark show their model the same tool list. Needs `mcp` only.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

ANSWER = "The record is open and was changed today"
ARGUMENTS = {
    "customer": "Name or number of the customer whose records are looked at, as in the list",
    "period": "Period of time that the records belong to, such as a day, a month or a whole year",
    "status": "Only records with this status, such as open, closed or waiting for an answer",
}
NOUNS = ("order", "invoice", "ticket", "parcel", "contract", "payment")
VERBS = ("find", "check", "count", "open", "close", "move", "print", "send", "sort", "save")


def tool_names(count: int) -> list[str]:
    """Return the names of so many tools, at most 60, in alphabetic order: TRL sorts them."""
    return sorted([f"{verb}_{noun}" for noun in NOUNS for verb in VERBS][:count])


def description(name: str) -> str:
    """Return what a tool says of itself."""
    verb, noun = name.split("_")
    return (
        f"Use this tool to {verb} the {noun} of a customer in a given period. It answers with the "
        f"status of the {noun} and says when it was last changed."
    )


def arguments(count: int) -> dict[str, str]:
    """Return the names of so many arguments, at most 3, and what they mean."""
    return dict(list(ARGUMENTS.items())[:count])


def input_schema(count: int) -> dict[str, Any]:
    """Return the schema of tools with so many arguments."""
    properties = {
        name: {"type": "string", "description": text} for name, text in arguments(count).items()
    }
    return {"type": "object", "properties": properties, "required": list(properties)}


def main() -> None:
    """Serve until the client goes."""
    # Imported here: the other side of the benchmark reads this file without the SDK.
    from mcp.server import Server  # noqa: PLC0415
    from mcp.server.stdio import stdio_server  # noqa: PLC0415
    from mcp_types import CallToolResult, ListToolsResult, TextContent, Tool  # noqa: PLC0415

    count, schema = int(sys.argv[1]), input_schema(int(sys.argv[2]))
    tools = [
        Tool(name=name, description=description(name), input_schema=schema)
        for name in tool_names(count)
    ]

    async def list_tools(*_: Any) -> ListToolsResult:
        return ListToolsResult(tools=tools)

    async def call_tool(*_: Any) -> CallToolResult:
        return CallToolResult(content=[TextContent(type="text", text=ANSWER)])

    server = Server("step", on_list_tools=list_tools, on_call_tool=call_tool)

    async def serve() -> None:
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())

    asyncio.run(serve())


if __name__ == "__main__":
    main()
