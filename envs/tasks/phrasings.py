"""The plain ways to ask for a value, which kinds of several domains share."""

from __future__ import annotations


def questions(what: str, *others: str) -> tuple[str, ...]:
    """Return phrasings that ask for `what`, such as `the {field} of customer {customer}`."""
    return (
        f"What is {what}?",
        f"Tell me {what}.",
        f"Find {what}.",
        f"I need {what}.",
        f"Look up {what}.",
        f"Give me {what}, please.",
        *others,
    )


def heldout_questions(what: str, *others: str) -> tuple[str, ...]:
    """Return the phrasings for the same that only the test split uses."""
    return (f"Could you check {what}?", f"I would like to know {what}.", *others)
