"""`hermes`: `conversations` with calls in `<tool_call>` text, and the tools beside or inside it.

The system text says how to call and lists the tools, which a chat template does by itself; so a
system text of that kind is left out, and of any other the list of tools.
"""

from __future__ import annotations

import re
from typing import Any

from sft.data.formats.draft import Draft, Row, decoded, list_field
from sft.data.formats.literals import python_literal
from sft.data.formats.roles import ASSISTANT, RESULT, SYSTEM, USER, spoken
from sft.data.formats.tool_lists import function_schemas
from sft.data.formats.turn_text import tagged_turn
from sft.data.reasons import Normalisation
from sft.data.strict import NotJSON, parse_json

ROLES = {"system": SYSTEM, "human": USER, "gpt": ASSISTANT, "tool": RESULT}

_TOOLS = re.compile(r"<tools>\s*(.*?)\s*</tools>", re.DOTALL)
_LEAD = "You are a function calling AI model"


def parse(row: Row) -> Draft:
    """Read a row."""
    draft = Draft()
    turns = [spoken(turn, ROLES) for turn in list_field(row, "conversations")]
    listed = next((_listed(text) for role, text in turns if role == SYSTEM), "")
    draft.tools = function_schemas(_literal(draft, row.get("tools") or listed or []))
    if isinstance(row.get("id"), str):
        draft.fields["id"] = row["id"]
    for role, text in turns:
        if role == SYSTEM:
            draft.system("" if text.lstrip().startswith(_LEAD) else _TOOLS.sub("", text))
        elif role == RESULT:
            draft.result(text)
        elif role == USER:
            draft.add("user", text)
        else:
            tagged_turn(text, python=True).add_to(draft)
    return draft


def _listed(system: str) -> str:
    """Return the list of tools in a system text; the first `<tools> </tools>` may be prose."""
    return next((body for body in _TOOLS.findall(system) if body), "")


def _literal(draft: Draft, tools: Any) -> Any:
    """Return tools that may be a Python literal."""
    if not isinstance(tools, str):
        return tools
    try:
        return parse_json(tools)
    except NotJSON:
        if "'" not in tools:
            return decoded(tools, "the tools")
    draft.normalised.add(Normalisation.PYTHON_LITERAL)
    return python_literal(tools)
