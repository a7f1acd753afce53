"""Families of tasks for the `database` domain: here those with one call, then all of them.

Ids look like `C104`; requests name the field that is wanted.
"""

from __future__ import annotations

import random

from envs.tasks.database_chains import CHAINS
from envs.tasks.database_slots import (
    CUSTOMER_FIELDS,
    EMPLOYEE_FIELDS,
    PRODUCT_FIELDS,
    changed,
    customers_in,
    draw,
    orders_of,
)
from envs.tasks.drafting import answered, call, steps
from envs.tasks.kinds import Draft, Kind, Missing
from envs.tasks.phrasings import heldout_questions, questions
from mock_mcp.domains.database_company import CORE_TABLES, EXTRA_TABLES, STATUSES
from mock_mcp.names import CITIES, FIRST_NAMES, LAST_NAMES
from mock_mcp.world import World
from rewards.episode import ToolCall
from rewards.goals import FinalAnswer, ReturnedData

WHICH_CUSTOMER = ("which customer", "customer id", "id of the customer")
WHICH_PRODUCT = ("which product", "product id", "id of the product")
WHICH_ORDER = ("which order", "order id", "id of the order")


def _customer_field(world: World, rng: random.Random) -> Draft:
    row, field = draw(world, rng, "customers"), rng.choice(CUSTOMER_FIELDS)
    slots = {"customer": row["customer_id"], "field": field}
    return answered(slots, field, row[field], call("get_customer", customer_id=row["customer_id"]))


def _product_field(world: World, rng: random.Random) -> Draft:
    row, field = draw(world, rng, "products"), rng.choice(PRODUCT_FIELDS)
    slots = {"product": row["product_id"], "field": field}
    return answered(slots, field, row[field], call("get_product", product_id=row["product_id"]))


def _employee_field(world: World, rng: random.Random) -> Draft:
    row, field = draw(world, rng, "employees"), rng.choice(EMPLOYEE_FIELDS)
    slots = {"employee": row["employee_id"], "field": field}
    return answered(slots, field, row[field], call("get_employee", employee_id=row["employee_id"]))


def _update_stock(world: World, rng: random.Random) -> Draft:
    row = draw(world, rng, "products")
    stock = rng.choice([number for number in range(1, 400) if number != row["stock"]])
    return Draft(
        {"product": row["product_id"], "stock": str(stock)},
        changed("products", {row["product_id"]: {**row, "stock": stock}}),
        steps(call("update_stock", product_id=row["product_id"], stock=stock)),
    )


def _order_status(world: World, rng: random.Random) -> Draft:
    row = draw(world, rng, "orders")
    status = rng.choice([status for status in STATUSES if status != row["status"]])
    return Draft(
        {"order": row["order_id"], "status": status},
        changed("orders", {row["order_id"]: {**row, "status": status}}),
        steps(call("set_order_status", order_id=row["order_id"], status=status)),
    )


def _add_customer(world: World, rng: random.Random) -> Draft:
    name = f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"
    email = f"{name.split()[1].lower()}{rng.randint(100, 999)}@mail.example"
    row = {"name": name, "city": rng.choice(CITIES), "email": email}
    return Draft(row, changed("customers", {"+1": row}), steps(call("add_customer", **row)))


def _delete_order(world: World, rng: random.Random) -> Draft:
    key = draw(world, rng, "orders")["order_id"]
    goal = changed("orders", {key: None})
    return Draft({"order": key}, goal, steps(call("delete_order", order_id=key)))


def _city_customers(world: World, rng: random.Random) -> Draft:
    city = draw(world, rng, "customers")["city"]
    found = [
        {"customer_id": row["customer_id"], "name": row["name"]}
        for row in customers_in(world, city)
    ]
    goal = ReturnedData("find_customers", "customers", found)
    return Draft({"city": city}, goal, steps(call("find_customers", city=city)))


def _customer_orders(world: World, rng: random.Random) -> Draft:
    key = draw(world, rng, "orders")["customer_id"]
    orders = [row["order_id"] for row in orders_of(world, key)]
    # With the customer, since every answer must come from a call for this one.
    goal = ReturnedData("list_orders", "", {"customer_id": key, "order_ids": orders})
    return Draft({"customer": key}, goal, steps(call("list_orders", customer_id=key)))


