"""The personal assistant's state: contacts, e-mail, calendar, notes, reminders, SMS, maps, files.

Rows are plain dictionaries that are never changed in place: a write puts a new row into its
table. So a copy copies only the tables, and a snapshot may hand the rows out.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Self

from mock_mcp.names import FIRST_NAMES, LAST_NAMES, TOPICS, WORDS, words

Row = Mapping[str, Any]
Table = dict[str, Row]

MY_ADDRESS = "me@mail.example"
MAX_ROWS = 1000

_FIRST_DAY = date(2026, 1, 1)
_HOSTS = ("mail.example", "post.example", "inbox.example")
_SUBJECTS = ("plan", "report", "draft", "offer", "invoice", "agenda", "schedule", "proposal")
_MEETINGS = ("review", "workshop", "briefing", "planning", "interview", "training")
_PLACES = words(
    """
    Bakery Bank Cafe Cinema Clinic Gallery Garage Hotel Library Market Museum Pharmacy School
    Stadium Station Theater
    """
)
_FOLDERS = ("archive", "documents", "downloads", "projects", "shared", "work")


@dataclass
class AssistantState:
    """What the assistant's tools see and change.

    Attributes:
        contacts: Name -> name, phone, email (read-only).
        places: Name -> place, address, opens, and its position in units of 100 m (read-only).
        files: Name -> name, path, size_kb, and for PDF files pages, author, summary (read-only).
        emails: Id -> folder (inbox or sent), sender, to, subject, body.
        events: Id -> title, date, time, invitee, link.
        notes: Id -> title, content.
        reminders: Id -> text, date.
        sms: Id -> phone, message (sent messages).
        writes: Number of mutations since the build.
    """

    contacts: Mapping[str, Row]
    places: Mapping[str, Row]
    files: Mapping[str, Row]
    emails: Table
    events: Table
    notes: Table
    reminders: Table
    sms: Table
    writes: int = 0

    @classmethod
    def build(cls, rng: random.Random) -> Self:
        """Build the state from a random generator."""
        contacts = _contacts(rng)
        return cls(
            contacts=contacts,
            places=_places(rng),
            files=_files(rng),
            emails=_emails(rng, contacts),
            events=_events(rng),
            notes=_notes(rng),
            reminders=_reminders(rng),
            sms=_sms(rng, contacts),
        )

    def copy(self) -> Self:
        """Return an independent copy; read-only tables and rows are shared."""
        return type(self)(
            contacts=self.contacts,
            places=self.places,
            files=self.files,
            emails=dict(self.emails),
            events=dict(self.events),
            notes=dict(self.notes),
            reminders=dict(self.reminders),
            sms=dict(self.sms),
            writes=self.writes,
        )

    def snapshot(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return the whole mutable state as JSON."""
        tables = {
            "emails": self.emails,
            "events": self.events,
            "notes": self.notes,
            "reminders": self.reminders,
            "sms": self.sms,
        }
        return {
            table: {key: dict(row) for key, row in rows.items()} for table, rows in tables.items()
        }

    def add(self, table: Table, row: Row) -> str:
        """Put a new row into a table of this state and return its id, one above the highest."""
        last = max(table, key=_number)
        key = f"{last[0]}{_number(last) + 1}"
        self.put(table, key, row)
        return key

    def put(self, table: Table, key: str, row: Row) -> None:
        """Put a row into a table of this state in place of the one with that id."""
        table[key] = row
        self.writes += 1


def _number(key: str) -> int:
    return int(key[1:])


def _table(rng: random.Random, letter: str, rows: list[Row]) -> Table:
    """Give rows increasing ids that start and step at random."""
    number = rng.randint(10, 60)
    table: Table = {}
    for row in rows:
        number += rng.randint(1, 7)
        table[f"{letter}{number}"] = row
    return table


def _day(rng: random.Random) -> str:
    return (_FIRST_DAY + timedelta(days=rng.randrange(365))).isoformat()


def _time(rng: random.Random) -> str:
    return f"{rng.randint(8, 18):02d}:{rng.choice((0, 15, 30, 45)):02d}"


def _titles(rng: random.Random, nouns: tuple[str, ...], count: int) -> list[str]:
    """Return different titles such as `Chess report`."""
    return [f"{topic.capitalize()} {rng.choice(nouns)}" for topic in rng.sample(TOPICS, count)]


