"""`python -m envs.servers`: try the MCP servers of a config file before episodes are played."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from envs.errors import EnvsError
from envs.servers.check import ServerReport, as_text, check_servers
from envs.servers.config import read_servers

_EXAMPLE = """\
a config file, as Claude Desktop, Claude Code, Cursor, VS Code or Gemini CLI write it:

  {"mcpServers": {"memory": {"command": "mcp-server-memory",
                             "env": {"MEMORY_FILE_PATH": "${episodeFolder}/memory.json"}}}}

Each episode gets a new process and an empty folder (${episodeFolder}), which are gone afterwards.
Other settings stand under the key "mcpGym" of a server; they are listed in
envs/servers/config_extras.py.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit code: 0, 1 if a server cannot be used, 2 if the config cannot be.
    """
    options = _parser().parse_args(arguments)
    try:
        servers = read_servers(options.config)
        reports = check_servers(servers)
    except EnvsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    _say(as_text(reports))
    if options.json:
        _write(options.json, reports)
    failed = [report.name for report in reports if report.error]
    _say("")
    if failed:
        again = f"python -m envs.servers check {shlex.quote(str(options.config))}"
        _say(f"{len(failed)} of {len(reports)} servers failed: {', '.join(failed)}")
        _say(f'next: mend the above, or set "disabled": true, and run {again} again')
        return 1
    _say("next: write tasks for these tools (the format: rewards/serialise.py), then run")
    _say(
        f"  python -m agents.evaluate --servers {shlex.quote(str(options.config))} "
        "--suite tasks.jsonl --split all"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m envs.servers",
        description="Try your MCP servers before episodes are played on them.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check = commands.add_parser(
        "check",
        help="start each server of a config file and look at its tools",
        description="Starts each server of a config file, lists its tools, calls none, and stops "
        "it. Prints what a run would find: how long it takes to start, its protocol, how many "
        "tools it offers and how many tokens they cost in a prompt, what is unusual about them, "
        "how episodes are kept apart (reset), and a hash by which a changed tool list is noticed. "
        "Exit code 1 if a server fails (the output says why), 2 if the file cannot be used.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("config", type=Path, metavar="mcp.json", help="the config file")
    check.add_argument("--json", type=Path, metavar="FILE", help="also write all of it to FILE")
    return parser


def _write(file: Path, reports: Sequence[ServerReport]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(report) for report in reports]
    file.write_text(json.dumps({"servers": rows}, indent=2) + "\n", encoding="utf-8")
    _say(f"\nwrote {file}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
