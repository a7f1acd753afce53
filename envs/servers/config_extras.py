"""Our own settings of a server, under the one key "mcpGym" that other tools ignore.

reset           "restart" (a new process per episode; the default of a stdio server), "keep"
                (the server has no state), or {"tool": NAME, "arguments": {...}}
era             "auto", "handshake" or "2026-07-28": which protocol it speaks
tools           the only tools to offer, by name
maxResultBytes  a longer result is refused
template        a folder whose contents fill the working folder of each episode
onToolChange    "error" or "warn", when the tool list changes during a run
startTimeout    milliseconds
callTimeout     milliseconds; the common key "timeout" means the same, this one wins
shared          HTTP: true if all episodes may use the same state, which none changes
episodeHeader   HTTP: name of the header that carries a handle of the episode
ownNetwork      HTTP: true if the host's name may lead to an address of your own network
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from envs.servers.config_server import EPISODE_FOLDER, Reset, ServerConfig
from envs.servers.config_values import JsonObject, Place, Section, shown
from envs.servers.config_variables import Variables

ERAS = ("auto", "handshake", "2026-07-28")
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

_THREE_WAYS = (
    "episodes would see each other's changes on this HTTP server; say under mcpGym how they are "
    'kept apart: "episodeHeader": "X-Name" (the server keeps a state per value of that header), '
    '"reset": {"tool": "NAME"} (a tool that resets it), or "shared": true (no tool changes it)'
)


def with_extras(config: ServerConfig, server: Section, variables: Variables) -> ServerConfig:
    """Return a config with the settings under `mcpGym`.

    Args:
        config: What the rest of the entry says.
        server: The server's entry.
        variables: Those of the config file.

    Raises:
        ConfigError: If a setting is unknown, cannot be used, or does not fit the server.
    """
    extras = server.section("mcpGym")
    on_change = extras.choice("onToolChange", ("error", "warn"), default="error")
    reset, tool, arguments = _reset(extras, config)
    found = replace(
        config,
        reset=reset,
        reset_tool=tool,
        reset_arguments=arguments,
        era=extras.choice("era", ERAS, default="auto"),
        tools=_tools(extras) or config.tools,
        max_result_bytes=extras.count("maxResultBytes", default=config.max_result_bytes),
        template=variables.path(
            extras.text("template"), extras.place.at("template"), what="folder"
        ),
        on_tool_change="warn" if on_change == "warn" else "error",
        start_timeout=extras.seconds("startTimeout"),
        call_timeout=extras.seconds("callTimeout") or config.call_timeout,
        shared=extras.flag("shared", default=False),
        episode_header=_header(extras),
        own_network=extras.flag("ownNetwork", default=False),
    )
    extras.refuse_unknown()
    if found.transport == "stdio":
        _check_stdio(found, server.place)
    else:
        _check_remote(found, extras.place)
    return found


def _reset(extras: Section, config: ServerConfig) -> tuple[Reset, str, dict[str, Any]]:
    if isinstance(extras.get("reset"), JsonObject):
        section = extras.section("reset")
        tool, arguments = section.text("tool"), section.section("arguments")
        section.refuse_unknown()
        if not tool:
            raise section.place.error('names no "tool"')
        return "tool", tool, {name: arguments.get(name) for name in arguments}
    own_process = config.transport == "stdio"
    chosen = extras.choice(
        "reset", ("restart", "keep"), default="restart" if own_process else "keep"
    )
    if chosen == "restart" and not own_process:
        raise extras.place.at("reset").error(f"cannot be restart: {_THREE_WAYS}")
    return ("keep" if chosen == "keep" else "restart"), "", {}


def _tools(extras: Section) -> tuple[str, ...] | None:
    tools = extras.texts("tools")
    if tools is not None and not all(tools or ("",)):
        raise extras.place.at("tools").error(
            "must name at least one tool, and none by an empty name"
        )
    return tools


def _header(extras: Section) -> str:
    header = extras.text("episodeHeader")
    if header and not HEADER_NAME.fullmatch(header):
        raise extras.place.at("episodeHeader").error(f"{shown(header)} is not a header name")
    return header


def _check_remote(config: ServerConfig, extras: Place) -> None:
    if config.template is not None:
        raise extras.at("template").error("an HTTP server has no working folder to fill")
    if not (config.shared or config.episode_header or config.reset_tool):
        raise extras.error(_THREE_WAYS)
    if config.shared and (config.episode_header or config.reset_tool):
        other = "episodeHeader" if config.episode_header else "reset"
        raise extras.at("shared").error(
            f"true means that no episode changes the server, so {other} has no use; keep one"
        )


def _check_stdio(config: ServerConfig, server: Place) -> None:
    extras = server.at("mcpGym")
    if config.shared or config.episode_header:
        raise extras.at("shared" if config.shared else "episodeHeader").error(
            'is for HTTP servers; for a stdio server without state write "reset": "keep"'
        )
    if config.reset != "restart":
        _check_outliving(config, server)


def _check_outliving(config: ServerConfig, server: Place) -> None:
    outlives = (
        f'with reset "{config.reset}" the server lives longer than an episode and its folder; '
        'use "reset": "restart", or a fixed path'
    )
    if config.template is not None:
        raise server.at("mcpGym.template").error(outlives)
    values = [(server.at("args").item(index), arg) for index, arg in enumerate(config.args)]
    values += [(server.at("env").at(name), value) for name, value in config.env.items()]
    for place, value in values:
        if EPISODE_FOLDER in value:
            raise place.error(f"uses {EPISODE_FOLDER}, but {outlives}")
