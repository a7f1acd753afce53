"""The errors of this package.

MockMCPError
├── UnknownDomainError   a domain that does not exist was asked for
└── FaultsError          a fault description that cannot be read

ToolFailure              (mock_mcp/toolspec.py) a tool's answer to a wrong call; it reaches the
                         model and is no error of the program
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MockMCPError(Exception):
    """Base of the errors of this package."""


class UnknownDomainError(MockMCPError):
    """A domain that does not exist was asked for."""


class FaultsError(MockMCPError):
    """A fault description that cannot be read."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean X?` for the known word closest to `word`, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]}?" if close else ""
