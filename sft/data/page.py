"""A row as the model will see it: for a terminal, for a pipe, and as a page of HTML.

The text is that of the token ids, from the same place as in training (`agents/template.py`). Text
of a data set is untrusted: control characters never reach a terminal, and no markup reaches a page.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from agents.template import ChatTemplate

TRAINED_COLOUR = "\x1b[30;42m"
PLAIN_COLOUR = "\x1b[0m"
TRAINED_MARKS = ("⟦", "⟧")

# Control characters but newline and tab, and what makes text run in the other direction.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
       color: #1b1f24; background: #fff; }
table { border-collapse: collapse; margin: 1rem 0; }
th { text-align: left; font-weight: 600; padding: .15rem 1.5rem .15rem 0; vertical-align: top; }
td { padding: .15rem 0; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid #d0d7de;
      border-radius: 6px; padding: 1rem; font: 13px/1.55 ui-monospace, monospace; }
mark { background: #b6f0c2; color: inherit; border-radius: 3px; }
"""


@dataclass(frozen=True)
class Segment:
    """A run of tokens.

    Attributes:
        text: Their text.
        trained: They are trained on.
        tokens: How many they are.
    """

    text: str
    trained: bool
    tokens: int


def segments(template: ChatTemplate, row: Mapping[str, Any]) -> list[Segment]:
    """Return the rendered row in runs of trained and untrained tokens."""
    ids, mask = template.training_row(row["messages"], row["tools"])
    runs = []
    for trained, run in groupby(zip(ids, mask, strict=True), key=lambda pair: bool(pair[1])):
        tokens = [token for token, _ in run]
        text = template.tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
        runs.append(Segment(str(text), trained, len(tokens)))
    return runs


def as_terminal_text(runs: Iterable[Segment], *, colour: bool) -> str:
    """Return the text with trained tokens on a coloured ground, or between marks."""
    begin, end = (TRAINED_COLOUR, PLAIN_COLOUR) if colour else TRAINED_MARKS
    return "".join(
        f"{begin}{visible(run.text)}{end}" if run.trained else visible(run.text) for run in runs
    )


def as_page(title: str, facts: Sequence[tuple[str, str]], runs: Iterable[Segment]) -> str:
    """Return one HTML file that needs no other.

    Args:
        title: What the page is called.
        facts: Rows of the table above the text: name and value.
        runs: The rendered row.
    """
    table = "".join(
        f"<tr><th>{_escaped(name)}</th><td>{_escaped(value)}</td></tr>\n" for name, value in facts
    )
    text = "".join(
        f"<mark>{_escaped(run.text)}</mark>" if run.trained else _escaped(run.text) for run in runs
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_escaped(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{_escaped(title)}</h1>
<table>
{table}</table>
<p>As the model sees it; what is trained is <mark>marked</mark>.</p>
<pre>
{text}</pre>
</body>
</html>
"""


def visible(text: str) -> str:
    """Return the text with characters that steer a terminal written as escapes."""
    return _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _escaped(text: str) -> str:
    return html.escape(visible(text))