def _other_tables(world: World, rng: random.Random) -> Draft:
    named = rng.sample(sorted(CORE_TABLES), rng.randint(3, 5))
    others = tuple(sorted(set(world.database.columns) - set(named)))
    text = f"The other tables are {', '.join(others)}."
    return Draft(
        {"tables": f"{', '.join(named[:-1])} and {named[-1]}"},
        FinalAnswer(others, "set"),
        steps(call("list_tables"), text),
    )


def _extra_table(world: World, rng: random.Random) -> str:
    return rng.choice([name for name in world.database.columns if name in EXTRA_TABLES])


def _table_columns(world: World, rng: random.Random) -> Draft:
    table = _extra_table(world, rng)
    columns = world.database.columns[table]
    text = f"The columns are {', '.join(columns)}."
    goal = FinalAnswer(columns, "set")
    return Draft({"table": table}, goal, steps(call("describe_table", table=table), text))


def _table_size(world: World, rng: random.Random) -> Draft:
    table = rng.choice(sorted(world.database.columns))
    count = len(world.database.table(table))
    return answered({"table": table}, "number of rows", count, call("describe_table", table=table))


def _select(sql: str) -> ToolCall:
    return call("run_select", sql=sql)


def _status_count(world: World, rng: random.Random) -> Draft:
    status = draw(world, rng, "orders")["status"]
    count = sum(row["status"] == status for row in world.database.table("orders").values())
    sql = f"SELECT COUNT(*) AS orders FROM orders WHERE status = '{status}'"
    return answered({"status": status}, "number of orders", count, _select(sql))


def _extreme(world: World, rng: random.Random) -> Draft:
    columns = world.database.columns[table := _extra_table(world, rng)]
    column = rng.choice([name for name in columns[1:] if name != "city"])
    word, function = rng.choice((("highest", "MAX"), ("lowest", "MIN")))
    values = [row[column] for row in world.database.table(table).values()]
    return answered(
        {"table": table, "column": column, "word": word},
        f"{word} {column}",
        max(values) if word == "highest" else min(values),
        _select(f"SELECT {function}({column}) AS {column} FROM {table}"),
    )


def _category_stock(world: World, rng: random.Random) -> Draft:
    category = draw(world, rng, "products")["category"]
    products = world.database.table("products").values()
    total = sum(row["stock"] for row in products if row["category"] == category)
    sql = f"SELECT SUM(stock) AS stock FROM products WHERE category = '{category}'"
    return answered({"category": category}, "total stock", total, _select(sql))


def _city_order_count(world: World, rng: random.Random) -> Draft:
    buyers = {row["customer_id"] for row in world.database.table("orders").values()}
    city = draw(world, rng, "customers", lambda row: row["customer_id"] in buyers)["city"]
    count = sum(len(orders_of(world, row["customer_id"])) for row in customers_in(world, city))
    sql = (
        "SELECT COUNT(*) AS orders FROM orders JOIN customers USING (customer_id) "
        f"WHERE city = '{city}'"
    )
    return answered({"city": city}, "number of orders", count, _select(sql))


