from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mock_mcp.sql_guard import FUNCTIONS, MAX_RESULT, MAX_ROWS, MAX_SQL, guarded_select
from mock_mcp.toolspec import ToolFailure

COLUMNS = {"people": ("id", "name", "age"), "pets": ("id", "owner", "kind")}
MANY = 300


def _database() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE people (id TEXT PRIMARY KEY, name TEXT, age INTEGER)")
    connection.execute("CREATE TABLE pets (id TEXT PRIMARY KEY, owner TEXT, kind TEXT)")
    connection.execute("CREATE TABLE secrets (word TEXT)")
    connection.execute("INSERT INTO secrets VALUES ('swordfish')")
    people = [(f"H{number}", f"name{number}", number % 7) for number in range(MANY)]
    connection.executemany("INSERT INTO people VALUES (?, ?, ?)", people)
    connection.execute("INSERT INTO pets VALUES ('A1', 'H3', 'cat')")
    return connection


def _select(sql: str) -> tuple[list[dict[str, Any]], bool]:
    with closing(_database()) as connection:
        return guarded_select(connection, sql, COLUMNS)


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT name FROM people WHERE id = 'H3'", [{"name": "name3"}]),
        ("select count(*) as n from people;", [{"n": MANY}]),
        ("\n SELECT MAX(age) AS oldest FROM people", [{"oldest": 6}]),
        (
            "SELECT p.name, kind FROM people p JOIN pets ON owner = p.id",
            [{"name": "name3", "kind": "cat"}],
        ),
        (
            "SELECT age, COUNT(*) AS n FROM people GROUP BY age HAVING age > 5",
            [{"age": 6, "n": MANY // 7}],
        ),
        ("SELECT COUNT(*) AS n FROM (SELECT DISTINCT age FROM people) AS ages", [{"n": 7}]),
        ("SELECT name FROM people WHERE id IN (SELECT owner FROM pets)", [{"name": "name3"}]),
        ("SELECT kind FROM pets UNION SELECT 'dog' ORDER BY 1", [{"kind": "cat"}, {"kind": "dog"}]),
        ("SELECT upper(name) AS u FROM people WHERE name LIKE '%e299'", [{"u": "NAME299"}]),
        ("SELECT 1.0 / 3 AS third, NULL AS none", [{"third": 0.3333, "none": None}]),
        ("SELECT id, id FROM pets", [{"id": "A1", "id_2": "A1"}]),
    ],
)
def test_an_ordinary_query_returns_its_rows(sql: str, rows: list[dict[str, Any]]) -> None:
    assert _select(sql) == (rows, False)


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "   ",
        "DELETE FROM people",
        "INSERT INTO pets VALUES ('A2', 'H1', 'dog')",
        "PRAGMA table_info(people)",
        "ATTACH DATABASE '/tmp/x.db' AS x",
        "VACUUM INTO '/tmp/x.db'",
        "EXPLAIN SELECT 1",
        "VALUES (1)",
        "-- a comment\nSELECT 1",
        "(SELECT 1)",
    ],
)
def test_only_a_select_is_run(sql: str) -> None:
    with pytest.raises(ToolFailure, match="Start the query with SELECT"):
        _select(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT word FROM secrets",
        "SELECT (SELECT word FROM secrets)",
        "SELECT COUNT(*) FROM secrets",
        "SELECT id FROM people WHERE id IN (SELECT word FROM secrets)",
        "SELECT name FROM sqlite_master",
        "SELECT name FROM sqlite_schema",
        "SELECT name FROM pragma_table_info('people')",
        "SELECT value FROM json_each('[1]')",
        "SELECT random()",
        "SELECT randomblob(100)",
        "SELECT zeroblob(100000000)",
        "SELECT hex(name) FROM people",
        "SELECT printf('%100000s', 'x')",
        "SELECT replace(name, 'n', 'nn') FROM people",
        "SELECT date('now')",
        "SELECT CURRENT_TIMESTAMP",
        "SELECT load_extension('/tmp/x.so')",
        "SELECT readfile('/etc/passwd')",
        "SELECT sqlite_version()",
        "SELECT last_insert_rowid()",
        "SELECT writefile('/tmp/x', 'y')",
        "SELECT name GLOB 'n*' FROM people",
    ],
)
def test_other_tables_and_functions_are_refused(sql: str) -> None:
    with pytest.raises(ToolFailure, match=r"is not allowed|query failed: no such"):
        _select(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 WHERE 1 IN (WITH a AS (SELECT 1) SELECT * FROM a)",
        "SELECT * FROM (WITH RECURSIVE a(x) AS (SELECT 1 UNION SELECT x + 1 FROM a) SELECT 1)",
        "SELECT * FROM (wItH a AS (SELECT 1) SELECT * FROM a)",
        "SELECT(with/**/a(x)AS(SELECT 1)SELECT x FROM a)",
        'SELECT"x",(WITH a(x)AS(SELECT 1)SELECT x FROM a)',
    ],
)
def test_common_table_expressions_are_refused_before_sqlite_expands_them(sql: str) -> None:
    with pytest.raises(ToolFailure, match="WITH is not allowed"):
        _select(sql)


