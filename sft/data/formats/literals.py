"""Python literals and single-quoted JSON, read without evaluating anything."""

from __future__ import annotations

import ast
import math
import re
import warnings
from typing import Any

from sft.data.reasons import Reason
from sft.data.rejected import Rejected
from sft.data.strict import MAX_DEPTH, is_deeper

MAX_CHARACTERS = 100_000
_MOST_SIGNS = re.compile(r"[-+~\s]{50}")
_JSON_NAMES = {"true": True, "false": False, "null": None}


def python_literal(text: str) -> Any:
    """Return the JSON value that a Python literal such as `{'a': None}` stands for.

    Args:
        text: The literal, at most `MAX_CHARACTERS` long.

    Raises:
        Rejected: If it is none, or stands for what JSON does not have (a set, bytes, NaN).
    """
    value = json_value(python_expression(text))
    if is_deeper(value, MAX_DEPTH):
        raise Rejected(Reason.TOO_DEEP, "a Python literal is nested too deeply")
    return value


def python_expression(text: str) -> ast.expr:
    """Parse, and not evaluate, a Python expression.

    Raises:
        Rejected: If it is none, or too long.
    """
    if len(text) > MAX_CHARACTERS or _MOST_SIGNS.search(text):
        raise Rejected(Reason.BROKEN_JSON, "a Python literal is too long")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unknown escape, as in '\d', is kept as it is
            return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise Rejected(Reason.BROKEN_JSON, "neither JSON nor a Python literal") from error


def json_value(node: ast.expr) -> Any:
    """Return the JSON value of a parsed literal; the names of JSON's constants are known.

    Raises:
        Rejected: If it is no literal, or stands for what JSON does not have.
    """
    match node:
        case ast.Dict():
            return _object(node)
        case ast.List():
            return [json_value(item) for item in node.elts]
        case ast.Constant():
            return _scalar(node.value)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            if not isinstance(value, bool):
                return _scalar(-value)
        case ast.Name() if node.id in _JSON_NAMES:
            return _JSON_NAMES[node.id]
    raise Rejected(Reason.BROKEN_JSON, "a Python expression that stands for no JSON value")


def _object(node: ast.Dict) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in zip(node.keys, node.values, strict=True):
        if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
            raise Rejected(Reason.BROKEN_JSON, "a key of a Python object is not a text")
        if key.value in value:
            raise Rejected(Reason.BROKEN_JSON, f'the key "{key.value[:40]}" occurs twice')
        value[_scalar(key.value)] = json_value(item)
    return value


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Rejected(Reason.BROKEN_JSON, "a text has an unpaired surrogate") from error
        return value
    if value is None or type(value) in (bool, int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise Rejected(Reason.BROKEN_JSON, f"{type(value).__name__} {value!r:.40} is not JSON")
