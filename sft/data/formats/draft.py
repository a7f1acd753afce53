"""What the readers of all formats share: a conversation in the making, and how it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sft.data.formats.results import unwrapped
from sft.data.reasons import Normalisation, Reason
from sft.data.rejected import Rejected
from sft.data.strict import NotJSON, parse_json

Row = Mapping[str, Any]


@dataclass
class Draft:
    """A conversation that is being read.

    Attributes:
        messages: The messages so far, in the canonical form.
        tools: OpenAI function schemas.
        fields: Further fields of the canonical row that the source has, such as `id`.
        normalised: The permitted changes that were made.
    """

    messages: list[dict[str, Any]] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)
    normalised: set[Normalisation] = field(default_factory=set)

    def add(self, role: str, content: str) -> None:
        """Add a message of the system, the user or the assistant."""
        self.messages.append({"role": role, "content": content})

    def system(self, content: str) -> None:
        """Add a system message, unless it is empty."""
        if content.strip():
            self.add("system", content.strip())

    def call(self, name: Any, arguments: Any, identifier: str | None = None) -> None:
        """Add a call to the assistant's turn, or begin one with it."""
        if not self.messages or self.messages[-1]["role"] != "assistant":
            self.add("assistant", "")
        call: dict[str, Any] = {
            "type": "function",
            "function": {"name": name, "arguments": self.arguments(arguments)},
        }
        if identifier is not None:
            call = {"id": identifier, **call}
        self.messages[-1].setdefault("tool_calls", []).append(call)

    def arguments(self, arguments: Any) -> Any:
        """Return arguments, decoded where they are JSON in a string."""
        if not isinstance(arguments, str):
            return arguments
        self.normalised.add(Normalisation.DOUBLE_ENCODED)
        return decoded(arguments, "the arguments of a call")

    def result(self, content: str, identifier: str | None = None, name: str | None = None) -> None:
        """Add the result of a call; several in one text become several messages."""
        contents = unwrapped(content)
        if contents != [content]:
            self.normalised.add(Normalisation.TOOL_RESPONSE_UNWRAPPED)
        for part in contents:
            message = {"role": "tool", "content": part}
            if name is not None:
                message["name"] = name
            if identifier is not None:
                message["tool_call_id"] = identifier
            self.messages.append(message)


def decoded(text: str, what: str) -> Any:
    """Return the value of JSON in a string.

    Raises:
        Rejected: If it is none.
    """
    try:
        return parse_json(text)
    except NotJSON as error:
        raise Rejected(error.reason, f"{what}: {error}") from error


def text_field(row: Row, key: str) -> str:
    """Return a text of a row.

    Raises:
        Rejected: If it is missing, or no text.
    """
    value = _field(row, key)
    if not isinstance(value, str):
        raise Rejected(Reason.BAD_FIELD, f'"{key}" is not a text')
    return value


def json_field(row: Row, key: str) -> Any:
    """Return a value of a row that may be JSON in a string."""
    value = _field(row, key)
    return decoded(value, f'"{key}"') if isinstance(value, str) else value


def list_field(row: Row, key: str) -> list[Any]:
    """Return a list of a row, which may be JSON in a string."""
    value = json_field(row, key)
    if not isinstance(value, list):
        raise Rejected(Reason.BAD_FIELD, f'"{key}" is not a list')
    return value


def objects(values: list[Any], what: str) -> list[dict[str, Any]]:
    """Return a list all of whose members are objects."""
    for number, value in enumerate(values, start=1):
        if not isinstance(value, dict):
            raise Rejected(Reason.BAD_FIELD, f"{what} {number} is not an object")
    return values


def _field(row: Row, key: str) -> Any:
    if row.get(key) is None:
        raise Rejected(Reason.MISSING_FIELD, f'"{key}" is missing')
    return row[key]
