"""Families of tasks for the `data` domain with several calls.

Stored results that are worked on further, several calls in one turn, recovery from an error, and
a chain longer than training shows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from envs.tasks.data_slots import FUNCTIONS, Subject, new_names, saved, some_value, subject
from envs.tasks.drafting import answered, call, steps
from envs.tasks.kinds import Draft, Kind
from envs.tasks.phrasings import heldout_questions, questions
from mock_mcp import tables
from mock_mcp.errors import did_you_mean
from mock_mcp.names import WORDS
from mock_mcp.tables import Table
from mock_mcp.world import World
from rewards.episode import ToolCall
from rewards.goals import AllOf, FinalAnswer, ReturnedData

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _filter(one: Subject, value: str, name: str) -> tuple[Table, ToolCall]:
    """Return the rows of a category, and the call that saves them."""
    column = one.other_category
    result = tables.filtered(one.table, column, "=", value)
    return result, call(
        "filter_table", table=one.name, column=column, operator="=", value=value, save_as=name
    )


def _filter_aggregate(world: World, rng: random.Random) -> Draft:
    one, (name,) = subject(world, rng), new_names(rng, 1)
    value = some_value(one.table, one.other_category, rng)
    column, function = rng.choice(one.numbers), rng.choice(FUNCTIONS)
    part, keep = _filter(one, value, name)
    result = tables.aggregated(part, column, function)
    slots = {"table": one.name, "by": one.other_category, "value": value, "new": name}
    slots |= {"column": column, "function": function}
    return Draft(
        slots,
        AllOf((saved({name: part}), FinalAnswer(result, "number"))),
        steps(
            keep,
            call("aggregate_table", table=name, column=column, function=function),
            f"The {function} is {result}.",
        ),
    )


def _join_aggregate(world: World, rng: random.Random) -> Draft:
    one, (name,) = subject(world, rng, joinable=True), new_names(rng, 1)
    function = rng.choice(FUNCTIONS)
    both = tables.joined(one.table, world.data.tables[one.lookup], one.category)
    result = tables.aggregated(both, "goal", function)
    slots = {"left": one.name, "right": one.lookup, "on": one.category}
    return Draft(
        {**slots, "new": name, "function": function},
        AllOf((saved({name: both}), FinalAnswer(result, "number"))),
        steps(
            call("join_tables", **slots, save_as=name),
            call("aggregate_table", table=name, column="goal", function=function),
            f"The {function} is {result}.",
        ),
    )


def _filter_export(world: World, rng: random.Random) -> Draft:
    one, (name,) = subject(world, rng), new_names(rng, 1)
    value = some_value(one.table, one.other_category, rng)
    part, keep = _filter(one, value, name)
    return Draft(
        {"table": one.name, "by": one.other_category, "value": value, "new": name},
        ReturnedData("export_table", "text", tables.to_csv(part)),
        steps(keep, call("export_table", table=name, format="csv")),
    )


def _load_total(world: World, rng: random.Random) -> Draft:
    first, second, third, name = new_names(rng, 4)
    numbers = rng.sample(range(11, 99), 3)
    lines = zip((first, second, third), numbers, strict=True)
    text = "\n".join(("word,number", *(f"{word},{number}" for word, number in lines)))
    loaded = tables.from_csv(text)
    function = rng.choice(("sum", "mean"))
    result = tables.aggregated(loaded, "number", function)
    return Draft(
        {"csv": text, "new": name, "function": function},
        AllOf((saved({name: loaded}), FinalAnswer(result, "number"))),
        steps(
            call("load_csv", csv=text, save_as=name),
            call("aggregate_table", table=name, column="number", function=function),
            f"The {function} is {result}.",
        ),
    )


def _misspelt(column: str, columns: Sequence[str], rng: random.Random) -> str:
    """Change a letter of a column's name, so that the world still suggests this column."""
    while True:
        place = rng.randrange(1, len(column))
        wrong = column[:place] + rng.choice(_LETTERS) + column[place + 1 :]
        if wrong not in columns and did_you_mean(wrong, columns) == did_you_mean(column, columns):
            return wrong


