"""Names for tools whose own name MCP would refuse, and the way back."""

from __future__ import annotations

import re
from typing import Any

from sft.data.formats.draft import Draft
from sft.data.reasons import Normalisation
from sft.data.tool_schemas import TOOL_NAME

LONGEST = 128
_REFUSED = re.compile(r"[^A-Za-z0-9_.-]+")


def rename_tools(draft: Draft) -> None:
    """Give the tools of a draft, and the calls of them, names that MCP accepts.

    The field `renamed_tools` maps each new name to the tool's own.
    """
    names = [tool["function"]["name"] for tool in draft.tools]
    if all(map(TOOL_NAME.fullmatch, names)):
        return
    new: dict[str, str] = {}
    taken = {name for name in names if TOOL_NAME.fullmatch(name)}
    for name in names:
        if name not in taken and name not in new:
            new[name] = _accepted(name, taken)
            taken.add(new[name])
    draft.tools = [_renamed(tool, new) for tool in draft.tools]
    for message in draft.messages:
        if isinstance(message.get("name"), str):
            message["name"] = new.get(message["name"], message["name"])
        if "tool_calls" in message:
            message["tool_calls"] = [_renamed(call, new) for call in message["tool_calls"]]
    draft.fields["renamed_tools"] = {accepted: own for own, accepted in new.items()}
    draft.normalised.add(Normalisation.TOOL_RENAMED)


def _accepted(name: str, taken: set[str]) -> str:
    plain = _REFUSED.sub("_", name).strip("_") or "tool"
    accepted, number = plain[:LONGEST], 1
    while accepted in taken:
        number += 1
        accepted = f"{plain[: LONGEST - 6]}_{number}"
    return accepted


def _renamed(holder: dict[str, Any], new: dict[str, str]) -> dict[str, Any]:
    function = holder["function"]
    if not isinstance(function["name"], str) or function["name"] not in new:
        return holder
    return {**holder, "function": {**function, "name": new[function["name"]]}}