_SINGLE: tuple[Kind, ...] = (
    Kind(
        name="customer_field",
        domain="database",
        tools=("get_customer",),
        depth=1,
        phrasings=questions("the {field} of customer {customer}"),
        heldout_phrasings=heldout_questions("the {field} of customer {customer}"),
        build=_customer_field,
        starter=True,
        missing=Missing(
            phrasings=questions("the {field} of the customer"),
            heldout_phrasings=heldout_questions("the {field} of the customer"),
            names=WHICH_CUSTOMER,
            answer="Which customer do you mean?",
        ),
    ),
    Kind(
        name="product_field",
        domain="database",
        tools=("get_product",),
        depth=1,
        phrasings=questions("the {field} of product {product}"),
        heldout_phrasings=heldout_questions("the {field} of product {product}"),
        build=_product_field,
        starter=True,
        missing=Missing(
            phrasings=questions("the {field} of the product"),
            heldout_phrasings=heldout_questions("the {field} of the product"),
            names=WHICH_PRODUCT,
            answer="Which product do you mean?",
        ),
    ),
    Kind(
        name="employee_field",
        domain="database",
        tools=("get_employee",),
        depth=1,
        phrasings=questions(
            "the {field} of employee {employee}", "What {field} does employee {employee} have?"
        ),
        heldout_phrasings=heldout_questions("the {field} of employee {employee}"),
        build=_employee_field,
        missing=Missing(
            phrasings=questions("the {field} of the employee"),
            heldout_phrasings=heldout_questions("the {field} of the employee"),
            names=("which employee", "employee id", "id of the employee"),
            answer="Which employee do you mean?",
        ),
    ),
    Kind(
        name="update_stock",
        domain="database",
        tools=("update_stock",),
        depth=1,
        phrasings=(
            "Set the stock of product {product} to {stock}.",
            "Change the stock of product {product} to {stock}.",
            "Update the stock of product {product} to {stock}.",
            "The stock of product {product} is now {stock}. Update it.",
            "Please set the stock of product {product} to {stock}.",
            "Product {product} has a new stock of {stock}. Save it.",
        ),
        heldout_phrasings=(
            "Make {stock} the stock of product {product}.",
            "For product {product}, the stock should be {stock} from now on.",
        ),
        build=_update_stock,
        starter=True,
        missing=Missing(
            phrasings=(
                "Set the stock of the product to {stock}.",
                "Change the stock of the product to {stock}.",
                "The stock of the product is now {stock}. Update it.",
            ),
            heldout_phrasings=("Make {stock} the stock of the product.",),
            names=WHICH_PRODUCT,
            answer="Which product do you mean?",
        ),
    ),
    Kind(
        name="order_status",
        domain="database",
        tools=("set_order_status",),
        depth=1,
        phrasings=(
            "Set the status of order {order} to {status}.",
            "Change the status of order {order} to {status}.",
            "Mark order {order} as {status}.",
            "Order {order} is {status} now. Update its status.",
            "Please update the status of order {order} to {status}.",
            "The new status of order {order} is {status}. Save it.",
        ),
        heldout_phrasings=(
            "Let order {order} have the status {status}.",
            "From now on the status of order {order} should be {status}.",
        ),
        build=_order_status,
        missing=Missing(
            phrasings=("Set the status of the order to {status}.", "Mark the order as {status}."),
            heldout_phrasings=("Let the order have the status {status}.",),
            names=WHICH_ORDER,
            answer="Which order do you mean?",
        ),
    ),
    Kind(
        name="add_customer",
        domain="database",
        tools=("add_customer",),
        depth=1,
        phrasings=(
            "Add the customer {name} from {city} with the email {email}.",
            "Create a new customer: {name}, {city}, {email}.",
            "We have a new customer, {name} from {city}. The email is {email}. Add them.",
            "Register {name} in {city} as a customer with the email {email}.",
            "Put {name} from {city} into the customers, email {email}.",
            "Please add a customer named {name}, city {city}, email {email}.",
        ),
        heldout_phrasings=(
            "{name} from {city} just became a customer, email {email}. Enter them.",
            "Save a new customer with the name {name}, the city {city} and the email {email}.",
        ),
        build=_add_customer,
        missing=Missing(
            phrasings=(
                "Add the customer {name} with the email {email}.",
                "Create a new customer: {name}, {email}.",
            ),
            heldout_phrasings=("{name} just became a customer, email {email}. Enter them.",),
            names=("city", "where"),
            answer="In which city does the customer live?",
        ),
    ),
    Kind(
        name="delete_order",
        domain="database",
        tools=("delete_order",),
        depth=1,
        phrasings=(
            "Delete order {order}.",
            "Remove order {order} from the database.",
            "Please delete the order {order}.",
            "Order {order} was a mistake. Delete it.",
            "I want order {order} deleted.",
            "Take order {order} out of the database.",
        ),
        heldout_phrasings=(
            "Get rid of order {order}.",
            "Order {order} should no longer be in the database.",
        ),
        build=_delete_order,
        missing=Missing(
            phrasings=("Delete the order.", "An order was a mistake. Delete it."),
            heldout_phrasings=("Get rid of the order.",),
            names=WHICH_ORDER,
            answer="Which order do you mean?",
        ),
    ),
    Kind(
        name="city_customers",
        domain="database",
        tools=("find_customers",),
        depth=1,
        phrasings=(
            "List the customers in {city}.",
            "Which customers live in {city}?",
            "Show me the customers from {city}.",
            "Find all customers in the city {city}.",
            "Who are our customers in {city}?",
            "I need the customers who live in {city}.",
        ),
        heldout_phrasings=(
            "Give me everybody in {city} who is a customer.",
            "Do we have customers in {city}? Show them.",
        ),
        build=_city_customers,
        missing=Missing(
            phrasings=("List the customers in that city.", "Which customers live there?"),
            heldout_phrasings=("Give me the customers who live in the city.",),
            names=("which city", "what city", "name of the city"),
            answer="Which city do you mean?",
        ),
    ),
    Kind(
        name="customer_orders",
        domain="database",
        tools=("list_orders",),
        depth=1,
        phrasings=(
            "List the orders of customer {customer}.",
            "Which orders does customer {customer} have?",
            "Show me all orders of customer {customer}.",
            "Find the orders of customer {customer}.",
            "What did customer {customer} order? Show the order ids.",
            "I need the order ids of customer {customer}.",
        ),
        heldout_phrasings=(
            "Get me every order that belongs to customer {customer}.",
            "Customer {customer} asks for a list of the orders. Show it.",
        ),
        build=_customer_orders,
        missing=Missing(
            phrasings=("List the orders of the customer.", "Which orders does the customer have?"),
            heldout_phrasings=("Get me every order of the customer.",),
            names=WHICH_CUSTOMER,
            answer="Which customer do you mean?",
        ),
    ),
    Kind(
        name="other_tables",
        domain="database",
        tools=("list_tables",),
        depth=1,
        phrasings=(
            "Which tables does the database have besides {tables}?",
            "What other tables than {tables} are in the database?",
            "Name the tables of the database other than {tables}.",
            "Apart from {tables}, which tables does the database have?",
            "I know the tables {tables}. Which others does the database have?",
            "Tell me the tables of the database, but not {tables}.",
        ),
        heldout_phrasings=(
            "Leaving out {tables}, what are the tables of the database?",
            "Which tables of the database have I not named: {tables}?",
        ),
        build=_other_tables,
    ),
    Kind(
        name="table_columns",
        domain="database",
        tools=("describe_table",),
        depth=1,
        phrasings=(
            "Which columns does the database table {table} have?",
            "What are the columns of the database table {table}?",
            "Name the columns of the table {table} in the database.",
            "Tell me all columns of the database table {table}.",
            "List the columns of the database table {table}.",
            "I need the names of the columns in the database table {table}.",
        ),
        heldout_phrasings=(
            "How is the database table {table} built? Name its columns.",
            "What columns would I find in the database table {table}?",
        ),
        build=_table_columns,
        missing=Missing(
            phrasings=("Which columns does the table have?", "Name the columns of the table."),
            heldout_phrasings=("What columns would I find in the table?",),
            names=("which table", "what table", "name of the table"),
            answer="Which table do you mean?",
        ),
    ),
    Kind(
        name="table_size",
        domain="database",
        tools=("describe_table",),
        depth=1,
        phrasings=questions(
            "the number of rows of the database table {table}",
            "How many rows does the database table {table} have?",
        ),
        heldout_phrasings=heldout_questions("the number of rows of the database table {table}"),
        build=_table_size,
    ),
    Kind(
        name="status_count",
        domain="database",
        tools=("run_select",),
        depth=1,
        phrasings=questions(
            "the number of orders with the status {status}",
            "How many orders have the status {status}?",
        ),
        heldout_phrasings=heldout_questions("the number of orders with the status {status}"),
        build=_status_count,
        missing=Missing(
            phrasings=questions("the number of orders with that status"),
            heldout_phrasings=heldout_questions("the number of orders with that status"),
            names=("which status", "what status", "name of the status"),
            answer="Which status do you mean?",
        ),
    ),
    Kind(
        name="extreme_value",
        domain="database",
        tools=("run_select",),
        depth=1,
        phrasings=questions("the {word} {column} in the database table {table}"),
        heldout_phrasings=heldout_questions("the {word} {column} in the database table {table}"),
        build=_extreme,
    ),
    Kind(
        name="category_stock",
        domain="database",
        tools=("run_select",),
        depth=1,
        phrasings=questions(
            "the total stock of all products in the category {category}",
            "How large is the stock of all products of the category {category} together?",
        ),
        heldout_phrasings=heldout_questions(
            "the total stock of all products in the category {category}"
        ),
        build=_category_stock,
    ),
    Kind(
        name="city_order_count",
        domain="database",
        tools=("run_select",),
        depth=1,
        phrasings=questions(
            "the number of orders from customers in {city}",
            "How many orders were placed by customers who live in {city}?",
        ),
        heldout_phrasings=heldout_questions("the number of orders from customers in {city}"),
        build=_city_order_count,
    ),
)

KINDS: tuple[Kind, ...] = _SINGLE + CHAINS
