"""Why a row is rejected, and how a row may be changed: the only codes there are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Code of what is wrong with a row, each with its `description`."""

    description: str

    def __new__(cls, code: str, description: str) -> Reason:
        """Make a member of a code and its description."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.description = description
        return member

    BROKEN_JSON = "broken_json", "the line, or JSON inside of it, is not JSON"
    NOT_UTF8 = "not_utf8", "the line is not UTF-8"
    TOO_LONG = "too_long", "the line is longer than the limit"
    TOO_DEEP = "too_deep", "the JSON is nested too deeply"
    NOT_AN_OBJECT = "not_an_object", "the line is JSON, but not an object"
    MISSING_FIELD = "missing_field", "a field of the format is missing"
    BAD_FIELD = "bad_field", "a field has a value that its format does not have"
    UNKNOWN_LAYOUT = "unknown_layout", "the fields are of no known layout of the format"
    BENCHMARK_ROW = "benchmark_row", "the row is of a benchmark's test set"
    BAD_TOOL = "bad_tool", "a tool is no OpenAI function schema, or its JSON schema is broken"
    DUPLICATE_TOOL = "duplicate_tool", "two tools have the same name"
    BAD_SCHEMA_REFERENCE = "bad_schema_reference", "a schema refers to itself or to elsewhere"
    ROLE_ORDER = "role_order", "the roles are not in an order that a conversation has"
    NO_ASSISTANT_TURN = "no_assistant_turn", "nothing is said by the assistant"
    EMPTY_TURN = "empty_turn", "an assistant turn says nothing and calls nothing"
    EMPTY_TOOL_CALLS = "empty_tool_calls", "`tool_calls` is an empty list"
    BROKEN_CALL = "broken_call", "a call is not a name and an arguments object"
    UNKNOWN_TOOL = "unknown_tool", "a call names a tool that was not offered"
    BAD_ARGUMENTS = "bad_arguments", "the arguments of a call do not fit the tool's schema"
    CALL_TEXT = "call_text", "a call stands as text in the content"
    THOUGHT_TEXT = "thought_text", "a thought stands in the content, not in `reasoning_content`"
    UNBALANCED_TAG = "unbalanced_tag", "a tag begins and does not end, or ends without a beginning"
    CONTROL_TOKEN = "control_token", "a control token of a chat template stands in the text"
    RESULT_WITHOUT_CALL = "result_without_call", "a tool result answers no call"
    UNANSWERED_CALL = "unanswered_call", "the conversation goes on before a call is answered"
    UNKNOWN_CALL_ID = "unknown_call_id", "a `tool_call_id` matches no call, or one already answered"
    NOT_ROUND_TRIP = "not_round_trip", "rendered and parsed back, the calls are not the same"


@dataclass(frozen=True)
class Problem:
    """What is wrong with a row.

    Attributes:
        code: The reason.
        message: Where it is and what exactly is wrong, in one sentence.
    """

    code: Reason
    message: str


class Normalisation(StrEnum):
    """A change of a row that is permitted, and recorded in its `normalised` list."""

    PYTHON_LITERAL = "python_literal"
    """A Python-repr or single-quoted object was read, in a format known for them."""
    DOUBLE_ENCODED = "double_encoded"
    """Arguments that were JSON in a string were decoded."""
    EMPTY_TOOL_CALLS = "empty_tool_calls"
    """An empty `tool_calls` was removed."""
    REPEATED_CALL_TEXT = "repeated_call_text"
    """Call text that repeats the structured call was removed."""
    TOOL_RESPONSE_UNWRAPPED = "tool_response_unwrapped"
    """The text of a result was taken out of `<tool_response>`."""
    THOUGHT_SEPARATED = "thought_separated"
    """A `<think>` block of the content was moved to `reasoning_content`."""
    TOOL_RENAMED = "tool_renamed"
    """A tool got a name that MCP accepts; `renamed_tools` has the original one."""
