"""One server of a config file, with everything that is needed to reach it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

EPISODE_FOLDER = "${episodeFolder}"
"""Stands for the episode's own folder in args and in values of env."""

Transport = Literal["stdio", "http", "sse"]
Reset = Literal["restart", "keep", "tool"]


@dataclass(frozen=True)
class ServerConfig:
    """One server of a config file.

    Attributes:
        name: Its name in the file.
        transport: How to talk to it; "http" is streamable HTTP.
        command: The program of a stdio server: a name on the PATH, or an absolute path.
        args: Its arguments, in which `${episodeFolder}` may stand.
        env: The variables that the config names, in whose values `${episodeFolder}` may stand.
        cwd: The folder to start it in, None for the episode's own folder.
        url: The address of an HTTP or SSE server.
        headers: What to send with every request to it.
        call_timeout: Seconds to wait for the result of a call, None for the default.
        start_timeout: Seconds to wait for the server to be ready, None for the default.
        reset: How an episode gets a server without a past: a new process ("restart"), no need for
            one ("keep"), or a call of its reset tool ("tool").
        reset_tool: Name of that tool, else "".
        reset_arguments: Arguments of that call.
        era: The protocol: "auto", "handshake" (up to 2025-11-25), or a version without handshake.
        tools: The only tools to offer, None for all.
        max_result_bytes: A longer result is refused.
        template: A folder whose contents fill the working folder of each episode, or None.
        on_tool_change: What to do when the tool list changes during a run.
        shared: Whether all episodes use the same, read-only state of an HTTP server.
        episode_header: Name of the header that tells an HTTP server the episode, else "".
        own_network: Whether the host's name may lead to an address that is not public.
    """

    name: str
    transport: Transport
    command: str = ""
    args: tuple[str, ...] = ()
    # Values may be secrets: they never reach a log by way of a repr.
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: Path | None = None
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    call_timeout: float | None = None
    start_timeout: float | None = None
    reset: Reset = "restart"
    reset_tool: str = ""
    reset_arguments: Mapping[str, Any] = field(default_factory=dict)
    era: str = "auto"
    tools: tuple[str, ...] | None = None
    max_result_bytes: int = 1_000_000
    template: Path | None = None
    on_tool_change: Literal["error", "warn"] = "error"
    shared: bool = False
    episode_header: str = ""
    own_network: bool = False

    def placed(self, folder: Path) -> ServerConfig:
        """Return this config for an episode: `${episodeFolder}` is replaced by its folder.

        Args:
            folder: The episode's own folder.
        """
        args = tuple(arg.replace(EPISODE_FOLDER, str(folder)) for arg in self.args)
        env = {name: value.replace(EPISODE_FOLDER, str(folder)) for name, value in self.env.items()}
        return replace(self, args=args, env=env)
