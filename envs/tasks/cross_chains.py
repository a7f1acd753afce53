"""Families of tasks over several domains outside of the starter family, with up to 5 calls."""

from __future__ import annotations

import random
from datetime import timedelta

from envs.tasks.assistant_slots import coming_day, contact, message, new_rows
from envs.tasks.data_slots import subject
from envs.tasks.database_chains import customer_call, order_call, product_call
from envs.tasks.database_slots import changed, draw, row_of, unused_key
from envs.tasks.drafting import answered, call, steps
from envs.tasks.kinds import Draft, Kind
from envs.tasks.math_slots import MONEY_TOLERANCE, currencies
from envs.tasks.phrasings import heldout_questions, questions
from envs.tasks.search_slots import subjects, value_attribute
from mock_mcp import tables
from mock_mcp.domains import math_tools
from mock_mcp.domains.database_company import Row
from mock_mcp.names import TOPICS, WORDS
from mock_mcp.world import World
from rewards.episode import ToolCall


def _note_title(rng: random.Random) -> str:
    """Draw a title of two words, while the titles of the world's own notes have one."""
    return f"{rng.choice(TOPICS).capitalize()} {rng.choice(('value', 'figure', 'record', 'data'))}"


def _order_value(order: Row, price: int) -> tuple[int, ToolCall]:
    """Return what an order costs, and the call that computes it."""
    quantity = order["quantity"]
    return price * quantity, call("calculate", expression=f"{price} * {quantity}")


def _order_total(world: World, rng: random.Random) -> Draft:
    order = draw(world, rng, "orders")
    price = row_of(world, "products", order["product_id"])["price"]
    total, compute = _order_value(order, price)
    slots = {"order": order["order_id"]}
    return answered(slots, "total", total, order_call(order), product_call(order), compute)


def _order_total_note(world: World, rng: random.Random) -> Draft:
    order, title = draw(world, rng, "orders"), _note_title(rng)
    price = row_of(world, "products", order["product_id"])["price"]
    total, compute = _order_value(order, price)
    note = {"title": title, "content": str(total)}
    return Draft(
        {"order": order["order_id"], "title": title},
        new_rows("notes", note),
        steps(order_call(order), product_call(order), compute, call("create_note", **note)),
    )


def _order_bill(world: World, rng: random.Random) -> Draft:
    order, subject_line = draw(world, rng, "orders"), rng.choice(WORDS).capitalize()
    price = row_of(world, "products", order["product_id"])["price"]
    total, compute = _order_value(order, price)
    mail = {
        "to": row_of(world, "customers", order["customer_id"])["email"],
        "subject": subject_line,
        "body": str(total),
    }
    return Draft(
        {"order": order["order_id"], "subject": subject_line},
        new_rows("emails", {"folder": "sent", **mail}),
        steps(
            order_call(order),
            (customer_call(order), product_call(order)),
            compute,
            call("compose_email", **mail),
        ),
    )


def _customer_email(world: World, rng: random.Random) -> Draft:
    customer = draw(world, rng, "customers")
    text = {"subject": rng.choice(WORDS).capitalize(), "body": message(rng)}
    mail = {"to": customer["email"], **text}
    return Draft(
        {"customer": customer["customer_id"], **text},
        new_rows("emails", {"folder": "sent", **mail}),
        steps(customer_call(customer), call("compose_email", **mail)),
    )


def _price_sms(world: World, rng: random.Random) -> Draft:
    product, person = draw(world, rng, "products"), contact(world, rng)
    sms = {"phone": person["phone"], "message": str(product["price"])}
    return Draft(
        {"product": product["product_id"], "name": person["name"]},
        new_rows("sms", sms),
        steps(
            (product_call(product), call("get_phone_number", name=person["name"])),
            call("send_sms", **sms),
        ),
    )


def _product_reminder(world: World, rng: random.Random) -> Draft:
    product, day = draw(world, rng, "products"), coming_day(world, rng)
    row = {"text": product["name"], "date": day}
    return Draft(
        {"product": product["product_id"], "date": day},
        new_rows("reminders", row),
        steps(product_call(product), call("create_reminder", **row)),
    )


def _reminder_in_days(world: World, rng: random.Random) -> Draft:
    days, text, today = rng.randint(2, 90), message(rng), world.math.today
    row = {"text": text, "date": (today + timedelta(days=days)).isoformat()}
    return Draft(
        {"days": str(days), "text": text},
        new_rows("reminders", row),
        steps(
            call("today"),
            call("add_days", date=today.isoformat(), days=days),
            call("create_reminder", **row),
        ),
    )


