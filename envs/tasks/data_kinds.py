"""Families of tasks for the `data` domain: here those with one call, then all of them.

What a reference returns is computed with `mock_mcp/tables.py`; the tests compute it by other means.
"""

from __future__ import annotations

import random

from envs.tasks.data_chains import CHAINS
from envs.tasks.data_slots import FUNCTIONS, new_names, saved, some_value, subject
from envs.tasks.drafting import answered, call, steps
from envs.tasks.kinds import Draft, Kind, Missing
from envs.tasks.phrasings import heldout_questions, questions
from mock_mcp import tables
from mock_mcp.domains.data_state import as_json
from mock_mcp.world import World
from rewards.goals import FinalAnswer, ReturnedData

WHICH_TABLE = ("which table", "what table", "name of the table")


def _aggregate(world: World, rng: random.Random) -> Draft:
    one = subject(world, rng)
    column, function = rng.choice(one.numbers), rng.choice(FUNCTIONS)
    slots = {"table": one.name, "column": column, "function": function}
    value = tables.aggregated(one.table, column, function)
    return answered(slots, function, value, call("aggregate_table", **slots))


def _count_matching(world: World, rng: random.Random) -> Draft:
    one = subject(world, rng)
    column = rng.choice((one.category, one.other_category))
    value = some_value(one.table, column, rng)
    return answered(
        {"table": one.name, "column": column, "value": value},
        "number of rows",
        one.table.cells(column).count(value),
        call("filter_table", table=one.name, column=column, operator="=", value=value),
    )


def _show_matching(world: World, rng: random.Random) -> Draft:
    one = subject(world, rng)
    column = rng.choice(one.numbers)
    # So that two to five rows are shown.
    highest = sorted((int(str(cell)) for cell in one.table.cells(column)), reverse=True)
    limit = highest[rng.randint(2, 5)]
    rows = as_json(tables.filtered(one.table, column, ">", limit))["rows"]
    arguments = {"table": one.name, "column": column, "operator": ">", "value": limit}
    return Draft(
        {"table": one.name, "column": column, "limit": str(limit)},
        ReturnedData("filter_table", "rows", rows),
        steps(call("filter_table", **arguments)),
    )


def _top_record(world: World, rng: random.Random) -> Draft:
    one = subject(world, rng)
    column = rng.choice(one.numbers)
    word, order = rng.choice((("highest", "descending"), ("lowest", "ascending")))
    first = tables.ordered(one.table, column, descending=order == "descending").rows[0]
    return answered(
        {"table": one.name, "label": one.label, "column": column, "word": word},
        one.label,
        str(first[0]),
        call("sort_table", table=one.name, column=column, order=order),
    )


def _group_value(world: World, rng: random.Random) -> Draft:
    one = subject(world, rng)
    by, column = rng.choice((one.category, one.other_category)), rng.choice(one.numbers)
    function, value = rng.choice(FUNCTIONS), some_value(one.table, by, rng)
    found = tables.grouped(one.table, by, column, function)
    result = next(row[1] for row in found.rows if row[0] == value)
    arguments = {"table": one.name, "by": by, "column": column, "function": function}
    assert isinstance(result, int | float)
    return answered(
        {**arguments, "value": value}, function, result, call("group_table", **arguments)
    )


def _save_sorted(world: World, rng: random.Random) -> Draft:
    one, (name,) = subject(world, rng), new_names(rng, 1)
    column, order = rng.choice(one.numbers), rng.choice(("ascending", "descending"))
    result = tables.ordered(one.table, column, descending=order == "descending")
    slots = {"table": one.name, "column": column, "order": order, "save_as": name}
    return Draft(slots, saved({name: result}), steps(call("sort_table", **slots)))


def _save_grouped(world: World, rng: random.Random) -> Draft:
    one, (name,) = subject(world, rng), new_names(rng, 1)
    by, column = rng.choice((one.category, one.other_category)), rng.choice(one.numbers)
    function = rng.choice(FUNCTIONS)
    slots = {"table": one.name, "by": by, "column": column, "function": function, "save_as": name}
    result = tables.grouped(one.table, by, column, function)
    return Draft(slots, saved({name: result}), steps(call("group_table", **slots)))


def _pivot(world: World, rng: random.Random) -> Draft:
    one = subject(world, rng)
    column, function = rng.choice(one.numbers), rng.choice(FUNCTIONS)
    slots = {
        "table": one.name,
        "rows": one.category,
        "columns": one.other_category,
        "values": column,
        "function": function,
    }
    result = tables.pivoted(one.table, one.category, one.other_category, column, function)
    goal = ReturnedData("pivot_table", "rows", as_json(result)["rows"])
    return Draft(slots, goal, steps(call("pivot_table", **slots)))


