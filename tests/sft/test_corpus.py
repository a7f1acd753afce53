"""The corpus of the embedded policy against the tools and tasks that it must not show."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from agents.models import load_tokenizer
from agents.template import ChatTemplate
from envs.tasks.catalogue import mock_catalogue
from envs.tasks.no_call import OUT_OF_SCOPE
from mock_mcp.server import served_tools
from sft.corpus import (
    Document,
    all_words,
    draw,
    rewrite_exercise,
    session,
    spelling_exercise,
    training_row,
)
from sft.dialogues import DIALOGUES
from sft.gadgets import HERMES_OPENING, OPENING, Dice
from sft.lexicon import NOT_PARAMETERS
from sft.pretrain import printable_tokens

DOCUMENTS = 4000
Words = tuple[str, ...]


@pytest.fixture(scope="module")
def corpus() -> list[Document]:
    rng = Dice("corpus test")
    return [draw(rng, 0.8) for _ in range(DOCUMENTS)]


@pytest.fixture(scope="module")
def corpus_tools(corpus: list[Document]) -> list[dict[str, Any]]:
    return [tool["function"] for document in corpus for tool in document.tools]


def words(text: str) -> Words:
    return tuple(re.findall(r"[^\W_]+", text.lower()))


def stem(word: str) -> str:
    return re.sub(r"(ies|es|s|ing|ed|e|y)$", "", word)


def stems(name: str) -> frozenset[str]:
    return frozenset(stem(word) for word in words(name))


def grams(text: str, size: int) -> set[Words]:
    found = words(text)
    return {found[i : i + size] for i in range(len(found) - size + 1)}


def mock_schemas() -> dict[str, dict[str, Any]]:
    return {name: tool.advertised.input_schema for name, tool in served_tools().items()}


def parameters(schema: dict[str, Any]) -> frozenset[str]:
    return frozenset(schema["properties"])


# --- nothing of the mock world ------------------------------------------------------------------


def test_no_mock_tool_is_named_in_the_corpus_in_any_order_or_form_of_its_words(
    corpus_tools: list[dict[str, Any]],
) -> None:
    mine = {stems(tool["name"]) for tool in corpus_tools}
    assert len(mine) > DOCUMENTS
    assert [name for name in served_tools() if stems(name) in mine] == []


def test_no_mock_tool_is_named_in_any_message(corpus: list[Document]) -> None:
    # `today`, `statistics`, `percentage` and `weekday` are plain words; calls are looked at above.
    names = [name for name in served_tools() if "_" in name]
    text = "\n".join(message["content"] for document in corpus for message in document.messages)
    assert [name for name in names if name in text] == []


def test_no_parameter_set_of_a_mock_tool_occurs(corpus_tools: list[dict[str, Any]]) -> None:
    mine = {parameters(tool["parameters"]) for tool in corpus_tools}
    theirs = {name: parameters(schema) for name, schema in mock_schemas().items()}
    assert {name: names for name, names in theirs.items() if names and names in mine} == {}


def test_the_words_that_are_kept_from_being_parameters_are_those_of_the_mock_tools() -> None:
    single = {n for schema in mock_schemas().values() for n in parameters(schema) if "_" not in n}
    parts = {"currency", "unit"}  # from_currency, to_unit: the corpus has pairs of from and to
    assert set(NOT_PARAMETERS) == single | parts


def test_no_description_of_a_mock_tool_occurs(corpus_tools: list[dict[str, Any]]) -> None:
    mine: set[Words] = set()
    for tool in corpus_tools:
        mine |= grams(tool["description"], 4)
    theirs = [tool.advertised.description or "" for tool in served_tools().values()]
    assert sum(len(grams(text, 4)) for text in theirs) > 100
    assert [text for text in theirs if grams(text, 4) & mine] == []
    assert not {tool["description"] for tool in corpus_tools} & set(theirs)


def phrasings() -> Iterator[str]:
    """Every phrasing of every kind, held-out ones, minimal pairs and refusals included."""
    catalogue = mock_catalogue()
    for kind in catalogue.kinds:
        yield from (*kind.phrasings, *kind.heldout_phrasings)
        if kind.missing is not None:
            yield from (*kind.missing.phrasings, *kind.missing.heldout_phrasings)
    yield from (wish.prompt for wish in catalogue.wishes)
    yield from OUT_OF_SCOPE


def stretches(phrasing: str) -> list[str]:
    """The parts of a template between its slots."""
    return [text for text, *_ in string.Formatter().parse(phrasing)]


def test_no_five_words_of_a_phrasing_occur_in_a_request(corpus: list[Document]) -> None:
    asked: set[Words] = set()
    for document in corpus:
        asked |= grams(document.messages[0]["content"], 5)
    theirs = {phrasing: stretches(phrasing) for phrasing in phrasings()}
    assert sum(bool(grams(part, 5)) for parts in theirs.values() for part in parts) > 100
    hits = [p for p, parts in theirs.items() if any(grams(part, 5) & asked for part in parts)]
    assert hits == []


def test_no_phrasing_is_a_request_of_the_corpus_with_other_values(
    corpus: list[Document],
) -> None:
    """Short phrasings have no five words in a row: compare what stands before the first slot."""
    openings = {words(stretches(phrasing)[0]) for phrasing in phrasings()}
    openings = {opening for opening in openings if len(opening) >= 4}
    asked = {words(document.messages[0]["content"])[:n] for document in corpus for n in range(4, 9)}
    assert openings & asked == set()


def test_the_base_policy_is_never_asked_to_open_a_call_in_a_dialogue_as_hermes_does() -> None:
    template = ChatTemplate(load_tokenizer("embedded"))
    hermes, own = (template.tokenizer.encode(f'{text}"x')[0] for text in (HERMES_OPENING, OPENING))
    rng = Dice(0)
    read = 0
    for make, _ in DIALOGUES:
        for _ in range(20):
            row = training_row(template, session(rng, [make(rng)]))
            assert hermes not in row.targets
            differ = [pair for pair in zip(row.ids, row.targets, strict=True) if pair[0] != pair[1]]
            assert differ == [(hermes, own)] * row.ids.count(hermes)
            read += hermes in row.ids
    assert 0.5 < read / (20 * len(DIALOGUES)) < 0.8


def test_an_exercise_asks_for_what_stands_in_it() -> None:
    template = ChatTemplate(load_tokenizer("embedded"))
    document = rewrite_exercise(Dice(0))
    row = training_row(template, document)
    assert (row.ids, row.mask) == template.training_row(document.messages, [])
    assert row.targets == row.ids
    assert template.tokenizer.encode(HERMES_OPENING + '"x')[0] in row.targets


# --- what the corpus is -------------------------------------------------------------------------


def test_the_same_seed_draws_the_same_documents() -> None:
    one, same, other = (
        [draw(rng, 0.6, ("a", "b")) for _ in range(50)] for rng in (Dice(3), Dice(3), Dice(4))
    )
    assert one == same
    assert one != other


def test_every_kind_of_document_occurs_and_dialogues_in_their_share() -> None:
    rng = Dice(1)
    drawn = [draw(rng, 0.3) for _ in range(1000)]
    with_tools = sum(bool(document.tools) for document in drawn)
    assert 250 < with_tools < 350


def test_every_call_is_of_an_offered_tool_with_all_its_parameters(corpus: list[Document]) -> None:
    checked = 0
    for document in corpus:
        for name, arguments in calls(document) if document.tools else ():
            assert set(arguments) in required(document, name), name
            checked += 1
    assert checked > DOCUMENTS


def required(document: Document, name: str) -> list[set[str]]:
    functions = [tool["function"] for tool in document.tools]
    return [set(one["parameters"].get("required", ())) for one in functions if one["name"] == name]


def calls(document: Document) -> Iterable[tuple[str, dict[str, Any]]]:
    for message in document.messages:
        if message["role"] == "assistant":
            for line in message["content"].split("\n"):
                if line.startswith(('use {"name"', '{"name"')):
                    call = json.loads(line.removeprefix("use "))
                    yield call["name"], call["arguments"]


def test_two_tools_of_a_document_hardly_ever_have_one_name(corpus: list[Document]) -> None:
    twice = 0
    for document in corpus:
        names = [tool["function"]["name"] for tool in document.tools]
        twice += len(names) != len(set(names))
    # Two random entities of one dialogue may be the same by chance.
    assert twice < DOCUMENTS / 500


def test_every_printable_token_occurs_as_something_to_say(tokenizer: Any) -> None:
    """A token that pretraining never shows can hardly be said by a LoRA on tied embeddings."""
    template, rng = ChatTemplate(tokenizer), Dice(0)
    vocabulary = printable_tokens(tokenizer)
    said: set[int] = set()
    for _ in range(6000):
        (message,) = spelling_exercise(rng, vocabulary).messages[1:]
        said.update(tokenizer(message["content"])["input_ids"])
    for _ in range(600):
        document = draw(rng, 0.5, vocabulary)
        ids, mask = template.training_row(document.messages, document.tools)
        said.update(token for token, trained in zip(ids, mask, strict=True) if trained)
    printable = {
        i
        for i in range(len(tokenizer))
        if i not in tokenizer.all_special_ids and tokenizer.decode([i]) in set(vocabulary)
    }
    assert len(printable) > 1200
    assert sorted(map(tokenizer.convert_ids_to_tokens, printable - said)) == []


def test_words_of_the_lexicon_are_words() -> None:
    assert all(re.fullmatch(r"[A-Za-z]+", word) for word in all_words())
