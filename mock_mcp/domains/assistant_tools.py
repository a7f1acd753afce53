"""The personal assistant's 16 tools (the surface of TinyAgent), each with real state behind it.

Contacts: get_phone_number, get_email_address. Messages: send_sms, compose_email, reply_to_email,
forward_email. Calendar: create_calendar_event, get_meeting_link, create_reminder. Notes:
create_note, open_note, append_note. Maps: maps_open_location, maps_show_directions. Files:
open_file, summarize_pdf.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

from pydantic import Field

from mock_mcp.domains.assistant_state import MAX_ROWS, MY_ADDRESS, Row, Table
from mock_mcp.toolspec import ToolFailure, ToolSpec

if TYPE_CHECKING:
    from mock_mcp.world import World

Date = Annotated[str, Field(description="YYYY-MM-DD.")]
FullName = Annotated[str, Field(description="First and last name.")]
Address = Annotated[str, Field(description="An e-mail address.")]
InboxSubject = Annotated[str, Field(description="Subject of a mail in the inbox.")]

MAX_TEXT = 2000
SPEED_KM_H = {"car": 30, "bicycle": 15, "walk": 5}


class Phone(TypedDict):
    """A contact's phone number."""

    name: str
    phone: str


class Email(TypedDict):
    """A contact's e-mail address."""

    name: str
    email: str


class SentSms(TypedDict):
    """A text message that was sent."""

    sms_id: str
    phone: str
    message: str


class SentEmail(TypedDict):
    """An e-mail that was sent."""

    email_id: str
    to: str
    subject: str


class Event(TypedDict):
    """A calendar event that was created."""

    event_id: str
    title: str
    date: str
    time: str


class MeetingLink(TypedDict):
    """How to join a meeting."""

    title: str
    date: str
    time: str
    link: str


class Reminder(TypedDict):
    """A reminder that was created."""

    reminder_id: str
    text: str
    date: str


class Note(TypedDict):
    """A note as it is now."""

    title: str
    content: str


class Place(TypedDict):
    """A place on the map."""

    place: str
    address: str
    opens: str


class Directions(TypedDict):
    """A way between two places."""

    origin: str
    destination: str
    distance_km: float
    minutes: int


class File(TypedDict):
    """Where a file is."""

    name: str
    path: str
    size_kb: int


class PdfSummary(TypedDict):
    """What a PDF file says."""

    author: str
    pages: int
    summary: str


def get_phone_number(world: World, name: FullName) -> Phone:
    """Get the phone number of a contact."""
    contact = _find(world.assistant.contacts, name, "contact")
    return {"name": contact["name"], "phone": contact["phone"]}


def get_email_address(world: World, name: FullName) -> Email:
    """Get the e-mail address of a contact."""
    contact = _find(world.assistant.contacts, name, "contact")
    return {"name": contact["name"], "email": contact["email"]}


def send_sms(world: World, phone: str, message: str) -> SentSms:
    """Send a text message to a phone number."""
    if not re.fullmatch(r"[0-9]{3}-[0-9]{4}", phone):
        raise ToolFailure(
            f"{_shown(phone)} is no phone number such as 555-0142. Use get_phone_number first."
        )
    row = {"phone": phone, "message": _text("message", message)}
    return {"sms_id": _add(world, world.assistant.sms, row), "phone": phone, "message": message}


def compose_email(world: World, to: Address, subject: str, body: str) -> SentEmail:
    """Write and send a new e-mail."""
    return _send(world, _address(to), _text("subject", subject), _text("body", body))


def reply_to_email(world: World, subject: InboxSubject, body: str) -> SentEmail:
    """Reply to the sender of an e-mail in the inbox."""
    mail = _in_inbox(world, subject)
    return _send(world, mail["sender"], f"Re: {mail['subject']}", _text("body", body))


def forward_email(world: World, subject: InboxSubject, to: Address) -> SentEmail:
    """Forward an e-mail of the inbox to an address."""
    mail = _in_inbox(world, subject)
    return _send(world, _address(to), f"Fwd: {mail['subject']}", mail["body"])


