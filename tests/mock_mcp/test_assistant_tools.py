from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from mock_mcp.domains import assistant_tools as tools
from mock_mcp.domains.assistant_state import MAX_ROWS, AssistantState
from mock_mcp.server import WorldHandle, build_server
from mock_mcp.toolspec import ToolFailure
from mock_mcp.world import World

_DIGEST_PROGRAM = """
import hashlib, json, random
from mock_mcp.domains.assistant_state import AssistantState
text = json.dumps(AssistantState.build(random.Random(5)).snapshot(), sort_keys=True)
print(hashlib.sha256(text.encode()).hexdigest())
"""

ROOT = Path(__file__).parents[2]

TINYAGENT = {
    "get_phone_number",
    "get_email_address",
    "create_calendar_event",
    "get_meeting_link",
    "maps_open_location",
    "maps_show_directions",
    "compose_email",
    "reply_to_email",
    "forward_email",
    "send_sms",
    "create_note",
    "open_note",
    "append_note",
    "create_reminder",
    "open_file",
    "summarize_pdf",
}


@pytest.fixture(scope="module")
def template() -> World:
    return World.build(11)


@pytest.fixture
def world(template: World) -> World:
    return template.copy()


def first(rows: Any) -> Any:
    return next(iter(rows.values()))


def changes(world: World, template: World) -> Any:
    return world.changes_since(template)


def test_the_surface_is_tinyagents_sixteen_tools() -> None:
    assert {spec.name for spec in tools.TOOLS} == TINYAGENT
    assert len(tools.TOOLS) == 16


def test_only_tools_marked_as_writing_change_the_state(world: World, template: World) -> None:
    contact, place = first(world.assistant.contacts), first(world.assistant.places)
    file, note = first(world.assistant.files), first(world.assistant.notes)
    event = first(world.assistant.events)

    tools.get_phone_number(world, contact["name"])
    tools.get_email_address(world, contact["name"])
    tools.get_meeting_link(world, event["title"])
    tools.open_note(world, note["title"])
    tools.maps_open_location(world, place["place"])
    tools.maps_show_directions(world, place["place"], place["place"])
    tools.summarize_pdf(world, tools.open_file(world, file["name"])["path"])

    assert world.writes == template.writes
    assert world.digest() == template.digest()


def test_every_writing_tool_changes_exactly_one_row(template: World) -> None:
    mail = next(row for row in template.assistant.emails.values() if row["folder"] == "inbox")
    note = first(template.assistant.notes)["title"]
    written: dict[str, dict[str, Any]] = {
        "send_sms": {"phone": "555-0142", "message": "Hi"},
        "compose_email": {"to": "a@b.example", "subject": "Hi", "body": "There"},
        "reply_to_email": {"subject": mail["subject"], "body": "Yes"},
        "forward_email": {"subject": mail["subject"], "to": "a@b.example"},
        "create_calendar_event": {"title": "Fair", "date": "2026-05-01", "time": "09:30"},
        "create_reminder": {"text": "Go", "date": "2026-05-01"},
        "create_note": {"title": "A new one", "content": "Hi"},
        "append_note": {"title": note, "content": "Hi"},
    }
    writing = {spec.name: spec.function for spec in tools.TOOLS if not spec.read_only}
    assert writing.keys() == written.keys()

    for name, arguments in written.items():
        world = template.copy()
        writing[name](world, **arguments)
        changed = changes(world, template)
        assert [len(rows) for rows in changed.values()] == [1], name
        assert world.writes == template.writes + 1, name


def test_a_copy_and_its_original_never_see_each_others_writes(template: World) -> None:
    before = template.digest()
    one, two = template.copy(), template.copy()
    title = first(template.assistant.notes)["title"]

    tools.append_note(one, title, "Only here")
    tools.create_reminder(two, "Only there", "2026-05-01")

    assert template.digest() == before
    assert changes(one, template).keys() == {"assistant.notes"}
    assert changes(two, template).keys() == {"assistant.reminders"}


def test_a_snapshot_does_not_change_with_the_state(world: World) -> None:
    snapshot = world.assistant.snapshot()
    frozen = json.dumps(snapshot)

    tools.append_note(world, first(world.assistant.notes)["title"], "More")
    tools.create_reminder(world, "Go", "2026-05-01")

    assert json.dumps(snapshot) == frozen


def test_the_same_seed_gives_the_same_state_whatever_the_hash_seed() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", _DIGEST_PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            cwd=ROOT,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64


@pytest.mark.parametrize("seed", range(8))
def test_every_world_is_unambiguous(seed: int) -> None:
    state = World.build(seed).assistant

    for rows, field in (
        (state.contacts, "phone"),
        (state.contacts, "email"),
        (state.files, "path"),
        (state.events, "title"),
        (state.notes, "title"),
    ):
        values = [row[field].casefold() for row in rows.values()]
        assert len(set(values)) == len(values), field
    subjects = [row["subject"] for row in state.emails.values() if row["folder"] == "inbox"]
    assert len(set(subjects)) == len(subjects)
    senders = {row["sender"] for row in state.emails.values()}
    assert senders <= {row["email"] for row in state.contacts.values()}


