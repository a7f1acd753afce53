from __future__ import annotations

import gc
import random
import sqlite3
import threading
from collections import Counter
from typing import Any

import pytest

from mock_mcp.domains import database_tools as tools
from mock_mcp.domains.database_state import DatabaseState
from mock_mcp.toolspec import ToolFailure
from mock_mcp.world import World

CORE = {"customers", "departments", "employees", "orders", "products"}
LOOKUPS = {
    "customers": tools.get_customer,
    "products": tools.get_product,
    "orders": tools.get_order,
    "employees": tools.get_employee,
}


@pytest.fixture(scope="module")
def template() -> World:
    return World.build(11)


@pytest.fixture
def world(template: World) -> World:
    return template.copy()


def _rows(world: World, table: str) -> dict[str, dict[str, Any]]:
    return world.database.table(table)


def _first(world: World, table: str) -> dict[str, Any]:
    return next(iter(_rows(world, table).values()))


@pytest.mark.parametrize("table", LOOKUPS)
def test_a_look_up_returns_the_row_of_the_id(world: World, table: str) -> None:
    for key, row in _rows(world, table).items():
        assert LOOKUPS[table](world, key) == row


@pytest.mark.parametrize(("table", "look_up"), LOOKUPS.items())
@pytest.mark.parametrize("key", ["Z0", "", "' OR 1=1 --", "x" * 5000])
def test_an_unknown_id_fails_and_is_named_in_few_words(
    world: World, table: str, look_up: Any, key: str
) -> None:
    with pytest.raises(ToolFailure, match="There is no") as caught:
        look_up(world, key)
    assert key[:40] in str(caught.value)
    assert len(str(caught.value)) < 120


def test_find_customers_returns_exactly_those_of_the_city(world: World) -> None:
    cities = Counter(row["city"] for row in _rows(world, "customers").values())
    for city, count in cities.items():
        found = tools.find_customers(world, city)["customers"]
        assert len(found) == count
        assert all(_rows(world, "customers")[one["customer_id"]]["city"] == city for one in found)
        assert tools.find_customers(world, f" {city.lower()} ")["customers"] == found


def test_a_misspelt_city_is_corrected(world: World) -> None:
    city = max((row["city"] for row in _rows(world, "customers").values()), key=len)
    with pytest.raises(ToolFailure, match=f"Did you mean {city}"):
        tools.find_customers(world, city[:-1])


def test_list_orders_returns_exactly_the_orders_of_the_customer(world: World) -> None:
    for key in _rows(world, "customers"):
        wanted = {
            order for order, row in _rows(world, "orders").items() if row["customer_id"] == key
        }
        listed = tools.list_orders(world, key)["order_ids"]
        assert set(listed) == wanted
        assert len(listed) == len(wanted)


def test_tables_are_listed_and_described_as_they_are(world: World) -> None:
    names = tools.list_tables(world)["tables"]
    assert set(names) > CORE
    for name in names:
        shown = tools.describe_table(world, name)
        assert shown["row_count"] == len(_rows(world, name))
        assert shown["columns"] == list(_first(world, name))
    with pytest.raises(ToolFailure, match="Did you mean customers"):
        tools.describe_table(world, "custmers")


def test_worlds_differ_in_their_tables() -> None:
    names = {tuple(DatabaseState.build(random.Random(seed)).columns) for seed in range(8)}
    assert len(names) > 4


def test_a_free_select_reads_what_the_tables_hold(world: World) -> None:
    sql = "SELECT SUM(quantity) AS total FROM orders WHERE status = 'paid'"
    total = sum(
        row["quantity"] for row in _rows(world, "orders").values() if row["status"] == "paid"
    )
    result = tools.run_select(world, sql)
    assert result == {"rows": [{"total": total}], "row_count": 1, "more": False}


