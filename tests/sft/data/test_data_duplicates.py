from __future__ import annotations

import random

import pytest
from curated_rows import WEATHER, row, says, user

from sft.data.duplicates import Twin, Twins, bands, shingles
from sft.data.languages import language

WORDS = [f"word{number}" for number in range(3000)]


def spoken(text: str, name: str = "x") -> dict[str, object]:
    return row(name, user(text), says("Done."))


def test_a_row_is_the_twin_of_the_first_that_is_the_same_whatever_its_id_and_source() -> None:
    twins = Twins()
    assert twins.find(row("Rome"), 0) is None
    assert twins.find(row("a much longer name of a city"), 1) is None
    assert twins.find({**row("Rome"), "id": "other", "source": "s"}, 2) == Twin(0, exact=True)


def test_other_tools_make_no_exact_copy() -> None:
    twins = Twins(similarity=0)
    assert twins.find(row("Rome"), 0) is None
    assert twins.find({**row("Rome"), "tools": [WEATHER, WEATHER]}, 1) is None


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.85, 0.95])
def test_near_duplicates_are_found_from_their_jaccard_similarity_on(similarity: float) -> None:
    """Against the exact similarity of the sets, with four standard errors of room."""
    rng = random.Random(0)
    missed = wrong = looked = 0
    for _ in range(300):
        first = rng.choices(WORDS, k=120)
        second = list(first)
        for place in rng.sample(range(120), rng.randrange(1, 40)):
            second[place] = rng.choice(WORDS)
        twins = Twins(similarity)
        twins.find(spoken(" ".join(first)), 0)
        found = twins.find(spoken(" ".join(second)), 1) is not None
        sets = [set(shingles(" ".join([*words, "done"]))) for words in (first, second)]
        true = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        if abs(true - similarity) > 0.16:
            looked += 1
            missed += true > similarity and not found
            wrong += true < similarity and found
    assert looked > 50
    assert missed == wrong == 0


def test_more_bands_are_taken_for_less_alike_rows() -> None:
    assert [bands(share) for share in (0.95, 0.85, 0.7, 0.5, 0.01)] == [8, 16, 32, 64, 128]


def test_a_short_text_is_one_shingle_and_chinese_goes_by_characters() -> None:
    assert shingles("Hello, world!") == ["hello world"]
    assert shingles("") == [""]
    assert shingles("今天天气") == ["今 天 天", "天 天 气"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Can you tell me what the weather is like in Rome?", "en"),
        ("Wie spät ist es jetzt in Berlin?", "de"),
        ("今日の天気を教えてください", "ja"),
        ("Quelle heure est-il à Paris, s'il te plaît ?", "fr"),
        ("42", "und"),
        ("", "und"),
    ],
)
def test_the_language_of_a_text_is_told_and_of_a_number_is_not(text: str, code: str) -> None:
    assert language(text) == code
