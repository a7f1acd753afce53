"""`toucan`: trajectories on real MCP servers, in two schemas.

The full one has `messages` and `available_tools` as JSON strings, `function_call` in the turns and
the role `function`; the one for fine-tuning has `tools` and the roles `tool_call` and
`tool_response`. Calls that failed are kept: the environment answered them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sft.data.formats.draft import Draft, Row, decoded, list_field, objects
from sft.data.formats.openai import add_message
from sft.data.formats.roles import add_calls
from sft.data.formats.tool_lists import function_schemas
from sft.data.reasons import Reason
from sft.data.rejected import Rejected

_DECLARATION = "<|im_system|>tool_declare"
"""How the prompt of one of the models begins that lists the tools once more."""


def parse(row: Row) -> Draft:
    """Read a row of either schema."""
    tools = row.get("available_tools", row.get("tools"))
    if tools is None:
        raise Rejected(Reason.MISSING_FIELD, '"available_tools" or "tools" is missing')
    draft = Draft(tools=function_schemas(tools))
    if isinstance(row.get("uuid"), str):
        draft.fields["id"] = row["uuid"]
    for message in objects(list_field(row, "messages"), "message"):
        _add(draft, message)
    return draft


def _add(draft: Draft, message: Mapping[str, Any]) -> None:
    role, content = message.get("role"), message.get("content")
    if role == "tool_call":
        add_calls(draft, decoded(content, "a call") if isinstance(content, str) else content)
    elif role == "tool_response":
        add_message(draft, {**message, "role": "tool"})
    elif role != "system" or not str(content).startswith(_DECLARATION):
        add_message(draft, message)
