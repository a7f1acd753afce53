"""How a domain declares a tool: a plain function of the world, with its annotations.

Domain modules never import `mcp`; `server.py` turns specs into MCP tools.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class ToolFailure(Exception):
    """A tool could not do what was asked; the message reaches the model and says what to do."""


@dataclass(frozen=True)
class ToolSpec:
    """One tool.

    Attributes:
        function: `function(world, **arguments)` returning JSON data; its first docstring
            paragraph is the tool's description, its annotations are the input schema, its
            return annotation (a TypedDict) is the output schema.
        read_only: The tool changes nothing.
        destructive: The tool removes or overwrites something.
    """

    function: Callable[..., Any]
    read_only: bool = True
    destructive: bool = False

    @property
    def name(self) -> str:
        """The tool's name is its function's name."""
        return self.function.__name__
