"""`xlam`: a query, its tools with flat parameters, and the calls that answer it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sft.data.formats.draft import Draft, Row, list_field, objects, text_field
from sft.data.formats.roles import add_calls
from sft.data.formats.tool_lists import function_schema, tool_of
from sft.data.formats.type_names import is_optional, schema_of
from sft.data.reasons import Reason
from sft.data.rejected import Rejected


def parse(row: Row) -> Draft:
    """Read a row."""
    draft = Draft(tools=[_tool(tool) for tool in objects(list_field(row, "tools"), "tool")])
    if isinstance(identifier := row.get("id"), int | str):
        draft.fields["id"] = str(identifier)
    draft.add("user", text_field(row, "query"))
    add_calls(draft, list_field(row, "answers"))
    return draft


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    parameters = tool.get("parameters")
    if not isinstance(tool.get("name"), str) or not isinstance(parameters, dict):
        raise Rejected(Reason.BAD_TOOL, "a tool without a name or parameters")
    # A flat parameter may itself be called `type`; its value is then an object.
    if parameters.get("type") in ("object", "dict"):
        return function_schema(tool)
    required = [
        name
        for name, parameter in objects_of(parameters).items()
        if not is_optional(_type(parameter)) and parameter.get("default") is None
    ]
    schema = {
        "properties": {name: _property(value) for name, value in parameters.items()},
        **({"required": required} if required else {}),
    }
    return tool_of(tool["name"], tool.get("description"), schema)


def objects_of(parameters: Mapping[str, Any]) -> Mapping[str, dict[str, Any]]:
    """Return flat parameters.

    Raises:
        Rejected: If they are none.
    """
    if not all(isinstance(parameter, dict) for parameter in parameters.values()):
        raise Rejected(Reason.BAD_TOOL, "a parameter of a tool is no object")
    return parameters


def _type(parameter: Mapping[str, Any]) -> str:
    name = parameter.get("type", "any")
    if not isinstance(name, str):
        raise Rejected(Reason.BAD_TOOL, "the type of a parameter is no text")
    return name


def _property(parameter: Mapping[str, Any]) -> dict[str, Any]:
    schema = schema_of(_type(parameter))
    return schema | {
        key: value
        for key, value in parameter.items()
        if key != "type" and (value is not None or key == "default")
    }
