"""Whether a final answer states what the goal wants.

Rules, by `FinalAnswer.match` (words are compared without case and without the punctuation around
them; punctuation inside a word counts, so that `anna@example.com` and `2026-03-04` are words):

    exact    the answer contains the value as a whole phrase and is no recital: it has at most
             `EXTRA_WORDS` words more than the value, and at most one label (a word that ends in
             a colon, as the keys of a record do)
    set      the answer contains every value, each as a phrase of its own; it may have as many
             labels as values
    one_of   the answer contains one of the values, as for exact
    number   the numbers of the answer that are not in the prompt are exactly the expected one,
             within the tolerance; the expected number must be there even if the prompt has it

What counts as a number: `59`, `-3.5`, `1,234.50`, `1e5`, `$59`, `59%`, `59EUR`. What does not:
the digits of an identifier (`C104`, `INV-2026`), number words, `1.234,50`.

Not covered: negation and hedging within the word limit ("not Rome", "Rome or Paris").
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Context, Decimal

from rewards.errors import GoalError
from rewards.findings import Finding, shorten, show
from rewards.goals import FinalAnswer

EXTRA_WORDS = 12
"""How many words an answer may have beside the value."""

_NUMBER = re.compile(
    r"(?<!\w)(?<!\w[.])(?<![^\W\d_]-)"  # not inside a word, after "1." or after "INV-"
    r"[-+]?(?:\d{1,3}(?:,\d{3})+(?!\d)(?:[.]\d+)?|\d+(?:[.]\d+)?|[.]\d+)(?:[eE][-+]?\d{1,4})?"
)
_TYPOGRAPHIC = str.maketrans({"\u2212": "-", "\u2010": "-", "\u2011": "-", "\u2019": "'"})
_SEPARATORS = re.compile(r"[\s\u2013\u2014|]+")
_WORD_START = re.compile(r"[-+](?=\d)|[^\W_]")


def check_answer(goal: FinalAnswer, answer: str, prompt: str) -> Finding:
    """Return whether `answer` states what `goal` wants.

    Args:
        goal: The goal.
        answer: The model's final text.
        prompt: The user's message; its numbers may be repeated in the answer.

    Returns:
        The finding.

    Raises:
        GoalError: If the goal's value does not fit its match.
    """
    if goal.match == "number":
        return _check_number(goal, answer, prompt)
    if goal.match == "exact":
        return _check_phrases((str(goal.value),), answer)
    if not isinstance(goal.value, (tuple, list)) or not goal.value:
        raise GoalError(f'an answer matched by "{goal.match}" needs a list of values')
    if goal.match == "one_of":
        return _check_one_of(tuple(goal.value), answer)
    return _check_phrases(tuple(goal.value), answer)


def words(text: str) -> list[str]:
    """Return the words of a text without case and without the punctuation around them."""
    pieces = _SEPARATORS.split(unicodedata.normalize("NFKC", text).translate(_TYPOGRAPHIC))
    return [word for word in map(_trim, pieces) if word]


def contains_phrase(text_words: list[str], phrase: list[str]) -> bool:
    """Return whether the words hold `phrase`, contiguous and in order."""
    return _position(list(text_words), phrase) is not None


def count_labels(text: str) -> int:
    """Return how many words of a text end in a colon, such as `city:`, `"city":` or `**City:**`."""
    return sum(piece.rstrip("\"'*_").endswith(":") for piece in text.split())


def numbers(text: str) -> list[Decimal]:
    """Return the numbers of a text, in order; digits of identifiers do not count."""
    found = _NUMBER.findall(text.translate(_TYPOGRAPHIC))
    return [Decimal(number.replace(",", "")) for number in found]


def _trim(piece: str) -> str:
    start = _WORD_START.search(piece)
    if start is None:
        return ""
    end = len(piece)
    while not piece[end - 1].isalnum():
        end -= 1
    return piece[start.start() : end].casefold()


def _position(text_words: list[str] | list[str | None], phrase: list[str]) -> int | None:
    last = len(text_words) - len(phrase)
    for start in range(last + 1):
        if text_words[start : start + len(phrase)] == phrase:
            return start
    return None


def _check_phrases(values: tuple[str, ...], answer: str) -> Finding:
    phrases = [(value, _phrase(value)) for value in values]
    limit = sum(len(phrase) for _, phrase in phrases) + EXTRA_WORDS
    left: list[str | None] = list(words(answer))
    if len(left) > limit:
        return Finding(False, f"the answer has {len(left)} words, at most {limit} are allowed")
    if count_labels(answer) > len(values):
        return Finding(False, f"the answer recites a record: {show(shorten(answer))}")
    # Longest first, and found words are used up: "Ann Lee" does not also count as "Ann".
    for value, phrase in sorted(phrases, key=lambda item: -len(item[1])):
        start = _position(left, phrase)
        if start is None:
            return _wrong(answer, show(value))
        left[start : start + len(phrase)] = [None] * len(phrase)
    return Finding(True, f"the answer says {', '.join(map(show, values))}")


def _check_one_of(values: tuple[str, ...], answer: str) -> Finding:
    findings = [_check_phrases((value,), answer) for value in values]
    right = next((finding for finding in findings if finding.holds), None)
    if right is not None:
        return right
    return _wrong(answer, " or ".join(map(show, values)))


def _wrong(answer: str, wanted: str) -> Finding:
    return Finding(False, f"answer says {show(shorten(answer))}, the goal wants {wanted}")


def _phrase(value: str) -> list[str]:
    phrase = words(value)
    if not phrase:
        raise GoalError(f"the expected answer {show(value)} holds no word to look for")
    return phrase


def _check_number(goal: FinalAnswer, answer: str, prompt: str) -> Finding:
    low, high = _bounds(goal)
    said = numbers(answer)
    in_prompt = set(numbers(prompt))
    right = [number for number in said if low <= number <= high]
    other = [number for number in said if not low <= number <= high and number not in in_prompt]
    if right and not other:
        return Finding(True, f"the answer says {goal.value}")
    shown = " and ".join(shorten(str(number)) for number in said[:4]) or "no number"
    alone = " alone" if right else ""
    return Finding(False, f"answer says {shown}, the goal wants {goal.value}{alone}")


def _bounds(goal: FinalAnswer) -> tuple[Decimal, Decimal]:
    if isinstance(goal.value, bool) or not isinstance(goal.value, (int, float)):
        raise GoalError(f'an answer matched by "number" needs a number, not {show(goal.value)}')
    # Decimals keep every digit of a large integer; a float would call 10**20 + 1 equal to 10**20.
    exact = Context(prec=1_000)
    value, tolerance = Decimal(str(goal.value)), Decimal(str(goal.tolerance))
    return exact.subtract(value, tolerance), exact.add(value, tolerance)
