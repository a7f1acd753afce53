"""Serve the mock world to any MCP client: `python -m mock_mcp --help`."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from mcp.server.transport_security import TransportSecuritySettings

from mock_mcp.errors import MockMCPError, UnknownDomainError, did_you_mean
from mock_mcp.faults import Faults
from mock_mcp.handle import EPISODE_HEADER, EpisodeWorlds, WorldHandle
from mock_mcp.server import SERVER_NAME, build_http_server, build_server, served_tools
from mock_mcp.world import DOMAINS, World

TRANSPORTS = ("stdio", "streamable-http")
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

_EPILOG = f"""\
domains:
  math       exact arithmetic, statistics, units, currencies, dates, equations
  search     a small web of pages: ranked search, open a page, follow its links
  database   a company on SQLite: customers, orders, products, employees, SQL
  data       tables of records: filter, sort, group, aggregate, join, export
  assistant  contacts, e-mail, calendar, notes, reminders, SMS, maps, files

examples:
  python -m mock_mcp --print-config              what to paste into an MCP client's settings
  python -m mock_mcp --domains math,database     speak MCP on stdin and stdout
  python -m mock_mcp --transport streamable-http serve at http://127.0.0.1:8000/mcp

Over HTTP every episode has a world of its own, named by the header {EPISODE_HEADER} (or by the
session id of clients that have one). The state can be read as the resources world://digest and
world://changes.
"""


class _Parser(argparse.ArgumentParser):
    """An argument parser that guesses which flag was meant."""

    def error(self, message: str) -> NoReturn:
        unknown = re.search(r"unrecognized arguments: (--\S+)|invalid choice: '([^']*)'", message)
        if unknown:
            known = [*self._option_string_actions, *TRANSPORTS]
            message += did_you_mean((unknown[1] or unknown[2]).split("=")[0], known)
        super().error(f"{message}\nSee python -m mock_mcp --help.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until the client leaves or Ctrl-C."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        domains = _domains(options.domains)
        Faults.seeded(options.seed, options.faults)
    except MockMCPError as error:
        parser.error(str(error))
    if options.print_config:
        sys.stdout.write(json.dumps(_config(options), indent=2) + "\n")
        return
    try:
        _serve(options, domains)
    except KeyboardInterrupt:
        sys.stderr.write(f"{SERVER_NAME}: stopped\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m mock_mcp",
        description="Serve a seeded mock world (tools with real state behind them) over MCP.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--domains", default="all", metavar="LIST", help="domains to serve, such as math,search"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="the world to serve; the same seed, the same world"
    )
    parser.add_argument(
        "--transport", choices=TRANSPORTS, default="stdio", help="how clients reach the server"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (HTTP only)")
    parser.add_argument("--port", type=_port, default=8000, help="port to listen on (HTTP only)")
    parser.add_argument(
        "--faults",
        type=float,
        default=0.0,
        metavar="RATE",
        help="chance that a call fails (0 to 1); the next call then works",
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print the mcpServers entry for these options and leave",
    )
    return parser


def _port(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is no port (1 to 65535)")


def _domains(text: str) -> tuple[str, ...]:
    if text == "all":
        return DOMAINS
    domains = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not domains:
        raise UnknownDomainError(f"No domain was named (known: {', '.join(DOMAINS)}).")
    served_tools(domains)
    return domains


def _config(options: argparse.Namespace) -> dict[str, object]:
    entry: dict[str, object]
    if options.transport == "stdio":
        words = ["-m", "mock_mcp", "--domains", options.domains, "--seed", str(options.seed)]
        if options.faults:
            words += ["--faults", str(options.faults)]
        entry = {"command": sys.executable, "args": words}
    else:
        headers = {EPISODE_HEADER: "episode-1"}
        entry = {"type": "streamable-http", "url": _url(options), "headers": headers}
    return {"mcpServers": {SERVER_NAME: entry}}


def _url(options: argparse.Namespace) -> str:
    return f"http://{options.host}:{options.port}/mcp"


def _serve(options: argparse.Namespace, domains: tuple[str, ...]) -> None:
    world = World.build(options.seed)
    count = len(served_tools(domains))
    if options.transport == "stdio":
        # Standard output belongs to the protocol; whatever is for people goes to standard error.
        sys.stderr.write(f"{SERVER_NAME}: {count} tools on stdio, world {options.seed}\n")
        handle = WorldHandle(world, Faults.seeded(options.seed, options.faults))
        build_server(handle, domains).run("stdio")
        return
    sys.stderr.write(f"{SERVER_NAME}: {count} tools at {_url(options)}, world {options.seed}\n")
    worlds = EpisodeWorlds(world, lambda: Faults.seeded(options.seed, options.faults))
    build_http_server(worlds, domains).run(
        "streamable-http",
        host=options.host,
        port=options.port,
        json_response=True,
        transport_security=_security(options.host),
    )


def _security(host: str) -> TransportSecuritySettings:
    """Answer only requests that name this machine (protection against DNS rebinding)."""
    names = dict.fromkeys((*LOOPBACK, host))
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[f"{name}:*" for name in names],
        allowed_origins=[f"http://{name}:*" for name in names],
    )


if __name__ == "__main__":
    main()
