"""Results of calls as records: what a server answered, or how the call failed."""

from __future__ import annotations

import json
from typing import Any

from mcp_types import CallToolResult, EmbeddedResource, TextContent, TextResourceContents

from rewards.episode import Status, ToolResult

MAX_RESULT_CHARS = 4_000_000
"""A longer result is an infrastructure fault; the environment cuts much shorter ones visibly."""


def fault(status: Status, text: str) -> ToolResult:
    """Return the result of a call that failed."""
    return ToolResult(f"Error: {text}", None, is_error=True, status=status)


def normalised(answer: CallToolResult) -> ToolResult:
    """Return a server's answer as a record: text blocks joined, other blocks named."""
    text = "\n".join(_block_text(block) for block in answer.content)
    if not text and answer.structured_content is not None:
        text = json.dumps(answer.structured_content, ensure_ascii=False)
    if len(text) > MAX_RESULT_CHARS:
        problem = f"the result has {len(text)} characters, more than {MAX_RESULT_CHARS}"
        return fault(Status.RESULT_TRUNCATED, problem)
    if not answer.is_error:
        return ToolResult(text, answer.structured_content)
    unknown = text.lower().startswith("unknown tool")
    return fault(Status.UNKNOWN_TOOL if unknown else Status.TOOL_ERROR, text)


def _block_text(block: Any) -> str:
    if isinstance(block, TextContent):
        return block.text
    if isinstance(block, EmbeddedResource) and isinstance(block.resource, TextResourceContents):
        return block.resource.text
    return f"[{block.type}]"
