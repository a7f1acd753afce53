"""The mock world as a real MCP server (the official SDK).

Every tool of a domain is a plain function of a `World`. Here it becomes an async MCP tool with a
strict input schema, an output schema and annotations. Schemas are compiled once per process;
`build_server` only binds them to a `WorldHandle`, so an environment can afford one server per
slot and reset it by `handle.world = template.copy()`.

Evidence for clients in another process is read as resources, never through tools that the model
could call: `world://digest` (SHA-256 of the world) and `world://changes` (rows that differ from
the start).
"""

from __future__ import annotations

import functools
import inspect
import json
import operator
import types
import typing
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired

import anyio
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError, UnexpectedToolError
from mcp_types import CallToolResult, Resource, TextContent, Tool, ToolAnnotations
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from typing_extensions import TypedDict

from mock_mcp.domains import (
    assistant_tools,
    data_tools,
    database_tools,
    math_tools,
    search_tools,
)
from mock_mcp.errors import UnknownDomainError, did_you_mean
from mock_mcp.handle import EpisodeWorlds, HandleOf, WorldHandle
from mock_mcp.toolspec import ToolFailure, ToolSpec
from mock_mcp.world import DOMAINS, World

SERVER_NAME = "mock-mcp"
VERSION = "0.1.0"


_compact = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


@dataclass(frozen=True)
class ServedTool:
    """A tool compiled once per process: what is advertised, and how arguments are checked."""

    spec: ToolSpec
    advertised: Tool
    arguments: type[BaseModel]

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Validate without coercing anything.

        Raises:
            ToolError: Naming each argument that is wrong, in words a model can act on.
        """
        try:
            self.arguments.__pydantic_validator__.validate_python(dict(arguments))
        except ValidationError as error:
            problems = "; ".join(self._problem(detail) for detail in error.errors()[:3])
            raise ToolError(f"Bad arguments for {self.spec.name}: {problems}.") from error
        try:
            # Half a surrogate pair, NaN or endless nesting would break the state's digest.
            _compact(dict(arguments)).encode()
        except (ValueError, RecursionError) as error:
            raise ToolError(f"Bad arguments for {self.spec.name}: not valid JSON.") from error

    def _problem(self, detail: Mapping[str, Any]) -> str:
        where = ".".join(str(part) for part in detail["loc"])
        if detail["type"] == "missing":
            return f"{where!r} is missing"
        if detail["type"] == "extra_forbidden":
            known = ", ".join(self.advertised.input_schema["properties"]) or "no arguments"
            return f"{where!r} is unknown (it takes {known})"
        return f"{where!r}: {detail['msg']}"


class WorldServer(MCPServer[HandleOf]):
    """An MCP server whose tools and resources were compiled beforehand."""

    def __init__(self, served: Mapping[str, ServedTool], handle_of: HandleOf) -> None:
        """Serve `served`, each request on the world that `handle_of` finds for it."""

        @asynccontextmanager
        async def lifespan(_: MCPServer[HandleOf]) -> AsyncIterator[HandleOf]:
            yield handle_of

        super().__init__(SERVER_NAME, version=VERSION, lifespan=lifespan, log_level="WARNING")
        self._served = served

    async def list_tools(self) -> list[Tool]:
        """Return the advertised tools."""
        return [tool.advertised for tool in self._served.values()]

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[HandleOf, Any] | None = None
    ) -> CallToolResult:
        """Call a tool on the request's world.

        Raises:
            ToolError: If there is no such tool, its arguments are wrong, or it fails; the
                message reaches the model.
        """
        tool = self._served.get(name)
        if tool is None:
            raise ToolError(f"Unknown tool: {name}.{did_you_mean(name, self._served)}")
        tool.check(arguments)
        try:
            handle = _handle(context, tool.spec.read_only)
            if handle.faults.latency_s:
                await anyio.sleep(handle.faults.latency_s)
            handle.faults.before_call(name, arguments)
            result = tool.spec.function(handle.world, **arguments)
            text = handle.faults.after_call(name, _compact(result))
        except ToolFailure as failure:
            raise ToolError(str(failure)) from failure
        except Exception as crash:
            # The SDK logs its cause; the model must not be shown what is inside.
            raise UnexpectedToolError(f"The tool {name} crashed.") from crash
        return CallToolResult(
            content=[TextContent(type="text", text=text)], structured_content=result
        )

    async def list_resources(self) -> list[Resource]:
        """Return the evidence resources."""
        return list(_RESOURCES)

    async def read_resource(
        self, uri: Any, context: Context[HandleOf, Any] | None = None
    ) -> Iterable[ReadResourceContents]:
        """Read the evidence about the request's world.

        Raises:
            ResourceNotFoundError: If there is no such resource.
        """
        evidence = _EVIDENCE.get(str(uri))
        if evidence is None:
            known = ", ".join(_EVIDENCE)
            raise ResourceNotFoundError(f"Unknown resource: {uri} (known: {known})")
        try:
            handle = _handle(context, read_only=True)
        except ToolFailure as failure:
            raise ResourceNotFoundError(str(failure)) from failure
        return [ReadResourceContents(evidence(handle), mime_type="application/json")]


def build_http_server(worlds: EpisodeWorlds, domains: Sequence[str] = DOMAINS) -> WorldServer:
    """Return a server for many episodes at once, told apart by their HTTP headers.

    Raises:
        UnknownDomainError: If a domain does not exist.
    """
    return WorldServer(served_tools(tuple(domains)), worlds)


def build_server(handle: WorldHandle, domains: Sequence[str] = DOMAINS) -> WorldServer:
    """Return a server for one world at a time (in memory, or over stdio).

    Args:
        handle: The world that the tools act on.
        domains: Domains whose tools are offered.

    Raises:
        UnknownDomainError: If a domain does not exist.
    """
    return WorldServer(served_tools(tuple(domains)), lambda _headers, _read_only: handle)


@functools.cache
def served_tools(domains: tuple[str, ...] = DOMAINS) -> Mapping[str, ServedTool]:
    """Return the compiled tools of `domains` by name, in the order of the domains.

    Raises:
        UnknownDomainError: If a domain does not exist.
    """
    return {tool.spec.name: tool for domain in domains for tool in _domain_tools(domain)}


def _handle(context: Context[HandleOf, Any] | None, read_only: bool) -> WorldHandle:
    if context is None:
        raise ToolFailure("This server's tools are called through an MCP client.")
    request = context.request_context
    headers = request.request.headers if request.request is not None else {}
    return request.lifespan_context(headers, read_only)


@functools.cache
def _domain_tools(domain: str) -> tuple[ServedTool, ...]:
    if domain not in _TOOLS:
        known = ", ".join(DOMAINS)
        raise UnknownDomainError(
            f"Unknown domain {domain!r} (known: {known}).{did_you_mean(domain, DOMAINS)}"
        )
    return tuple(compile_tool(spec) for spec in _TOOLS[domain])


class _StrictArguments(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def compile_tool(spec: ToolSpec) -> ServedTool:
    """Turn a tool's function into what is advertised and how its arguments are checked."""
    hints = typing.get_type_hints(spec.function, localns={"World": World}, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in list(inspect.signature(spec.function).parameters.values())[1:]:
        # An alias, because a parameter may be called like a method of pydantic's models.
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[f"argument_{parameter.name}"] = (
            _readable(hints[parameter.name]),
            Field(default, alias=parameter.name),
        )
    arguments = create_model(f"{spec.name}_arguments", __base__=_StrictArguments, **fields)
    output = TypeAdapter(_readable(hints["return"])).json_schema()
    advertised = Tool(
        name=spec.name,
        description=_description(spec),
        input_schema=_cleaned(arguments.model_json_schema()),
        output_schema=_cleaned(output),
        annotations=ToolAnnotations(
            read_only_hint=spec.read_only,
            destructive_hint=spec.destructive,
            idempotent_hint=spec.read_only,
            open_world_hint=False,
        ),
    )
    return ServedTool(spec, advertised, arguments)


def _readable(hint: Any) -> Any:
    """Rebuild the `typing.TypedDict`s of a hint, which pydantic cannot read before Python 3.12."""
    if typing.is_typeddict(hint):
        hints = typing.get_type_hints(hint, include_extras=True)
        fields = {
            key: _readable(value)
            if key in hint.__required_keys__
            else NotRequired[_readable(value)]
            for key, value in hints.items()
        }
        return TypedDict(hint.__name__, fields)  # type: ignore[operator]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return Annotated[(_readable(arguments[0]), *hint.__metadata__)]
    if origin in (list, dict, tuple):
        return origin[tuple(_readable(argument) for argument in arguments)]
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, (_readable(argument) for argument in arguments))
    return hint