def _spread(world: World, rng: random.Random) -> Draft:
    one = subject(world, rng)
    column = rng.choice(one.numbers)
    most, least = (tables.aggregated(one.table, column, name) for name in ("max", "min"))
    ask = {"table": one.name, "column": column}
    return answered(
        ask,
        "difference",
        most - least,
        tuple(call("aggregate_table", **ask, function=name) for name in ("max", "min")),
        call("calculate", expression=f"{most} - {least}"),
    )


def _aggregate_to_stock(world: World, rng: random.Random) -> Draft:
    one = subject(world, rng)
    ask = {
        "table": one.name,
        "column": rng.choice(one.numbers),
        "function": rng.choice(("sum", "min", "max")),
    }
    stock = int(tables.aggregated(one.table, ask["column"], ask["function"]))
    # A stock that is right already would leave nothing to do.
    product = draw(world, rng, "products", lambda row: row["stock"] != stock)
    key = product["product_id"]
    return Draft(
        {"product": key, **ask},
        changed("products", {key: {**product, "stock": stock}}),
        steps(call("aggregate_table", **ask), call("update_stock", product_id=key, stock=stock)),
    )


def _export_note(world: World, rng: random.Random) -> Draft:
    small = [name for name, table in world.data.tables.items() if len(table.rows) <= 10]
    name, title = rng.choice(small), _note_title(rng)
    note = {"title": title, "content": tables.to_csv(world.data.tables[name])}
    return Draft(
        {"table": name, "title": title},
        new_rows("notes", note),
        steps(call("export_table", table=name, format="csv"), call("create_note", **note)),
    )


def _fact_sms(world: World, rng: random.Random) -> Draft:
    page, person = rng.choice(subjects(world)), contact(world, rng)
    attribute = value_attribute(page, rng)
    sms = {"phone": person["phone"], "message": str(page.facts[attribute])}
    return Draft(
        {"page": page.page_id, "attribute": attribute, "name": person["name"]},
        new_rows("sms", sms),
        steps(
            (
                call("find_in_page", page_id=page.page_id, text=attribute),
                call("get_phone_number", name=person["name"]),
            ),
            call("send_sms", **sms),
        ),
    )


def _population_sum(world: World, rng: random.Random) -> Draft:
    first, second = rng.sample(subjects(world, "town"), 2)
    numbers = (first.facts["population"], second.facts["population"])
    return answered(
        {"first": first.page_id, "second": second.page_id},
        "total",
        sum(map(int, numbers)),
        tuple(
            call("find_in_page", page_id=page.page_id, text="population")
            for page in (first, second)
        ),
        call("calculate", expression=f"{numbers[0]} + {numbers[1]}"),
    )


def _recovering_conversion(world: World, rng: random.Random, *, stale: bool, busy: bool) -> Draft:
    product, (source, target) = draw(world, rng, "products"), currencies(world, rng, 2)
    asked = unused_key(world, rng, "products") if stale else product["product_id"]
    convert = call(
        "convert_currency", amount=product["price"], from_currency=source, to_currency=target
    )
    amount = math_tools.convert_currency(world, product["price"], source, target)["amount"]
    first = [call("get_product", product_id=asked)] if stale else []
    return answered(
        {"product": asked, "source": source, "target": target},
        "amount",
        amount,
        *first,
        product_call(product),
        *([convert] if busy else []),
        convert,
        faults={"stale": {asked: product["product_id"]}}
        if stale
        else {"transient": {"convert_currency": 1}},
        tolerance=MONEY_TOLERANCE,
    )


def _stale_price_conversion(world: World, rng: random.Random) -> Draft:
    return _recovering_conversion(world, rng, stale=True, busy=False)


def _busy_price_conversion(world: World, rng: random.Random) -> Draft:
    return _recovering_conversion(world, rng, stale=False, busy=True)


_CONVERSIONS = (
    "Convert the price of product {product} from {source} to {target}.",
    "What is the price of product {product} when converted from {source} to {target}?",
    "The price of product {product} is in {source}. What amount is that in {target}?",
    "Tell me the price of product {product}, converted from {source} to {target}.",
    "Change the price of product {product} from {source} into {target}.",
    "I need the price of product {product} converted from {source} to {target}.",
)
_HELDOUT_CONVERSIONS = (
    "Could you convert the price of product {product} from {source} to {target}?",
    "How much is the price of product {product}, from {source} to {target}?",
)

