from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import shipped_tokenizer

from agents.models import EMBEDDED_FOLDER
from sft.corpus import all_words
from sft.tokenizer import CONTROL_TOKENS, PHRASE_TOKENS, TAG_TOKENS, WORD_BORDERS

TOKENIZER = shipped_tokenizer()

# Training a BPE differs from process to process: with another vocabulary the shipped weights
# would mean something else, so these files change only together with the weights.
SHA256 = {
    "tokenizer.json": "d33f98e5180938a7f2e462c5d82b906983953dc0cf2ad154d4320f20d79d3112",
    "chat_template.jinja": "a55ee1b1660128b7098723e0abcd92caa0788061051c62d51cbe87d9cf1974d8",
}


def ids_of(text: str) -> list[int]:
    ids: list[int] = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    return ids


def positions(ids: list[int], part: list[int]) -> list[int]:
    return [i for i in range(len(ids)) if ids[i : i + len(part)] == part]


@pytest.mark.parametrize("name", SHA256)
def test_the_shipped_files_are_those_that_the_weights_were_trained_with(name: str) -> None:
    content = (EMBEDDED_FOLDER / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256[name]


@given(st.text())
def test_any_text_survives_the_round_trip(text: str) -> None:
    assert TOKENIZER.decode(ids_of(text), skip_special_tokens=False) == text


@given(st.binary())
def test_any_bytes_read_as_text_survive_the_round_trip(content: bytes) -> None:
    text = content.decode("utf-8", errors="replace")
    assert TOKENIZER.decode(ids_of(text), skip_special_tokens=False) == text


ARGUMENT = st.one_of(
    st.from_regex(r"[A-Z][0-9]{2,4}", fullmatch=True),
    st.from_regex(r"[A-Z][a-z]{2,8} [A-Z][a-z]{2,8}", fullmatch=True),
    st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,2})?", fullmatch=True),
    st.from_regex(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]", fullmatch=True),
    st.sampled_from(all_words()),
)


@given(ARGUMENT)
def test_an_argument_is_the_same_tokens_in_request_call_and_result(value: str) -> None:
    alone = ids_of(value)
    places = (
        f"What is the city of {value}?",
        f"{value} is a customer.",
        f'say "{value}"',
        f'<tool_call>\n{{"name": "get_customer", "arguments": {{"id": "{value}"}}}}\n</tool_call>',
        f'<tool_response>\n{{"id": "{value}", "city": "Rome"}}\n</tool_response>',
        f"The id is {value}.",
        f"{value}: replaced",
    )
    for text in places:
        assert positions(ids_of(text), alone), text


@given(st.text(alphabet=st.characters(max_codepoint=127), max_size=40))
def test_no_token_crosses_the_border_of_a_word_or_a_digit(text: str) -> None:
    """Where the borders are is said by another regular expression engine."""
    borders, at = {0}, 0
    for piece in re.findall(r"[^\W\d_]+|\d|[\W_]+", text):
        at += len(piece)
        borders.add(at)
    ends, at = {0}, 0
    for token in ids_of(text):
        at += len(TOKENIZER.decode([token]))
        ends.add(at)
    assert borders <= ends


def test_the_pattern_of_borders_is_the_shipped_one() -> None:
    shipped = TOKENIZER.backend_tokenizer.pre_tokenizer
    assert WORD_BORDERS in str(shipped)


@pytest.mark.parametrize("text", [*CONTROL_TOKENS, *TAG_TOKENS, *PHRASE_TOKENS])
def test_controls_tags_and_fixed_phrases_are_one_token_each(text: str) -> None:
    assert len(ids_of(text)) == 1


def test_only_control_tokens_are_special() -> None:
    assert set(TOKENIZER.all_special_tokens) <= set(CONTROL_TOKENS)
    assert TOKENIZER.eos_token == "<|im_end|>"
    assert TOKENIZER.pad_token == "<|endoftext|>"
    assert TOKENIZER.pad_token_id != TOKENIZER.eos_token_id


def test_the_vocabulary_is_the_size_that_the_model_was_built_for() -> None:
    assert len(TOKENIZER) == 1536
    assert max(TOKENIZER.get_vocab().values()) == 1535


def test_every_word_of_the_lexicon_is_few_tokens() -> None:
    lengths = {word: len(ids_of(word)) for word in all_words()}
    assert max(lengths.values()) <= 4, max(lengths, key=lambda word: lengths[word])


def test_the_shipped_template_is_the_original_of_qwen3(tokenizer: Any) -> None:
    template = (EMBEDDED_FOLDER / "chat_template.jinja").read_text(encoding="utf-8")
    assert tokenizer.chat_template == template
    assert "generation %}" not in template
    assert "last_query_index" in template
