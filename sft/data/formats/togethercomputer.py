"""`togethercomputer`: glaive as others have formatted it; the layout is told by the fields.

Three layouts are known, and everything else is refused:

    system, chat                                    the original one
    messages or conversations, tools                turns with roles, tools as JSON
    messages or conversations, function_description the same, tools as the original lists them
"""

from __future__ import annotations

from sft.data.formats import glaive, openai
from sft.data.formats.draft import Draft, Row, list_field
from sft.data.formats.roles import ASSISTANT, CALL, RESULT, ROLES, SYSTEM, USER, spoken
from sft.data.formats.tool_lists import function_schemas, tools_in_text
from sft.data.reasons import Reason
from sft.data.rejected import Rejected


def parse(row: Row) -> Draft:
    """Read a row of any of the layouts."""
    if {"system", "chat"} <= row.keys():
        return glaive.parse(row)
    turns = next((key for key in ("messages", "conversations") if key in row), None)
    if turns is None:
        found = ", ".join(sorted(row)[:8])
        raise Rejected(Reason.UNKNOWN_LAYOUT, f"the fields are of no known layout: {found}")
    if turns == "messages" and _is_structured(list_field(row, turns)):
        return openai.parse(row)
    draft = Draft(tools=_tools(row))
    for turn in list_field(row, turns):
        _add(draft, *spoken(turn, ROLES))
    return draft


def _is_structured(messages: list[object]) -> bool:
    keys = ("tool_calls", "function_call")
    return any(isinstance(m, dict) and any(m.get(key) for key in keys) for m in messages)


def _tools(row: Row) -> list[dict[str, object]]:
    described = row.get("function_description")
    if isinstance(described, str):
        rest, tools = tools_in_text(described)
        if rest.strip():
            raise Rejected(Reason.BAD_TOOL, "text beside the tools in function_description")
        return tools
    return function_schemas(row.get("tools") or [])


def _add(draft: Draft, role: str, text: str) -> None:
    if role == SYSTEM:
        rest, tools = tools_in_text(text)
        draft.system(glaive.without_lead(rest) if tools else rest)
        draft.tools = draft.tools or tools
    elif role == CALL:
        name, arguments, end = glaive.functioncall(draft, text.strip(), 0)
        if text.strip()[end:]:
            raise Rejected(Reason.BROKEN_CALL, "text behind a call")
        draft.call(name, arguments)
    elif role == RESULT:
        draft.result(text)
    elif role == ASSISTANT:
        glaive.add_turn(draft, text)
    elif role == USER:
        draft.add("user", text)
