"""Text from servers that must not be able to speak the chat template's language.

A tool result that holds `<|im_end|>` or `</tool_response>` would end its own message and could
write the next one. Such strings get a space after the `<`: still readable, no longer a token.
"""

from __future__ import annotations

import re

_CONTROL = re.compile(r"<(?=\||\uff5c|/?(?:tool_call|tool_response|tools|think)>)", re.IGNORECASE)


def neutralise(text: str) -> str:
    """Return `text` without any control string of a chat template.

    Args:
        text: What a server, or a model quoted in an error, said.
    """
    return _CONTROL.sub("< ", text) if "<" in text else text
