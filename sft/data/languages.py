"""Which language a text is in, by a naive Bayes model over bytes that ships with py3langid."""

from __future__ import annotations

from functools import cache
from typing import Any

from py3langid.langid import MODEL_FILE, LanguageIdentifier

UNKNOWN = "und"
"""ISO 639-2 code of what cannot be told: too short, or mostly names and numbers."""

MIN_CONFIDENCE = 0.5

MAX_CHARACTERS = 2000
"""Of a longer text only the beginning is looked at; it costs time and decides nothing more."""


def language(text: str) -> str:
    """Return the ISO 639-1 code of the language of a text, or `UNKNOWN`."""
    return str(_identifier().classify(text[:MAX_CHARACTERS])[0])


@cache
def _identifier() -> Any:
    return LanguageIdentifier.from_model_file(
        MODEL_FILE, norm_probs=True, min_confidence=MIN_CONFIDENCE
    )