def _misspelt_column(world: World, rng: random.Random) -> Draft:
    one, function = subject(world, rng), rng.choice(FUNCTIONS)
    column = rng.choice(one.numbers)
    wrong = _misspelt(column, one.table.columns, rng)
    wanted = {"table": one.name, "function": function}
    return answered(
        {**wanted, "column": wrong},
        function,
        tables.aggregated(one.table, column, function),
        call("aggregate_table", **wanted, column=wrong),
        call("aggregate_table", **wanted, column=column),
    )


def _busy_aggregate(world: World, rng: random.Random) -> Draft:
    one, function = subject(world, rng), rng.choice(FUNCTIONS)
    column = rng.choice(one.numbers)
    slots = {"table": one.name, "column": column, "function": function}
    again = call("aggregate_table", **slots)
    value = tables.aggregated(one.table, column, function)
    faults = {"transient": {"aggregate_table": 1}}
    return answered(slots, function, value, again, again, faults=faults)


def _two_sums(world: World, rng: random.Random) -> Draft:
    one = subject(world, rng)
    sums = [str(tables.aggregated(one.table, column, "sum")) for column in one.numbers]
    calls = tuple(
        call("aggregate_table", table=one.name, column=column, function="sum")
        for column in one.numbers
    )
    return Draft(
        {"table": one.name, "first": one.numbers[0], "second": one.numbers[1]},
        FinalAnswer(tuple(sums), "set"),
        steps(calls, f"The sums are {' and '.join(sums)}."),
    )


def _leader_value(world: World, rng: random.Random) -> Draft:
    one, (name,) = subject(world, rng, joinable=True), new_names(rng, 1)
    column = rng.choice(one.numbers)
    both = tables.joined(one.table, world.data.tables[one.lookup], one.category)
    leader = some_value(both, "leader", rng)
    found = tables.grouped(both, "leader", column, "sum")
    result = next(row[1] for row in found.rows if row[0] == leader)
    assert isinstance(result, int | float)
    slots = {"left": one.name, "right": one.lookup, "on": one.category}
    return answered(
        {**slots, "new": name, "column": column, "leader": leader},
        "sum",
        result,
        call("join_tables", **slots, save_as=name),
        call("group_table", table=name, by="leader", column=column, function="sum"),
    )


def _filter_sort_export(world: World, rng: random.Random) -> Draft:
    one, (first, second) = subject(world, rng), new_names(rng, 2)
    value, column = some_value(one.table, one.other_category, rng), rng.choice(one.numbers)
    part, keep = _filter(one, value, first)
    text = tables.to_csv(tables.ordered(part, column, descending=False))
    slots = {"table": one.name, "by": one.other_category, "value": value, "column": column}
    return Draft(
        {**slots, "first": first, "second": second},
        ReturnedData("export_table", "text", text),
        steps(
            keep,
            call("sort_table", table=first, column=column, order="ascending", save_as=second),
            call("export_table", table=second, format="csv"),
        ),
    )


def _report(world: World, rng: random.Random) -> Draft:
    one, (first, second, third) = subject(world, rng, joinable=True), new_names(rng, 3)
    value, column = some_value(one.table, one.other_category, rng), rng.choice(one.numbers)
    part, keep = _filter(one, value, first)
    both = tables.joined(part, world.data.tables[one.lookup], one.category)
    sums = tables.grouped(both, "leader", column, "sum")
    slots = {"table": one.name, "by": one.other_category, "value": value, "column": column}
    names = {"first": first, "second": second, "third": third}
    return Draft(
        {**slots, **names, "right": one.lookup, "on": one.category},
        ReturnedData("export_table", "text", tables.to_csv(sums)),
        steps(
            keep,
            call("join_tables", left=first, right=one.lookup, on=one.category, save_as=second),
            call(
                "group_table",
                table=second,
                by="leader",
                column=column,
                function="sum",
                save_as=third,
            ),
            call("export_table", table=third, format="csv"),
        ),
    )