def _export(world: World, rng: random.Random) -> Draft:
    names = [name for name, table in world.data.tables.items() if len(table.rows) <= 10]
    name = rng.choice(names)
    format_ = rng.choice(("csv", "json"))
    table = world.data.tables[name]
    text = tables.to_csv(table) if format_ == "csv" else tables.to_json(table)
    return Draft(
        {"table": name, "format": format_.upper()},
        ReturnedData("export_table", "text", text),
        steps(call("export_table", table=name, format=format_)),
    )


def _tables_with_letter(world: World, rng: random.Random) -> Draft:
    letter = rng.choice(sorted({name[0] for name in world.data.tables}))
    names = tuple(name for name in world.data.tables if name[0] != letter)
    text = f"The tables are {', '.join(names)}."
    return Draft(
        {"letter": letter}, FinalAnswer(names, "set"), steps(call("list_data_tables"), text)
    )


def _first_record(world: World, rng: random.Random) -> Draft:
    one = subject(world, rng)
    column = rng.choice(one.table.columns)
    value = one.table.cells(column)[0]
    assert value is not None
    slots = {"table": one.name, "column": column}
    return answered(slots, column, value, call("preview_table", table=one.name))


_SINGLE: tuple[Kind, ...] = (
    Kind(
        name="table_aggregate",
        domain="data",
        tools=("aggregate_table",),
        depth=1,
        phrasings=questions("the {function} of {column} in table {table}"),
        heldout_phrasings=heldout_questions("the {function} of {column} in table {table}"),
        build=_aggregate,
        starter=True,
        missing=Missing(
            phrasings=questions("the {function} of {column} in the table"),
            heldout_phrasings=heldout_questions("the {function} of {column} in the table"),
            names=WHICH_TABLE,
            answer="Which table do you mean?",
        ),
    ),
    Kind(
        name="count_matching",
        domain="data",
        tools=("filter_table",),
        depth=1,
        phrasings=questions(
            "the number of rows with the {column} {value} in table {table}",
            "How many rows of table {table} have the {column} {value}?",
        ),
        heldout_phrasings=heldout_questions(
            "the number of rows with the {column} {value} in table {table}"
        ),
        build=_count_matching,
        missing=Missing(
            phrasings=questions("the number of rows with the {column} {value} in the table"),
            heldout_phrasings=heldout_questions("the number of rows with the {column} {value}"),
            names=WHICH_TABLE,
            answer="Which table do you mean?",
        ),
    ),
    Kind(
        name="show_matching",
        domain="data",
        tools=("filter_table",),
        depth=1,
        phrasings=(
            "Show the rows of table {table} with a {column} greater than {limit}.",
            "Which rows of table {table} have a {column} above {limit}? Show them.",
            "Filter table {table} to the rows where {column} is greater than {limit}.",
            "List the rows of table {table} whose {column} is more than {limit}.",
            "From table {table}, show me the rows with {column} over {limit}.",
            "I need the rows of table {table} where {column} > {limit}.",
        ),
        heldout_phrasings=(
            "Keep only the rows of table {table} with a {column} larger than {limit}.",
            "In table {table}, what rows exceed {limit} in {column}? Show them.",
        ),
        build=_show_matching,
        missing=Missing(
            phrasings=(
                "Show the rows with a {column} greater than {limit}.",
                "Filter the table to the rows where {column} is greater than {limit}.",
            ),
            heldout_phrasings=("Keep only the rows with a {column} larger than {limit}.",),
            names=WHICH_TABLE,
            answer="Which table do you mean?",
        ),
    ),
    Kind(
        name="top_record",
        domain="data",
        tools=("sort_table",),
        depth=1,
        phrasings=questions(
            "the {label} with the {word} {column} in table {table}",
            "Which {label} has the {word} {column} in table {table}?",
        ),
        heldout_phrasings=heldout_questions(
            "the {label} with the {word} {column} in table {table}"
        ),
        build=_top_record,
    ),
    Kind(
        name="group_value",
        domain="data",
        tools=("group_table",),
        depth=1,
        phrasings=questions("the {function} of {column} for the {by} {value} in table {table}"),
        heldout_phrasings=heldout_questions(
            "the {function} of {column} for the {by} {value} in table {table}"
        ),
        build=_group_value,
    ),
    Kind(
        name="save_sorted",
        domain="data",
        tools=("sort_table",),
        depth=1,
        phrasings=(
            "Sort table {table} by {column} in {order} order and save it as {save_as}.",
            "Save table {table}, sorted by {column} {order}, as {save_as}.",
            "Order table {table} by {column}, {order}, and store the result as {save_as}.",
            "Make a table {save_as}: table {table} in {order} order of {column}.",
            "Please sort table {table} by {column} ({order}) into the new table {save_as}.",
            "I need table {table} in {order} order of {column}, saved as {save_as}.",
        ),
        heldout_phrasings=(
            "Put table {table} into {order} order by {column} and keep that as {save_as}.",
            "The new table {save_as} should be {table}, {order} by {column}.",
        ),
        build=_save_sorted,
        missing=Missing(
            phrasings=(
                "Sort table {table} in {order} order and save it as {save_as}.",
                "Please sort table {table} ({order}) into the new table {save_as}.",
            ),
            heldout_phrasings=("Put table {table} into {order} order and keep that as {save_as}.",),
            names=("which column", "what column", "name of the column"),
            answer="By which column should I sort?",
        ),
    ),
    Kind(
        name="save_grouped",
        domain="data",
        tools=("group_table",),
        depth=1,
        phrasings=(
            "Group table {table} by {by} with the {function} of {column} and save it as {save_as}.",
            "Save the {function} of {column} per {by} of table {table} as {save_as}.",
            "Make a table {save_as} with the {function} of {column} for each {by} of {table}.",
            "Store the {function} of {column} by {by} from table {table} as {save_as}.",
            "For each {by} of table {table}, save the {function} of {column} as {save_as}.",
            "I need a table {save_as}: the {function} of {column} per {by} in table {table}.",
        ),
        heldout_phrasings=(
            "Keep the {function} of {column} in table {table}, grouped by {by}, as {save_as}.",
            "The new table {save_as} should hold the {function} of {column} per {by} of {table}.",
        ),
        build=_save_grouped,
    ),
    Kind(
        name="pivot",
        domain="data",
        tools=("pivot_table",),
        depth=1,
        phrasings=(
            "Make a pivot of {table}: rows {rows}, columns {columns}, {function} of {values}.",
            "Pivot {table} with rows {rows}, columns {columns} and the {function} of {values}.",
            "Show the {function} of {values} in table {table} by {rows} (rows) and {columns} "
            "(columns).",
            "Build a pivot of {table}: {rows} down, {columns} across, {function} of {values}.",
            "I need a pivot of {table} with {rows} as rows, {columns} as columns, "
            "{function} of {values}.",
            "Cross {rows} (rows) with {columns} (columns) in {table}: {function} of {values}.",
        ),
        heldout_phrasings=(
            "Tabulate the {function} of {values} in {table}, rows {rows}, columns {columns}.",
            "For table {table}, pivot {rows} against {columns} with the {function} of {values}.",
        ),
        build=_pivot,
    ),
    Kind(
        name="export",
        domain="data",
        tools=("export_table",),
        depth=1,
        phrasings=(
            "Export table {table} as {format}.",
            "Give me table {table} as {format}.",
            "Write table {table} out as {format}.",
            "I need table {table} in {format} format.",
            "Please export the data table {table} to {format}.",
            "Show me the {format} of table {table}.",
        ),
        heldout_phrasings=(
            "Turn table {table} into {format} text.",
            "Could I have table {table} in the format {format}?",
        ),
        build=_export,
        missing=Missing(
            phrasings=("Export the table as {format}.", "I need the table in {format} format."),
            heldout_phrasings=("Turn the table into {format} text.",),
            names=WHICH_TABLE,
            answer="Which table do you mean?",
        ),
    ),
    Kind(
        name="tables_with_letter",
        domain="data",
        tools=("list_data_tables",),
        depth=1,
        phrasings=(
            "Which data tables have a name that does not start with {letter}?",
            "Name the data tables whose first letter is not {letter}.",
            "Tell me all data tables except those starting with {letter}.",
            "List the names of the data tables that do not begin with {letter}.",
            "What are the data tables, without those that start with {letter}?",
            "I need the names of all data tables that do not start with {letter}.",
        ),
        heldout_phrasings=(
            "Leaving out names with the first letter {letter}, what data tables are there?",
            "Which data tables begin with another letter than {letter}?",
        ),
        build=_tables_with_letter,
    ),
    Kind(
        name="first_record",
        domain="data",
        tools=("preview_table",),
        depth=1,
        phrasings=questions(
            "the {column} in the first row of table {table}",
            "Which {column} stands in the first row of table {table}?",
        ),
        heldout_phrasings=heldout_questions("the {column} in the first row of table {table}"),
        build=_first_record,
        missing=Missing(
            phrasings=questions("the {column} in the first row of the table"),
            heldout_phrasings=heldout_questions("the {column} in the first row of the table"),
            names=WHICH_TABLE,
            answer="Which table do you mean?",
        ),
    ),
)

KINDS: tuple[Kind, ...] = _SINGLE + CHAINS
