"""Families of tasks for the `database` domain with several calls.

Chained ids, several calls in one turn, recovery from a stale id and from a busy service, and a
chain longer than training shows.
"""

from __future__ import annotations

import random

from envs.tasks.database_slots import (
    CUSTOMER_FIELDS,
    EMPLOYEE_FIELDS,
    PRODUCT_FIELDS,
    changed,
    draw,
    lone_customer,
    orders_of,
    row_of,
    unused_key,
)
from envs.tasks.drafting import answered, call, steps
from envs.tasks.kinds import Draft, Kind, Missing
from envs.tasks.phrasings import heldout_questions, questions
from mock_mcp.domains.database_company import Row
from mock_mcp.world import World
from rewards.episode import ToolCall
from rewards.goals import FinalAnswer, ReturnedData


def order_call(order: Row) -> ToolCall:
    """Return the call that looks up an order."""
    return call("get_order", order_id=order["order_id"])


def product_call(order: Row) -> ToolCall:
    """Return the call that looks up the product of an order, or a product."""
    return call("get_product", product_id=order["product_id"])


def customer_call(order: Row) -> ToolCall:
    """Return the call that looks up the customer of an order, or a customer."""
    return call("get_customer", customer_id=order["customer_id"])


def _order_customer_field(world: World, rng: random.Random) -> Draft:
    order, field = draw(world, rng, "orders"), rng.choice(CUSTOMER_FIELDS)
    value = row_of(world, "customers", order["customer_id"])[field]
    slots = {"order": order["order_id"], "field": field}
    return answered(slots, field, value, order_call(order), customer_call(order))


def _order_product_field(world: World, rng: random.Random) -> Draft:
    order, field = draw(world, rng, "orders"), rng.choice(PRODUCT_FIELDS)
    value = row_of(world, "products", order["product_id"])[field]
    slots = {"order": order["order_id"], "field": field}
    return answered(slots, field, value, order_call(order), product_call(order))


def _stale_product(world: World, rng: random.Random) -> Draft:
    row, field = draw(world, rng, "products"), rng.choice(PRODUCT_FIELDS)
    old = unused_key(world, rng, "products")
    return answered(
        {"product": old, "field": field},
        field,
        row[field],
        call("get_product", product_id=old),
        product_call(row),
        faults={"stale": {old: row["product_id"]}},
    )


def _employee_manager_field(world: World, rng: random.Random) -> Draft:
    row = draw(world, rng, "employees", lambda row: row["manager_id"] != "none")
    field = rng.choice(EMPLOYEE_FIELDS)
    keys = (row["employee_id"], row["manager_id"])
    value = row_of(world, "employees", keys[1])[field]
    calls = [call("get_employee", employee_id=key) for key in keys]
    return answered({"employee": keys[0], "field": field}, field, value, *calls)


def _department_budget(world: World, rng: random.Random) -> Draft:
    row, field = draw(world, rng, "employees"), rng.choice(("budget", "floor"))
    name = row["department"]
    departments = world.database.table("departments").values()
    value = next(one[field] for one in departments if one["name"] == name)
    return answered(
        {"employee": row["employee_id"], "field": field},
        field,
        value,
        call("get_employee", employee_id=row["employee_id"]),
        call("run_select", sql=f"SELECT {field} FROM departments WHERE name = '{name}'"),
    )


def _two_products(world: World, rng: random.Random) -> Draft:
    first, second = rng.sample([*world.database.table("products").values()], 2)
    prices = (str(first["price"]), str(second["price"]))
    return Draft(
        {"first": first["product_id"], "second": second["product_id"]},
        FinalAnswer(prices, "set"),
        steps(
            (product_call(first), product_call(second)), f"The prices are {' and '.join(prices)}."
        ),
    )


def _busy_order(world: World, rng: random.Random) -> Draft:
    order = draw(world, rng, "orders")
    return answered(
        {"order": order["order_id"]},
        "quantity",
        order["quantity"],
        order_call(order),
        order_call(order),
        faults={"transient": {"get_order": 1}},
    )