def _description(spec: ToolSpec) -> str:
    paragraph = inspect.cleandoc(spec.function.__doc__ or "").split("\n\n")[0]
    return " ".join(paragraph.split())


def _cleaned(schema: dict[str, Any]) -> dict[str, Any]:
    """Drop what pydantic adds and nobody reads: titles, and the docstrings of classes."""
    for definition in (schema, *schema.get("$defs", {}).values()):
        definition.pop("description", None)
    cleaned: dict[str, Any] = _without_titles(schema)
    return cleaned


def _without_titles(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _without_titles(part) for name, part in value.items()}
        if key in ("properties", "$defs")
        else _without_titles(value)
        for key, value in schema.items()
        if key != "title"
    }


def _digest(handle: WorldHandle) -> str:
    return json.dumps({"digest": handle.world.digest()})


def _changes(handle: WorldHandle) -> str:
    return json.dumps(handle.world.changes_since(handle.start), ensure_ascii=False)


_TOOLS: Mapping[str, tuple[ToolSpec, ...]] = {
    "math": math_tools.TOOLS,
    "search": search_tools.TOOLS,
    "database": database_tools.TOOLS,
    "data": data_tools.TOOLS,
    "assistant": assistant_tools.TOOLS,
}

_EVIDENCE: Mapping[str, Callable[[WorldHandle], str]] = {
    "world://digest": _digest,
    "world://changes": _changes,
}

_RESOURCES = (
    Resource(
        uri="world://digest",
        name="digest",
        description="SHA-256 of the world's state.",
        mime_type="application/json",
    ),
    Resource(
        uri="world://changes",
        name="changes",
        description="Rows that differ from the start of the episode.",
        mime_type="application/json",
    ),
)
