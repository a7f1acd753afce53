"""Tool schemas: what the model is shown, and what its arguments are checked against.

The prompt gets a cleaned copy; calls are validated against the ORIGINAL input schema, strictly,
because servers built on the MCP SDK coerce `"5"` to 5 and drop unknown arguments silently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from envs.errors import ToolListError
from envs.untrusted import neutralise
from rewards.errors import did_you_mean

Schema = Mapping[str, Any]

DROPPED = frozenset({"$schema", "title", "format", "$defs", "definitions", "additionalProperties"})
"""Keywords that cost tokens and tell a small model nothing."""

MAX_PROBLEMS = 3

OPEN_KEYWORDS = ("additionalProperties", "patternProperties", "$ref", "allOf", "anyOf", "oneOf")
"""A schema with one of these says itself which further arguments it takes."""


def openai_tool(name: str, description: str, input_schema: Schema) -> dict[str, Any]:
    """Return a tool as an OpenAI function schema with a cleaned parameter schema.

    Args:
        name: The tool's name.
        description: Its description.
        input_schema: The original JSON schema of its arguments.
    """
    cleaned = _safe(clean_schema(input_schema))
    cleaned.setdefault("type", "object")
    cleaned.setdefault("properties", {})
    parameters = {key: cleaned[key] for key in ("type", "properties")}
    parameters |= {key: value for key, value in cleaned.items() if key not in parameters}
    return {
        "type": "function",
        "function": {
            "name": neutralise(name),
            "description": neutralise(description),
            "parameters": parameters,
        },
    }


def _safe(part: Any) -> Any:
    """Neutralise every text of a schema: a server may write what it likes in any place of it."""
    if isinstance(part, str):
        return neutralise(part)
    if isinstance(part, Mapping):
        return {neutralise(str(key)): _safe(value) for key, value in part.items()}
    return [_safe(item) for item in part] if isinstance(part, list) else part


def clean_schema(schema: Schema) -> dict[str, Any]:
    """Return a short equivalent of a schema for the prompt.

    `$ref` is inlined (a recursive one becomes an object), `anyOf [T, null]` and `type [T, "null"]`
    become T, and keywords that only machines read are dropped.
    """
    definitions = {**schema.get("definitions", {}), **schema.get("$defs", {})}
    cleaned: dict[str, Any] = _clean(schema, definitions, ())
    return cleaned


def _clean(part: Any, definitions: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    if isinstance(part, list):
        return [_clean(item, definitions, path) for item in part]
    if not isinstance(part, Mapping):
        return part
    if isinstance(reference := part.get("$ref"), str):
        return _inlined(part, reference.rpartition("/")[2], definitions, path)
    cleaned: dict[str, Any] = {}
    for key, value in part.items():
        if key == "properties":
            cleaned[key] = {n: _clean(p, definitions, path) for n, p in value.items()}
        elif key not in DROPPED:
            cleaned[key] = _clean(value, definitions, path)
    return _without_null(cleaned)


def _inlined(
    part: Schema, name: str, definitions: Mapping[str, Any], path: tuple[str, ...]
) -> dict[str, Any]:
    beside = {key: value for key, value in part.items() if key != "$ref"}
    if name in path or name not in definitions:
        return {"type": "object", **_clean(beside, definitions, path)}
    return {
        **_clean(definitions[name], definitions, (*path, name)),
        **_clean(beside, definitions, path),
    }


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    options = schema.get("anyOf")
    if isinstance(options, list):
        real = [option for option in options if option != {"type": "null"}]
        if len(real) == 1 and len(real) < len(options):
            rest = {k: v for k, v in schema.items() if k != "anyOf"}
            schema = {**real[0], **rest}
    kinds = schema.get("type")
    if isinstance(kinds, list):
        real_kinds = [kind for kind in kinds if kind != "null"]
        schema["type"] = real_kinds[0] if len(real_kinds) == 1 else real_kinds
    if schema.get("default", ...) is None:
        del schema["default"]
    # The type first, as most tool lists that models have seen write it.
    return {"type": schema["type"], **schema} if "type" in schema else schema


class ArgumentValidator:
    """Checks arguments against a tool's original input schema.

    Args:
        name: The tool's name, for messages.
        input_schema: The original JSON schema.

    Raises:
        ToolListError: If the schema itself is broken.
    """

    def __init__(self, name: str, input_schema: Schema) -> None:
        schema = dict(input_schema)
        validator = validator_for(schema)
        try:
            validator.check_schema(schema)
        except SchemaError as error:
            raise ToolListError(
                f"the input schema of tool {name!r} is broken: {error.message}; "
                "mend it in the server, or do not offer the tool"
            ) from error
        self.name = name
        # Without a registry of our own a `$ref` to an address would be fetched from it.
        self._validator = validator(schema, registry=Registry())
        self._properties = tuple(input_schema.get("properties", {}))
        self._closed = not any(keyword in input_schema for keyword in OPEN_KEYWORDS)

    def problem(self, arguments: Mapping[str, Any]) -> str:
        """Return what is wrong with the arguments in one sentence for the model, or ""."""
        try:
            # Never all problems: arguments of a megabyte may have a hundred thousand.
            problems = list(islice(self._problems(arguments), MAX_PROBLEMS))
        except (Unresolvable, RecursionError, OverflowError):
            problems = ["they cannot be checked against its schema"]
        return f"bad arguments for {self.name}: {'; '.join(problems)}." if problems else ""

    def _problems(self, arguments: Mapping[str, Any]) -> Iterator[str]:
        if self._closed:
            unknown = (name for name in arguments if name not in self._properties)
            yield from map(self._unknown_one, unknown)
        yield from map(self._sentence, self._validator.iter_errors(arguments))

    def _unknown_one(self, name: str) -> str:
        hint = did_you_mean(name, self._properties).replace("; ", ", ")
        takes = ", ".join(self._properties) or "no arguments"
        return f'unknown argument "{name[:40]}" (it takes {takes}){hint}'

    def _sentence(self, error: ValidationError) -> str:
        where = ".".join(str(part) for part in error.absolute_path)
        if error.validator == "required":
            return _shorten(error.message.replace("is a required property", "is missing"))
        if error.validator == "additionalProperties" and isinstance(error.instance, Mapping):
            extra = [name for name in error.instance if name not in self._properties]
            if not where and extra:
                return self._unknown_one(extra[0])
        return _shorten(f"{where}: {error.message}" if where else error.message)


def _shorten(text: str, limit: int = 160) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def offered(tools: Mapping[str, dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the schemas of the named tools in order.

    Raises:
        ToolListError: If the server has no such tool.
    """
    for name in names:
        if name not in tools:
            raise ToolListError(f'the server has no tool "{name}"{did_you_mean(name, tools)}')
    return [tools[name] for name in names]