def test_no_email_address_can_be_guessed_from_the_name(world: World) -> None:
    for contact in world.assistant.contacts.values():
        assert any(letter.isdigit() for letter in contact["email"].split("@")[0])


def test_half_a_name_is_answered_with_the_whole_one(world: World) -> None:
    name = first(world.assistant.contacts)["name"]

    for part in name.split():
        with pytest.raises(ToolFailure) as told:
            tools.get_phone_number(world, part)
        assert str(told.value).startswith(f"No contact named {part}. Did you mean ")
        assert name in str(told.value)


def test_a_misspelt_name_is_answered_with_the_right_one(world: World) -> None:
    name = first(world.assistant.contacts)["name"]

    with pytest.raises(ToolFailure, match=rf"Did you mean .*{name}"):
        tools.get_email_address(world, f"{name}e")


def test_a_name_like_nobodys_gets_no_guess(world: World) -> None:
    with pytest.raises(ToolFailure) as told:
        tools.get_phone_number(world, "Xqzw Jjkv")

    assert str(told.value) == "No contact named Xqzw Jjkv."


def test_case_and_outer_spaces_of_a_name_do_not_matter(world: World) -> None:
    name = first(world.assistant.contacts)["name"]

    assert tools.get_phone_number(world, f" {name.upper()} ")["name"] == name


def test_a_reply_goes_to_the_sender_and_a_forward_carries_the_body(
    world: World, template: World
) -> None:
    mail = next(row for row in world.assistant.emails.values() if row["folder"] == "inbox")

    replied = tools.reply_to_email(world, mail["subject"], "Yes")
    forwarded = tools.forward_email(world, mail["subject"], "a@b.example")

    rows = changes(world, template)["assistant.emails"]
    assert rows[replied["email_id"]] == {
        "folder": "sent",
        "sender": "me@mail.example",
        "to": mail["sender"],
        "subject": f"Re: {mail['subject']}",
        "body": "Yes",
    }
    assert rows[forwarded["email_id"]]["to"] == "a@b.example"
    assert rows[forwarded["email_id"]]["body"] == mail["body"]


def test_a_sent_mail_cannot_be_replied_to(world: World) -> None:
    tools.compose_email(world, "a@b.example", "Unheard of subject", "Hi")

    with pytest.raises(ToolFailure, match="No e-mail named Unheard of subject"):
        tools.reply_to_email(world, "Unheard of subject", "Yes")


def test_a_created_event_has_a_link_and_its_guest(world: World, template: World) -> None:
    tools.create_calendar_event(world, "Fair", "2026-05-01", "09:30", "a@b.example")

    link = tools.get_meeting_link(world, "fair")

    (row,) = changes(world, template)["assistant.events"].values()
    assert row["invitee"] == "a@b.example"
    assert link == {"title": "Fair", "date": "2026-05-01", "time": "09:30", "link": row["link"]}


def test_an_appended_note_keeps_what_it_said(world: World) -> None:
    note = first(world.assistant.notes)

    tools.append_note(world, note["title"], "More")

    assert tools.open_note(world, note["title"])["content"] == f"{note['content']}\nMore"


def test_directions_are_symmetric_and_slower_on_foot(world: World) -> None:
    start, end = list(world.assistant.places.values())[:2]
    blocks = abs(start["east"] - end["east"]) + abs(start["north"] - end["north"])

    there = tools.maps_show_directions(world, start["place"], end["place"])
    back = tools.maps_show_directions(world, end["place"], start["place"])
    on_foot = tools.maps_show_directions(world, start["place"], end["place"], "walk")

    assert there["distance_km"] == back["distance_km"] == blocks / 10
    # 30 km/h are 0.5 km a minute, 5 km/h a twelfth of a km; begun minutes count.
    assert 0 <= there["minutes"] - there["distance_km"] / 0.5 < 1
    assert 0 <= on_foot["minutes"] - on_foot["distance_km"] * 12 < 1


def test_only_pdf_files_can_be_summarized_and_only_by_path(world: World) -> None:
    pdf = next(row for row in world.assistant.files.values() if "summary" in row)

    assert tools.summarize_pdf(world, pdf["path"]) == {
        "author": pdf["author"],
        "pages": pdf["pages"],
        "summary": pdf["summary"],
    }
    with pytest.raises(ToolFailure, match="Use open_file to get its path"):
        tools.summarize_pdf(world, pdf["name"])


