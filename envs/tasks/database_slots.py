"""Draws that several kinds of the `database` domain and the cross-domain kinds share."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from mock_mcp.domains.database_company import Row
from mock_mcp.world import World
from rewards.goals import FinalState

CUSTOMER_FIELDS = ("name", "city", "email")
PRODUCT_FIELDS = ("price", "stock", "name")
EMPLOYEE_FIELDS = ("name", "department", "salary")


def draw(
    world: World, rng: random.Random, table: str, fits: Callable[[Row], bool] = lambda row: True
) -> Row:
    """Draw a row of a table that fits."""
    return rng.choice([row for row in world.database.table(table).values() if fits(row)])


def unused_key(world: World, rng: random.Random, table: str) -> str:
    """Draw a key that looks like those of a table and belongs to no row."""
    rows = world.database.table(table)
    letter = next(iter(rows))[0]
    return f"{letter}{rng.choice([n for n in range(10, 1000) if f'{letter}{n}' not in rows])}"


def row_of(world: World, table: str, key: str) -> Row:
    """Return the row of a key."""
    return world.database.table(table)[key]


def orders_of(world: World, customer_id: str) -> list[Row]:
    """Return the orders of a customer, in the order of the table."""
    orders = world.database.table("orders").values()
    return [row for row in orders if row["customer_id"] == customer_id]


def customers_in(world: World, city: str) -> list[Row]:
    """Return the customers of a city, in the order of the table."""
    return [row for row in world.database.table("customers").values() if row["city"] == city]


def lone_customer(world: World, rng: random.Random, orders: Callable[[int], bool]) -> Row:
    """Draw a customer who is alone in a city and whose number of orders fits."""
    return draw(
        world,
        rng,
        "customers",
        lambda row: (
            len(customers_in(world, row["city"])) == 1
            and orders(len(orders_of(world, row["customer_id"])))
        ),
    )


def changed(table: str, rows: Mapping[str, Mapping[str, object] | None]) -> FinalState:
    """Return the goal that exactly these rows of a table changed in this way."""
    return FinalState({f"database.{table}": rows})