def _contacts(rng: random.Random) -> dict[str, Row]:
    contacts: dict[str, Row] = {}
    # No first or last name occurs twice, so a half-known name still points to one contact.
    pairs = zip(rng.sample(FIRST_NAMES, 24), rng.sample(LAST_NAMES, 24), strict=True)
    prefixes = rng.sample(range(200, 1000), 24)
    for (first, last), prefix in zip(pairs, prefixes, strict=True):
        name = f"{first} {last}"
        # A number in the address, so that nobody can guess it from the name.
        address = f"{rng.choice((first, last)).lower()}{rng.randint(10, 99)}@{rng.choice(_HOSTS)}"
        phone = f"{prefix}-{rng.randrange(10_000):04d}"
        contacts[name] = {"name": name, "phone": phone, "email": address}
    return contacts


def _places(rng: random.Random) -> dict[str, Row]:
    places: dict[str, Row] = {}
    drawn = rng.sample(WORDS, 28)
    for kind, word, street in zip(rng.sample(_PLACES, 14), drawn[:14], drawn[14:], strict=True):
        name = f"{word.capitalize()} {kind}"
        places[name] = {
            "place": name,
            "address": f"{rng.randint(2, 98)} {street.capitalize()} Street",
            "opens": f"{rng.randint(7, 10):02d}:{rng.choice((0, 15, 30, 45)):02d}",
            "east": rng.randrange(200),
            "north": rng.randrange(200),
        }
    return places


def _files(rng: random.Random) -> dict[str, Row]:
    files: dict[str, Row] = {}
    for topic in rng.sample(TOPICS, 14):
        suffix = rng.choice(("pdf", "pdf", "pdf", "txt", "png")) if len(files) >= 6 else "pdf"
        name = f"{topic}_{rng.choice(_SUBJECTS)}.{suffix}"
        row: dict[str, Any] = {
            "name": name,
            "path": f"/{rng.choice(_FOLDERS)}/{rng.choice(WORDS)}/{name}",
            "size_kb": rng.randint(12, 980),
        }
        if suffix == "pdf":
            row["pages"] = rng.randint(2, 60)
            row["author"] = f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"
            row["summary"] = f"The budget for {topic} is {rng.randint(11, 99) * 100}."
        files[name] = row
    return files


def _emails(rng: random.Random, contacts: Mapping[str, Row]) -> Table:
    rows: list[Row] = []
    people = rng.sample(sorted(contacts), 12)
    for subject, name in zip(_titles(rng, _SUBJECTS, 12), people, strict=True):
        body = f"Please look at the {rng.choice(WORDS)} by {_day(rng)}."
        rows.append(_email("inbox", contacts[name]["email"], MY_ADDRESS, subject, body))
    return _table(rng, "M", rows)


def _email(folder: str, sender: str, to: str, subject: str, body: str) -> Row:
    return {"folder": folder, "sender": sender, "to": to, "subject": subject, "body": body}


def _events(rng: random.Random) -> Table:
    rows: list[Row] = []
    for title in _titles(rng, _MEETINGS, 8):
        link = f"meet.example/{rng.choice(WORDS)}{rng.randint(100, 999)}"
        rows.append(
            {"title": title, "date": _day(rng), "time": _time(rng), "invitee": "", "link": link}
        )
    return _table(rng, "V", rows)


def _notes(rng: random.Random) -> Table:
    rows: list[Row] = []
    for number, word in enumerate(rng.sample(WORDS, 10)):
        first, second = rng.sample(WORDS, 2)
        code = f"The code is {rng.randint(1000, 9999)}."
        content = code if number % 2 else f"Buy {first} and {second}."
        rows.append({"title": word.capitalize(), "content": content})
    return _table(rng, "N", rows)


def _reminders(rng: random.Random) -> Table:
    rows: list[Row] = [
        {"text": f"Check the {word}", "date": _day(rng)} for word in rng.sample(WORDS, 4)
    ]
    return _table(rng, "R", rows)


def _sms(rng: random.Random, contacts: Mapping[str, Row]) -> Table:
    rows: list[Row] = [
        {"phone": contacts[name]["phone"], "message": f"Thanks for the {rng.choice(WORDS)}"}
        for name in rng.sample(sorted(contacts), 3)
    ]
    return _table(rng, "S", rows)
