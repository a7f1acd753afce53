"""`messages`: messages only, with calls as JSON text in the content and no list of tools.

A call can be checked only where the system text holds the tools as JSON; they are then taken out
of it. Everything else that calls is refused, because nothing says what it may call.
"""

from __future__ import annotations

from sft.data.formats.draft import Draft, Row, list_field, objects
from sft.data.formats.openai import add_message
from sft.data.formats.tool_lists import tools_in_text
from sft.data.formats.turn_text import bare_turn, tagged_turn


def parse(row: Row) -> Draft:
    """Read a row."""
    draft = Draft()
    for message in objects(list_field(row, "messages"), "message"):
        content = message.get("content")
        if message.get("role") == "system" and isinstance(content, str):
            text, tools = tools_in_text(content)
            draft.tools += tools
            draft.system(text)
        elif message.get("role") == "assistant" and isinstance(content, str):
            said = tagged_turn(content)
            (said if said.calls or said.thought else bare_turn(content)).add_to(draft)
        else:
            add_message(draft, message)
    return draft
