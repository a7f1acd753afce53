"""Results of calls that stand in `<tool_response>` tags."""

from __future__ import annotations

import re

from sft.data.reasons import Reason
from sft.data.rejected import Rejected

_OPEN, _CLOSE = "<tool_response>", "</tool_response>"
_BLOCKS = re.compile(rf"\s*(?:{_OPEN}(?:(?!{_CLOSE}).)*{_CLOSE}\s*)+", re.DOTALL)


def unwrapped(text: str) -> list[str]:
    """Return the results in a text: one, unless it consists of several tagged ones.

    Raises:
        Rejected: If a text that begins with a tag does not consist of tagged results.
    """
    if not text.lstrip().startswith(_OPEN):
        return [text]
    if not _BLOCKS.fullmatch(text):
        raise Rejected(Reason.UNBALANCED_TAG, "a tool_response tag does not end")
    return [block.partition(_CLOSE)[0].strip() for block in text.split(_OPEN)[1:]]