def test_a_free_select_sees_the_writes_of_its_own_world_only(world: World, template: World) -> None:
    key = _first(world, "products")["product_id"]
    tools.update_stock(world, key, 987_654)
    sql = "SELECT product_id FROM products WHERE stock = 987654"
    assert tools.run_select(world, sql)["rows"] == [{"product_id": key}]
    assert tools.run_select(template, sql)["rows"] == []


@pytest.mark.parametrize(
    "sql", ["DROP TABLE orders", "SELECT 1; DROP TABLE orders", "SELECT load_extension('x')"]
)
def test_a_hostile_select_changes_nothing(world: World, template: World, sql: str) -> None:
    with pytest.raises(ToolFailure):
        tools.run_select(world, sql)
    assert world.database.snapshot() == template.database.snapshot()
    assert world.writes == template.writes


def test_each_write_changes_exactly_its_row(world: World, template: World) -> None:
    product, order = _first(world, "products"), _first(world, "orders")
    status = "paid" if order["status"] != "paid" else "open"
    doomed = [*_rows(world, "orders")][-1]
    assert tools.update_stock(world, product["product_id"], 12345)["stock"] == 12345
    assert tools.set_order_status(world, order["order_id"], status)["status"] == status
    assert tools.delete_order(world, doomed) == {"deleted": doomed}
    added = tools.add_customer(world, "Ann O'Hara", "Rome", "ann@mail.example")
    assert world.changes_since(template) == {
        "database.products": {product["product_id"]: {**product, "stock": 12345}},
        "database.orders": {order["order_id"]: {**order, "status": status}, doomed: None},
        "database.customers": {added["customer_id"]: dict(added)},
    }
    assert added["customer_id"] not in _rows(template, "customers")
    assert world.writes == template.writes + 4


def test_the_snapshot_after_writes_is_what_the_database_holds(world: World) -> None:
    products, orders = [*_rows(world, "products")], [*_rows(world, "orders")]
    for key in products[:3]:
        tools.update_stock(world, key, 777)
    tools.delete_order(world, orders[2])
    tools.set_order_status(world, orders[3], "paid")
    tools.add_customer(world, "Ann Hara", "Rome", "ann@mail.example")
    for name, rows in world.copy().database.snapshot().items():
        assert [*rows.values()] == world.database.select(f"SELECT * FROM {name} ORDER BY rowid")


def test_two_added_customers_get_two_ids(world: World) -> None:
    first, second = (
        tools.add_customer(world, "Ann Hara", "Rome", "ann@mail.example")["customer_id"]
        for _ in range(2)
    )
    assert first != second
    assert first[0] == second[0] == "C"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda world: tools.update_stock(world, _first(world, "products")["product_id"], -1),
        lambda world: tools.update_stock(world, _first(world, "products")["product_id"], 10**30),
        lambda world: tools.update_stock(world, "P0", 5),
        lambda world: tools.set_order_status(world, "O0", "paid"),
        lambda world: tools.delete_order(world, "O0"),
        lambda world: tools.add_customer(world, "", "Rome", "a@b"),
        lambda world: tools.add_customer(world, "x" * 101, "Rome", "a@b"),
        lambda world: tools.add_customer(world, "Ann", "Rome", "nowhere"),
    ],
)
def test_a_write_that_is_refused_changes_nothing(world: World, template: World, wrong: Any) -> None:
    with pytest.raises(ToolFailure):
        wrong(world)
    assert world.writes == template.writes
    assert world.database.snapshot() == template.database.snapshot()


def test_the_customers_cannot_be_piled_up_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "MAX_TABLE_ROWS", len(_rows(world, "customers")) + 1)
    tools.add_customer(world, "Ann Hara", "Rome", "ann@mail.example")
    with pytest.raises(ToolFailure, match="customers is full"):
        tools.add_customer(world, "Ann Hara", "Rome", "ann@mail.example")


def test_a_deleted_order_is_gone(world: World) -> None:
    key = _first(world, "orders")["order_id"]
    tools.delete_order(world, key)
    with pytest.raises(ToolFailure, match=key):
        tools.get_order(world, key)
    with pytest.raises(ToolFailure, match=key):
        tools.delete_order(world, key)


