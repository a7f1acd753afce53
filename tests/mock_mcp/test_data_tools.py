from __future__ import annotations

import csv
import io
import json
import random
import statistics
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mock_mcp import tables
from mock_mcp.domains import data_tools as tools
from mock_mcp.domains.data_state import MAX_TABLES, DataState
from mock_mcp.tables import Cell, Table
from mock_mcp.toolspec import ToolFailure
from mock_mcp.world import World

SHOP = Table(
    ("item", "kind", "size", "price"),
    (
        ("lamp", "home", "s", 10),
        ("rope", "sport", "m", 2.5),
        ("ball", "sport", "s", 7),
        ("vase", "home", "m", 10),
        ("cup", "home", "s", 1),
    ),
)
OWNERS = Table(("kind", "owner"), (("home", "Ann"), ("sport", "Bob"), ("sport", "Cid")))


@pytest.fixture
def world() -> World:
    world = World.build(5)
    world.data.tables.update(shop=SHOP, owners=OWNERS)
    return world


@pytest.fixture
def before(world: World) -> World:
    return world.copy()


@pytest.mark.parametrize(
    ("column", "operator", "value", "items"),
    [
        ("kind", "=", "home", ["lamp", "vase", "cup"]),
        ("kind", "!=", "home", ["rope", "ball"]),
        ("kind", "<", "i", ["lamp", "vase", "cup"]),
        ("price", ">", 7, ["lamp", "vase"]),
        ("price", ">=", 7, ["lamp", "ball", "vase"]),
        ("price", "<", 2.5, ["cup"]),
        ("price", "<=", 2.5, ["rope", "cup"]),
        ("price", "=", 10.0, ["lamp", "vase"]),
        ("item", "=", "sofa", []),
    ],
)
def test_a_filter_keeps_the_matching_rows(
    world: World, column: str, operator: Any, value: Any, items: list[str]
) -> None:
    result = tools.filter_table(world, "shop", column, operator, value)
    assert [row[0] for row in result["rows"]] == items
    assert result["row_count"] == len(items)


def test_numbers_are_not_compared_with_text(world: World) -> None:
    with pytest.raises(ToolFailure, match="price holds numbers"):
        tools.filter_table(world, "shop", "price", ">", "5")
    with pytest.raises(ToolFailure, match="kind holds text"):
        tools.filter_table(world, "shop", "kind", "=", 5)


def test_sorting_keeps_equal_rows_in_their_order(world: World) -> None:
    up = tools.sort_table(world, "shop", "price")["rows"]
    down = tools.sort_table(world, "shop", "price", "descending")["rows"]
    assert [row[0] for row in up] == ["cup", "rope", "ball", "lamp", "vase"]
    assert [row[0] for row in down] == ["lamp", "vase", "ball", "rope", "cup"]


@pytest.mark.parametrize(
    ("function", "value"),
    [("sum", 30.5), ("mean", 6.1), ("median", 7), ("min", 1), ("max", 10), ("count", 5)],
)
def test_an_aggregate_is_exact(world: World, function: Any, value: float) -> None:
    assert tools.aggregate_table(world, "shop", "price", function) == {"value": value}


def test_whole_results_are_whole_numbers(world: World) -> None:
    value = tools.aggregate_table(world, "shop", "price", "max")["value"]
    assert json.dumps(value) == "10"


def test_decimals_do_not_gather_errors() -> None:
    table = Table(("x",), ((0.1,), (0.2,), (0.3,)))
    assert tables.aggregated(table, "x", "sum") == 0.6


@pytest.mark.parametrize("seed", range(3))
def test_the_worlds_aggregates_agree_with_the_standard_library(seed: int) -> None:
    world = World.build(seed)
    for name, table in world.data.tables.items():
        for column in table.columns[-2:]:
            cells = [cell for cell in table.cells(column) if isinstance(cell, int)]
            if len(cells) < len(table.rows):
                continue
            wanted = {"sum": sum(cells), "max": max(cells), "min": min(cells)}
            wanted |= {"mean": statistics.mean(cells), "median": statistics.median(cells)}
            for function, value in wanted.items():
                found = tools.aggregate_table(world, name, column, function)["value"]  # type: ignore[arg-type]
                assert found == pytest.approx(value, abs=0.0051)


def test_groups_come_in_sorted_order(world: World) -> None:
    result = tools.group_table(world, "shop", "kind", "price", "mean")
    assert result["columns"] == ["kind", "mean_price"]
    assert result["rows"] == [["home", 7], ["sport", 4.75]]


def test_a_pivot_has_a_cell_for_every_pair_and_none_where_nothing_is(world: World) -> None:
    result = tools.pivot_table(world, "shop", "size", "kind", "price", "sum")
    assert result["columns"] == ["size", "home", "sport"]
    assert result["rows"] == [["m", 10, 2.5], ["s", 11, 7]]
    holes = tools.pivot_table(world, "shop", "item", "kind", "price", "count")
    assert ["ball", None, 1] in holes["rows"]