CHAINS: tuple[Kind, ...] = (
    Kind(
        name="order_total",
        domain="cross",
        tools=("get_order", "get_product", "calculate"),
        depth=3,
        phrasings=questions("the total of order {order}, price times quantity"),
        heldout_phrasings=heldout_questions("the total of order {order}, price times quantity"),
        build=_order_total,
    ),
    Kind(
        name="order_total_note",
        domain="cross",
        tools=("get_order", "get_product", "calculate", "create_note"),
        depth=4,
        phrasings=(
            'Create the note "{title}" that holds only the total of order {order} (price times '
            "quantity).",
            'Write the total of order {order}, price times quantity, into a new note "{title}": '
            "just the number.",
            'Make a note "{title}" with only the number that is price times quantity of order '
            "{order}.",
            "Compute price times quantity of order {order} and save only that number as the note "
            '"{title}".',
            'I need a note "{title}" whose content is just the total of order {order} (price times '
            "quantity).",
            "Note down price times quantity of order {order}, the number alone, under the title "
            '"{title}".',
        ),
        heldout_phrasings=(
            'Start a note "{title}" and put just price times quantity of order {order} into it.',
            "Work out the total of order {order} (price times quantity); the number alone goes "
            'into a new note "{title}".',
        ),
        build=_order_total_note,
    ),
    Kind(
        name="order_bill",
        domain="cross",
        tools=("get_order", "get_customer", "get_product", "calculate", "compose_email"),
        depth=5,
        phrasings=(
            "Email the customer of order {order} only its total (price times quantity), subject "
            '"{subject}".',
            'Send the customer of order {order} an email "{subject}" whose body is just price '
            "times quantity.",
            "Compute price times quantity of order {order} and email only that number to its "
            'customer, subject "{subject}".',
            'With the subject "{subject}", mail the customer of order {order} the total (price '
            "times quantity), just the number.",
            'Write an email "{subject}" to the customer of order {order}. The body is only the '
            "number price times quantity.",
            "The customer of order {order} needs the total, price times quantity. Email just the "
            'number, subject "{subject}".',
        ),
        heldout_phrasings=(
            'Bill the customer of order {order} by email "{subject}": the body is just price times '
            "quantity.",
            'Let the customer of order {order} have an email "{subject}" with only the number '
            "price times quantity.",
        ),
        build=_order_bill,
        heldout=True,
    ),
    Kind(
        name="customer_email",
        domain="cross",
        tools=("get_customer", "compose_email"),
        depth=2,
        phrasings=(
            'Email customer {customer}: subject "{subject}", body "{body}".',
            'Send customer {customer} an email with the subject "{subject}": "{body}".',
            'Write an email "{body}" with the subject "{subject}" to customer {customer}.',
            'Compose an email to customer {customer}. Subject "{subject}", body "{body}".',
            'Mail "{body}" under the subject "{subject}" to customer {customer}.',
            'Send the email "{body}" with the subject "{subject}" to customer {customer}.',
        ),
        heldout_phrasings=(
            'Customer {customer} should get an email: subject "{subject}", body "{body}".',
            'Under the subject "{subject}", email "{body}" to customer {customer}.',
        ),
        build=_customer_email,
    ),
    Kind(
        name="price_sms",
        domain="cross",
        tools=("get_product", "get_phone_number", "send_sms"),
        depth=3,
        phrasings=(
            "Send {name} an SMS with only the price of product {product}.",
            "Text {name} just the price of product {product}.",
            "Send the price of product {product}, only the number, to {name} by SMS.",
            "Text the price of product {product}, nothing else, to {name}.",
            "Please text {name} only the number that is the price of product {product}.",
            "I want to send {name} an SMS: just the price of product {product}.",
        ),
        heldout_phrasings=(
            "Let {name} know by SMS the price of product {product}, only the number.",
            "{name} should get an SMS with nothing but the price of product {product}.",
        ),
        build=_price_sms,
    ),
    Kind(
        name="product_reminder",
        domain="cross",
        tools=("get_product", "create_reminder"),
        depth=2,
        phrasings=(
            "Create a reminder for {date} whose text is the name of product {product}.",
            "Remind me on {date} with just the name of product {product}.",
            "Add a reminder for {date}. The text is only the name of product {product}.",
            "I need a reminder on {date} that says the name of product {product}, nothing else.",
            "Set a reminder for {date} with the name of product {product} as its text.",
            "Look up the name of product {product} and make exactly that a reminder for {date}.",
        ),
        heldout_phrasings=(
            "On {date} I want a reminder that consists of the name of product {product}.",
            "Make sure that I am reminded on {date}, by the plain name of product {product}.",
        ),
        build=_product_reminder,
    ),
    Kind(
        name="reminder_in_days",
        domain="cross",
        tools=("today", "add_days", "create_reminder"),
        depth=3,
        phrasings=(
            'Create the reminder "{text}" for {days} days from today.',
            'Remind me in {days} days: "{text}".',
            'Add the reminder "{text}", {days} days from now.',
            'In {days} days I need the reminder "{text}".',
            'Set the reminder "{text}" for the day {days} days after today.',
            'Please create a reminder "{text}" that is due in {days} days.',
        ),
        heldout_phrasings=(
            'Make sure that I am reminded of "{text}" {days} days from today.',
            'When {days} days have passed, I want the reminder "{text}".',
        ),
        build=_reminder_in_days,
    ),
    Kind(
        name="spread",
        domain="cross",
        tools=("aggregate_table", "calculate"),
        depth=3,
        phrasings=questions("the difference between max and min of {column} in table {table}"),
        heldout_phrasings=heldout_questions(
            "the difference between max and min of {column} in table {table}"
        ),
        build=_spread,
    ),
    Kind(
        name="aggregate_to_stock",
        domain="cross",
        tools=("aggregate_table", "update_stock"),
        depth=2,
        phrasings=(
            "Set the stock of product {product} to the {function} of {column} in table {table}.",
            "Change the stock of product {product} to the {function} of {column} in table {table}.",
            "Update product {product}: its stock is the {function} of {column} in table {table}.",
            "Find the {function} of {column} in table {table} and make it the stock of product "
            "{product}.",
            "Please save the {function} of {column} in table {table} as the stock of product "
            "{product}.",
            "The new stock of product {product} is the {function} of {column} in table {table}. "
            "Save it.",
        ),
        heldout_phrasings=(
            "Let the stock of product {product} be the {function} of {column} in table {table}.",
            "Product {product} should have as stock the {function} of {column} of table {table}.",
        ),
        build=_aggregate_to_stock,
    ),
    Kind(
        name="export_note",
        domain="cross",
        tools=("export_table", "create_note"),
        depth=2,
        phrasings=(
            'Export table {table} as CSV and save the text as the note "{title}".',
            'Create the note "{title}" with the CSV of table {table} as its content.',
            'Make a new note "{title}" that holds table {table} as CSV.',
            'Write the CSV of table {table} into a new note "{title}".',
            'I need a note "{title}" whose content is table {table} as CSV.',
            'Save the CSV text of table {table} as a note with the title "{title}".',
        ),
        heldout_phrasings=(
            'Turn table {table} into CSV and start a note "{title}" with it.',
            'Put table {table}, as CSV, into a fresh note called "{title}".',
        ),
        build=_export_note,
    ),
    Kind(
        name="fact_sms",
        domain="cross",
        tools=("find_in_page", "get_phone_number", "send_sms"),
        depth=3,
        phrasings=(
            "Send {name} an SMS with only the {attribute} that page {page} tells.",
            "Text {name} just the {attribute} from page {page}.",
            "Find the {attribute} in page {page} and send only that to {name} by SMS.",
            "Text the {attribute} that stands in page {page}, nothing else, to {name}.",
            "Please text {name} only the {attribute} given in page {page}.",
            "I want to send {name} an SMS: just the {attribute} in page {page}.",
        ),
        heldout_phrasings=(
            "Let {name} know by SMS the {attribute} from page {page}, and nothing more.",
            "{name} should get an SMS with nothing but the {attribute} of page {page}.",
        ),
        build=_fact_sms,
    ),
    Kind(
        name="population_sum",
        domain="cross",
        tools=("find_in_page", "calculate"),
        depth=3,
        phrasings=(
            "What is the total of the populations given in pages {first} and {second}?",
            "Tell me the total population of the towns of pages {first} and {second}.",
            "Find the total of the populations in pages {first} and {second}.",
            "I need the total population of the towns on pages {first} and {second}.",
            "Add the populations that pages {first} and {second} tell. What is the total?",
            "Give me the total of the populations in pages {first} and {second}, please.",
        ),
        heldout_phrasings=(
            "Could you check the total population of the towns of pages {first} and {second}?",
            "I would like to know the total of the populations in pages {first} and {second}.",
        ),
        build=_population_sum,
    ),
    Kind(
        name="stale_price_conversion",
        domain="cross",
        tools=("get_product", "convert_currency"),
        depth=3,
        phrasings=_CONVERSIONS,
        heldout_phrasings=_HELDOUT_CONVERSIONS,
        build=_stale_price_conversion,
    ),
    Kind(
        name="busy_price_conversion",
        domain="cross",
        tools=("get_product", "convert_currency"),
        depth=3,
        phrasings=_CONVERSIONS,
        heldout_phrasings=_HELDOUT_CONVERSIONS,
        build=_busy_price_conversion,
    ),
)
