"""`glaive-sharegpt` and `apigen-mt`: `conversations` in which calls have turns of their own."""

from __future__ import annotations

from sft.data.formats.draft import Draft, Row, list_field
from sft.data.formats.roles import ASSISTANT, CALL, RESULT, USER, add_turns
from sft.data.formats.tool_lists import function_schemas

ROLES = {"human": USER, "gpt": ASSISTANT, "function_call": CALL, "observation": RESULT}


def parse(row: Row) -> Draft:
    """Read a row; `system` and `tools` may be missing or empty."""
    draft = Draft(tools=function_schemas(row.get("tools") or []))
    system = row.get("system")
    draft.system(system if isinstance(system, str) else "")
    add_turns(draft, list_field(row, "conversations"), ROLES)
    return draft