def _loaded_report(world: World, rng: random.Random) -> Draft:
    one, names = subject(world, rng), new_names(rng, 4)
    values = list(dict.fromkeys(map(str, one.table.cells(one.category))))
    owners = rng.sample([word for word in WORDS if word not in names], len(values))
    pairs = zip(values, owners, strict=True)
    text = "\n".join((f"{one.category},owner", *(f"{value},{word}" for value, word in pairs)))
    column = rng.choice(one.numbers)
    both = tables.joined(one.table, tables.from_csv(text), one.category)
    sums = tables.grouped(both, "owner", column, "sum")
    ranked = tables.ordered(sums, f"sum_{column}", descending=True)
    first, second, third, fourth = names
    grouping = {"table": second, "by": "owner", "column": column, "function": "sum"}
    slots = {"csv": text, "table": one.name, "on": one.category, "column": column}
    return Draft(
        {**slots, "first": first, "second": second, "third": third, "fourth": fourth},
        ReturnedData("export_table", "text", tables.to_csv(ranked)),
        steps(
            call("load_csv", csv=text, save_as=first),
            call("join_tables", left=one.name, right=first, on=one.category, save_as=second),
            call("group_table", **grouping, save_as=third),
            call(
                "sort_table",
                table=third,
                column=f"sum_{column}",
                order="descending",
                save_as=fourth,
            ),
            call("export_table", table=fourth, format="csv"),
        ),
    )


