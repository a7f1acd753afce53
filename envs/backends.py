"""Opens the backend that an environment's `servers` argument means."""

from __future__ import annotations

import os
from collections.abc import Sequence

from envs.backend import Backend
from envs.client import Deadlines
from envs.mock_backend import MockBackend
from envs.servers.backend import ServerBackend
from envs.servers.config import ServerConfig, read_servers

ServerSource = str | os.PathLike[str] | Sequence[ServerConfig]
"""A config file in one of the usual formats (see `servers/config.py`), or what was read from it."""


def open_backend(
    servers: ServerSource | None, slots: int, deadlines: Deadlines | None = None
) -> Backend:
    """Start what episodes are played on.

    Args:
        servers: MCP servers; None for the mock world.
        slots: How many episodes run side by side.
        deadlines: How long each wait may take.

    Raises:
        ConfigError: If the config cannot be used.
        ServerStartError: If a server does not start.
        ToolListError: If its tools cannot be used.
    """
    if servers is None:
        return MockBackend(slots, deadlines)
    if isinstance(servers, str | os.PathLike):
        servers = read_servers(servers)
    return ServerBackend(servers, slots, deadlines)
