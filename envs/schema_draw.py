"""Values that fit a JSON schema: random ones, and the one that its examples suggest.

Covers what tool schemas use: types (also a list of types), `enum`, `const`, `anyOf`, `oneOf`,
`allOf`, local `$ref`, ranges, lengths, list sizes and the formats date, date-time and e-mail.
Does NOT cover `pattern`, `multipleOf`, `not` and conditional schemas: such a value may be invalid.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from math import ceil, floor
from typing import Any

Schema = Mapping[str, Any]

WORDS = ("alpha", "report", "Rome", "C100", "P1", "sales", "price", "note", "today", "blue")
MAX_DEPTH = 5
"""Optional properties and list items are left out below this depth (recursive schemas)."""

_FORMATS: Mapping[str, str] = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T09:00:00Z",
    "time": "09:00:00",
    "email": "a@example.com",
    "uri": "https://example.com",
}


def draw_value(schema: Schema, rng: random.Random) -> Any:
    """Return a random value that fits `schema`.

    Args:
        schema: A JSON schema.
        rng: Where randomness comes from.

    Returns:
        A JSON value.
    """
    return _draw(schema, schema, rng, depth=0)


def example_value(schema: Schema) -> Any:
    """Return the value that a schema's own examples, defaults and choices suggest.

    Args:
        schema: A JSON schema.

    Returns:
        The first example, default or choice of every property, else a minimal value of its type;
        only required properties and those with an example or a default.
    """
    return _draw(schema, schema, None, depth=0)


def _draw(schema: Any, root: Schema, rng: random.Random | None, depth: int) -> Any:
    schema = _resolve(schema, root, rng)
    if "const" in schema:
        return schema["const"]
    if rng is None:
        given = _given(schema)
        if given:
            return given[0]
    if schema.get("enum"):
        return rng.choice(schema["enum"]) if rng else schema["enum"][0]
    match _type_of(schema, rng):
        case "object":
            return _draw_object(schema, root, rng, depth)
        case "array":
            return _draw_array(schema, root, rng, depth)
        case kind:
            return _draw_scalar(kind, schema, rng)


def _resolve(schema: Any, root: Schema, rng: random.Random | None) -> Schema:
    """Follow `$ref` and choose a branch, keeping the keys beside it."""
    merged: dict[str, Any] = dict(schema) if isinstance(schema, Mapping) else {}
    for _ in range(MAX_DEPTH):
        if "$ref" in merged:
            merged = dict(_at(root, str(merged.pop("$ref")))) | merged
            continue
        key = next((key for key in ("anyOf", "oneOf", "allOf") if merged.get(key)), None)
        if key is None:
            break
        parts = merged.pop(key)
        chosen = parts if key == "allOf" else [rng.choice(parts) if rng else parts[0]]
        for part in chosen:
            merged |= part
    return merged


def _at(root: Schema, pointer: str) -> Schema:
    node: Any = root
    for step in filter(None, pointer.removeprefix("#").split("/")):
        node = node.get(step, {}) if isinstance(node, Mapping) else {}
    return node if isinstance(node, Mapping) else {}


def _given(schema: Schema) -> list[Any]:
    examples = list(schema.get("examples") or ())
    return examples + [schema[key] for key in ("example", "default") if key in schema]


def _type_of(schema: Schema, rng: random.Random | None) -> str:
    kind = schema.get("type")
    if isinstance(kind, list) and kind:
        return str(rng.choice(kind) if rng else kind[0])
    return str(kind or ("object" if "properties" in schema else "string"))


def _draw_object(
    schema: Schema, root: Schema, rng: random.Random | None, depth: int
) -> dict[str, Any]:
    required = schema.get("required", ())
    drawn = {}
    for name, part in schema.get("properties", {}).items():
        wanted = rng.random() < 0.5 if rng else bool(_given(part))
        if name in required or (wanted and depth < MAX_DEPTH):
            drawn[name] = _draw(part, root, rng, depth + 1)
    return drawn


def _draw_array(schema: Schema, root: Schema, rng: random.Random | None, depth: int) -> list[Any]:
    least = int(schema.get("minItems", 0))
    most = max(least, min(int(schema.get("maxItems", 3)), least + 3))
    if rng is None or depth >= MAX_DEPTH:
        most = max(least, 1 if rng is None and depth < MAX_DEPTH else 0)
    size = rng.randint(least, most) if rng else most
    return [_draw(schema.get("items", {}), root, rng, depth + 1) for _ in range(size)]


def _draw_scalar(kind: str, schema: Schema, rng: random.Random | None) -> Any:
    match kind:
        case "integer":
            low, high = _range(schema, step=1)
            return rng.randint(ceil(low), floor(high)) if rng else ceil(low)
        case "number":
            low, high = _range(schema, step=0.5)
            return round(rng.uniform(low, high), 2) if rng and high - low > 1 else low
        case "boolean":
            return rng.random() < 0.5 if rng else False
        case "null":
            return None
        case _:
            return _draw_string(schema, rng)


def _range(schema: Schema, step: float) -> tuple[float, float]:
    low = schema.get("minimum")
    high = schema.get("maximum")
    if "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + step
    if "exclusiveMaximum" in schema:
        high = schema["exclusiveMaximum"] - step
    if low is None:
        low = 0 if high is None else min(0, high)
    return low, low + 100 if high is None else max(low, high)


def _draw_string(schema: Schema, rng: random.Random | None) -> str:
    text = _FORMATS.get(schema.get("format", "")) or (rng.choice(WORDS) if rng else WORDS[0])
    least = int(schema.get("minLength", 0))
    most = int(schema.get("maxLength", max(len(text), least)))
    return text.ljust(least, "x")[:most]
