"""`$ref` in the schemas of untrusted rows: only into the schema itself, and never in a circle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

LONGEST_CHAIN = 32

_OTHER_REFERENCES = ("$dynamicRef", "$recursiveRef")


class _BadReference(Exception):
    """A reference leads nowhere, elsewhere, or in a circle."""


def reference_problem(schema: Mapping[str, Any]) -> str:
    """Return what is wrong with the references of a schema, or "".

    A validator would fetch a reference to elsewhere from the network, and follow a circle until
    the stack ends.

    Args:
        schema: A JSON schema that is not deeper than a row may be.
    """
    try:
        _follow(schema, schema, (), set())
    except _BadReference as problem:
        return str(problem)
    return ""


def _follow(root: Mapping[str, Any], part: Any, path: tuple[str, ...], done: set[str]) -> None:
    """Visit a part of a schema and everything that it refers to.

    Args:
        root: The whole schema.
        part: The part.
        path: The references that led here.
        done: References that are known to be good.
    """
    for reference in _references(part):
        if len(path) == LONGEST_CHAIN:
            raise _BadReference(f"more than {LONGEST_CHAIN} references lead on to each other")
        if reference in path:
            raise _BadReference(f'the reference "{reference[:60]}" leads to itself')
        if reference not in done:
            _follow(root, _target(root, reference), (*path, reference), done)
            done.add(reference)


def _references(part: Any) -> Iterator[str]:
    """Yield the references inside a part of a schema."""
    parts = [part]
    while parts:
        part = parts.pop()
        if isinstance(part, list):
            parts += part
        elif isinstance(part, dict):
            parts += part.values()
            if any(isinstance(part.get(key), str) for key in _OTHER_REFERENCES):
                raise _BadReference("a dynamic reference cannot be checked")
            if isinstance(reference := part.get("$ref"), str):
                yield reference


def _target(root: Mapping[str, Any], reference: str) -> Any:
    """Return what a reference refers to."""
    if reference != "#" and not reference.startswith("#/"):
        raise _BadReference(f'the reference "{reference[:60]}" leads out of the schema')
    target: Any = root
    for step in unquote(reference).split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(target, dict) or key not in target:
            raise _BadReference(f'the reference "{reference[:60]}" leads nowhere')
        target = target[key]
    return target
