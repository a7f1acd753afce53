"""The tools of the `database` domain: look-ups by id, a confined free SELECT, and four writes.

Look-ups: get_customer, get_product, get_order, get_employee, find_customers, list_orders. Schema:
list_tables, describe_table. Free: run_select. Writes: update_stock, set_order_status,
add_customer, delete_order.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from mock_mcp.domains.database_company import Row
from mock_mcp.domains.database_state import MAX_TABLE_ROWS
from mock_mcp.errors import did_you_mean
from mock_mcp.sql_guard import guarded_select
from mock_mcp.toolspec import ToolFailure, ToolSpec

if TYPE_CHECKING:
    from mock_mcp.world import World

MAX_STOCK = 1_000_000
MAX_TEXT = 100
MAX_LISTED = 20


class Tables(TypedDict):
    """The tables of the database."""

    tables: list[str]


class TableDescription(TypedDict):
    """The columns of a table; the first is its key."""

    table: str
    columns: list[str]
    row_count: int


class Customer(TypedDict):
    """A customer."""

    customer_id: str
    name: str
    city: str
    email: str
    segment: str


class Product(TypedDict):
    """A product."""

    product_id: str
    name: str
    category: str
    price: int
    stock: int


class Order(TypedDict):
    """An order of one product."""

    order_id: str
    customer_id: str
    product_id: str
    quantity: int
    status: str


class Employee(TypedDict):
    """An employee; `manager_id` is `none` for the head of the company."""

    employee_id: str
    name: str
    department: str
    salary: int
    manager_id: str


class CustomerName(TypedDict):
    """Who a customer is."""

    customer_id: str
    name: str


class CityCustomers(TypedDict):
    """The customers of a city."""

    city: str
    customers: list[CustomerName]


class CustomerOrders(TypedDict):
    """The orders of a customer."""

    customer_id: str
    order_ids: list[str]


class Selection(TypedDict):
    """The rows of a query; `more` says that not all of them are shown."""

    rows: list[dict[str, Any]]
    row_count: int
    more: bool


class Stock(TypedDict):
    """The stock of a product."""

    product_id: str
    stock: int


class OrderStatus(TypedDict):
    """The status of an order."""

    order_id: str
    status: str


class Deleted(TypedDict):
    """What was deleted."""

    deleted: str


def list_tables(world: World) -> Tables:
    """List the tables of the database."""
    return {"tables": sorted(world.database.columns)}


def describe_table(world: World, table: str) -> TableDescription:
    """Show the columns of a database table."""
    columns = world.database.columns
    if table not in columns:
        hint = did_you_mean(table, columns) or " Use list_tables to see the tables."
        raise ToolFailure(f"The database has no table {_shown(table)}.{hint}")
    count = world.database.select(f"SELECT COUNT(*) AS rows FROM {table}")[0]["rows"]
    return {"table": table, "columns": list(columns[table]), "row_count": count}


def get_customer(world: World, customer_id: str) -> Customer:
    """Get a customer by id."""
    row = _row(world, "customers", customer_id, "customer")
    return {
        "customer_id": row["customer_id"],
        "name": row["name"],
        "city": row["city"],
        "email": row["email"],
        "segment": row["segment"],
    }


def get_product(world: World, product_id: str) -> Product:
    """Get a product by id."""
    row = _row(world, "products", product_id, "product")
    return {
        "product_id": row["product_id"],
        "name": row["name"],
        "category": row["category"],
        "price": row["price"],
        "stock": row["stock"],
    }


def get_order(world: World, order_id: str) -> Order:
    """Get an order by id."""
    row = _row(world, "orders", order_id, "order")
    return {
        "order_id": row["order_id"],
        "customer_id": row["customer_id"],
        "product_id": row["product_id"],
        "quantity": row["quantity"],
        "status": row["status"],
    }


def get_employee(world: World, employee_id: str) -> Employee:
    """Get an employee by id."""
    row = _row(world, "employees", employee_id, "employee")
    return {
        "employee_id": row["employee_id"],
        "name": row["name"],
        "department": row["department"],
        "salary": row["salary"],
        "manager_id": row["manager_id"],
    }


def find_customers(world: World, city: str) -> CityCustomers:
    """Find the customers who live in a city."""
    rows = world.database.select(
        "SELECT customer_id, name FROM customers WHERE city = ? COLLATE NOCASE LIMIT ?",
        city.strip(),
        MAX_LISTED,
    )
    if not rows:
        cities = {row["city"] for row in world.database.select("SELECT city FROM customers")}
        raise ToolFailure(
            f"No customer lives in {_shown(city)}.{did_you_mean(city, sorted(cities))}"
        )
    found: list[CustomerName] = [
        {"customer_id": row["customer_id"], "name": row["name"]} for row in rows
    ]
    return {"city": city, "customers": found}


def list_orders(world: World, customer_id: str) -> CustomerOrders:
    """List the order ids of a customer."""
    _row(world, "customers", customer_id, "customer")
    rows = world.database.select(
        "SELECT order_id FROM orders WHERE customer_id = ? LIMIT ?", customer_id, MAX_LISTED
    )
    return {"customer_id": customer_id, "order_ids": [row["order_id"] for row in rows]}


def run_select(
    world: World, sql: Annotated[str, Field(description="One SQLite SELECT.")]
) -> Selection:
    """Run a SELECT on the database."""
    database = world.database
    with closing(database.throwaway()) as connection:
        rows, more = guarded_select(connection, sql, database.columns)
    return {"rows": rows, "row_count": len(rows), "more": more}


def update_stock(world: World, product_id: str, stock: int) -> Stock:
    """Set the stock of a product."""
    if not 0 <= stock <= MAX_STOCK:
        raise ToolFailure(f"A stock must be from 0 to {MAX_STOCK}, not {stock}.")
    _row(world, "products", product_id, "product")
    world.database.write(
        "products",
        product_id,
        "UPDATE products SET stock = ? WHERE product_id = ?",
        stock,
        product_id,
    )
    return {"product_id": product_id, "stock": stock}


def set_order_status(
    world: World,
    order_id: str,
    status: Literal["open", "paid", "packed", "shipped", "delivered", "cancelled"],
) -> OrderStatus:
    """Set the status of an order."""
    _row(world, "orders", order_id, "order")
    world.database.write(
        "orders", order_id, "UPDATE orders SET status = ? WHERE order_id = ?", status, order_id
    )
    return {"order_id": order_id, "status": status}


def add_customer(world: World, name: str, city: str, email: str) -> Customer:
    """Add a new customer."""
    for field, value in (("name", name), ("city", city), ("email", email)):
        if not 1 <= len(value.strip()) <= MAX_TEXT:
            raise ToolFailure(f"The {field} must have 1 to {MAX_TEXT} characters.")
    if "@" not in email:
        raise ToolFailure(f"{_shown(email)} is not an email address. Write it as name@host.")
    database = world.database
    if len(database.select("SELECT 1 FROM customers")) >= MAX_TABLE_ROWS:
        raise ToolFailure("The table customers is full. Nothing was added.")
    key = database.new_key("customers")
    insert = "INSERT INTO customers VALUES (?, ?, ?, ?, 'private')"
    database.write("customers", key, insert, key, name, city, email)
    return get_customer(world, key)


def delete_order(world: World, order_id: str) -> Deleted:
    """Delete an order."""
    _row(world, "orders", order_id, "order")
    world.database.write("orders", order_id, "DELETE FROM orders WHERE order_id = ?", order_id)
    return {"deleted": order_id}


def _row(world: World, table: str, key: str, what: str) -> Row:
    row = world.database.row(table, key)
    if row is None:
        raise ToolFailure(f"There is no {what} {_shown(key)}. Check the {what} id.")
    return row


def _shown(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}..."


TOOLS = (
    ToolSpec(list_tables),
    ToolSpec(describe_table),
    ToolSpec(get_customer),
    ToolSpec(get_product),
    ToolSpec(get_order),
    ToolSpec(get_employee),
    ToolSpec(find_customers),
    ToolSpec(list_orders),
    ToolSpec(run_select),
    ToolSpec(update_stock, read_only=False, destructive=True),
    ToolSpec(set_order_status, read_only=False, destructive=True),
    ToolSpec(add_customer, read_only=False),
    ToolSpec(delete_order, read_only=False, destructive=True),
)
"""The tools of the domain."""