def test_copies_never_see_each_others_writes() -> None:
    original = World.build(12)
    key = _first(original, "products")["product_id"]
    start = _first(original, "products")["stock"]
    before = original.copy()
    tools.update_stock(original, key, 1001)
    after = original.copy()
    tools.update_stock(after, key, 1002)
    grandchild = after.copy()
    tools.update_stock(after, key, 1003)
    tools.update_stock(grandchild, key, 1004)
    stocks = [tools.get_product(one, key)["stock"] for one in (before, original, after, grandchild)]
    assert stocks == [start, 1001, 1003, 1004]
    assert [_rows(one, "products")[key]["stock"] for one in (before, original)] == [start, 1001]


def test_an_episode_that_only_reads_opens_no_database(
    template: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("a database was opened")

    monkeypatch.setattr(sqlite3, "connect", forbidden)
    copy = template.copy()
    assert tools.get_order(copy, _first(copy, "orders")["order_id"])
    assert not copy.changes_since(template)


def test_the_snapshot_cannot_be_used_to_change_the_state(world: World) -> None:
    key = _first(world, "orders")["order_id"]
    world.database.snapshot()["orders"][key]["status"] = "changed"
    world.database.snapshot()["orders"].clear()
    assert world.database.snapshot()["orders"][key]["status"] != "changed"


def test_other_threads_may_read_and_write(world: World, template: World) -> None:
    keys = [*_rows(world, "orders")]
    results: list[Any] = []

    def work(one: World, key: str) -> None:
        tools.set_order_status(one, key, "open")
        results.append(tools.get_order(one, key)["status"])
        results.append(tools.run_select(one, "SELECT 'open' AS status")["rows"][0]["status"])

    threads = [threading.Thread(target=work, args=(template.copy(), key)) for key in keys[:8]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["open"] * 16


def test_a_world_that_nobody_holds_closes_its_database() -> None:
    state = DatabaseState.build(random.Random(13))
    connection = state._store._connection
    del state
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_the_same_seed_gives_the_same_company_and_another_seed_another() -> None:
    first, again, other = (
        DatabaseState.build(random.Random(seed)).snapshot() for seed in (21, 21, 22)
    )
    assert first == again
    assert all(first[table] != other[table] for table in CORE)


@pytest.mark.parametrize("seed", range(12))
def test_the_company_is_consistent(seed: int) -> None:
    tables = DatabaseState.build(random.Random(seed)).snapshot()
    customers, orders, employees = tables["customers"], tables["orders"], tables["employees"]
    assert all(
        row["customer_id"] in customers and row["product_id"] in tables["products"]
        for row in orders.values()
    )
    departments = {row["name"] for row in tables["departments"].values()}
    assert {row["department"] for row in employees.values()} <= departments
    managers = [row["manager_id"] for row in employees.values()]
    assert managers.count("none") == 1
    assert {*managers} - {"none"} <= {*employees}
    assert len({row["email"] for row in customers.values()}) == len(customers)
    for rows in tables.values():
        assert 6 <= len(rows) <= 130
        assert all(key == next(iter(row.values())) for key, row in rows.items())


def test_what_a_tool_returns_never_depends_on_the_order_of_calls(template: World) -> None:
    one, other = template.copy(), template.copy()
    keys = [*_rows(one, "products")][:5]
    forward = [tools.get_product(one, key) for key in keys]
    backward = [tools.get_product(other, key) for key in reversed(keys)]
    assert forward == backward[::-1]


def test_only_the_tools_that_change_something_say_so() -> None:
    writing = {"update_stock", "set_order_status", "add_customer", "delete_order"}
    assert {spec.name for spec in tools.TOOLS if not spec.read_only} == writing
    assert {spec.name for spec in tools.TOOLS if spec.destructive} == writing - {"add_customer"}