def _city_orders(world: World, rng: random.Random) -> Draft:
    row = lone_customer(world, rng, lambda orders: orders > 0)
    key = row["customer_id"]
    orders = [order["order_id"] for order in orders_of(world, key)]
    return Draft(
        {"city": row["city"]},
        ReturnedData("list_orders", "", {"customer_id": key, "order_ids": orders}),
        steps(call("find_customers", city=row["city"]), call("list_orders", customer_id=key)),
    )


def _restock_order(world: World, rng: random.Random) -> Draft:
    order = draw(world, rng, "orders")
    key = order["product_id"]
    row = row_of(world, "products", key)
    stock = rng.choice([number for number in range(100, 400) if number != row["stock"]])
    return Draft(
        {"order": order["order_id"], "stock": str(stock)},
        changed("products", {key: {**row, "stock": stock}}),
        steps(order_call(order), call("update_stock", product_id=key, stock=stock)),
    )


def _stale_delete(world: World, rng: random.Random) -> Draft:
    key, old = draw(world, rng, "orders")["order_id"], unused_key(world, rng, "orders")
    return Draft(
        {"order": old},
        changed("orders", {key: None}),
        steps(call("delete_order", order_id=old), call("delete_order", order_id=key)),
        faults={"stale": {old: key}},
    )


def _cancel_orders(world: World, rng: random.Random) -> Draft:
    def open_orders(row: Row) -> bool:
        orders = orders_of(world, row["customer_id"])
        return len(orders) == 2 and all(order["status"] != "cancelled" for order in orders)

    key = draw(world, rng, "customers", open_orders)["customer_id"]
    orders = orders_of(world, key)
    cancel = tuple(
        call("set_order_status", order_id=order["order_id"], status="cancelled") for order in orders
    )
    goal = {order["order_id"]: {**order, "status": "cancelled"} for order in orders}
    return Draft(
        {"customer": key},
        changed("orders", goal),
        steps(call("list_orders", customer_id=key), cancel),
    )


def _order_names(world: World, rng: random.Random) -> Draft:
    order = draw(world, rng, "orders")
    names = (
        row_of(world, "customers", order["customer_id"])["name"],
        row_of(world, "products", order["product_id"])["name"],
    )
    text = f"The customer is {names[0]} and the product is {names[1]}."
    return Draft(
        {"order": order["order_id"]},
        FinalAnswer(names, "set"),
        steps(order_call(order), (customer_call(order), product_call(order)), text),
    )


def _stale_order_city(world: World, rng: random.Random) -> Draft:
    order, old = draw(world, rng, "orders"), unused_key(world, rng, "orders")
    return answered(
        {"order": old},
        "city",
        row_of(world, "customers", order["customer_id"])["city"],
        call("get_order", order_id=old),
        order_call(order),
        customer_call(order),
        faults={"stale": {old: order["order_id"]}},
    )


def _lone_order(world: World, rng: random.Random) -> tuple[str, Row, list[ToolCall]]:
    """Draw a city with one customer who has one order, and the calls that lead to its product."""
    customer = lone_customer(world, rng, lambda orders: orders == 1)
    (order,) = orders_of(world, customer["customer_id"])
    way = [
        call("find_customers", city=customer["city"]),
        call("list_orders", customer_id=customer["customer_id"]),
        order_call(order),
    ]
    return customer["city"], order, way


def _city_quantity(world: World, rng: random.Random) -> Draft:
    city, order, way = _lone_order(world, rng)
    return answered({"city": city}, "quantity", order["quantity"], *way)


def _city_product_price(world: World, rng: random.Random) -> Draft:
    city, order, way = _lone_order(world, rng)
    price = row_of(world, "products", order["product_id"])["price"]
    return answered({"city": city}, "price", price, *way, product_call(order))