def test_a_join_pairs_every_match_and_drops_what_has_none(world: World) -> None:
    world.data.tables["owners"] = Table(("kind", "owner"), OWNERS.rows[1:])
    result = tools.join_tables(world, "shop", "owners", "kind")
    assert result["columns"] == ["item", "kind", "size", "price", "owner"]
    assert [(row[0], row[-1]) for row in result["rows"]] == [
        ("rope", "Bob"),
        ("rope", "Cid"),
        ("ball", "Bob"),
        ("ball", "Cid"),
    ]


def test_columns_of_the_same_name_stay_apart_in_a_join(world: World) -> None:
    result = tools.join_tables(world, "shop", "shop", "item")
    assert result["columns"] == ["item", "kind", "size", "price", "kind_2", "size_2", "price_2"]
    assert result["row_count"] == len(SHOP.rows)


def test_a_join_that_explodes_is_refused_before_it_is_made(world: World) -> None:
    same = Table(("k", "n"), tuple(("a", number) for number in range(100)))
    world.data.tables["same"] = same
    with pytest.raises(ToolFailure, match="10000 rows"):
        tools.join_tables(world, "same", "same", "k", "huge")
    assert "huge" not in world.data.tables


def test_a_pivot_with_too_many_columns_is_refused(world: World) -> None:
    table = Table(("k", "n"), tuple((f"v{number}", number) for number in range(30)))
    world.data.tables["wide"] = table
    with pytest.raises(ToolFailure, match="has 30 values"):
        tools.pivot_table(world, "wide", "n", "k", "n", "sum")


def test_exports_are_read_back_by_the_standard_library(world: World) -> None:
    text = tools.export_table(world, "shop", "csv")["text"]
    rows = list(csv.reader(io.StringIO(text)))
    assert rows == [list(SHOP.columns), *([str(cell) for cell in row] for row in SHOP.rows)]
    records = json.loads(tools.export_table(world, "shop", "json")["text"])
    assert records == [dict(zip(SHOP.columns, row, strict=True)) for row in SHOP.rows]


def test_an_export_that_would_not_fit_is_refused(world: World) -> None:
    world.data.tables["long"] = Table(("text",), tuple(("x" * 100,) for _ in range(30)))
    with pytest.raises(ToolFailure, match="Filter the table first"):
        tools.export_table(world, "long", "csv")


def test_a_loaded_csv_is_a_table_with_numbers_as_numbers(world: World) -> None:
    text = 'name,n,code\n"Lee, Ann",3,007\nBob,-2.50,x\n'
    result = tools.load_csv(world, text, "fresh")
    assert result["rows"] == [["Lee, Ann", 3, 7], ["Bob", -2.5, "x"]]
    assert tools.aggregate_table(world, "fresh", "n", "sum") == {"value": 0.5}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "header line and at least one row"),
        ("a,b", "header line and at least one row"),
        ("a,a\n1,2", "a name of its own"),
        ("a,\n1,2", "a name of its own"),
        ("a,b\n1,2\n3", "Line 3 has 1 cells, the header 2"),
        ('a,b\n"1,2', "cannot be read"),
        ("a\n" + "1\n" * 501, "501 rows"),
        (",".join(f"c{n}" for n in range(21)) + "\n" + "1," * 20 + "1", "21 columns"),
        ("a\n" + "x" * 5000, "longer than"),
    ],
)
def test_a_csv_that_is_no_table_is_told_why(world: World, text: str, problem: str) -> None:
    with pytest.raises(ToolFailure, match=problem):
        tools.load_csv(world, text, "fresh")
    assert "fresh" not in world.data.tables


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "0x10", "1_000", "١٢"])
def test_only_plain_decimals_are_numbers(world: World, text: str) -> None:
    tools.load_csv(world, f"a\n{text}", "fresh")
    assert world.data.tables["fresh"].rows == ((text,),)


def test_a_result_shows_its_first_rows_and_saves_all(world: World) -> None:
    many = Table(("n",), tuple((number,) for number in range(40)))
    world.data.tables["many"] = many
    result = tools.sort_table(world, "many", "n", "descending", "turned")
    assert (len(result["rows"]), result["row_count"]) == (tools.MAX_SHOWN, 40)
    assert world.data.tables["turned"].rows == many.rows[::-1]


def test_what_is_saved_is_the_only_change(world: World, before: World) -> None:
    tools.filter_table(world, "shop", "kind", "=", "sport", "sporty")
    assert world.changes_since(before) == {
        "data.tables": {
            "sporty": {
                "columns": list(SHOP.columns),
                "rows": [["rope", "sport", "m", 2.5], ["ball", "sport", "s", 7]],
            }
        }
    }


