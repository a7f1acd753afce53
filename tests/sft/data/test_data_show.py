from __future__ import annotations

import io
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from curated_rows import asks, result, row, run, says, user, write
from trl.chat_template_utils import get_training_chat_template

from agents.models import EMBEDDED_FOLDER, load_tokenizer
from agents.template import ChatTemplate
from sft.data.page import PLAIN_COLOUR, TRAINED_COLOUR, Segment, as_page, segments, visible

NASTY = "</pre><script>alert('x')</script> & \x1b[2Jcleared \u202egnp.exe <mark>"
HARMLESS = r"</pre><script>alert('x')</script> & \u001b[2Jcleared \u202egnp.exe <mark>"
TRIP = row("trip", user("Weather?"), asks("Rome", reasoning_content="Hm."), result("20"),
           says("20 degrees, ünïcödé 🌞."), outcome="success")  # fmt: skip


class Page(HTMLParser):
    """Text of a page, that of its marks, and the tags it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.inside = {"pre": "", "mark": "", "th": "", "td": "", "title": ""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        for tag in set(self.open) & set(self.inside):
            if tag != "mark" or "pre" in self.open:
                self.inside[tag] += data


def test_segments_are_the_text_and_the_mask_of_training() -> None:
    tokenizer = load_tokenizer("embedded")
    template = ChatTemplate(tokenizer)
    runs = segments(template, TRIP)
    ids, mask = template.training_row(TRIP["messages"], TRIP["tools"])
    assert "".join(run.text for run in runs) == tokenizer.decode(ids)
    assert sum(run.tokens for run in runs if run.trained) == sum(mask)
    assert [run.trained for run in runs] == [False, True, False, True]
    assert runs[3].text == "20 degrees, ünïcödé 🌞.<|im_end|>"
    assert '{"name": "get_weather", "arguments": {"city": "Rome"}}' in runs[1].text


def test_reasoning_is_shown_as_it_is_trained_where_thinking_is_enabled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "in.jsonl", [TRIP])
    shown = {}
    for flags in ((), ("--enable_thinking", "false"), ("--enable_thinking", "true")):
        assert run("show", path, "trip", *flags) == 0
        shown[flags] = capsys.readouterr().out
    plain, off, on = shown.values()
    assert plain == off
    assert "Hm." not in plain
    assert "⟦<think>\nHm.\n</think>" in on
    template = ChatTemplate(load_tokenizer("embedded"), thinking=True)
    ids, mask = template.training_row(TRIP["messages"], TRIP["tools"])
    assert f"tokens: {len(ids):,}, {sum(mask):,} of them trained" in on


def test_whether_to_think_is_true_or_false(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        run("show", "--enable_thinking", write(tmp_path / "in.jsonl", [TRIP]), "trip")


def test_in_a_pipe_trained_text_stands_between_marks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "in.jsonl", [row("Rome"), TRIP])
    assert run("show", path, "trip") == 0
    shown = capsys.readouterr().out
    assert "⟦20 degrees, ünïcödé 🌞.<|im_end|>⟧" in shown
    assert "\x1b" not in shown
    assert "row: trip, line 2 of in.jsonl" in shown
    assert "outcome: success" in shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_trained_text_is_coloured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert run("show", write(tmp_path / "in.jsonl", [TRIP]), "trip") == 0
    text = "20 degrees, ünïcödé 🌞.<|im_end|>"
    assert f"{TRAINED_COLOUR}{text}{PLAIN_COLOUR}" in terminal.getvalue()
    assert "⟦" not in terminal.getvalue()


def test_no_control_character_of_a_row_reaches_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nasty = row("x", user(NASTY), says(NASTY), source=NASTY)
    assert run("show", write(tmp_path / "in.jsonl", [nasty]), "x") == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert shown.count(HARMLESS) == 3
    assert visible("a\tb\nc\rd\x9b\u2028") == "a\tb\nc\\u000dd\\u009b\\u2028"


def test_the_page_holds_the_text_and_no_markup_of_the_row(tmp_path: Path) -> None:
    nasty = row("<b>id</b>", user(NASTY), says(NASTY), source=NASTY)
    html = tmp_path / "deep" / "page.html"
    assert run("show", write(tmp_path / "in.jsonl", [nasty]), "<b>id</b>", "--html", html) == 0
    page = Page(html.read_text(encoding="utf-8"))
    assert page.inside["pre"].count(HARMLESS) == 2
    assert page.inside["mark"] == HARMLESS + "<|im_end|>"
    assert HARMLESS in page.inside["td"]
    assert page.inside["title"] == "<b>id</b>"
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert page.tags.count("pre") == 1


def test_the_page_needs_no_other_file() -> None:
    page = as_page("t", [("a", "b")], [Segment("x", True, 1)])
    assert "http-equiv" in page
    for word in ("src=", "href=", "url(", "@import"):
        assert word not in page


def test_problems_flags_and_edits_of_the_row_stand_above_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = row("x", user("?"), says(""), source="when2call", edited=[{"drop_turn": 1}])
    assert run("show", write(tmp_path / "in.jsonl", [bad]), "x") == 0
    shown = capsys.readouterr().out
    assert "problem: empty_turn" in shown
    assert "flag: spoils BFCL" in shown
    assert "edited: [{'drop_turn': 1}]" in shown


def test_an_id_that_is_not_there_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "in.jsonl", [TRIP])
    assert run("show", path, "nobody") == 2
    assert f'error: {path}: none of the 1 rows has the id "nobody"' in capsys.readouterr().err


def tokenizer_folder(tmp_path: Path, template: str) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copyfile(EMBEDDED_FOLDER / name, folder / name)
    if template:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def picky_template() -> str:
    """A template that takes no conversation that begins with a question about the weather."""
    check = "{%- if messages[0].content == 'Weather?' %}{{ raise_exception('no') }}{%- endif %}"
    return check + str(get_training_chat_template(load_tokenizer("embedded")))


@pytest.mark.parametrize("command", [("show", "trip"), ("stats",), ("validate",)])
def test_what_a_template_refuses_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    folder = tokenizer_folder(tmp_path, picky_template())
    path = write(tmp_path / "in.jsonl", [row("short", user("Hi"), says("Hello.")), TRIP])
    name, *rest = command
    code = run(name, path, *rest, "--model", folder)
    captured = capsys.readouterr()
    if name == "validate":
        assert code == 1
        assert f"not_rendered: {path}:2: the chat template refuses it: no" in captured.out
    else:
        assert code == 2
        assert f"error: {path}:2: the chat template refuses it: no" in captured.err


def test_a_tokenizer_without_a_template_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "in.jsonl", [TRIP])
    assert run("show", path, "trip", "--model", tokenizer_folder(tmp_path, "")) == 2
    assert "has no chat template" in capsys.readouterr().err
