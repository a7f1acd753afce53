"""What is unusual about a tool list, and makes tools harder to call or their goals harder to judge.

None of it keeps a server from being used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mcp_types import Tool

LONG_DESCRIPTION = 1000
"""A description of more characters (about 250 tokens) is worth a look."""

_TYPED = ("type", "anyOf", "oneOf", "allOf", "enum", "const", "$ref")


def oddities(tools: Sequence[Tool], offered: Mapping[str, str]) -> dict[str, list[str]]:
    """Return what is unusual about tools.

    Args:
        tools: The tools of one server.
        offered: Name of a tool -> the name it is offered by, without the server's prefix.

    Returns:
        A sentence about each oddity -> the tools, or parameters as `tool.parameter`, that have it.
    """
    found: dict[str, list[str]] = {}
    for told, places in _CHECKS.items():
        if where := [place for tool in tools for place in places(tool)]:
            found[told] = where
    renamed = [f"{name} as {new}" for name, new in offered.items() if new != name]
    if renamed:
        found["offered under another name, since models cannot write or tell apart its own"] = (
            renamed
        )
    counts = Counter(tool.name for tool in tools)
    if twice := [name for name, count in counts.items() if count > 1]:
        found["listed more than once"] = twice
    return found


def _undescribed(tool: Tool) -> Iterator[str]:
    if not (tool.description or "").strip():
        yield tool.name


def _long(tool: Tool) -> Iterator[str]:
    if len(tool.description or "") > LONG_DESCRIPTION:
        yield f"{tool.name} ({len(tool.description or '')})"


def _untyped(tool: Tool) -> Iterator[str]:
    properties = tool.input_schema.get("properties")
    for name, schema in properties.items() if isinstance(properties, Mapping) else ():
        if not isinstance(schema, Mapping) or not any(key in schema for key in _TYPED):
            yield f"{tool.name}.{name}"


def _recursive(tool: Tool) -> Iterator[str]:
    schema = tool.input_schema
    edges = {name: set(_references(part)) for name, part in _definitions(schema).items()}
    edges["#"] = set(_references(schema))
    if any(name in _reached(name, edges) for name in edges):
        yield tool.name


def _lost_reference(tool: Tool) -> Iterator[str]:
    known = {"#", *_definitions(tool.input_schema)}
    if not known.issuperset(_references(tool.input_schema)):
        yield tool.name


def _unstructured(tool: Tool) -> Iterator[str]:
    if tool.output_schema is None:
        yield tool.name


def _definitions(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {**schema.get("definitions", {}), **schema.get("$defs", {})}


def _references(part: Any) -> Iterator[str]:
    """Yield the names of the definitions that a part of a schema refers to."""
    if isinstance(part, Mapping):
        if isinstance(reference := part.get("$ref"), str):
            yield reference.rpartition("/")[2]
        for key, value in part.items():
            if key not in ("$defs", "definitions"):
                yield from _references(value)
    elif isinstance(part, list):
        for item in part:
            yield from _references(item)


def _reached(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    new = edges.get(start, set())
    while new:
        reached |= new
        new = {name for one in new for name in edges.get(one, ())} - reached
    return reached


_CHECKS: Mapping[str, Callable[[Tool], Iterator[str]]] = {
    "without a description": _undescribed,
    f"a description of more than {LONG_DESCRIPTION} characters": _long,
    "parameters without a type": _untyped,
    "a schema that refers to itself; models are shown a plain object there": _recursive,
    "a $ref that leads nowhere; models are shown a plain object there": _lost_reference,
    "no output schema; goals on returned data read the text as JSON": _unstructured,
}
