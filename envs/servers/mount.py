"""Tools of several servers under names of their own, with the way back.

Models and chat formats take names of letters, digits, `_` and `-` up to 64 characters. The tools
of a single server keep their names as far as that allows; with several servers each name gets its
server's as a prefix. What clashes even then is numbered. Every offered name is kept with the
server and the name that it stands for.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcp_types import Tool

from envs.backend import ToolBox
from envs.errors import ToolListError
from envs.schemas import ArgumentValidator, openai_tool
from rewards.episode import ToolCall

LONGEST_NAME = 64
_FORBIDDEN = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Mount:
    """The tools of all servers of an environment.

    Attributes:
        tools: What is offered, under the offered names.
        routes: Offered name -> server and the tool's name there.
        offered: The names that episodes may be offered; the others are for probes.
    """

    tools: ToolBox
    routes: Mapping[str, tuple[str, str]]
    offered: tuple[str, ...]

    def named(self, name: str) -> tuple[str, ...]:
        """Return the offered names that a task means by a name; none if there is no such tool.

        Args:
            name: An offered name, or `SERVER/TOOL`, or `SERVER/*` for all tools of a server. An
                offered name never holds a slash.
        """
        if name in self.offered:
            return (name,)
        servers = ((offered, *self.routes[offered]) for offered in self.offered)
        return tuple(
            offered
            for offered, server, tool in servers
            if name in (f"{server}/{tool}", f"{server}/*")
        )

    def route(self, call: ToolCall) -> tuple[str, ToolCall]:
        """Return the server that a call goes to, and the call as that server knows it."""
        server, name = self.routes[call.name]
        return server, ToolCall(name, call.arguments)


def mount(served: Mapping[str, Sequence[Tool]], allowed: Mapping[str, Collection[str]]) -> Mount:
    """Mount the tools of servers.

    Args:
        served: The tools of each server, by its name.
        allowed: The names of those that episodes may be offered, for each server.

    Raises:
        ToolListError: If the schema of a tool that may be offered cannot be used.
    """
    routes: dict[str, tuple[str, str]] = {}
    schemas: dict[str, dict[str, Any]] = {}
    validators: dict[str, ArgumentValidator] = {}
    for server, tools in served.items():
        for tool in tools:
            name = _free(offered_name(server if len(served) > 1 else "", tool.name), routes)
            try:
                validators[name] = ArgumentValidator(name, tool.input_schema)
            except ToolListError:
                if tool.name in allowed[server]:
                    raise
                continue
            routes[name] = server, tool.name
            schemas[name] = openai_tool(name, tool.description or "", tool.input_schema)
    offered = [name for name, (server, tool) in routes.items() if tool in allowed[server]]
    return Mount(ToolBox(schemas, validators), routes, tuple(offered))


def offered_name(server: str, tool: str) -> str:
    """Return the name a tool is offered under, before clashes are resolved.

    A name that is too long keeps its beginning and gets a hash of the whole.

    Args:
        server: Prefix, or "" for none.
        tool: The tool's name on its server.
    """
    whole = f"{server}_{tool}" if server else tool
    name = _FORBIDDEN.sub("_", whole) or "_"
    if len(name) <= LONGEST_NAME:
        return name
    mark = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{name[: LONGEST_NAME - len(mark) - 1]}_{mark}"


def _free(name: str, taken: Mapping[str, object]) -> str:
    """Return the name, numbered if it is taken."""
    number, free = 2, name
    while free in taken:
        ending = f"_{number}"
        free, number = name[: LONGEST_NAME - len(ending)] + ending, number + 1
    return free


def fingerprint(tools: Sequence[Tool]) -> str:
    """Return the SHA-256 (hex) of a tool list: names, descriptions and schemas, in any order."""
    rows = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]
    rows.sort(key=lambda row: str(row["name"]))
    text = json.dumps(rows, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def changed_tools(before: Sequence[Tool], after: Sequence[Tool]) -> str:
    """Return in words how a tool list differs from what it was, or "" if it does not."""
    old = {tool.name: fingerprint([tool]) for tool in before}
    new = {tool.name: fingerprint([tool]) for tool in after}
    parts = [
        ("new", sorted(set(new) - set(old))),
        ("gone", sorted(set(old) - set(new))),
        ("changed", sorted(name for name in set(old) & set(new) if old[name] != new[name])),
    ]
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names)