def _city_return(world: World, rng: random.Random) -> Draft:
    city, order, way = _lone_order(world, rng)
    key = order["product_id"]
    product = row_of(world, "products", key)
    left = product["stock"] + order["quantity"]
    return Draft(
        {"city": city},
        changed("products", {key: {**product, "stock": left}}),
        steps(*way, product_call(order), call("update_stock", product_id=key, stock=left)),
    )


CHAINS: tuple[Kind, ...] = (
    Kind(
        name="order_customer_field",
        domain="database",
        tools=("get_order", "get_customer"),
        depth=2,
        phrasings=questions("the {field} of the customer of order {order}"),
        heldout_phrasings=heldout_questions("the {field} of the customer of order {order}"),
        build=_order_customer_field,
        starter=True,
        missing=Missing(
            phrasings=questions("the {field} of the customer of the order"),
            heldout_phrasings=heldout_questions("the {field} of the customer of the order"),
            names=("which order", "order id", "id of the order"),
            answer="Which order do you mean?",
        ),
    ),
    Kind(
        name="order_product_field",
        domain="database",
        tools=("get_order", "get_product"),
        depth=2,
        phrasings=questions("the {field} of the product of order {order}"),
        heldout_phrasings=heldout_questions("the {field} of the product of order {order}"),
        build=_order_product_field,
        starter=True,
    ),
    Kind(
        name="stale_product",
        domain="database",
        tools=("get_product",),
        depth=2,
        phrasings=questions("the {field} of product {product}"),
        heldout_phrasings=heldout_questions("the {field} of product {product}"),
        build=_stale_product,
        starter=True,
    ),
    Kind(
        name="employee_manager_field",
        domain="database",
        tools=("get_employee",),
        depth=2,
        phrasings=questions("the {field} of the manager of employee {employee}"),
        heldout_phrasings=heldout_questions("the {field} of the manager of employee {employee}"),
        build=_employee_manager_field,
    ),
    Kind(
        name="department_budget",
        domain="database",
        tools=("get_employee", "run_select"),
        depth=2,
        phrasings=questions("the {field} of the department of employee {employee}"),
        heldout_phrasings=heldout_questions("the {field} of the department of employee {employee}"),
        build=_department_budget,
    ),
    Kind(
        name="two_products",
        domain="database",
        tools=("get_product",),
        depth=2,
        phrasings=(
            "What are the prices of products {first} and {second}?",
            "Tell me the prices of products {first} and {second}.",
            "Find the prices of products {first} and {second}.",
            "I need the price of product {first} and the price of product {second}.",
            "Look up the prices of products {first} and {second}.",
            "What do products {first} and {second} cost?",
        ),
        heldout_phrasings=(
            "Could you check the prices of both {first} and {second}?",
            "How much are products {first} and {second}?",
        ),
        build=_two_products,
    ),
    Kind(
        name="busy_order",
        domain="database",
        tools=("get_order",),
        depth=2,
        phrasings=questions("the quantity of order {order}"),
        heldout_phrasings=heldout_questions("the quantity of order {order}"),
        build=_busy_order,
    ),
    Kind(
        name="city_orders",
        domain="database",
        tools=("find_customers", "list_orders"),
        depth=2,
        phrasings=(
            "List the orders of our customer in {city}.",
            "Which orders does the customer in {city} have?",
            "Show me all orders of the customer from {city}.",
            "Find the orders of the customer who lives in {city}.",
            "We have one customer in {city}. List the orders.",
            "I need the order ids of the customer in {city}.",
        ),
        heldout_phrasings=(
            "Get me every order of our one customer in {city}.",
            "What has the customer from {city} ordered? Show the order ids.",
        ),
        build=_city_orders,
    ),
    Kind(
        name="restock_order",
        domain="database",
        tools=("get_order", "update_stock"),
        depth=2,
        phrasings=(
            "Set the stock of the product of order {order} to {stock}.",
            "Change the stock of the product of order {order} to {stock}.",
            "Update the stock of the product of order {order} to {stock}.",
            "The product of order {order} has a new stock of {stock}. Save it.",
            "Please set the stock of the product in order {order} to {stock}.",
            "Which product is in order {order}? Set its stock to {stock}.",
        ),
        heldout_phrasings=(
            "Make {stock} the stock of the product of order {order}.",
            "The product that order {order} is for should have a stock of {stock}.",
        ),
        build=_restock_order,
    ),
    Kind(
        name="stale_delete",
        domain="database",
        tools=("delete_order",),
        depth=2,
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
        build=_stale_delete,
    ),
    Kind(
        name="cancel_orders",
        domain="database",
        tools=("list_orders", "set_order_status"),
        depth=3,
        phrasings=(
            "Set the status of all orders of customer {customer} to cancelled.",
            "Mark every order of customer {customer} as cancelled.",
            "Customer {customer} is leaving. Set all their orders to cancelled.",
            "Please change all orders of customer {customer} to the status cancelled.",
            "Update the status of each order of customer {customer} to cancelled.",
            "All orders of customer {customer} are cancelled. Save that status.",
        ),
        heldout_phrasings=(
            "Find the orders of customer {customer} and mark them all as cancelled.",
            "No order of customer {customer} is wanted any more: set them to cancelled.",
        ),
        build=_cancel_orders,
    ),
    Kind(
        name="order_names",
        domain="database",
        tools=("get_order", "get_customer", "get_product"),
        depth=3,
        phrasings=(
            "Who ordered what in order {order}? Give the names of customer and product.",
            "What are the names of the customer and the product of order {order}?",
            "Tell me the names of customer and product of order {order}.",
            "Find the customer name and the product name of order {order}.",
            "I need the name of the customer and the name of the product of order {order}.",
            "Look up who placed order {order} and for which product. Give both names.",
        ),
        heldout_phrasings=(
            "Order {order}: what are the customer and the product called?",
            "Could you name the customer and the product of order {order}?",
        ),
        build=_order_names,
    ),
    Kind(
        name="stale_order_city",
        domain="database",
        tools=("get_order", "get_customer"),
        depth=3,
        phrasings=questions("the city of the customer of order {order}"),
        heldout_phrasings=heldout_questions("the city of the customer of order {order}"),
        build=_stale_order_city,
    ),
    Kind(
        name="city_quantity",
        domain="database",
        tools=("find_customers", "list_orders", "get_order"),
        depth=3,
        phrasings=questions("the quantity of the only order of our customer in {city}"),
        heldout_phrasings=heldout_questions(
            "the quantity of the only order of our customer in {city}"
        ),
        build=_city_quantity,
    ),
    Kind(
        name="city_product_price",
        domain="database",
        tools=("find_customers", "list_orders", "get_order", "get_product"),
        depth=4,
        phrasings=questions("the price of the product that our customer in {city} ordered"),
        heldout_phrasings=heldout_questions(
            "the price of the product that our customer in {city} ordered"
        ),
        build=_city_product_price,
    ),
    Kind(
        name="city_return",
        domain="database",
        tools=("find_customers", "list_orders", "get_order", "get_product", "update_stock"),
        depth=5,
        phrasings=(
            "Our customer in {city} returns the order. Add its quantity to the product's stock.",
            "The only order from {city} came back. Raise the product's stock by its quantity.",
            "Take back the order of our customer in {city}: add its quantity to the stock.",
            "The customer in {city} sent everything back. Increase the product's stock by that.",
            "Add the quantity of the only order from {city} to the stock of its product.",
            "Raise the stock of the product that our customer in {city} ordered by the quantity.",
        ),
        heldout_phrasings=(
            "Put what our customer in {city} ordered back into stock.",
            "The order of our customer in {city} is returned in full. Correct the stock.",
        ),
        build=_city_return,
        heldout=True,
    ),
)
