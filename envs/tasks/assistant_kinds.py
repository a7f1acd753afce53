"""Families of tasks for the `assistant` domain: here those with one call, then all of them.

Requests name the field that is wanted and quote what is to be copied.
"""

from __future__ import annotations

import random

from envs.tasks.assistant_chains import CHAINS
from envs.tasks.assistant_slots import (
    coming_day,
    contact,
    message,
    new_rows,
    pick,
)
from envs.tasks.drafting import answered, call, steps
from envs.tasks.kinds import Draft, Kind, Missing
from mock_mcp.names import TOPICS, WORDS
from mock_mcp.world import World
from rewards.goals import FinalState, ReturnedData


def _phone_lookup(world: World, rng: random.Random) -> Draft:
    row = contact(world, rng)
    name = row["name"]
    return answered(
        {"name": name}, "phone number", row["phone"], call("get_phone_number", name=name)
    )


def _email_lookup(world: World, rng: random.Random) -> Draft:
    row = contact(world, rng)
    name = row["name"]
    return answered(
        {"name": name}, "email address", row["email"], call("get_email_address", name=name)
    )


def _create_reminder(world: World, rng: random.Random) -> Draft:
    row = {"text": message(rng), "date": coming_day(world, rng)}
    return Draft(row, new_rows("reminders", row), steps(call("create_reminder", **row)))


def _note_code(world: World, rng: random.Random) -> Draft:
    notes = {key: row for key, row in world.assistant.notes.items() if "code" in row["content"]}
    note = pick(rng, notes)
    code = note["content"].removesuffix(".").split()[-1]
    return answered({"title": note["title"]}, "code", code, call("open_note", title=note["title"]))


def _create_note(world: World, rng: random.Random) -> Draft:
    # Two words, while the titles of the world's own notes have one.
    title = f"{rng.choice(TOPICS).capitalize()} {rng.choice(('ideas', 'list', 'tips', 'facts'))}"
    row = {"title": title, "content": message(rng)}
    return Draft(row, new_rows("notes", row), steps(call("create_note", **row)))


def _append_note(world: World, rng: random.Random) -> Draft:
    key = rng.choice(sorted(world.assistant.notes))
    note = world.assistant.notes[key]
    slots = {"title": note["title"], "content": message(rng)}
    row = {"title": note["title"], "content": f"{note['content']}\n{slots['content']}"}
    return Draft(
        slots, FinalState({"assistant.notes": {key: row}}), steps(call("append_note", **slots))
    )


def _reply_email(world: World, rng: random.Random) -> Draft:
    mail = pick(rng, world.assistant.emails)
    slots = {"subject": mail["subject"], "body": message(rng)}
    row = {
        "folder": "sent",
        "to": mail["sender"],
        "subject": f"Re: {mail['subject']}",
        "body": slots["body"],
    }
    return Draft(slots, new_rows("emails", row), steps(call("reply_to_email", **slots)))


def _calendar_event(world: World, rng: random.Random) -> Draft:
    row = {
        "title": f"{rng.choice(WORDS).capitalize()} {rng.choice(('party', 'lunch', 'visit'))}",
        "date": coming_day(world, rng),
        "time": f"{rng.randint(8, 18):02d}:{rng.choice((0, 15, 30, 45)):02d}",
    }
    goal = new_rows("events", {**row, "invitee": ""})
    return Draft(row, goal, steps(call("create_calendar_event", **row)))


def _meeting_field(world: World, rng: random.Random) -> Draft:
    event = pick(rng, world.assistant.events)
    field = rng.choice(("link", "date", "time"))
    slots = {"title": event["title"], "field": field}
    return answered(slots, field, event[field], call("get_meeting_link", title=event["title"]))


def _place_field(world: World, rng: random.Random) -> Draft:
    place = pick(rng, world.assistant.places)
    field, key = rng.choice((("address", "address"), ("opening time", "opens")))
    slots = {"place": place["place"], "field": field}
    return answered(slots, field, place[key], call("maps_open_location", place=place["place"]))