def create_calendar_event(
    world: World,
    title: str,
    date: Date,
    time: Annotated[str, Field(description="HH:MM.")],
    invitee: Annotated[str, Field(description="An e-mail address, or empty.")] = "",
) -> Event:
    """Create a calendar event, with one invited person if wanted."""
    if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", time):
        raise ToolFailure(f"{_shown(time)} is no time such as 09:30.")
    title = _new_title(world.assistant.events, title, "event")
    row = {"title": title, "date": _date(date), "time": time}
    row["invitee"] = _address(invitee) if invitee else ""
    row["link"] = f"meet.example/{''.join(title.lower().split())[:20]}{len(world.assistant.events)}"
    key = _add(world, world.assistant.events, row)
    return {"event_id": key, "title": title, "date": date, "time": time}


def get_meeting_link(
    world: World, title: Annotated[str, Field(description="Title of a calendar event.")]
) -> MeetingLink:
    """Get the link, date and time of a meeting."""
    event = _find(_by(world.assistant.events, "title"), title, "meeting")
    return {
        "title": event["title"],
        "date": event["date"],
        "time": event["time"],
        "link": event["link"],
    }


def create_reminder(world: World, text: str, date: Date) -> Reminder:
    """Create a reminder for a date."""
    row = {"text": _text("text", text), "date": _date(date)}
    key = _add(world, world.assistant.reminders, row)
    return {"reminder_id": key, "text": text, "date": date}


def create_note(world: World, title: str, content: str) -> Note:
    """Create a note with a new title."""
    title = _new_title(world.assistant.notes, title, "note")
    _add(world, world.assistant.notes, {"title": title, "content": _text("content", content)})
    return {"title": title, "content": content}


def open_note(world: World, title: str) -> Note:
    """Read the content of a note."""
    _, note = _note(world, title)
    return {"title": note["title"], "content": note["content"]}


def append_note(world: World, title: str, content: str) -> Note:
    """Add a line to the end of a note."""
    key, note = _note(world, title)
    content = f"{note['content']}\n{_text('content', content)}"
    if len(content) > 10 * MAX_TEXT:
        raise ToolFailure(f"The note {note['title']} is full. Create another note.")
    world.assistant.put(world.assistant.notes, key, {"title": note["title"], "content": content})
    return {"title": note["title"], "content": content}


def maps_open_location(world: World, place: str) -> Place:
    """Show a place on the map: its address and when it opens."""
    found = _find(world.assistant.places, place, "place")
    return {"place": found["place"], "address": found["address"], "opens": found["opens"]}


def maps_show_directions(
    world: World,
    origin: Annotated[str, Field(description="Name of a place.")],
    destination: Annotated[str, Field(description="Name of a place.")],
    transport: Literal["car", "bicycle", "walk"] = "car",
) -> Directions:
    """Show the way between two places: distance and minutes."""
    start = _find(world.assistant.places, origin, "place")
    end = _find(world.assistant.places, destination, "place")
    # Streets run along a grid; whole units of 100 m keep the arithmetic exact.
    units = abs(start["east"] - end["east"]) + abs(start["north"] - end["north"])
    return {
        "origin": start["place"],
        "destination": end["place"],
        "distance_km": units / 10,
        "minutes": -(-units * 6 // SPEED_KM_H[transport]),
    }


def open_file(
    world: World, name: Annotated[str, Field(description="File name with its ending.")]
) -> File:
    """Find a file by name and get its path and size."""
    found = _find(world.assistant.files, name, "file")
    return {"name": found["name"], "path": found["path"], "size_kb": found["size_kb"]}


def summarize_pdf(
    world: World, path: Annotated[str, Field(description="Full path of a PDF file.")]
) -> PdfSummary:
    """Summarize a PDF file: author, pages and summary."""
    found = next((row for row in world.assistant.files.values() if row["path"] == path), None)
    if found is None:
        raise ToolFailure(f"No file has the path {_shown(path)}. Use open_file to get its path.")
    if "summary" not in found:
        raise ToolFailure(f"{path} is no PDF file. Only PDF files can be summarized.")
    return {"author": found["author"], "pages": found["pages"], "summary": found["summary"]}


def closest(word: str, known: Iterable[str]) -> list[str]:
    """Return up to three known names near to `word`: alike in spelling, or sharing a part."""
    folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold()[:100], list(folded), n=3, cutoff=0.75)
    parts = set(word.casefold().split())
    near += [name for name in folded if name not in near and parts & set(name.split())]
    return [folded[name] for name in near[:3]]


