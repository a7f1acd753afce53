from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from envs.schema_draw import draw_value, example_value

SCHEMAS = [
    {"type": "string"},
    {"type": "string", "minLength": 20, "maxLength": 22},
    {"type": "string", "maxLength": 2},
    {"type": "string", "format": "date"},
    {"type": "integer"},
    {"type": "integer", "minimum": 1.5, "maximum": 3.5},
    {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 2},
    {"type": "integer", "maximum": -7},
    {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    {"type": "number", "minimum": 10},
    {"type": "boolean"},
    {"type": "null"},
    {"type": ["integer", "null"]},
    {"enum": ["a", 2]},
    {"const": {"x": 1}},
    {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
    {"allOf": [{"type": "integer"}, {"minimum": 5}]},
    {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
    {"type": "array", "items": {"type": "string"}, "maxItems": 1},
    {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    {
        "properties": {"a": {"$ref": "#/$defs/A"}},
        "required": ["a"],
        "$defs": {"A": {"type": "object", "properties": {"b": {"enum": [1]}}, "required": ["b"]}},
    },
    {"type": "object", "properties": {"next": {"$ref": "#"}, "n": {"type": "integer"}}},
    {"type": "array", "items": {"$ref": "#"}},
    {},
    {"type": "object"},
]


@pytest.mark.parametrize("schema", SCHEMAS)
@given(seed=st.integers(0, 1000))
def test_a_drawn_value_fits_its_schema(schema, seed):
    Draft202012Validator(schema).validate(draw_value(schema, random.Random(seed)))


@pytest.mark.parametrize("schema", SCHEMAS)
def test_an_example_value_fits_its_schema(schema):
    Draft202012Validator(schema).validate(example_value(schema))


def test_the_same_seed_draws_the_same_value():
    schema = {"type": "array", "items": {"type": "integer"}, "minItems": 3}
    assert draw_value(schema, random.Random(4)) == draw_value(schema, random.Random(4))


def test_examples_come_before_defaults_before_choices():
    assert example_value({"type": "string", "examples": ["e"], "default": "d"}) == "e"
    assert example_value({"type": "string", "default": "d", "enum": ["c", "d"]}) == "d"
    assert example_value({"enum": ["c", "d"]}) == "c"


def test_an_example_leaves_out_optional_properties_that_suggest_nothing():
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"default": 3}, "c": {"type": "string"}},
        "required": ["a"],
    }
    assert example_value(schema) == {"a": 0, "b": 3}
