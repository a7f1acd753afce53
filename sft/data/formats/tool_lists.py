"""Tool lists in the shapes that data sets have, as OpenAI function schemas.

A shape is how a format writes a tool down, so reading it changes nothing: `dict` is JSON schema's
`object`, and a null where no value can stand is what a table has for a missing key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sft.data.formats.draft import decoded
from sft.data.formats.type_names import schema_of
from sft.data.reasons import Reason
from sft.data.rejected import Rejected
from sft.data.strict import NotJSON, decode_at

_SCHEMA_KEYS = ("parameters", "inputSchema", "input_schema")
_TOOL_START = re.compile(r"""(?:\[\s*)?\{\s*"(?:type|function|name|description|parameters)"\s*:""")
_JSON_TYPES = ("string", "integer", "number", "boolean", "object", "array", "null")


def function_schema(tool: Any) -> dict[str, Any]:
    """Return a tool as an OpenAI function schema.

    Args:
        tool: An OpenAI function schema, its `function`, or a tool as MCP lists it.

    Raises:
        Rejected: If it is none of these.
    """
    if isinstance(tool, str):
        tool = decoded(tool, "a tool")
    function = tool.get("function", tool) if isinstance(tool, dict) else tool
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Rejected(Reason.BAD_TOOL, "a tool without a name")
    schema: Any = next((function[key] for key in _SCHEMA_KEYS if function.get(key)), {})
    if not isinstance(schema, dict):
        raise Rejected(Reason.BAD_TOOL, "the parameters of a tool are no object")
    return tool_of(function["name"], function.get("description"), _json_schema(schema))


def tool_of(name: str, description: Any, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return an OpenAI function schema."""
    function = {
        "name": name,
        "description": "" if description is None else description,
        "parameters": {"type": "object", "properties": {}, **parameters},
    }
    return {"type": "function", "function": function}


def function_schemas(tools: Any) -> list[dict[str, Any]]:
    """Return a list of tools, or one tool, as OpenAI function schemas."""
    if isinstance(tools, str):
        tools = decoded(tools, "the tools") if tools.strip() else []
    return [function_schema(tool) for tool in (tools if isinstance(tools, list) else [tools])]


def tools_in_text(text: str) -> tuple[str, list[dict[str, Any]]]:
    """Take the tools out of a text, such as a system prompt.

    Args:
        text: Text with tools as JSON: one list of them, or objects one after another.

    Returns:
        The text without them, and the tools.

    Raises:
        Rejected: If what begins like a tool is none.
    """
    tools: list[dict[str, Any]] = []
    while found := _TOOL_START.search(text):
        try:
            value, end = decode_at(text, found.start())
        except NotJSON as error:
            raise Rejected(error.reason, f"the tools in the text: {error}") from error
        tools += function_schemas(value)
        text = text[: found.start()] + text[end:].lstrip(" \t\r\n,")
    return text, tools


def _json_schema(schema: Any) -> Any:
    """Return a schema with JSON schema's type names and without the nulls of a table."""
    if isinstance(schema, list):
        return [_json_schema(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    read: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties" and isinstance(value, dict):
            read[key] = {n: _json_schema(part) for n, part in value.items() if part is not None}
        elif key == "type" and isinstance(value, str) and value not in _JSON_TYPES:
            read |= schema_of(value)
        elif key in ("default", "const") or (key in ("enum", "examples") and value is not None):
            read[key] = value
        elif value is not None:
            read[key] = _json_schema(value)
    return read