CHAINS: tuple[Kind, ...] = (
    Kind(
        name="filter_aggregate",
        domain="data",
        tools=("filter_table", "aggregate_table"),
        depth=2,
        phrasings=(
            "Save the rows of table {table} with the {by} {value} as {new}. "
            "What is the {function} of {column} in {new}?",
            "Filter table {table} to the {by} {value}, save that as {new} and tell me the "
            "{function} of its {column}.",
            "Make a table {new} from the rows of {table} whose {by} is {value}. "
            "What is its {function} of {column}?",
            "Keep the {by} {value} of table {table} as the new table {new}, then find the "
            "{function} of {column} in it.",
            "Store the rows with the {by} {value} from table {table} as {new}. "
            "Tell me the {function} of {column} there.",
            "I need the rows of {table} with the {by} {value} as table {new}, and the "
            "{function} of {column} in it.",
        ),
        heldout_phrasings=(
            "Let table {new} hold what table {table} has for the {by} {value}. "
            "Which {function} of {column} does it have?",
            "Put the {by} {value} of table {table} into {new} and check the {function} of {column} "
            "in there.",
        ),
        build=_filter_aggregate,
    ),
    Kind(
        name="join_aggregate",
        domain="data",
        tools=("join_tables", "aggregate_table"),
        depth=2,
        phrasings=(
            "Join tables {left} and {right} on {on} as {new}. What is the {function} of goal in "
            "{new}?",
            "Save the join of table {left} with {right} on {on} as {new} and tell me the "
            "{function} of goal in it.",
            "Make a table {new} by joining {left} and {right} on {on}. "
            "What is its {function} of goal?",
            "Join {left} with {right} on the column {on} into {new}, then find the {function} of "
            "goal.",
            "Store {left} joined with {right} on {on} as {new}. Tell me the {function} of goal "
            "there.",
            "I need table {left} joined to {right} on {on} as {new}, and the {function} of goal in "
            "it.",
        ),
        heldout_phrasings=(
            "Bring {left} and {right} together on {on} as table {new}. "
            "Which {function} of goal does it have?",
            "Let {new} be table {left} joined with {right} by {on}, and check its {function} of "
            "goal.",
        ),
        build=_join_aggregate,
    ),
    Kind(
        name="filter_export",
        domain="data",
        tools=("filter_table", "export_table"),
        depth=2,
        phrasings=(
            "Save the rows of table {table} with the {by} {value} as {new} and export {new} as "
            "CSV.",
            "Filter table {table} to the {by} {value}, save that as {new}, and give me {new} as "
            "CSV.",
            "Make a table {new} from the rows of {table} whose {by} is {value}. Export it as CSV.",
            "I need a CSV of the rows of table {table} with the {by} {value}; save them as {new}.",
            "Keep the {by} {value} of table {table} as {new}, then write {new} out as CSV.",
            "Store the rows with the {by} {value} from table {table} as {new}. Show me its CSV.",
        ),
        heldout_phrasings=(
            "Let table {new} hold what {table} has for the {by} {value}, and turn it into CSV.",
            "Put the {by} {value} of table {table} into {new}; I want that as CSV.",
        ),
        build=_filter_export,
    ),
    Kind(
        name="load_total",
        domain="data",
        tools=("load_csv", "aggregate_table"),
        depth=2,
        phrasings=(
            "Load this CSV as table {new} and tell me the {function} of number:\n{csv}",
            "Save this CSV as the table {new}. What is its {function} of number?\n{csv}",
            "Make a table {new} from this CSV and find the {function} of number in it:\n{csv}",
            "Store the CSV below as {new}. I need the {function} of number.\n{csv}",
            "Here is a CSV for a new table {new}. Load it and give me the {function} of number."
            "\n{csv}",
            "What is the {function} of number in this CSV? Load it as table {new}.\n{csv}",
        ),
        heldout_phrasings=(
            "Turn this CSV into a table called {new} and check its {function} of number:\n{csv}",
            "Let {new} be a table with this CSV. Which {function} of number does it have?\n{csv}",
        ),
        build=_load_total,
    ),
    Kind(
        name="misspelt_column",
        domain="data",
        tools=("aggregate_table",),
        depth=2,
        phrasings=questions("the {function} of {column} in table {table}"),
        heldout_phrasings=heldout_questions("the {function} of {column} in table {table}"),
        build=_misspelt_column,
    ),
    Kind(
        name="busy_aggregate",
        domain="data",
        tools=("aggregate_table",),
        depth=2,
        phrasings=questions("the {function} of {column} in table {table}"),
        heldout_phrasings=heldout_questions("the {function} of {column} in table {table}"),
        build=_busy_aggregate,
    ),
    Kind(
        name="two_sums",
        domain="data",
        tools=("aggregate_table",),
        depth=2,
        phrasings=(
            "What are the sums of {first} and {second} in table {table}?",
            "Tell me the sums of {first} and {second} in table {table}.",
            "Find the sums of {first} and {second} in table {table}.",
            "I need the sum of {first} and the sum of {second} in table {table}.",
            "Look up the sums of {first} and {second} in table {table}.",
            "In table {table}, what are the sums of the columns {first} and {second}?",
        ),
        heldout_phrasings=(
            "Could you check the sums of both {first} and {second} in table {table}?",
            "Add up {first} and, separately, {second} in table {table}.",
        ),
        build=_two_sums,
    ),
    Kind(
        name="leader_value",
        domain="data",
        tools=("join_tables", "group_table"),
        depth=2,
        phrasings=(
            "Join {left} and {right} on {on} as {new}. What is the sum of {column} for the leader "
            "{leader}?",
            "Save the join of {left} with {right} on {on} as {new}, and tell me the sum of "
            "{column} for leader {leader}.",
            "Make a table {new} by joining {left} and {right} on {on}. "
            "Which sum of {column} does the leader {leader} have?",
            "What is the sum of {column} for the leader {leader} when {left} and {right} are "
            "joined on {on} as {new}?",
            "Store {left} joined with {right} on {on} as {new}. I need the sum of {column} of "
            "leader {leader}.",
            "Join {left} with {right} on {on} into {new}, then find the sum of {column} for leader "
            "{leader}.",
        ),
        heldout_phrasings=(
            "Bring {left} and {right} together on {on} as {new}. "
            "How large is the sum of {column} for leader {leader}?",
            "With {left} joined to {right} by {on} as {new}, check the sum of {column} of leader "
            "{leader}.",
        ),
        build=_leader_value,
    ),
    Kind(
        name="filter_sort_export",
        domain="data",
        tools=("filter_table", "sort_table", "export_table"),
        depth=3,
        phrasings=(
            "Save the rows of {table} with the {by} {value} as {first}, sort {first} by {column} "
            "as {second}, and export {second} as CSV.",
            "Filter {table} to the {by} {value} as {first}; sort that by {column} as {second}; "
            "give me {second} as CSV.",
            "Make {first} from the rows of {table} whose {by} is {value}, then {second} by sorting "
            "{first} by {column}. Export {second} as CSV.",
            "I need a CSV: keep the {by} {value} of {table} as {first} and sort it by {column} "
            "as {second}.",
            "Keep the {by} {value} of {table} as {first}, sort it by {column} into {second}, "
            "and write {second} out as CSV.",
            "Store the {by} {value} of {table} as {first} and, sorted by {column}, as {second}. "
            "Show me the CSV of {second}.",
        ),
        heldout_phrasings=(
            "Let {first} hold the {by} {value} of {table} and {second} the same sorted by "
            "{column}; turn {second} into CSV.",
            "Put the {by} {value} of {table} into {first}, order it by {column} into {second}; "
            "I want that as CSV.",
        ),
        build=_filter_sort_export,
    ),
    Kind(
        name="report",
        domain="data",
        tools=("filter_table", "join_tables", "group_table", "export_table"),
        depth=4,
        phrasings=(
            "Filter {table} to the {by} {value} as {first}, join {first} with {right} on {on} as "
            "{second}, save the sum of {column} per leader as {third}, export {third} as CSV.",
            "From {table} keep the {by} {value} as {first}; join it with {right} on {on} as "
            "{second}; group by leader with the sum of {column} as {third}; give me its CSV.",
            "I need a CSV of {third}: the sum of {column} per leader in {second}, which joins "
            "{first} and {right} on {on}. {first} is the {by} {value} of {table}.",
            "Make {first} (the {by} {value} of {table}), {second} ({first} joined with {right} on "
            "{on}) and {third} (sum of {column} per leader of {second}). Export {third} as CSV.",
            "Save the {by} {value} of {table} as {first}. Join {right} to it on {on} as {second}. "
            "Group by leader with the sum of {column} as {third}. Export that as CSV.",
            "Store the {by} {value} of {table} as {first}, its join with {right} on {on} as "
            "{second}, the sums of {column} per leader as {third}, and show the CSV of {third}.",
        ),
        heldout_phrasings=(
            "Let {first} be the {by} {value} of {table}, {second} its join with {right} by {on}, "
            "{third} the sum of {column} for each leader. Turn {third} into CSV.",
            "Put the {by} {value} of {table} into {first}, join {right} by {on} into {second}, add "
            "up {column} per leader into {third}; I want that as CSV.",
        ),
        build=_report,
    ),
    Kind(
        name="loaded_report",
        domain="data",
        tools=("load_csv", "join_tables", "group_table", "sort_table", "export_table"),
        depth=5,
        phrasings=(
            "Load the CSV below as {first}, join {table} with it on {on} as {second}, save the sum "
            "of {column} per owner as {third}, sort that by the sum, highest first, as {fourth}, "
            "and export {fourth} as CSV.\n{csv}",
            "Make {first} from this CSV; join {table} with {first} on {on} as {second}; group "
            "by owner with the sum of {column} as {third}; sort descending by the sum as {fourth}; "
            "give me its CSV.\n{csv}",
            "I need a CSV of {fourth}: {third} from the highest sum to the lowest. {third} is the "
            "sum of {column} per owner in {second}, which joins {table} and {first} on {on}. "
            "{first} is this:\n{csv}",
            "Store this CSV as {first}, {table} joined with it on {on} as {second}, the sums of "
            "{column} per owner as {third}, those in descending order as {fourth}. Export "
            "{fourth} as CSV.\n{csv}",
            "Save the CSV as {first}. Join {table} with it on {on} as {second}. Group by owner "
            "with the sum of {column} as {third}. Sort by the sum, descending, as {fourth}. "
            "Export that as CSV.\n{csv}",
            "Read the CSV into {first}, join {table} and {first} on {on} into {second}, sum "
            "{column} per owner into {third}, order it descending into {fourth}, and show "
            "{fourth} as CSV.\n{csv}",
        ),
        heldout_phrasings=(
            "Let {first} be this CSV, {second} the join of {table} with it by {on}, {third} the "
            "sum of {column} for each owner, {fourth} that in descending order. Turn {fourth} "
            "into CSV.\n{csv}",
            "Put the CSV into {first}, join {table} with it by {on} into {second}, add up "
            "{column} per owner into {third}, rank it from high to low into {fourth}; I want "
            "that as CSV.\n{csv}",
        ),
        build=_loaded_report,
        heldout=True,
    ),
)
