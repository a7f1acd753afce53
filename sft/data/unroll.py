"""One conversation as several rows, so that the reasoning of every turn is rendered once.

The chat templates of Qwen and others render `reasoning_content` only behind the last message of
the user. A conversation of n rounds (the user or the tools speak, the assistant answers) becomes n
rows: the whole, the first n - 1 rounds, ..., the first. In each, the last turn is the latest.
"""

from __future__ import annotations

from collections.abc import Iterator

from sft.data.rows import CONVERSATION, Row


def unrolled(row: Row) -> Iterator[Row]:
    """Yield a row unchanged, and then its beginnings from the longest to the first round.

    A beginning of k rounds has the id `ID-first-k`, `truncated` true, and the id of the whole in
    `unrolled_from`.

    Args:
        row: A canonical row.
    """
    yield row
    ends = round_ends(row)
    for count in range(len(ends) - 1, 0, -1):
        yield {
            **row,
            "id": f"{row['id']}-first-{count}",
            "messages": row["messages"][: ends[count - 1]],
            "truncated": True,
            CONVERSATION: row["id"],
        }


def round_ends(row: Row) -> list[int]:
    """Return for each round how many messages there are up to its end."""
    roles = [message["role"] for message in row["messages"]]
    after = [*roles[1:], ""]
    return [
        place + 1
        for place, (role, following) in enumerate(zip(roles, after, strict=True))
        if role == "assistant" and following != "assistant"
    ]
