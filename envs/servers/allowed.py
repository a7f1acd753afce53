"""Which tools of a server episodes may be offered."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_types import Tool

from envs.errors import ConfigError, ToolListError
from envs.servers.config import ServerConfig
from rewards.errors import did_you_mean


def allowed_tools(server: ServerConfig, tools: Sequence[Tool]) -> list[str]:
    """Return the names of the tools that episodes may be offered.

    These are the ones that the config names, or else all but the reset tool: a model that finds it
    would undo its work.

    Args:
        server: The server's config.
        tools: What the server lists.

    Raises:
        ToolListError: If the server lacks a tool that the config names.
        ConfigError: If it is shared by all episodes and offers a tool that it does not call
            read-only.
    """
    known = {tool.name: tool for tool in tools}
    _check_there(server, server.tools or (), known, "mcpGym.tools")
    if server.reset_tool:
        _check_there(server, (server.reset_tool,), known, "mcpGym.reset")
    names = [name for name in server.tools or known if server.tools or name != server.reset_tool]
    writing = [name for name in names if not _only_reads(known[name])]
    if server.shared and writing:
        raise ConfigError(
            f"server {server.name!r} is declared shared, and the server does not call its tools "
            f"{', '.join(writing)} read-only: episodes would see each other's changes; name the "
            'tools that only read in mcpGym.tools, or give "episodeHeader" or "reset"'
        )
    return names


def _check_there(
    server: ServerConfig, names: Sequence[str], known: dict[str, Tool], key: str
) -> None:
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ToolListError(f"server {server.name!r} has no tool {name!r} ({key}){hint}")


def _only_reads(tool: Tool) -> bool:
    return tool.annotations is not None and tool.annotations.read_only_hint is True
