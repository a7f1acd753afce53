"""JSON schemas of type names such as `int`, `List[float]`, `str, optional` and `dict`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sft.data.reasons import Reason
from sft.data.rejected import Rejected

_NAMES: Mapping[str, str] = {
    "str": "string",
    "string": "string",
    "text": "string",
    "int": "integer",
    "integer": "integer",
    "long": "integer",
    "float": "number",
    "double": "number",
    "number": "number",
    "bool": "boolean",
    "boolean": "boolean",
    "dict": "object",
    "object": "object",
    "hashmap": "object",
    "list": "array",
    "array": "array",
    "arraylist": "array",
    "tuple": "array",
    "set": "array",
    "none": "null",
    "null": "null",
}
_ANYTHING = ("any", "callable")
_OPTIONAL = re.compile(r",\s*optional\b.*$", re.IGNORECASE | re.DOTALL)
_DEPTH = 8


def is_optional(name: str) -> bool:
    """Return whether a type name says that the argument may be left out."""
    return bool(_OPTIONAL.search(name)) or name.strip().lower().startswith("optional[")


def schema_of(name: str, depth: int = 0) -> dict[str, Any]:
    """Return the JSON schema of a type name.

    Args:
        name: Such as `int`, `List[int]`, `Dict[str, Any]`, `Union[int, str]`, `str, optional`.
        depth: How many brackets it stands in.

    Raises:
        Rejected: If there is no such type.
    """
    name = _OPTIONAL.sub("", name).strip()
    head, bracket, rest = name.partition("[")
    head = head.strip().lower().removeprefix("typing.")
    inside = list(split_at_commas(rest.rstrip()[:-1])) if bracket and name.endswith("]") else []
    if depth > _DEPTH or bool(bracket) != name.endswith("]"):
        raise _unknown(name)
    if head in ("union", "optional") and inside:
        return (
            {"anyOf": [schema_of(part, depth + 1) for part in inside]}
            if inside[1:]
            else (schema_of(inside[0], depth + 1))
        )
    if head in _ANYTHING:
        return {}
    if head not in _NAMES:
        raise _unknown(name)
    schema: dict[str, Any] = {"type": _NAMES[head]}
    if schema["type"] == "array" and len(inside) == 1:
        schema["items"] = schema_of(inside[0], depth + 1)
    return schema


def split_at_commas(text: str) -> Iterator[str]:
    """Split a text at the commas that stand in no brackets."""
    depth = start = 0
    for place, character in enumerate(text):
        depth += {"[": 1, "]": -1}.get(character, 0)
        if character == "," and not depth:
            yield text[start:place]
            start = place + 1
    yield text[start:]


def _unknown(name: str) -> Rejected:
    return Rejected(Reason.BAD_TOOL, f'"{name[:60]}" is no known type')