def _show_location(world: World, rng: random.Random) -> Draft:
    place = pick(rng, world.assistant.places)["place"]
    goal = ReturnedData("maps_open_location", "place", place)
    return Draft({"place": place}, goal, steps(call("maps_open_location", place=place)))


def _distance(world: World, rng: random.Random) -> Draft:
    origin, destination = (
        world.assistant.places[name] for name in rng.sample(sorted(world.assistant.places), 2)
    )
    slots = {"origin": origin["place"], "destination": destination["place"]}
    units = sum(abs(origin[axis] - destination[axis]) for axis in ("east", "north"))
    return answered(slots, "distance in km", units / 10, call("maps_show_directions", **slots))


def _travel_time(world: World, rng: random.Random) -> Draft:
    origin, destination = (
        world.assistant.places[name] for name in rng.sample(sorted(world.assistant.places), 2)
    )
    transport, km_h = rng.choice((("car", 30), ("bicycle", 15)))
    slots = {
        "origin": origin["place"],
        "destination": destination["place"],
        "transport": transport,
    }
    units = sum(abs(origin[axis] - destination[axis]) for axis in ("east", "north"))
    minutes = -(-units * 6 // km_h)
    return answered(slots, "time in minutes", minutes, call("maps_show_directions", **slots))


_SINGLE: tuple[Kind, ...] = (
    Kind(
        name="phone_lookup",
        domain="assistant",
        tools=("get_phone_number",),
        depth=1,
        phrasings=(
            "What is the phone number of {name}?",
            "Tell me the phone number of {name}.",
            "Find the phone number of {name}.",
            "I need the phone number of {name}.",
            "Look up the phone number of {name}.",
            "Give me the phone number of {name}, please.",
        ),
        heldout_phrasings=(
            "Which phone number does {name} have?",
            "Could you check the phone number for {name}?",
        ),
        build=_phone_lookup,
        starter=True,
        missing=Missing(
            phrasings=(
                "What is the phone number?",
                "Tell me the phone number.",
                "I need a phone number.",
            ),
            heldout_phrasings=("Could you check the phone number?",),
            names=("whose", "contact", "name", "person"),
            answer="Whose phone number do you mean?",
        ),
    ),
    Kind(
        name="email_lookup",
        domain="assistant",
        tools=("get_email_address",),
        depth=1,
        phrasings=(
            "What is the email address of {name}?",
            "Tell me the email address of {name}.",
            "Find the email address of {name}.",
            "I need the email address of {name}.",
            "Look up the email address of {name}.",
            "Give me the email address of {name}, please.",
        ),
        heldout_phrasings=(
            "Which email address does {name} have?",
            "Could you check the email address for {name}?",
        ),
        build=_email_lookup,
        starter=True,
        missing=Missing(
            phrasings=(
                "What is the email address?",
                "Tell me the email address.",
                "I need an email address.",
            ),
            heldout_phrasings=("Could you check the email address?",),
            names=("whose", "contact", "name", "person"),
            answer="Whose email address do you mean?",
        ),
    ),
    Kind(
        name="create_reminder",
        domain="assistant",
        tools=("create_reminder",),
        depth=1,
        phrasings=(
            'Create the reminder "{text}" for {date}.',
            'Remind me on {date}: "{text}".',
            'Add a reminder for {date} with the text "{text}".',
            'Please create a reminder "{text}" on {date}.',
            'Set the reminder "{text}" for {date}.',
            'I need the reminder "{text}" on {date}.',
        ),
        heldout_phrasings=(
            'Make sure that I am reminded of "{text}" on {date}.',
            'On {date} I want the reminder "{text}".',
        ),
        build=_create_reminder,
        starter=True,
        missing=Missing(
            phrasings=(
                'Create the reminder "{text}".',
                'Remind me: "{text}".',
                'Set the reminder "{text}".',
            ),
            heldout_phrasings=('I want the reminder "{text}".',),
            names=("date", "day", "when"),
            answer="For which date should the reminder be?",
        ),
    ),
    Kind(
        name="note_code",
        domain="assistant",
        tools=("open_note",),
        depth=1,
        phrasings=(
            'What is the code in the note "{title}"?',
            'Open the note "{title}" and tell me the code.',
            'Tell me the code from the note "{title}".',
            'Which code is in my note "{title}"?',
            'I need the code that the note "{title}" holds.',
            'Read the note "{title}". What is the code?',
        ),
        heldout_phrasings=(
            'My note "{title}" has a code. What is the code?',
            'Could you get the code out of the note "{title}"?',
        ),
        build=_note_code,
        missing=Missing(
            phrasings=("What is the code in my note?", "Tell me the code from the note."),
            heldout_phrasings=("Could you get the code out of my note?",),
            names=("which note", "title", "name", "called"),
            answer="Which note do you mean?",
        ),
    ),
    Kind(
        name="create_note",
        domain="assistant",
        tools=("create_note",),
        depth=1,
        phrasings=(
            'Create the note "{title}" with the content "{content}".',
            'Write a new note "{title}": "{content}".',
            'Make a note with the title "{title}" and the content "{content}".',
            'Add a new note called "{title}" that says "{content}".',
            'Please note "{content}" under the new title "{title}".',
            'I want a new note "{title}" with the content "{content}".',
        ),
        heldout_phrasings=(
            'Start a note "{title}" and put "{content}" into it.',
            'Save "{content}" as a new note with the title "{title}".',
        ),
        build=_create_note,
    ),
    Kind(
        name="append_note",
        domain="assistant",
        tools=("append_note",),
        depth=1,
        phrasings=(
            'Add "{content}" to the note "{title}".',
            'Append "{content}" to my note "{title}".',
            'Put the line "{content}" at the end of the note "{title}".',
            'The note "{title}" needs one more line: "{content}".',
            'Write "{content}" below what the note "{title}" says.',
            'Extend the note "{title}" with "{content}".',
        ),
        heldout_phrasings=(
            'Please let the note "{title}" end with "{content}".',
            'One more line for the note "{title}": "{content}".',
        ),
        build=_append_note,
        missing=Missing(
            phrasings=('Add "{content}" to the note.', 'Append "{content}" to my note.'),
            heldout_phrasings=('Write "{content}" into my note, please.',),
            names=("which note", "title", "name", "called"),
            answer="Which note do you mean?",
        ),
    ),
    Kind(
        name="reply_email",
        domain="assistant",
        tools=("reply_to_email",),
        depth=1,
        phrasings=(
            'Reply "{body}" to the email "{subject}".',
            'Answer the email "{subject}" with "{body}".',
            'Reply to the email with the subject "{subject}": "{body}".',
            'Send "{body}" as a reply to the email "{subject}".',
            'My reply to the email "{subject}" is "{body}".',
            'Please answer "{body}" to the email "{subject}".',
        ),
        heldout_phrasings=(
            'Write back "{body}" to whoever sent the email "{subject}".',
            'The email "{subject}" should get the reply "{body}".',
        ),
        build=_reply_email,
        missing=Missing(
            phrasings=('Reply "{body}" to the email.', 'Answer the email with "{body}".'),
            heldout_phrasings=('Write back "{body}".',),
            names=("which email", "which e-mail", "which mail", "subject"),
            answer="Which email should I reply to?",
        ),
    ),
    Kind(
        name="calendar_event",
        domain="assistant",
        tools=("create_calendar_event",),
        depth=1,
        phrasings=(
            'Create the calendar event "{title}" on {date} at {time}.',
            'Add the event "{title}" to my calendar on {date} at {time}.',
            'Put "{title}" into the calendar for {date}, {time}.',
            'Schedule the event "{title}" for {date} at {time}.',
            'On {date} at {time} I have the event "{title}". Put it into my calendar.',
            'Please enter "{title}" in my calendar: {date}, {time}.',
        ),
        heldout_phrasings=(
            'Block {date} at {time} in my calendar for "{title}".',
            'My calendar should show "{title}" on {date} at {time}.',
        ),
        build=_calendar_event,
        missing=Missing(
            phrasings=(
                'Create the calendar event "{title}" at {time}.',
                'Schedule the event "{title}" for {time}.',
            ),
            heldout_phrasings=('My calendar should show "{title}" at {time}.',),
            names=("date", "day", "when"),
            answer="On which date is the event?",
        ),
    ),
    Kind(
        name="meeting_field",
        domain="assistant",
        tools=("get_meeting_link",),
        depth=1,
        phrasings=(
            'What is the {field} of the meeting "{title}"?',
            'Tell me the {field} of the meeting "{title}".',
            'I need the {field} of the meeting "{title}".',
            'Find the {field} of the meeting "{title}".',
            'Give me the {field} of the meeting "{title}", please.',
            'Look up the {field} of the meeting "{title}".',
        ),
        heldout_phrasings=(
            'Which {field} does the meeting "{title}" have?',
            'I want to join "{title}". What is its {field}?',
        ),
        build=_meeting_field,
        missing=Missing(
            phrasings=("What is the {field} of the meeting?", "Tell me the {field} of my meeting."),
            heldout_phrasings=("I want to join the meeting. What is its {field}?",),
            names=("which meeting", "title", "name", "called"),
            answer="Which meeting do you mean?",
        ),
    ),
    Kind(
        name="place_field",
        domain="assistant",
        tools=("maps_open_location",),
        depth=1,
        phrasings=(
            "What is the {field} of the {place}?",
            "Tell me the {field} of the {place}.",
            "I need the {field} of the {place}.",
            "Find the {field} of the {place} on the map.",
            "Look up the {field} of the {place}.",
            "Give me the {field} of the {place}, please.",
        ),
        heldout_phrasings=(
            "Which {field} does the {place} have?",
            "I want to visit the {place}. What is the {field}?",
        ),
        build=_place_field,
        missing=Missing(
            phrasings=("What is the {field} of the place?", "Tell me the {field}."),
            heldout_phrasings=("I want to go there. What is the {field}?",),
            names=("which place", "which location", "name", "where"),
            answer="Which place do you mean?",
        ),
    ),
    Kind(
        name="show_location",
        domain="assistant",
        tools=("maps_open_location",),
        depth=1,
        phrasings=(
            "Show me the {place} on the map.",
            "Open the {place} in maps.",
            "Show the location of the {place}.",
            "Open the map at the {place}.",
            "Where on the map is the {place}? Show it.",
            "Please open the location of the {place}.",
        ),
        heldout_phrasings=(
            "Let me see the {place} on a map.",
            "Bring up the {place} in the map.",
        ),
        build=_show_location,
    ),
    Kind(
        name="distance",
        domain="assistant",
        tools=("maps_show_directions",),
        depth=1,
        phrasings=(
            "What is the distance in km from {origin} to {destination}?",
            "How many km is it from {origin} to {destination}?",
            "Tell me the distance in km from {origin} to {destination}.",
            "Find the distance in km from {origin} to {destination}.",
            "I need the distance in km from {origin} to {destination}.",
            "I go from {origin} to {destination}. What is the distance in km?",
        ),
        heldout_phrasings=(
            "How far is it in km from {origin} to {destination}?",
            "How many km lie between {origin} and {destination}?",
        ),
        build=_distance,
        missing=Missing(
            phrasings=(
                "What is the distance in km from {origin}?",
                "How many km is it from {origin}?",
            ),
            heldout_phrasings=("How far is it in km from {origin}?",),
            names=("where", "destination", "which place"),
            answer="To which destination do you want to go?",
        ),
    ),
    Kind(
        name="travel_time",
        domain="assistant",
        tools=("maps_show_directions",),
        depth=1,
        phrasings=(
            "What is the time in minutes by {transport} from {origin} to {destination}?",
            "How many minutes is it by {transport} from {origin} to {destination}?",
            "Tell me the time in minutes from {origin} to {destination} by {transport}.",
            "I go by {transport} from {origin} to {destination}. What is the time in minutes?",
            "By {transport}, what is the time in minutes from {origin} to {destination}?",
            "Find the time in minutes by {transport} from {origin} to {destination}.",
        ),
        heldout_phrasings=(
            "How long in minutes is the way from {origin} to {destination} by {transport}?",
            "Going by {transport}, how many minutes from {origin} to {destination}?",
        ),
        build=_travel_time,
    ),
)

KINDS: tuple[Kind, ...] = _SINGLE + CHAINS
