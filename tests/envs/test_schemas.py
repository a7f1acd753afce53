from __future__ import annotations

from socketserver import BaseRequestHandler, TCPServer
from threading import Thread
from typing import Any

import pytest

from envs.errors import ToolListError
from envs.schemas import ArgumentValidator, clean_schema, offered, openai_tool
from mock_mcp.server import served_tools

PRODUCT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "product_id": {"type": "string"},
        "stock": {"type": "integer", "minimum": 0},
        "unit": {"enum": ["piece", "kg"]},
    },
    "required": ["product_id", "stock"],
}


def problem(schema: dict[str, Any], **arguments: Any) -> str:
    return ArgumentValidator("update_stock", schema).problem(arguments)


def test_arguments_that_fit_have_no_problem() -> None:
    assert problem(PRODUCT, product_id="P27", stock=5, unit="kg") == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"product_id": "P27"}, "'stock' is missing"),
        ({"product_id": "P27", "stock": "5"}, "stock: '5' is not of type 'integer'"),
        ({"product_id": "P27", "stock": True}, "stock: True is not of type 'integer'"),
        ({"product_id": "P27", "stock": -1}, "stock: -1 is less than the minimum"),
        ({"product_id": "P27", "stock": 5, "unit": "lb"}, "unit: 'lb' is not one of"),
        (
            {"product_id": "P27", "stok": 5},
            'unknown argument "stok" (it takes product_id, stock, unit), did you mean "stock"?',
        ),
    ],
)
def test_the_model_is_told_which_argument_is_wrong_and_what_is_expected(
    arguments: dict[str, Any], told: str
) -> None:
    sentence = problem(PRODUCT, **arguments)
    assert sentence.startswith("bad arguments for update_stock: ")
    assert told in sentence


def test_nothing_is_coerced() -> None:
    for wrong in ("5", 5.5, None, [5], {"value": 5}):
        assert problem(PRODUCT, product_id="P27", stock=wrong)


def test_an_unknown_argument_is_refused_only_where_the_schema_is_closed() -> None:
    assert problem({"type": "object"}, x=1)
    assert not problem({"type": "object", "additionalProperties": True}, x=1)
    assert not problem({"type": "object", "patternProperties": {"x": {}}}, x=1)
    closed = {"type": "object", "properties": {"a": {}}, "additionalProperties": False}
    assert 'unknown argument "x" (it takes a)' in problem(closed, x=1)


def test_a_hundred_thousand_problems_are_told_in_one_short_sentence() -> None:
    many = {"x" * 1000 + str(number): number for number in range(100_000)}
    assert len(problem(PRODUCT, **many)) < 1000
    long_list = {"type": "object", "properties": {"a": {"items": {"type": "string"}}}}
    assert len(problem(long_list, a=[1] * 100_000)) < 1000
    assert len(problem(PRODUCT, product_id="P27", stock="9" * 1_000_000)) < 1000


def test_a_schema_that_cannot_be_evaluated_is_a_problem_and_no_crash() -> None:
    unresolvable = {"type": "object", "properties": {"a": {"$ref": "#/$defs/gone"}}}
    assert "cannot be checked" in problem(unresolvable, a=1)
    multiple = {"type": "object", "properties": {"a": {"multipleOf": 0.5}}}
    assert "cannot be checked" in problem(multiple, a=10**400)


def test_a_reference_to_an_address_is_never_fetched() -> None:
    asked: list[Any] = []

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            asked.append(self.client_address)

    with TCPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/schema.json"
        elsewhere = {"type": "object", "properties": {"a": {"$ref": address}}}
        assert "cannot be checked" in problem(elsewhere, a=1)
        server.shutdown()
    assert not asked


def test_the_schema_of_schemas_needs_no_address() -> None:
    schema = {"$ref": "https://json-schema.org/draft/2020-12/schema"}
    takes_a_schema = {"type": "object", "properties": {"a": schema}}
    assert not problem(takes_a_schema, a={"type": "string"})
    assert problem(takes_a_schema, a={"type": 5})


def test_a_broken_schema_is_refused_when_the_tool_is_mounted() -> None:
    with pytest.raises(ToolListError, match="'odd' is broken"):
        ArgumentValidator("odd", {"type": "strange"})


def test_what_only_machines_read_is_dropped_from_the_prompt() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Arguments",
        "type": "object",
        "properties": {"day": {"title": "Day", "type": "string", "format": "date"}},
    }
    assert clean_schema(schema) == {"type": "object", "properties": {"day": {"type": "string"}}}


def test_a_property_may_be_called_like_a_keyword() -> None:
    schema = {"properties": {"title": {"type": "string"}, "format": {"title": "Format"}}}
    assert clean_schema(schema) == {"properties": {"title": {"type": "string"}, "format": {}}}


@pytest.mark.parametrize(
    "optional",
    [
        {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        {"type": ["integer", "null"], "default": None},
    ],
)
def test_an_optional_type_is_shown_as_the_type(optional: dict[str, Any]) -> None:
    assert clean_schema({"properties": {"n": optional}}) == {
        "properties": {"n": {"type": "integer"}}
    }


def test_a_real_choice_of_types_is_kept() -> None:
    choice = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    assert clean_schema({"properties": {"n": choice}}) == {"properties": {"n": choice}}


def test_references_are_inlined_and_recursion_stops() -> None:
    schema = {
        "properties": {"root": {"$ref": "#/$defs/Node", "description": "The root."}},
        "$defs": {
            "Node": {"type": "object", "properties": {"child": {"$ref": "#/$defs/Node"}}},
        },
    }
    assert clean_schema(schema) == {
        "properties": {
            "root": {
                "type": "object",
                "properties": {"child": {"type": "object"}},
                "description": "The root.",
            }
        }
    }


def test_a_tool_without_parameters_still_has_an_object_schema() -> None:
    function = openai_tool("today", "Today's date.", {})["function"]
    assert function["parameters"] == {"type": "object", "properties": {}}


def test_no_text_of_a_tool_can_speak_the_templates_language() -> None:
    schema = {"properties": {"a": {"description": "x</tool_response>", "enum": ["<|im_end|>"]}}}
    function = openai_tool("t", "stop <|im_end|>", schema)["function"]
    assert function["description"] == "stop < |im_end|>"
    shown = function["parameters"]["properties"]["a"]
    assert shown == {"description": "x< /tool_response>", "enum": ["< |im_end|>"]}


def test_the_original_schema_is_not_changed_by_cleaning() -> None:
    tool = served_tools()["calculate"].advertised
    before = tool.model_copy(deep=True)
    openai_tool(tool.name, tool.description or "", tool.input_schema)
    assert tool == before


def test_tools_are_offered_in_the_order_of_the_task() -> None:
    tools = {name: openai_tool(name, "", {}) for name in ("a", "b", "c")}
    assert [tool["function"]["name"] for tool in offered(tools, ("c", "a"))] == ["c", "a"]


def test_offering_a_tool_that_does_not_exist_names_a_near_one() -> None:
    with pytest.raises(ToolListError, match='no tool "calclate"; did you mean "calculate"'):
        offered({"calculate": {}}, ["calclate"])
