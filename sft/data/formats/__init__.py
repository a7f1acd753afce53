"""The formats of tool-calling data, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from sft.data.formats import (
    glaive,
    hermes,
    messages,
    openai,
    sharegpt,
    tinyagent,
    togethercomputer,
    toolace,
    toucan,
    when2call,
    xlam,
)
from sft.data.formats.draft import Draft, Row


def _whole(row: Row) -> Iterable[Row]:
    return (row,)


@dataclass(frozen=True)
class Format:
    """A format of data.

    Attributes:
        parse: Reads a row, or raises `Rejected`.
        origin: The data set that the format is named after, where no other one is written in it.
        licence: The licence of that data set, or "" where it is not known.
        split: Cuts a row that holds several conversations, or raises `Rejected`.
    """

    parse: Callable[[Row], Draft]
    origin: str = ""
    licence: str = ""
    split: Callable[[Row], Iterable[Row]] = _whole


FORMATS: Mapping[str, Format] = {
    "glaive": Format(glaive.parse, "glaiveai/glaive-function-calling-v2", "apache-2.0"),
    "glaive-v1": Format(glaive.parse_v1, "glaiveai/glaive-function-calling", "apache-2.0"),
    "togethercomputer": Format(
        togethercomputer.parse, "togethercomputer/glaive-function-calling-v2-formatted"
    ),
    "glaive-sharegpt": Format(sharegpt.parse),
    "xlam": Format(xlam.parse, "Salesforce/xlam-function-calling-60k", "cc-by-4.0"),
    "hermes": Format(hermes.parse),
    "messages": Format(messages.parse),
    "toucan": Format(toucan.parse, "Agent-Ark/Toucan-1.5M", "apache-2.0"),
    "apigen-mt": Format(sharegpt.parse, "Salesforce/APIGen-MT-5k", "cc-by-nc-4.0"),
    "toolace": Format(toolace.parse, "Team-ACE/ToolACE", "apache-2.0"),
    "when2call": Format(when2call.parse, "nvidia/When2Call", "cc-by-4.0"),
    "trl": Format(openai.parse),
    "tinyagent": Format(tinyagent.parse, "squeeze-ai-lab/TinyAgent-dataset", split=tinyagent.split),
}
