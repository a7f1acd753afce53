"""The tools of a row: checked, and ready to check the arguments of its calls.

The same few tools stand in many rows, and a schema takes a thousand times longer to check than
the arguments of a call; so what was found out about a tool is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jsonschema import validators

from envs.errors import ToolListError
from envs.schemas import ArgumentValidator
from sft.data.reasons import Problem, Reason
from sft.data.schema_references import reference_problem
from sft.data.strict import dump_json, is_deeper

MOST_KEPT = 4096
"""Tools that are kept; each takes some 10 kB."""

DEEPEST_SCHEMA = 32
"""Levels of a schema; a validator takes a dozen frames of the stack for each."""

TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
"""The names that MCP accepts (SEP-986)."""

CONTROL_TOKEN = re.compile(r"<\|(?:im_start|im_end|endoftext)\|>")
"""What would end a turn, or begin one, where it stands in text that a template does not escape."""

_SLOW_PATTERN = re.compile(r"[+*}]\)[+*{]")
"""A repeated group that ends with a repetition: it may take exponential time."""

_DIALECTS = {
    "",
    *(
        uri.rstrip("#") + ending
        for validator in (
            validators.Draft4Validator,
            validators.Draft6Validator,
            validators.Draft7Validator,
            validators.Draft201909Validator,
            validators.Draft202012Validator,
        )
        for uri in (str(validator.META_SCHEMA.get("$id", validator.META_SCHEMA.get("id"))),)
        for ending in ("", "#")
    ),
}
"""What `$schema` may be; a validator would take the newest dialect for any other."""

NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True)
class Toolbox:
    """The tools of a row.

    Attributes:
        validators: Name -> what checks its arguments, of the tools without a problem.
        names: The names of all tools.
        problems: What is wrong with the tools.
    """

    validators: Mapping[str, ArgumentValidator]
    names: tuple[str, ...]
    problems: tuple[Problem, ...]


def toolbox(tools: list[Any]) -> Toolbox:
    """Check the tools of a row.

    Args:
        tools: OpenAI function schemas, or what stands in their place.
    """
    validators: dict[str, ArgumentValidator] = {}
    names: list[str] = []
    problems: list[Problem] = []
    for number, tool in enumerate(tools, start=1):
        name, found = _checked(dump_json(tool))
        if isinstance(found, Problem):
            problems.append(Problem(found.code, f"tool {number}: {found.message}"))
        else:
            validators[name] = found
        if name in names:
            message = f'tool {number}: there is another tool with the name "{name[:60]}"'
            problems.append(Problem(Reason.DUPLICATE_TOOL, message))
        names.append(name)
    return Toolbox(validators, tuple(names), tuple(problems))


@lru_cache(MOST_KEPT)
def _checked(text: str) -> tuple[str, ArgumentValidator | Problem]:
    """Return the name of a tool and its validator, or what is wrong with it."""
    tool = json.loads(text)
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type") != "function":
        form = '{"type": "function", "function": {...}}'
        return "", Problem(Reason.BAD_TOOL, f"not an OpenAI function schema: {form}")
    name = function.get("name")
    if not isinstance(name, str) or not TOOL_NAME.fullmatch(name):
        return str(name), Problem(Reason.BAD_TOOL, f"MCP accepts no tool named {str(name)[:60]!r}")
    if CONTROL_TOKEN.search(text):
        return name, Problem(Reason.CONTROL_TOKEN, f"a control token stands in {name!r}")
    if not isinstance(function.get("description", ""), str):
        return name, Problem(Reason.BAD_TOOL, f"the description of {name!r} is no text")
    return name, _validator(name, function.get("parameters", NO_PARAMETERS))


def _validator(name: str, schema: Any) -> ArgumentValidator | Problem:
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        return Problem(Reason.BAD_TOOL, f"the parameters of {name!r} are no schema of an object")
    if str(schema.get("$schema", "")) not in _DIALECTS:
        return Problem(Reason.BAD_TOOL, f"the schema of {name!r} is in an unknown dialect")
    if is_deeper(schema, DEEPEST_SCHEMA):
        return Problem(Reason.BAD_TOOL, f"the schema of {name!r} is nested too deeply")
    if problem := reference_problem(schema):
        return Problem(Reason.BAD_SCHEMA_REFERENCE, f"in the schema of {name!r}, {problem}")
    if any(map(_SLOW_PATTERN.search, _patterns(schema))):
        return Problem(Reason.BAD_TOOL, f"a pattern of {name!r} may take for ever to check")
    try:
        return ArgumentValidator(name, schema)
    except ToolListError as error:
        return Problem(Reason.BAD_TOOL, str(error).partition("; mend it")[0][:300])


def _patterns(schema: Any) -> list[str]:
    """Return the regular expressions of a schema."""
    found: list[str] = []
    parts = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts += part
        elif isinstance(part, dict):
            parts += part.values()
            if isinstance(pattern := part.get("pattern"), str):
                found.append(pattern)
            if isinstance(patterns := part.get("patternProperties"), dict):
                found += patterns
    return found