def test_a_csv_cannot_be_loaded_without_a_name(world: World, before: World) -> None:
    with pytest.raises(ToolFailure, match="save_as is empty"):
        tools.load_csv(world, "a\n1", "")
    assert world.writes == before.writes


def test_an_empty_result_is_saved_as_well(world: World, before: World) -> None:
    tools.filter_table(world, "shop", "kind", "=", "none", "empty")
    assert world.changes_since(before)["data.tables"]["empty"] == {
        "columns": list(SHOP.columns),
        "rows": [],
    }


def test_nothing_is_saved_without_a_name(world: World, before: World) -> None:
    tools.filter_table(world, "shop", "kind", "=", "sport")
    tools.sort_table(world, "shop", "price")
    tools.group_table(world, "shop", "kind", "price", "sum")
    tools.join_tables(world, "shop", "owners", "kind")
    tools.pivot_table(world, "shop", "kind", "size", "price", "sum")
    assert world.writes == before.writes
    assert not world.changes_since(before)


@pytest.mark.parametrize("name", ["shop", "Shop", "1st", "a b", "x" * 31, "a;b", "Ünal"])
def test_a_name_that_is_taken_or_odd_is_refused(world: World, before: World, name: str) -> None:
    with pytest.raises(ToolFailure, match=r"already|no table name"):
        tools.sort_table(world, "shop", "price", "ascending", name)
    assert world.writes == before.writes
    assert world.data.tables["shop"] == SHOP


def test_tables_cannot_be_piled_up_for_ever(world: World) -> None:
    for number in range(MAX_TABLES - len(world.data.tables)):
        tools.sort_table(world, "shop", "price", "ascending", f"t{number}")
    with pytest.raises(ToolFailure, match="too many"):
        tools.sort_table(world, "shop", "price", "ascending", "last")


def test_copies_do_not_see_each_others_tables(world: World, before: World) -> None:
    tools.sort_table(world, "shop", "price", "ascending", "mine")
    assert "mine" not in before.data.tables
    with pytest.raises(ToolFailure, match="no data table mine"):
        tools.preview_table(before, "mine")


def test_unknown_tables_and_columns_are_corrected(world: World) -> None:
    with pytest.raises(ToolFailure, match="Did you mean shop"):
        tools.preview_table(world, "shp")
    with pytest.raises(ToolFailure, match="Did you mean price"):
        tools.aggregate_table(world, "shop", "prise", "sum")
    with pytest.raises(ToolFailure, match="Columns: item, kind, size, price"):
        tools.sort_table(world, "shop", "zzzzzzzz")


def test_text_is_not_added_up(world: World) -> None:
    with pytest.raises(ToolFailure, match="kind does not hold numbers"):
        tools.aggregate_table(world, "shop", "kind", "sum")
    assert tools.aggregate_table(world, "shop", "kind", "count") == {"value": 5}


def test_an_empty_table_has_no_mean_but_a_count(world: World) -> None:
    tools.filter_table(world, "shop", "kind", "=", "none", "empty")
    with pytest.raises(ToolFailure, match="no rows"):
        tools.aggregate_table(world, "empty", "price", "mean")
    assert tools.aggregate_table(world, "empty", "price", "count") == {"value": 0}


def test_a_preview_shows_the_columns_and_the_first_rows(world: World) -> None:
    assert tools.preview_table(world, "shop") == {
        "table": "shop",
        "row_count": 5,
        "columns": ["item", "kind", "size", "price"],
        "rows": [list(row) for row in SHOP.rows[:3]],
    }
    assert set(tools.list_data_tables(world)["tables"]) == set(world.data.tables)


@pytest.mark.parametrize("seed", range(20))
def test_a_world_has_six_tables_that_can_be_joined_in_pairs(seed: int) -> None:
    data = DataState.build(random.Random(seed))
    lookups = [name for name in data.tables if name.endswith("_info")]
    assert (len(data.tables), len(lookups)) == (6, 2)
    for name in lookups:
        column = name.removesuffix("_info")
        partners = [table for table in data.tables.values() if table.columns[1] == column]
        assert len(partners) == 1
        known = set(data.tables[name].cells(column))
        assert set(partners[0].cells(column)) <= known
    sizes = [len(table.rows) for name, table in data.tables.items() if name not in lookups]
    assert set(sizes) <= {10, 20, 25}


_WORD = st.text("abcdefgh ,\"'xyz", min_size=1, max_size=8).map(str.strip).filter(bool)
_CELL: st.SearchStrategy[Cell] = _WORD | st.integers(-(10**9), 10**9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(_CELL, _CELL), min_size=1, max_size=8))
def test_csv_is_read_back_as_it_was_written(rows: list[tuple[Cell, Cell]]) -> None:
    table = Table(("a", "b"), tuple(rows))
    assert tables.from_csv(tables.to_csv(table)) == table