def test_a_second_statement_is_refused_and_not_run() -> None:
    with closing(_database()) as connection:
        with pytest.raises(ToolFailure, match="one statement"):
            guarded_select(connection, "SELECT 1; DELETE FROM people", COLUMNS)
        connection.set_authorizer(None)
        connection.set_progress_handler(None, 0)
        assert connection.execute("SELECT COUNT(*) FROM people").fetchone() == (MANY,)


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("SELECT nme FROM people", "no such column: nme. Did you mean name?"),
        ("SELECT p.nme FROM people p", "Did you mean name?"),
        ("SELECT * FROM peple", "no such table: peple. Did you mean people?"),
        ("SELECT zzzz FROM people", "Use describe_table"),
        ("SELECT name FROM people WHERE id = ?", "too many SQL variables"),
        ("SELECT FROM people", "syntax error"),
        ("SELECT X'00FF'", "binary data"),
        ("SELECT 1e999", "infinite number"),
        ("SELECT -1e999", "infinite number"),
        ("SELECT CAST(X'FF' AS TEXT)", "UTF-8"),
        ("SELECT SUM(9223372036854775807) FROM people", "integer overflow"),
        ("SELECT 'é'", "not ASCII"),
        ("SELECT '\ud800'", "not ASCII"),
        ("SELECT 1\0", "not ASCII"),
        (f"SELECT '{'x' * MAX_SQL}'", "longer than"),
        ("SELECT " + "(" * 900 + "1" + ")" * 900, "query failed"),
        ("SELECT " + "-" * 1500 + "1", "query failed|incomplete"),
        ("SELECT " + " UNION SELECT ".join("123456789abcdefghij"), "query failed"),
        ("SELECT " + "1+" * 900 + "1", "query failed"),
    ],
)
def test_a_wrong_query_is_told_what_is_wrong(sql: str, problem: str) -> None:
    with pytest.raises(ToolFailure, match=problem.replace("?", r"\?")) as caught:
        _select(sql)
    assert len(str(caught.value)) < 300
    str(caught.value).encode()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT COUNT(*) FROM people a, people b, people c",
        "SELECT COUNT(*) FROM " + ", ".join(f"people a{number}" for number in range(60)),
        f"SELECT a.name || '{'x' * 900}' FROM people a, people b, people c ORDER BY 1",
        f"SELECT DISTINCT a.name || b.name || '{'x' * 900}' FROM people a, people b, people c "
        "ORDER BY 1",
        "SELECT MAX(a.name) FROM people a, people b, people c GROUP BY a.age + b.age + c.age",
    ],
)
def test_a_query_over_the_budget_of_steps_is_stopped_every_time(sql: str) -> None:
    for _ in range(2):
        with pytest.raises(ToolFailure, match="too many steps"):
            _select(sql)


def test_a_join_of_all_rows_is_within_the_budget() -> None:
    sql = "SELECT COUNT(*) AS n FROM people a JOIN people b ON a.id = b.id JOIN people c USING (id)"
    assert _select(sql) == ([{"n": MANY}], False)


def test_no_value_grows_beyond_the_length_limit() -> None:
    with pytest.raises(ToolFailure, match="too big"):
        _select("SELECT group_concat(name || name) FROM people")


def test_rows_beyond_the_cap_are_cut_and_said_to_be() -> None:
    rows, more = _select("SELECT age FROM people")
    assert (len(rows), more) == (MAX_ROWS, True)
    exact = _select(f"SELECT age FROM people LIMIT {MAX_ROWS}")
    assert (len(exact[0]), exact[1]) == (MAX_ROWS, False)


def test_the_rows_fit_into_a_prompt() -> None:
    rows, more = _select(f"SELECT name || '{'x' * 200}' AS long FROM people")
    assert more
    assert len(rows) > 1
    assert len(json.dumps(rows)) <= MAX_RESULT + 2


def test_one_row_that_cannot_be_shown_is_an_error() -> None:
    wide = ", ".join(f"'{'x' * 300}'" for _ in range(6))
    with pytest.raises(ToolFailure, match="too long to show"):
        _select(f"SELECT {wide}")


def test_no_allowed_function_reads_the_clock_or_is_random() -> None:
    assert not FUNCTIONS & {"random", "randomblob", "date", "time", "datetime", "strftime"}


_PIECES = (
    "SELECT", "FROM", "WHERE", "people", "pets", "secrets", "sqlite_master", "*", "name", "age",
    "id", ",", "(", ")", "=", "<", "'x'", "1", "1e9", "||", "AND", "NOT", "NULL", "COUNT(*)",
    "GROUP BY", "ORDER BY", "LIMIT", "UNION ALL", "JOIN", "USING (id)", "AS", ";", "PRAGMA",
    "DELETE", "WITH", "random()", "/*", "*/", "--", "\n", '"', "'", "?", ":a", "X'00'", "[", "]",
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(_PIECES), max_size=14) | st.text(max_size=30).map(lambda t: [t]))
def test_whatever_is_asked_gives_json_rows_or_a_tool_failure(pieces: list[str]) -> None:
    with closing(_database()) as connection:
        try:
            rows, _ = guarded_select(connection, "SELECT " + " ".join(pieces), COLUMNS)
        except ToolFailure as failure:
            str(failure).encode()
            return
        text = json.dumps(rows, allow_nan=False)
    assert len(text) <= MAX_RESULT + 2
    assert "swordfish" not in text