def _find(rows: Mapping[str, Row], name: str, what: str) -> Row:
    """Return the row of a name, whatever its case and outer spaces."""
    wanted = name.strip().casefold()
    for key, row in rows.items():
        if key.casefold() == wanted:
            return row
    near = " or ".join(closest(name, rows))
    hint = f" Did you mean {near}?" if near else ""
    raise ToolFailure(f"No {what} named {_shown(name)}.{hint}")


def _by(table: Table, field: str) -> dict[str, Row]:
    return {row[field]: row for row in table.values()}


def _note(world: World, title: str) -> tuple[str, Row]:
    note = _find(_by(world.assistant.notes, "title"), title, "note")
    key = next(key for key, row in world.assistant.notes.items() if row is note)
    return key, note


def _in_inbox(world: World, subject: str) -> Row:
    inbox = {
        row["subject"]: row for row in world.assistant.emails.values() if row["folder"] == "inbox"
    }
    return _find(inbox, subject, "e-mail")


def _send(world: World, to: str, subject: str, body: str) -> SentEmail:
    row = {"folder": "sent", "sender": MY_ADDRESS, "to": to, "subject": subject, "body": body}
    return {"email_id": _add(world, world.assistant.emails, row), "to": to, "subject": subject}


def _add(world: World, table: Table, row: Row) -> str:
    if len(table) >= MAX_ROWS:
        raise ToolFailure("This list is full. Nothing was added.")
    return world.assistant.add(table, row)


def _new_title(table: Table, title: str, what: str) -> str:
    title = _text("title", title).strip()
    if any(row["title"].casefold() == title.casefold() for row in table.values()):
        raise ToolFailure(f"There is a {what} named {title} already. Choose another title.")
    return title


def _text(field: str, value: str) -> str:
    if not value.strip():
        raise ToolFailure(f"{field} is empty. Say what it should be.")
    if len(value) > MAX_TEXT:
        raise ToolFailure(f"{field} has {len(value)} characters. At most {MAX_TEXT} are allowed.")
    return value


def _address(value: str) -> str:
    if not re.fullmatch(r"[^@\s]{1,64}@[^@\s]{1,200}", value):
        raise ToolFailure(f"{_shown(value)} is no e-mail address. Use get_email_address first.")
    return value


def _date(value: str) -> str:
    try:
        if date.fromisoformat(value).isoformat() == value:
            return value
    except ValueError:
        pass
    raise ToolFailure(f"{_shown(value)} is no date such as 2026-05-31.")


def _shown(value: str) -> str:
    """Return what a model wrote, short enough to be told back."""
    return value if len(value) <= 60 else f"{value[:60]}..."


TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(get_phone_number),
    ToolSpec(get_email_address),
    ToolSpec(send_sms, read_only=False),
    ToolSpec(compose_email, read_only=False),
    ToolSpec(reply_to_email, read_only=False),
    ToolSpec(forward_email, read_only=False),
    ToolSpec(create_calendar_event, read_only=False),
    ToolSpec(get_meeting_link),
    ToolSpec(create_reminder, read_only=False),
    ToolSpec(create_note, read_only=False),
    ToolSpec(open_note),
    ToolSpec(append_note, read_only=False),
    ToolSpec(maps_open_location),
    ToolSpec(maps_show_directions),
    ToolSpec(open_file),
    ToolSpec(summarize_pdf),
)
