"""Starts every server of a config once and says how it would do in a run.

No tool is called.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mcp_types import Tool
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from envs.client import GRACE_S, Deadlines
from envs.errors import EnvsError
from envs.event_loop import event_loop
from envs.servers.allowed import allowed_tools
from envs.servers.config import ServerConfig
from envs.servers.mount import Mount, fingerprint, mount, offered_name
from envs.servers.oddities import oddities
from envs.servers.stand import Eras, Stand

MOST_TOOLS = 50
"""A small model bears 25 to 50 tools at a time."""

PROBE_S = 9.0
"""The SDK waits 10 s for an old server to say that it does not know the present protocol."""

LEAVE_S = 15.0
"""How long servers may take to start side by side beyond their deadlines, and to be stopped."""


@dataclass(frozen=True)
class ServerReport:
    """What was found out about one server.

    Attributes:
        name: Its name in the config.
        error: Why it cannot be used, or "". The numbers are then 0 and the texts empty.
        started_in: Seconds until its tool list was there.
        protocol: The version of the protocol that was agreed on.
        era: `handshake` (up to 2025-11-25) or `modern` (2026-07-28).
        listed: How many tools it lists.
        tools: The tools that are offered, by the names they are offered by.
        tokens: Size of these tools in a prompt.
        sha256: Hash of the whole tool list, in hexadecimal digits.
        oddities: What is unusual -> where.
        hints: What to do about it.
        reset: How an episode gets a server without a past.
    """

    name: str
    error: str = ""
    started_in: float = 0.0
    protocol: str = ""
    era: str = ""
    listed: int = 0
    tools: tuple[str, ...] = ()
    tokens: int = 0
    sha256: str = ""
    oddities: Mapping[str, Sequence[str]] = field(default_factory=dict)
    hints: tuple[str, ...] = ()
    reset: str = ""


@dataclass(frozen=True)
class _Started:
    """What a server said of itself."""

    seconds: float
    protocol: str
    tools: list[Tool]
    allowed: list[str]


def about_tokens(text: str) -> int:
    """Return about how many tokens a text has; every tokenizer has numbers of its own."""
    return -(-len(text) // 4)


def check_servers(
    servers: Sequence[ServerConfig],
    deadlines: Deadlines | None = None,
    tokens_of: Callable[[str], int] = about_tokens,
) -> list[ServerReport]:
    """Start servers side by side, read their tools, and stop them.

    Args:
        servers: The servers.
        deadlines: How long waits may take where the config says nothing.
        tokens_of: Counts the tokens of a text.

    Returns:
        A report on each server, in order.
    """
    deadlines = deadlines or Deadlines()
    longest = max(server.start_timeout or deadlines.start for server in servers)
    limit = 2 * longest + deadlines.close + LEAVE_S + GRACE_S
    found = event_loop().run(_start_all(servers, deadlines), limit)
    started = {name: one for name, one in found.items() if isinstance(one, _Started)}
    mounted = mount(
        {name: one.tools for name, one in started.items()},
        {name: one.allowed for name, one in started.items()},
    )
    prefixed = len(started) > 1
    return [
        ServerReport(server.name, str(one), reset=_reset(server))
        if isinstance(one := found[server.name], EnvsError)
        else _report(server, one, mounted, prefixed, tokens_of)
        for server in servers
    ]


async def _start_all(
    servers: Sequence[ServerConfig], deadlines: Deadlines
) -> dict[str, _Started | EnvsError]:
    found = await asyncio.gather(*(_start(server, deadlines) for server in servers))
    return {server.name: one for server, one in zip(servers, found, strict=True)}


async def _start(server: ServerConfig, deadlines: Deadlines) -> _Started | EnvsError:
    stand = Stand([server], deadlines, Eras())
    begun = time.monotonic()
    try:
        await stand.open()
        seconds = time.monotonic() - begun
        tools = stand.tools[server.name]
        allowed = allowed_tools(server, tools)
        mount({server.name: tools}, {server.name: allowed})
        version = stand.connections[server.name].version
        return _Started(seconds, version, tools, allowed)
    except EnvsError as error:
        return error
    finally:
        await stand.leave()


def _report(
    server: ServerConfig,
    one: _Started,
    mounted: Mount,
    prefixed: bool,
    tokens_of: Callable[[str], int],
) -> ServerReport:
    routes = mounted.routes
    offered = tuple(name for name in mounted.offered if routes[name][0] == server.name)
    prefix = f"{offered_name('', server.name)}_" if prefixed else ""
    schemas = json.dumps(mounted.tools.offer(offered), ensure_ascii=False)
    modern = one.protocol in MODERN_PROTOCOL_VERSIONS
    return ServerReport(
        server.name,
        started_in=one.seconds,
        protocol=one.protocol,
        era="modern" if modern else "handshake",
        listed=len(one.tools),
        tools=offered,
        tokens=tokens_of(schemas),
        sha256=fingerprint(one.tools),
        oddities=oddities(
            [tool for tool in one.tools if tool.name in one.allowed],
            {routes[name][1]: name.removeprefix(prefix) for name in offered},
        ),
        hints=tuple(_hints(server, one, modern)),
        reset=_reset(server),
    )


def _hints(server: ServerConfig, one: _Started, modern: bool) -> list[str]:
    hints = [] if one.tools else ["it lists no tools"]
    if server.era == "auto" and not modern and one.seconds > PROBE_S:
        hints.append(
            "it was asked in vain for the protocol of 2026-07-28 before it was spoken to in its "
            'own; "mcpGym": {"era": "handshake"} saves that time at the first start of a run'
        )
    return hints


def _reset(server: ServerConfig) -> str:
    if server.shared:
        return "shared"
    if server.episode_header:
        return f"header {server.episode_header}"
    return f"tool {server.reset_tool}" if server.reset == "tool" else server.reset


# --- as text --------------------------------------------------------------------------------------


def as_text(reports: Sequence[ServerReport]) -> str:
    """Return reports as a table, with everything that needs attention below it."""
    rows = [_HEAD, *map(_row, reports)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    for report in reports:
        lines += _remarks(report)
    if warning := _too_many(reports):
        lines += ["", warning]
    return "\n".join(lines)


_HEAD = ("server", "started in", "protocol", "tools", "tokens", "reset", "tool list (SHA-256)")


def _row(report: ServerReport) -> tuple[str, ...]:
    if report.error:
        return report.name, "FAILED", "", "", "", report.reset, ""
    offered = len(report.tools)
    return (
        report.name,
        f"{report.started_in:.2f} s",
        f"{report.protocol} ({report.era})",
        str(offered) if offered == report.listed else f"{offered} of {report.listed}",
        f"about {report.tokens}",
        report.reset,
        report.sha256[:12],
    )


def _remarks(report: ServerReport) -> list[str]:
    if report.error:
        return ["", f"{report.name} FAILED: {report.error}"]
    told = [f"{what}: {_some(where)}" for what, where in report.oddities.items()]
    remarks = [f"  - {one}" for one in (*told, *report.hints)]
    return ["", f"{report.name}:", *remarks] if remarks else []


def _some(where: Sequence[str], most: int = 5) -> str:
    rest = f" and {len(where) - most} more" if len(where) > most else ""
    return ", ".join(where[:most]) + rest


def _too_many(reports: Sequence[ServerReport]) -> str:
    number = sum(len(report.tools) for report in reports)
    if number <= MOST_TOOLS:
        return ""
    return (
        f"WARNING: {number} tools are offered together; small models bear 25 to 50. Name those "
        'that your tasks need under "mcpGym": {"tools": [...]}, or let retrieval choose some for '
        'each task and write them into its "tools".'
    )
