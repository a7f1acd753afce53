"""Families of tasks for the `assistant` domain with several calls.

Chains, several calls in one turn, recovery from an error, and chains longer than training shows.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from envs.tasks.assistant_slots import (
    coming_day,
    contact,
    message,
    new_rows,
    pick,
)
from envs.tasks.drafting import answered, call, steps
from envs.tasks.kinds import Draft, Kind, Missing
from mock_mcp.domains.assistant_state import Row
from mock_mcp.domains.assistant_tools import closest
from mock_mcp.names import WORDS
from mock_mcp.world import World
from rewards.goals import FinalAnswer


def _sms_by_name(world: World, rng: random.Random) -> Draft:
    row = contact(world, rng)
    sms = {"phone": row["phone"], "message": message(rng)}
    return Draft(
        {"name": row["name"], "message": sms["message"]},
        new_rows("sms", sms),
        steps(call("get_phone_number", name=row["name"]), call("send_sms", **sms)),
    )


def _email_by_name(world: World, rng: random.Random) -> Draft:
    row = contact(world, rng)
    mail = {"to": row["email"], "subject": rng.choice(WORDS).capitalize(), "body": message(rng)}
    return Draft(
        {"name": row["name"], "subject": mail["subject"], "body": mail["body"]},
        new_rows("emails", {"folder": "sent", **mail}),
        steps(call("get_email_address", name=row["name"]), call("compose_email", **mail)),
    )


def _forward_by_name(world: World, rng: random.Random) -> Draft:
    mail = pick(rng, world.assistant.emails)
    others = {
        name: row
        for name, row in world.assistant.contacts.items()
        if row["email"] != mail["sender"]
    }
    row = pick(rng, others)
    sent = {
        "folder": "sent",
        "to": row["email"],
        "subject": f"Fwd: {mail['subject']}",
        "body": mail["body"],
    }
    return Draft(
        {"subject": mail["subject"], "name": row["name"]},
        new_rows("emails", sent),
        steps(
            call("get_email_address", name=row["name"]),
            call("forward_email", subject=mail["subject"], to=row["email"]),
        ),
    )


def _invite_by_name(world: World, rng: random.Random) -> Draft:
    row = contact(world, rng)
    event = {
        "title": f"{rng.choice(WORDS).capitalize()} {rng.choice(('dinner', 'tour', 'picnic'))}",
        "date": coming_day(world, rng),
        "time": f"{rng.randint(8, 18):02d}:00",
    }
    invited = {**event, "invitee": row["email"]}
    return Draft(
        {**event, "name": row["name"]},
        new_rows("events", invited),
        steps(
            call("get_email_address", name=row["name"]), call("create_calendar_event", **invited)
        ),
    )


def _note_to_reminder(world: World, rng: random.Random) -> Draft:
    note = pick(rng, world.assistant.notes)
    row = {"text": note["content"], "date": coming_day(world, rng)}
    return Draft(
        {"title": note["title"], "date": row["date"]},
        new_rows("reminders", row),
        steps(call("open_note", title=note["title"]), call("create_reminder", **row)),
    )


def _pdf(world: World, rng: random.Random) -> Row:
    files = world.assistant.files
    return pick(rng, {name: row for name, row in files.items() if "summary" in row})


def _pdf_field(world: World, rng: random.Random) -> Draft:
    file = _pdf(world, rng)
    field, key = rng.choice((("author", "author"), ("number of pages", "pages")))
    return answered(
        {"file": file["name"], "field": field},
        field,
        file[key],
        call("open_file", name=file["name"]),
        call("summarize_pdf", path=file["path"]),
    )


def _file_path(world: World, rng: random.Random) -> Draft:
    file = pick(rng, world.assistant.files)
    return answered(
        {"file": file["name"]}, "path", file["path"], call("open_file", name=file["name"])
    )


def _two_phones(world: World, rng: random.Random) -> Draft:
    first, second = (
        world.assistant.contacts[name] for name in rng.sample(sorted(world.assistant.contacts), 2)
    )
    calls = tuple(call("get_phone_number", name=row["name"]) for row in (first, second))
    text = f"The phone numbers are {first['phone']} and {second['phone']}."
    return Draft(
        {"first": first["name"], "second": second["name"]},
        FinalAnswer((first["phone"], second["phone"]), "set"),
        steps(calls, text),
    )


def _sms_to_two(world: World, rng: random.Random) -> Draft:
    first, second = (
        world.assistant.contacts[name] for name in rng.sample(sorted(world.assistant.contacts), 2)
    )
    text = message(rng)
    rows = tuple({"phone": row["phone"], "message": text} for row in (first, second))
    return Draft(
        {"first": first["name"], "second": second["name"], "message": text},
        new_rows("sms", *rows),
        steps(
            tuple(call("get_phone_number", name=row["name"]) for row in (first, second)),
            tuple(call("send_sms", **row) for row in rows),
        ),
    )


def _meeting_link_sms(world: World, rng: random.Random) -> Draft:
    event, row = pick(rng, world.assistant.events), contact(world, rng)
    sms = {"phone": row["phone"], "message": event["link"]}
    return Draft(
        {"title": event["title"], "name": row["name"]},
        new_rows("sms", sms),
        steps(
            (
                call("get_meeting_link", title=event["title"]),
                call("get_phone_number", name=row["name"]),
            ),
            call("send_sms", **sms),
        ),
    )


def _note_email(world: World, rng: random.Random) -> Draft:
    note, row = pick(rng, world.assistant.notes), contact(world, rng)
    mail = {"to": row["email"], "subject": note["title"], "body": note["content"]}
    return Draft(
        {"title": note["title"], "name": row["name"]},
        new_rows("emails", {"folder": "sent", **mail}),
        steps(
            (call("open_note", title=note["title"]), call("get_email_address", name=row["name"])),
            call("compose_email", **mail),
        ),
    )


def _misspell(name: str, contacts: Mapping[str, Row], rng: random.Random) -> str:
    """Swap or double a letter of a name, so that the world still suggests this name alone."""
    wrongs = []
    for place in range(1, len(name) - 1):
        before, letter, following = name[:place], name[place], name[place + 1]
        wrongs += [
            f"{before}{following}{letter}{name[place + 2 :]}",
            f"{before}{letter}{name[place:]}",
        ]
    fitting = [wrong for wrong in wrongs if wrong != name and closest(wrong, contacts) == [name]]
    # Only a given name is left where no misspelling points back to one contact.
    return rng.choice(fitting) if fitting else name.split()[0]


def _misspelt_email(world: World, rng: random.Random) -> Draft:
    row = contact(world, rng)
    wrong = _misspell(row["name"], world.assistant.contacts, rng)
    return answered(
        {"name": wrong},
        "email address",
        row["email"],
        call("get_email_address", name=wrong),
        call("get_email_address", name=row["name"]),
    )


def _moved_number_sms(world: World, rng: random.Random) -> Draft:
    row = contact(world, rng)
    old = f"{rng.randint(100, 199)}-{rng.randrange(10_000):04d}"
    text = message(rng)
    return Draft(
        {"phone": old, "message": text},
        new_rows("sms", {"phone": row["phone"], "message": text}),
        steps(
            call("send_sms", phone=old, message=text),
            call("send_sms", phone=row["phone"], message=text),
        ),
        faults={"stale": {old: row["phone"]}},
    )


def _busy_sms(world: World, rng: random.Random) -> Draft:
    draft = _sms_by_name(world, rng)
    lookup, send = draft.reference
    return Draft(
        draft.slots, draft.goal, (lookup, send, send), faults={"transient": {"send_sms": 1}}
    )


def _pdf_to_note(world: World, rng: random.Random) -> Draft:
    file = _pdf(world, rng)
    row = {"title": f"{rng.choice(WORDS).capitalize()} summary", "content": file["summary"]}
    return Draft(
        {"file": file["name"], "title": row["title"]},
        new_rows("notes", row),
        steps(
            call("open_file", name=file["name"]),
            call("summarize_pdf", path=file["path"]),
            call("create_note", **row),
        ),
    )


def _pdf_to_email(world: World, rng: random.Random) -> Draft:
    file, row = _pdf(world, rng), contact(world, rng)
    mail = {"to": row["email"], "subject": rng.choice(WORDS).capitalize(), "body": file["summary"]}
    return Draft(
        {"file": file["name"], "name": row["name"], "subject": mail["subject"]},
        new_rows("emails", {"folder": "sent", **mail}),
        steps(
            call("open_file", name=file["name"]),
            call("summarize_pdf", path=file["path"]),
            call("get_email_address", name=row["name"]),
            call("compose_email", **mail),
        ),
    )


CHAINS: tuple[Kind, ...] = (
    Kind(
        name="sms_by_name",
        domain="assistant",
        tools=("get_phone_number", "send_sms"),
        depth=2,
        phrasings=(
            'Send the SMS "{message}" to {name}.',
            'Text "{message}" to {name}.',
            'Send {name} the text message "{message}".',
            'Send {name} an SMS that says "{message}".',
            'Please text {name}: "{message}".',
            'I want to send the SMS "{message}" to {name}.',
        ),
        heldout_phrasings=(
            'Let {name} know by SMS: "{message}".',
            '{name} should get the text message "{message}".',
        ),
        build=_sms_by_name,
        starter=True,
        missing=Missing(
            phrasings=(
                'Send the SMS "{message}".',
                'Text "{message}".',
                'I want to send the SMS "{message}".',
            ),
            heldout_phrasings=('Let them know by SMS: "{message}".',),
            names=("who", "whom", "recipient", "contact"),
            answer="To whom should I send the SMS?",
        ),
    ),
    Kind(
        name="email_by_name",
        domain="assistant",
        tools=("get_email_address", "compose_email"),
        depth=2,
        phrasings=(
            'Email {name} with the subject "{subject}" and the body "{body}".',
            'Send {name} an email with the subject "{subject}": "{body}".',
            'Write an email "{body}" with the subject "{subject}" to {name}.',
            'Send the email "{body}" with the subject "{subject}" to {name}.',
            'Please mail {name} "{body}" under the subject "{subject}".',
            'Compose an email to {name}. Subject "{subject}", body "{body}".',
        ),
        heldout_phrasings=(
            '{name} should get an email: subject "{subject}", body "{body}".',
            'Under the subject "{subject}", email "{body}" to {name}.',
        ),
        build=_email_by_name,
        missing=Missing(
            phrasings=(
                'Send an email with the subject "{subject}" and the body "{body}".',
                'Compose an email. Subject "{subject}", body "{body}".',
            ),
            heldout_phrasings=('Email "{body}" under the subject "{subject}".',),
            names=("who", "whom", "recipient", "contact"),
            answer="To whom should I send the email?",
        ),
    ),
    Kind(
        name="forward_by_name",
        domain="assistant",
        tools=("get_email_address", "forward_email"),
        depth=2,
        phrasings=(
            'Forward the email "{subject}" to {name}.',
            'Send the email "{subject}" on to {name}.',
            'Please forward "{subject}" from my inbox to {name}.',
            '{name} needs the email "{subject}". Forward it.',
            'Pass the email "{subject}" on to {name}.',
            'I want to forward the email "{subject}" to {name}.',
        ),
        heldout_phrasings=(
            'Let {name} have the email "{subject}" too.',
            'Share the email "{subject}" with {name} by forwarding it.',
        ),
        build=_forward_by_name,
        missing=Missing(
            phrasings=('Forward the email "{subject}".', 'Pass the email "{subject}" on.'),
            heldout_phrasings=('Share the email "{subject}" by forwarding it.',),
            names=("who", "whom", "recipient", "contact"),
            answer="To whom should I forward the email?",
        ),
    ),
    Kind(
        name="invite_by_name",
        domain="assistant",
        tools=("get_email_address", "create_calendar_event"),
        depth=2,
        phrasings=(
            'Create the event "{title}" on {date} at {time} and invite {name}.',
            'Invite {name} to the new event "{title}" on {date} at {time}.',
            'Schedule "{title}" with {name} as invitee for {date} at {time}.',
            'Put "{title}" into my calendar for {date} at {time} and invite {name}.',
            'Add the event "{title}" on {date}, {time}, with {name} invited.',
            'I plan "{title}" on {date} at {time}. Create the event and invite {name}.',
        ),
        heldout_phrasings=(
            '{name} is invited to "{title}" on {date} at {time}. Create that event.',
            'Set up "{title}" for {date} at {time}, inviting {name}.',
        ),
        build=_invite_by_name,
    ),
    Kind(
        name="note_to_reminder",
        domain="assistant",
        tools=("open_note", "create_reminder"),
        depth=2,
        phrasings=(
            'Create a reminder for {date} with the content of the note "{title}".',
            'Remind me on {date} of what the note "{title}" says.',
            'Copy the content of the note "{title}" into a reminder for {date}.',
            'Use the content of my note "{title}" as a reminder on {date}.',
            'Open the note "{title}" and make its content a reminder for {date}.',
            'The content of the note "{title}" should become a reminder for {date}.',
        ),
        heldout_phrasings=(
            'On {date} I want to be reminded of the content of the note "{title}".',
            'Turn the note "{title}" into a reminder for {date} with the same content.',
        ),
        build=_note_to_reminder,
    ),
    Kind(
        name="pdf_field",
        domain="assistant",
        tools=("open_file", "summarize_pdf"),
        depth=2,
        phrasings=(
            "What is the {field} of the file {file}?",
            "Tell me the {field} of {file}.",
            "Find the {field} of the PDF {file}.",
            "I need the {field} of the file {file}.",
            "Look up the {field} of {file}.",
            "Summarize {file} and tell me the {field}.",
        ),
        heldout_phrasings=(
            "Which {field} does the PDF {file} have?",
            "Have a look at {file}. What is the {field}?",
        ),
        build=_pdf_field,
        missing=Missing(
            phrasings=("What is the {field} of the file?", "Tell me the {field} of the PDF."),
            heldout_phrasings=("Have a look at the PDF. What is the {field}?",),
            names=("which file", "which pdf", "file name", "name of the"),
            answer="Which file do you mean?",
        ),
    ),
    Kind(
        name="file_path",
        domain="assistant",
        tools=("open_file",),
        depth=1,
        phrasings=(
            "What is the path of the file {file}?",
            "Tell me the path of {file}.",
            "Find the path of the file {file}.",
            "I need the path of {file}.",
            "Look up the path of the file {file}.",
            "Give me the path of {file}, please.",
        ),
        heldout_phrasings=(
            "Which path does the file {file} have?",
            "I cannot find {file}. What is its path?",
        ),
        build=_file_path,
    ),
    Kind(
        name="two_phones",
        domain="assistant",
        tools=("get_phone_number",),
        depth=2,
        phrasings=(
            "What are the phone numbers of {first} and {second}?",
            "Tell me the phone numbers of {first} and {second}.",
            "Find the phone numbers of {first} and {second}.",
            "I need the phone numbers of {first} and {second}.",
            "Look up the phone numbers of {first} and {second}.",
            "Give me the phone numbers of both {first} and {second}.",
        ),
        heldout_phrasings=(
            "Which phone numbers do {first} and {second} have?",
            "I want to call {first} and {second}. What are their phone numbers?",
        ),
        build=_two_phones,
    ),
    Kind(
        name="sms_to_two",
        domain="assistant",
        tools=("get_phone_number", "send_sms"),
        depth=4,
        phrasings=(
            'Send the SMS "{message}" to {first} and {second}.',
            'Text "{message}" to {first} and {second}.',
            'Send {first} and {second} the text message "{message}".',
            'Send both {first} and {second} an SMS that says "{message}".',
            'Please text {first} and {second}: "{message}".',
            'I want to send the SMS "{message}" to {first} and to {second}.',
        ),
        heldout_phrasings=(
            'Let {first} and {second} know by SMS: "{message}".',
            '{first} and {second} should each get the text message "{message}".',
        ),
        build=_sms_to_two,
    ),
    Kind(
        name="meeting_link_sms",
        domain="assistant",
        tools=("get_meeting_link", "get_phone_number", "send_sms"),
        depth=3,
        phrasings=(
            'Send {name} the link of the meeting "{title}" by SMS.',
            'Text the link of the meeting "{title}" to {name}.',
            'Send an SMS with the link of the meeting "{title}" to {name}.',
            'Please text {name} the link of the meeting "{title}".',
            '{name} needs the link of the meeting "{title}". Send it by SMS.',
            'I want to text the link of the meeting "{title}" to {name}.',
        ),
        heldout_phrasings=(
            'Let {name} have the link of the meeting "{title}" by SMS.',
            '{name} joins "{title}". Send the link of that meeting by SMS.',
        ),
        build=_meeting_link_sms,
    ),
    Kind(
        name="note_email",
        domain="assistant",
        tools=("open_note", "get_email_address", "compose_email"),
        depth=3,
        phrasings=(
            'Email the content of the note "{title}" to {name}, with its title as the subject.',
            'Send {name} the note "{title}" by email: title as subject, content as body.',
            'Write an email to {name}. Subject "{title}", body the content of that note.',
            'Please email {name} my note "{title}", the title being the subject.',
            'Mail the content of my note "{title}" to {name} under the subject "{title}".',
            'I want to email the content of the note "{title}" to {name}. Subject "{title}".',
        ),
        heldout_phrasings=(
            'Under the subject "{title}", email {name} the content of the note "{title}".',
            '{name} should get the content of the note "{title}" by email, subject "{title}".',
        ),
        build=_note_email,
    ),
    Kind(
        name="misspelt_email",
        domain="assistant",
        tools=("get_email_address",),
        depth=2,
        phrasings=(
            "What is the email address of my contact {name}?",
            "Tell me the email address of my contact {name}.",
            "Find the email address of the contact {name}.",
            "I need the email address of the contact {name}.",
            "Look up the email address of my contact {name}.",
            "Give me the email address of my contact {name}.",
        ),
        heldout_phrasings=(
            "Which email address does my contact {name} have?",
            "My contact {name} has an email address. What is the email address?",
        ),
        build=_misspelt_email,
    ),
    Kind(
        name="moved_number_sms",
        domain="assistant",
        tools=("send_sms",),
        depth=2,
        phrasings=(
            'Send the SMS "{message}" to {phone}.',
            'Text "{message}" to {phone}.',
            'Send the text message "{message}" to the number {phone}.',
            'Send an SMS to {phone} that says "{message}".',
            'Please text {phone}: "{message}".',
            'I want to send the SMS "{message}" to {phone}.',
        ),
        heldout_phrasings=(
            'The number {phone} should get the SMS "{message}".',
            'Write an SMS to {phone}: "{message}".',
        ),
        build=_moved_number_sms,
    ),
    Kind(
        name="busy_sms",
        domain="assistant",
        tools=("get_phone_number", "send_sms"),
        depth=3,
        phrasings=(
            'Send an SMS to {name} with the text "{message}".',
            'Text {name} this: "{message}".',
            'Send {name} an SMS: "{message}".',
            'Please send {name} the SMS "{message}".',
            'I want {name} to get the SMS "{message}".',
            'Send the text "{message}" by SMS to {name}.',
        ),
        heldout_phrasings=(
            'Drop {name} an SMS with the text "{message}".',
            'Get the SMS "{message}" to {name}.',
        ),
        build=_busy_sms,
    ),
    Kind(
        name="pdf_to_note",
        domain="assistant",
        tools=("open_file", "summarize_pdf", "create_note"),
        depth=3,
        phrasings=(
            'Summarize the file {file} and save the summary as the new note "{title}".',
            'Create the note "{title}" with the summary of {file} as its content.',
            'Put the summary of {file} into a new note "{title}".',
            'Save the summary of the PDF {file} in the new note "{title}".',
            'I need a new note "{title}" that holds the summary of {file}.',
            'Write the summary of {file} into a new note called "{title}".',
        ),
        heldout_phrasings=(
            'Make the summary of {file} the content of a new note "{title}".',
            'The summary of {file} belongs into a new note "{title}".',
        ),
        build=_pdf_to_note,
        heldout=True,
    ),
    Kind(
        name="pdf_to_email",
        domain="assistant",
        tools=("open_file", "summarize_pdf", "get_email_address", "compose_email"),
        depth=4,
        phrasings=(
            'Email the summary of {file} to {name} with the subject "{subject}".',
            'Send {name} the summary of {file} by email, subject "{subject}".',
            'Summarize {file} and email the summary to {name}, subject "{subject}".',
            'Mail {name} the summary of the file {file} under the subject "{subject}".',
            'Write an email "{subject}" to {name} with the summary of {file} as the body.',
            '{name} needs the summary of {file} by email. Use the subject "{subject}".',
        ),
        heldout_phrasings=(
            'Let {name} have the summary of {file} by email with the subject "{subject}".',
            'Under the subject "{subject}", email the summary of {file} to {name}.',
        ),
        build=_pdf_to_email,
        heldout=True,
    ),
)
