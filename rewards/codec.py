"""Strict conversion between the frozen records and JSON, driven by their type annotations.

A record is an object with one key per field; a goal has a key `type` beside its fields. A field
with a default may be left out. Anything else - an unknown key, a missing one, a value of another
type - is a `FormatError` that names the place, such as `task.reference[0].calls[1].name`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from rewards import goals
from rewards.errors import FormatError, did_you_mean

GOAL_TYPES: Mapping[str, type] = {
    "final_answer": goals.FinalAnswer,
    "returned_data": goals.ReturnedData,
    "final_state": goals.FinalState,
    "probe": goals.Probe,
    "folder_state": goals.FolderState,
    "evaluated": goals.Evaluated,
    "all_of": goals.AllOf,
    "any_of": goals.AnyOf,
    "no_call": goals.NoCall,
    "no_call_naming": goals.NoCallNaming,
    "custom": goals.Custom,
}
"""The value of a goal's key `type`, and the goal it stands for."""

_TYPE_NAMES: Mapping[type, str] = {cls: name for name, cls in GOAL_TYPES.items()}
_JSON_NAMES: Mapping[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    NoneType: "null",
}


def encode(value: Any, where: str) -> Any:
    """Return a record, or any JSON value in it, as plain JSON data.

    Args:
        value: A record, a goal or a JSON value; tuples become lists.
        where: Name of the value, for error messages.

    Returns:
        Dicts, lists, strings, numbers, booleans and None.

    Raises:
        FormatError: If something in it is not JSON, such as NaN or a key that is no string.
    """
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, (list, tuple)):
        return [encode(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {_key(key, where): encode(item, f"{where}.{key}") for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        tag = {"type": _TYPE_NAMES[type(value)]} if type(value) in _TYPE_NAMES else {}
        own = {f.name: encode(getattr(value, f.name), f"{where}.{f.name}") for f in fields(value)}
        return tag | own
    raise FormatError(f"{where}: {value!r} is not a JSON value")


def decode(hint: Any, data: Any, where: str) -> Any:
    """Return the value of type `hint` that JSON data stands for.

    Args:
        hint: A record class, or the annotation of one of its fields.
        data: Plain JSON data.
        where: Name of the value, for error messages.

    Returns:
        The value.

    Raises:
        FormatError: If the data is not of that type; the message names the place.
    """
    if hint is Any:
        return data
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return _decode_union(get_args(hint), data, where)
    if origin is Literal:
        return _one_of(data, get_args(hint), where)
    if origin is tuple:
        item = get_args(hint)[0]
        values = _expect(list, data, where)
        return tuple(decode(item, value, f"{where}[{i}]") for i, value in enumerate(values))
    if origin is not None:
        item = get_args(hint)[1]
        pairs = _expect(dict, data, where).items()
        return {key: decode(item, value, f"{where}.{key}") for key, value in pairs}
    return _decode_class(hint, data, where)


def _decode_class(cls: type, data: Any, where: str) -> Any:
    if is_dataclass(cls):
        return _decode_record(cls, _expect(dict, data, where), where)
    if issubclass(cls, Enum):
        return cls(_one_of(data, tuple(member.value for member in cls), where))
    if cls is float and type(data) is int:
        return _to_float(data, where)
    return _expect(cls, data, where)


def _decode_record(cls: type, data: dict[str, Any], where: str) -> Any:
    known: dict[str, Field[Any]] = {field.name: field for field in fields(cls)}
    for key in data:
        if key not in known:
            raise FormatError(f'{where} has no key "{key}"{did_you_mean(key, known)}')
    for name, field in known.items():
        required = field.default is MISSING and field.default_factory is MISSING
        if required and name not in data:
            raise FormatError(f'{where}: the key "{name}" is missing')
    hints = _hints(cls)
    return cls(**{key: decode(hints[key], item, f"{where}.{key}") for key, item in data.items()})


def _decode_union(members: tuple[Any, ...], data: Any, where: str) -> Any:
    if data is None and NoneType in members:
        return None
    members = tuple(member for member in members if member is not NoneType)
    if len(members) == 1:
        return decode(members[0], data, where)
    if all(map(is_dataclass, members)):
        return _decode_goal(data, where)
    for member in members:
        if type(data) is (list if get_origin(member) is tuple else member):
            return decode(member, data, where)
    names = " or ".join(_JSON_NAMES.get(member, "a list") for member in members)
    raise FormatError(f"{where}: expected {names}, got {_shown(data)}")


def _decode_goal(data: Any, where: str) -> Any:
    rest = dict(_expect(dict, data, where))
    if "type" not in rest:
        raise FormatError(f'{where}: the key "type" is missing; one of {", ".join(GOAL_TYPES)}')
    name = _one_of(rest.pop("type"), tuple(GOAL_TYPES), f"{where}.type")
    return _decode_record(GOAL_TYPES[name], rest, where)


def _expect(cls: type, data: Any, where: str) -> Any:
    if type(data) is cls:
        return data
    raise FormatError(f"{where}: expected {_JSON_NAMES[cls]}, got {_shown(data)}")


def _one_of(data: Any, known: tuple[str, ...], where: str) -> str:
    if data in known:
        return str(data)
    hint = did_you_mean(str(data), known)
    raise FormatError(f"{where}: {_shown(data)} is not one of {', '.join(known)}{hint}")


def _to_float(data: int, where: str) -> float:
    try:
        return float(data)
    except OverflowError as error:
        raise FormatError(f"{where}: the number is too large") from error


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise FormatError(f"{where}: the key {key!r} is not a string")
    return key


def _shown(data: Any) -> str:
    text = repr(data) if not isinstance(data, str) else f'"{data}"'
    return text if len(text) <= 60 else text[:59] + "…"


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)
