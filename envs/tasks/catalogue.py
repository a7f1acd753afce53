"""What the mock suite is made of: the kinds, the tools of each domain, the unsafe wishes."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envs.tasks import (
    assistant_kinds,
    cross_kinds,
    data_kinds,
    database_kinds,
    math_kinds,
    search_kinds,
)
from envs.tasks.cross_kinds import UnsafeWish
from envs.tasks.kinds import Kind
from mock_mcp.server import served_tools
from mock_mcp.world import DOMAINS


@dataclass(frozen=True)
class Catalogue:
    """What a suite is generated from.

    Attributes:
        kinds: Families of tasks.
        tools: Names of all tools by domain.
        wishes: Requests that must be declined.
        sizes: Characters that each tool takes in a prompt.
    """

    kinds: Sequence[Kind]
    tools: Mapping[str, Sequence[str]]
    wishes: Sequence[UnsafeWish]
    sizes: Mapping[str, int]


@functools.cache
def mock_catalogue() -> Catalogue:
    """Return the catalogue of the mock world."""
    modules = (
        math_kinds,
        search_kinds,
        database_kinds,
        data_kinds,
        assistant_kinds,
        cross_kinds,
    )
    return Catalogue(
        kinds=tuple(kind for module in modules for kind in module.KINDS),
        tools={domain: tuple(served_tools((domain,))) for domain in DOMAINS},
        wishes=cross_kinds.UNSAFE_WISHES,
        sizes=_sizes(),
    )


def _sizes() -> dict[str, int]:
    return {
        name: len(name)
        + len(tool.advertised.description or "")
        + len(json.dumps(tool.advertised.input_schema))
        for name, tool in served_tools().items()
    }
