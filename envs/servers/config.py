"""MCP servers from the config files that people already have.

Read unchanged: those of Claude Desktop, Claude Code, Cursor, Gemini CLI and the MCP Inspector
(`mcpServers`), of VS Code (`servers`), and bare maps of servers. A key that none of this needs is
ignored, with a line in the debug log. What only this project knows stands under `mcpGym`
(`config_extras.py`).

    command, args, env, envFile, cwd    a stdio server
    url, httpUrl, headers               an HTTP or SSE server
    type, transport                     stdio, http, streamable-http, streamableHttp, sse
    timeout                             of a call, in milliseconds
    disabled, enabled                   whether to leave the server out
    includeTools, excludeTools          Gemini CLI's lists of tools

Relative paths start in `${workspaceFolder}`, which mostly is the folder of the config file
(`config_variables.py`).
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from envs.errors import ConfigError
from envs.servers.config_extras import HEADER_NAME, with_extras
from envs.servers.config_json import read_json
from envs.servers.config_server import ServerConfig, Transport
from envs.servers.config_values import (
    JsonObject,
    Place,
    Section,
    checked_text,
    exists,
    home_hint,
    shown,
)
from envs.servers.config_variables import Variables, read_env_file
from rewards.errors import did_you_mean

__all__ = ["ConfigError", "ServerConfig", "read_servers"]

TRANSPORTS: Mapping[str, Transport] = {
    "stdio": "stdio",
    "http": "http",
    "streamable-http": "http",
    "streamableHttp": "http",
    "sse": "sse",
}
_MAPS = ("mcpServers", "servers")
# Gemini CLI prefers httpUrl where a server has both.
_ADDRESSES = ("command", "httpUrl", "url")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_DOWNLOADERS = ("npx", "uvx")
_logger = logging.getLogger(__name__)


def read_servers(path: str | os.PathLike[str]) -> tuple[ServerConfig, ...]:
    """Return the servers of a config file, in its order, without those that it disables.

    Args:
        path: The file.

    Returns:
        At least one server.

    Raises:
        ConfigError: If the file cannot be read or a server cannot be used; the message names the
            file, the server and the key, and says what to do.
    """
    file = Path(path)
    entries = _entries(Section(Place(file), read_json(file)))
    gemini = file.absolute().parent.name == ".gemini" or any("httpUrl" in one for one in entries)
    variables = Variables(file, gemini)
    servers = tuple(_server(one, variables) for one in entries if _enabled(one))
    if not servers:
        raise Place(file).error("has no server that is enabled")
    return servers


def _entries(root: Section) -> list[Section]:
    maps = [key for key in _MAPS if key in root]
    if len(maps) > 1:
        raise root.place.error('has both "mcpServers" and "servers"; keep one')
    servers = root.section(maps[0]) if maps else root
    named = {name: servers.get(name) for name in servers}
    if not maps:
        named = {name: value for name, value in named.items() if isinstance(value, JsonObject)}
        _check_bare_map(root, named)
    for key in root:
        if key not in (*maps, *named):
            _logger.debug("%s: is ignored", root.place.at(key))
    return [_entry(root.place.file, name, value) for name, value in named.items()]


def _check_bare_map(root: Section, named: Mapping[str, object]) -> None:
    objects = [value for value in named.values() if isinstance(value, JsonObject)]
    if not any(key in value for value in objects for key in _ADDRESSES):
        hint = next(filter(None, (did_you_mean(key, _MAPS) for key in root)), "")
        raise root.place.error(f'has no "mcpServers", no "servers" and no server{hint}')


def _entry(file: Path, name: str, value: object) -> Section:
    if not checked_text(name, Place(file, name)).strip():
        raise Place(file).error("a server has an empty name; give it one")
    return Section(Place(file, name), value)


def _enabled(server: Section) -> bool:
    enabled = server.flag("enabled", default=True) and not server.flag("disabled", default=False)
    if not enabled:
        _logger.debug("%s: is disabled", server.place)
    return enabled


def _server(server: Section, variables: Variables) -> ServerConfig:
    address = _address(server)
    declared = _declared(server)
    if address == "command":
        config = _stdio(server, variables)
    else:
        config = _remote(server, address, variables)
    if declared and (declared == "stdio") != (address == "command"):
        needs = "a command" if declared == "stdio" else "a url"
        raise server.place.error(f"its type is {declared}, which needs {needs}, not a {address}")
    config = replace(
        config,
        transport=declared or config.transport,
        call_timeout=_timeout(server),
        tools=_gemini_tools(server),
    )
    config = with_extras(config, server, variables)
    _note_unknown(server)
    return config


def _address(server: Section) -> str:
    """Return the key that says where the server is: "command", "url" or "httpUrl"."""
    given = [key for key in _ADDRESSES if server.text(key)]
    if not given:
        raise server.place.error('has neither a "command" nor a "url"; give it one of the two')
    if given[0] == "command" and len(given) > 1:
        raise server.place.error(f'has both a "command" and a "{given[1]}"; keep one of the two')
    return given[0]


def _declared(server: Section) -> Transport | None:
    declared = [server.choice(key, tuple(TRANSPORTS), default="") for key in ("type", "transport")]
    return next((TRANSPORTS[one] for one in declared if one), None)


def _timeout(server: Section) -> float | None:
    seconds = server.seconds("timeout")
    if seconds is not None and seconds < 1:
        _logger.warning(
            "%s: %g is read as milliseconds, as most tools do; was it meant in seconds?",
            server.place.at("timeout"),
            seconds * 1000,
        )
    return seconds


def _gemini_tools(server: Section) -> tuple[str, ...] | None:
    included, excluded = server.texts("includeTools"), server.texts("excludeTools")
    if included is None and excluded:
        _logger.warning(
            "%s: has no effect without includeTools; name the tools to offer under mcpGym.tools",
            server.place.at("excludeTools"),
        )
    if included is None:
        return None
    tools = tuple(name for name in included if name not in (excluded or ()))
    if not tools:
        raise server.place.at("includeTools").error("leaves no tool to offer; name at least one")
    return tools


def _note_unknown(server: Section) -> None:
    for key in server.unknown():
        if key.replace("_", "").replace("-", "").casefold() == "mcpgym":
            raise server.place.at(key).error('is unknown; did you mean "mcpGym"?')
        _logger.debug("%s: is ignored", server.place.at(key))


def _remote(server: Section, key: str, variables: Variables) -> ServerConfig:
    place = server.place.at(key)
    url = variables.fill(server.text(key), place)
    parts = _url_parts(url, place)
    headers: dict[str, str] = {}
    for name, written in server.variables("headers").items():
        header = server.place.at("headers").at(name)
        headers[name] = variables.fill(written, header)
        if not HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(headers[name]):
            raise header.error("is not an HTTP header: its name or its value has other characters")
    # Without a type, most tools try both; Gemini CLI documents "url" as the address of SSE.
    old = (variables.gemini and key == "url") or parts.path.rstrip("/").endswith("/sse")
    return ServerConfig(
        server.place.server, transport="sse" if old else "http", url=url, headers=headers
    )


def _url_parts(url: str, place: Place) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise place.error("is not an http:// or https:// address")
    return parts


def _stdio(server: Section, variables: Variables) -> ServerConfig:
    at = server.place.at
    env = _env(server, variables)
    cwd = variables.path(server.text("cwd"), at("cwd"), what="folder")
    args = tuple(
        variables.fill(arg, at("args").item(index), episode_folder=True)
        for index, arg in enumerate(server.texts("args") or ())
    )
    command = variables.fill(server.text("command"), at("command"))
    command = _program(command, at("command"), cwd or variables.workspace, env)
    if cwd is None:
        _note_relative_files(args, at("args"), variables.workspace)
    return ServerConfig(
        server.place.server, transport="stdio", command=command, args=args, env=env, cwd=cwd
    )


def _env(server: Section, variables: Variables) -> dict[str, str]:
    at = server.place.at
    file = variables.path(server.text("envFile"), at("envFile"), what="file")
    env = read_env_file(file, at("envFile")) if file else {}
    for name, value in server.variables("env").items():
        place = at("env").at(name)
        if not name or "=" in name:
            raise place.error("is not the name of a variable")
        env[name] = variables.fill(value, place, episode_folder=True)
    return env


def _program(command: str, place: Place, folder: Path, env: Mapping[str, str]) -> str:
    """Return a program that exists; one with a relative path becomes absolute.

    Its process will not start in the folder in which the other tools would start it.
    """
    if Path(command).name in _DOWNLOADERS:
        _logger.warning(
            "%s: %s asks the network at each start; install the package and name its program",
            place,
            Path(command).name,
        )
    program = str(folder / command) if "/" in command else command
    if shutil.which(program, path=env.get("PATH")) is None:
        problem = "is not an executable file" if "/" in command else "is not a program on the PATH"
        todo = "put its arguments into args" if " " in command else "install it, or fix the name"
        raise place.error(f"{shown(program)} {problem}; {todo}{home_hint(command)}")
    return program


def _note_relative_files(args: tuple[str, ...], place: Place, workspace: Path) -> None:
    for index, arg in enumerate(args):
        if not Path(arg).is_absolute() and exists(workspace / arg, "file"):
            _logger.warning(
                "%s: %s is a file beside the config, but the server starts in its episode's "
                "folder; write ${workspaceFolder}/%s, or set cwd",
                place.item(index),
                shown(arg),
                arg,
            )