def test_a_file_of_another_type_cannot_be_summarized() -> None:
    worlds = (World.build(seed) for seed in range(20))
    world, file = next(
        (world, row)
        for world in worlds
        for row in world.assistant.files.values()
        if "summary" not in row
    )

    with pytest.raises(ToolFailure, match="is no PDF file"):
        tools.summarize_pdf(world, file["path"])


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("send_sms", {"phone": "Ana Lind", "message": "Hi"}, "Use get_phone_number first."),
        ("send_sms", {"phone": "555-0142", "message": " "}, "message is empty"),
        ("send_sms", {"phone": "555-0142", "message": "x" * 2001}, "At most 2000 are allowed"),
        ("send_sms", {"phone": "\u0665" * 3 + "-0142", "message": "Hi"}, "is no phone number"),
        ("compose_email", {"to": "Ana", "subject": "a", "body": "b"}, "Use get_email_address"),
        ("forward_email", {"subject": "Nothing", "to": "a@b"}, "No e-mail named Nothing."),
        ("create_reminder", {"text": "Go", "date": "tomorrow"}, "is no date such as"),
        ("create_reminder", {"text": "Go", "date": "2026-02-30"}, "is no date such as"),
        ("create_reminder", {"text": "Go", "date": "20260501"}, "is no date such as"),
        (
            "create_calendar_event",
            {"title": "a", "date": "2026-05-01", "time": "9:30"},
            "is no time such as 09:30",
        ),
        (
            "create_calendar_event",
            {"title": "a", "date": "2026-05-01", "time": "09:30", "invitee": "Ana"},
            "is no e-mail address",
        ),
    ],
)
def test_wrong_values_are_refused_with_what_to_do(
    world: World, tool: str, arguments: dict[str, str], told: str
) -> None:
    before = world.digest()

    with pytest.raises(ToolFailure, match=told):
        getattr(tools, tool)(world, **arguments)

    assert world.digest() == before


def test_a_second_note_or_event_of_the_same_title_is_refused(world: World) -> None:
    title = first(world.assistant.notes)["title"]
    event = first(world.assistant.events)["title"]

    with pytest.raises(ToolFailure, match="Choose another title"):
        tools.create_note(world, title.upper(), "x")
    with pytest.raises(ToolFailure, match="Choose another title"):
        tools.create_calendar_event(world, event, "2026-05-01", "09:30")


def test_new_rows_get_ids_that_no_other_row_has(world: World) -> None:
    before = set(world.assistant.sms)

    ids = [tools.send_sms(world, "555-0142", f"Message {n}")["sms_id"] for n in range(5)]

    assert len({*ids, *before}) == 5 + len(before)


def test_a_table_cannot_grow_without_end(world: World) -> None:
    while len(world.assistant.reminders) < MAX_ROWS:
        world.assistant.add(world.assistant.reminders, {"text": "x", "date": "2026-05-01"})

    with pytest.raises(ToolFailure, match="full"):
        tools.create_reminder(world, "Go", "2026-05-01")


def test_a_note_cannot_grow_without_end(world: World) -> None:
    title = first(world.assistant.notes)["title"]

    for _ in range(9):
        tools.append_note(world, title, "x" * 2000)

    with pytest.raises(ToolFailure, match="is full"):
        tools.append_note(world, title, "x" * 2000)


def test_an_overlong_name_is_told_back_short(world: World) -> None:
    with pytest.raises(ToolFailure) as told:
        tools.get_phone_number(world, "x" * 1_000_000)

    assert len(str(told.value)) < 200


def test_a_state_is_copied_without_its_read_only_parts() -> None:
    state = World.build(3).assistant
    copy = state.copy()

    assert isinstance(copy, AssistantState)
    assert copy.contacts is state.contacts
    assert copy.notes is not state.notes


def test_every_tool_answers_in_its_own_output_schema(world: World) -> None:
    contact = first(world.assistant.contacts)
    mail = next(row for row in world.assistant.emails.values() if row["folder"] == "inbox")
    place = first(world.assistant.places)["place"]
    file = first(world.assistant.files)
    calls: dict[str, dict[str, Any]] = {
        "get_phone_number": {"name": contact["name"]},
        "get_email_address": {"name": contact["name"]},
        "send_sms": {"phone": contact["phone"], "message": "Hi"},
        "compose_email": {"to": contact["email"], "subject": "Hi", "body": "There"},
        "reply_to_email": {"subject": mail["subject"], "body": "Yes"},
        "forward_email": {"subject": mail["subject"], "to": contact["email"]},
        "create_calendar_event": {"title": "Fair", "date": "2026-05-01", "time": "09:30"},
        "get_meeting_link": {"title": "Fair"},
        "create_reminder": {"text": "Go", "date": "2026-05-01"},
        "create_note": {"title": "A new one", "content": "Hi"},
        "open_note": {"title": "A new one"},
        "append_note": {"title": "A new one", "content": "Hi"},
        "maps_open_location": {"place": place},
        "maps_show_directions": {"origin": place, "destination": place, "transport": "walk"},
        "open_file": {"name": file["name"]},
        "summarize_pdf": {"path": file["path"]},
    }

    async def play() -> dict[str, Any]:
        async with Client(build_server(WorldHandle(world), ("assistant",))) as client:
            # After listing, the client itself validates every result against the schema.
            await client.list_tools()
            return {name: await client.call_tool(name, given) for name, given in calls.items()}

    results = asyncio.run(asyncio.wait_for(play(), 60))

    assert results.keys() == TINYAGENT
    for name, result in results.items():
        assert not result.is_error, (name, result.content[0].text)
        assert json.loads(result.content[0].text) == result.structured_content, name
