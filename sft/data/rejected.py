"""How a reader refuses a row."""

from __future__ import annotations

from sft.data.reasons import Problem, Reason


class Rejected(Exception):
    """A row cannot become a canonical one; it never leaves `sft.data`.

    Args:
        code: The reason.
        message: Where it is and what exactly is wrong.
    """

    def __init__(self, code: Reason, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(code, message)
