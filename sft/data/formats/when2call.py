"""`when2call`: tools as JSON strings, calls in `<TOOLCALL>[...]</TOOLCALL>`.

Its test set is made from BFCL live, so a row of the test set is refused.
"""

from __future__ import annotations

import re

from sft.data.formats.draft import Draft, Row, decoded, list_field, objects
from sft.data.formats.openai import add_message
from sft.data.formats.roles import add_calls
from sft.data.formats.tool_lists import function_schemas
from sft.data.reasons import Reason
from sft.data.rejected import Rejected

_OPEN, _CLOSE = "<TOOLCALL>", "</TOOLCALL>"
_CALLS = re.compile(rf"(.*?){_OPEN}\s*(.*?)\s*{_CLOSE}\s*", re.DOTALL)
_TAG = re.compile(r"(?<!`)</?TOOLCALL>")
_TEST_FIELDS = ("correct_answer", "held_out_param")


def parse(row: Row) -> Draft:
    """Read a row of the training sets; of a preference the chosen answer."""
    if any(field in row for field in _TEST_FIELDS):
        raise Rejected(Reason.BENCHMARK_ROW, "a row of When2Call's test set, made from BFCL live")
    draft = Draft(tools=function_schemas(list_field(row, "tools")))
    messages = list_field(row, "messages")
    if row.get("chosen_response") is not None:
        messages = [*messages, row["chosen_response"]]
    for message in objects(messages, "message"):
        content = message.get("content")
        if message.get("role") == "assistant" and isinstance(content, str):
            _add_turn(draft, content)
        else:
            add_message(draft, message)
    return draft


def _add_turn(draft: Draft, text: str) -> None:
    found = _CALLS.fullmatch(text)
    if found is None:
        if _TAG.search(text):
            raise Rejected(Reason.UNBALANCED_TAG, "a TOOLCALL tag without its other end")
        draft.add("assistant", text.strip())
        return
    draft.add("assistant", found[1].strip())
    add_calls(draft, decoded(found[2], "a call"))
