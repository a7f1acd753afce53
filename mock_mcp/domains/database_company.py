"""Draws the company behind the `database` domain.

Every company has the tables customers, products, orders, employees and departments, and three more
that are drawn with some of their columns. The first column of a table is its key: a letter and a
number.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from mock_mcp.names import (
    CITIES,
    DEPARTMENTS,
    FIRST_NAMES,
    LAST_NAMES,
    PRODUCT_ADJECTIVES,
    PRODUCT_NOUNS,
)

Row = dict[str, Any]

STATUSES = ("open", "paid", "packed", "shipped", "delivered", "cancelled")
SEGMENTS = ("private", "business", "school", "public", "club")
CATEGORIES = ("garden", "home", "kitchen", "music", "office", "sport", "tools", "travel")

CORE_TABLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "customers": ("customer_id", "name", "city", "email", "segment"),
        "products": ("product_id", "name", "category", "price", "stock"),
        "orders": ("order_id", "customer_id", "product_id", "quantity", "status"),
        "employees": ("employee_id", "name", "department", "salary", "manager_id"),
        "departments": ("department_id", "name", "floor", "budget"),
    }
)
EXTRA_TABLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "branches": ("branch_id", "city", "rent", "desks", "floors", "year"),
        "campaigns": ("campaign_id", "city", "budget", "clicks", "days", "year"),
        "contracts": ("contract_id", "city", "value", "months", "discount", "year"),
        "machines": ("machine_id", "city", "weight", "power", "hours", "year"),
        "suppliers": ("supplier_id", "city", "rating", "discount", "days", "year"),
        "trainings": ("training_id", "city", "seats", "price", "days", "hours"),
        "vehicles": ("vehicle_id", "city", "mileage", "seats", "power", "year"),
        "warehouses": ("warehouse_id", "city", "capacity", "docks", "rent", "year"),
    }
)
LETTERS: Mapping[str, str] = MappingProxyType(
    {
        "customers": "C",
        "products": "P",
        "orders": "O",
        "employees": "E",
        "departments": "D",
        "branches": "B",
        "campaigns": "K",
        "contracts": "X",
        "machines": "M",
        "suppliers": "S",
        "trainings": "T",
        "vehicles": "V",
        "warehouses": "W",
    }
)
"""Table -> the letter that its keys start with."""

EXTRA_COUNT = 3
LONE_CUSTOMERS = 4

_RANGES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "rent": (400, 9_900),
        "desks": (5, 90),
        "floors": (1, 40),
        "year": (1970, 2025),
        "budget": (1_000, 99_000),
        "clicks": (100, 9_999),
        "days": (2, 99),
        "value": (500, 90_000),
        "months": (1, 60),
        "discount": (1, 40),
        "weight": (50, 5_000),
        "power": (10, 900),
        "hours": (1, 999),
        "rating": (1, 100),
        "seats": (2, 60),
        "price": (50, 5_000),
        "mileage": (1_000, 250_000),
        "capacity": (100, 9_999),
        "docks": (1, 30),
    }
)


def draw_company(rng: random.Random) -> dict[str, list[Row]]:
    """Draw all tables of a company: table -> rows, keys first in every row."""
    customers = _customers(rng, rng.randint(56, 64))
    products = _products(rng, rng.randint(36, 44))
    departments = _departments(rng, rng.randint(6, 9))
    tables = {
        "customers": customers,
        "products": products,
        "orders": _orders(rng, customers, products, rng.randint(110, 130)),
        "employees": _employees(rng, departments, rng.randint(27, 33)),
        "departments": departments,
    }
    for name in sorted(rng.sample(sorted(EXTRA_TABLES), EXTRA_COUNT)):
        tables[name] = _extra_table(rng, name)
    return tables


def _keys(rng: random.Random, table: str, count: int) -> list[str]:
    """Draw keys in random order; three times as many numbers exist, so none can be guessed."""
    numbers = rng.sample(range(10, 10 + max(3 * count, 90)), count)
    return [f"{LETTERS[table]}{number}" for number in numbers]


def _rows(table: str, columns: Sequence[Sequence[Any]]) -> list[Row]:
    """Put the columns of a core table together."""
    return [dict(zip(CORE_TABLES[table], row, strict=True)) for row in zip(*columns, strict=True)]


def _people(rng: random.Random, count: int) -> list[str]:
    """Draw different full names."""
    pairs = rng.sample(range(len(FIRST_NAMES) * len(LAST_NAMES)), count)
    return [
        f"{FIRST_NAMES[pair % len(FIRST_NAMES)]} {LAST_NAMES[pair // len(FIRST_NAMES)]}"
        for pair in pairs
    ]


def _customers(rng: random.Random, count: int) -> list[Row]:
    names = _people(rng, count)
    # A different number in every address, so that nobody can guess it from the name.
    numbers = rng.sample(range(10, 100), count)
    emails = [
        f"{name.split()[0].lower()}{number}@{rng.choice(('shop', 'mail', 'web'))}.example"
        for name, number in zip(names, numbers, strict=True)
    ]
    # Some customers are alone in their city, so that the city names them.
    chosen = rng.sample(CITIES, LONE_CUSTOMERS + count // 2)
    lone, shared = chosen[:LONE_CUSTOMERS], chosen[LONE_CUSTOMERS:]
    cities = [*lone, *rng.choices(shared, k=count - LONE_CUSTOMERS)]
    rng.shuffle(cities)
    segments = rng.choices(SEGMENTS, k=count)
    return _rows("customers", (_keys(rng, "customers", count), names, cities, emails, segments))


def _products(rng: random.Random, count: int) -> list[Row]:
    names = [
        f"{adjective} {noun}"
        for adjective, noun in zip(
            rng.sample(PRODUCT_ADJECTIVES, count), rng.sample(PRODUCT_NOUNS, count), strict=True
        )
    ]
    categories = rng.choices(CATEGORIES, k=count)
    prices = rng.sample(range(5, 200), count)
    stocks = rng.sample(range(400), count)
    return _rows("products", (_keys(rng, "products", count), names, categories, prices, stocks))


def _buyers(rng: random.Random, customers: Sequence[Row], count: int) -> list[str]:
    """Draw who orders what; some customers who are alone in their city order exactly once."""
    in_city = Counter(row["city"] for row in customers)
    lone = [row["customer_id"] for row in customers if in_city[row["city"]] == 1]
    once = lone[:LONE_CUSTOMERS]
    others = [row["customer_id"] for row in customers if row["customer_id"] not in once]
    buyers = [*once, *rng.choices(others, k=count - len(once))]
    rng.shuffle(buyers)
    return buyers


def _orders(
    rng: random.Random, customers: Sequence[Row], products: Sequence[Row], count: int
) -> list[Row]:
    buyers = _buyers(rng, customers, count)
    bought = [rng.choice(products)["product_id"] for _ in range(count)]
    quantities = [rng.randint(2, 30) for _ in range(count)]
    statuses = rng.choices(STATUSES, k=count)
    keys = _keys(rng, "orders", count)
    return _rows("orders", (keys, buyers, bought, quantities, statuses))


def _departments(rng: random.Random, count: int) -> list[Row]:
    names = rng.sample(DEPARTMENTS, count)
    floors = rng.sample(range(1, 40), count)
    budgets = [number * 100 for number in rng.sample(range(50, 990), count)]
    return _rows("departments", (_keys(rng, "departments", count), names, floors, budgets))


def _employees(rng: random.Random, departments: Sequence[Row], count: int) -> list[Row]:
    keys = _keys(rng, "employees", count)
    names = _people(rng, count)
    places = [rng.choice(departments)["name"] for _ in range(count)]
    salaries = [number * 100 for number in rng.sample(range(250, 950), count)]
    # The first one leads the company; everybody else's manager stands before them.
    managers = ["none", *(keys[rng.randrange(number)] for number in range(1, count))]
    return _rows("employees", (keys, names, places, salaries, managers))


def _extra_table(rng: random.Random, name: str) -> list[Row]:
    key, *optional = EXTRA_TABLES[name]
    chosen = sorted(rng.sample(range(len(optional)), 3))
    columns = [optional[number] for number in chosen]
    count = rng.randint(8, 20)
    values = {
        column: rng.choices(CITIES, k=count)
        if column == "city"
        else [rng.randint(*_RANGES[column]) for _ in range(count)]
        for column in columns
    }
    keys = _keys(rng, name, count)
    return [
        {key: keys[number], **{column: values[column][number] for column in columns}}
        for number in range(count)
    ]
