"""Writes `tasks.jsonl`: requests to the collection of `server.py`, each with its proof of success.

    python make_tasks.py

A statue, museum, keeper or order that a request names stands in one split only, so that the test
tasks are about what training never asked for. To prove what was written:

    python -m envs.tasks check tasks.jsonl --servers mcp.json
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from server import Row, Table, new_collection

from rewards.episode import ReferenceTurn, Task, ToolCall
from rewards.goals import FinalAnswer, Goal, Probe
from rewards.serialise import write_tasks

COUNTS = {"train": 40, "validation": 8, "test": 16}
"""Tasks of each kind in each split."""

READING = ("get_statue", "get_museum", "get_keeper", "get_order")
WRITING = ("get_museum", "update_price")
STATUE_FIELDS = ("color", "weight", "height")
MUSEUM_FIELDS = ("city", "phone", "founder")
KEEPER_FIELDS = ("phone", "age")
QUESTIONS = ("What is the {}?", "Tell me the {}.", "Look up the {}.", "I need the {}.")
CHANGES = (
    "Set the price of statue {} to {}.",
    "Change the price of statue {} to {}.",
    "The price of statue {} is now {}. Update it.",
)

COLLECTION = new_collection()


class Solved(NamedTuple):
    """A request, what must hold, and the calls and the answer ("": none) that come to it."""

    request: str
    goal: Goal
    calls: tuple[ToolCall, ...]
    answer: str = ""


def call(tool: str, **arguments: Any) -> ToolCall:
    """Return a call."""
    return ToolCall(tool, arguments)


def question(rng: random.Random, field: str, row: Row, of: str, *calls: ToolCall) -> Solved:
    """Ask for a field of a row that the last call returns."""
    value = row[field]
    goal = FinalAnswer(value, "number" if isinstance(value, int) else "exact")
    request = rng.choice(QUESTIONS).format(f"{field} of {of}")
    return Solved(request, goal, calls, f"The {field} is {value}.")


# --- kinds of task: a row of the collection, and what is wanted of it -----------------------------


def statue_field(rng: random.Random, statue: Row) -> Solved:
    """One call: a statue by its id."""
    key = statue["statue_id"]
    first = call("get_statue", statue_id=key)
    return question(rng, rng.choice(STATUE_FIELDS), statue, f"statue {key}", first)


def museum_field(rng: random.Random, museum: Row) -> Solved:
    """One call: a museum by its id."""
    key = museum["museum_id"]
    first = call("get_museum", museum_id=key)
    return question(rng, rng.choice(MUSEUM_FIELDS), museum, f"museum {key}", first)


def keeper_field(rng: random.Random, keeper: Row) -> Solved:
    """One call: a keeper by name."""
    person = keeper["person"]
    first = call("get_keeper", person=person)
    return question(rng, rng.choice(KEEPER_FIELDS), keeper, f"keeper {person}", first)


def order_statue(rng: random.Random, order: Row) -> Solved:
    """Two calls: the second takes an id from the result of the first."""
    key, statue = order["order_id"], COLLECTION["statues"][order["statue_id"]]
    calls = call("get_order", order_id=key), call("get_statue", statue_id=statue["statue_id"])
    return question(rng, rng.choice(STATUE_FIELDS), statue, f"the statue of order {key}", *calls)


def order_museum(rng: random.Random, order: Row) -> Solved:
    """Two calls: the second takes another id."""
    key, museum = order["order_id"], COLLECTION["museums"][order["museum_id"]]
    calls = call("get_order", order_id=key), call("get_museum", museum_id=museum["museum_id"])
    return question(rng, rng.choice(MUSEUM_FIELDS), museum, f"the museum of order {key}", *calls)


def new_price(rng: random.Random, statue: Row) -> Solved:
    """One call that changes something.

    Whether it did is asked of `get_statue`, which the policy is not offered here.
    """
    key = statue["statue_id"]
    price = rng.choice([number for number in range(100, 1000) if number != statue["price"]])
    goal = Probe("get_statue", {"statue_id": key}, "price", price)
    request = rng.choice(CHANGES).format(key, price)
    return Solved(request, goal, (call("update_price", statue_id=key, price=price),))


Kind = Callable[[random.Random, Row], Solved]

KINDS: tuple[tuple[Kind, str], ...] = (
    (statue_field, "statues"),
    (museum_field, "museums"),
    (keeper_field, "keepers"),
    (order_statue, "orders"),
    (order_museum, "orders"),
    (new_price, "statues"),
)
"""Each with the table that its rows come from."""


# --- tasks ----------------------------------------------------------------------------------------


def all_tasks() -> Iterator[Task]:
    """Yield the tasks, train before validation before test; the kinds take turns."""
    rng = random.Random(0)
    sides = {name: dealt(rng, table) for name, table in COLLECTION.items()}
    requests: set[str] = set()
    for split, count in COUNTS.items():
        for number in range(count):
            for kind, table in KINDS:
                solved = kind(rng, rng.choice(sides[table][split]))
                while solved.request in requests:
                    solved = kind(rng, rng.choice(sides[table][split]))
                requests.add(solved.request)
                yield task(f"{kind.__name__}-{split}-{number}", kind.__name__, split, solved)


def dealt(rng: random.Random, table: Table) -> dict[str, list[Row]]:
    """Return the rows of a table for each split; no row is in two of them."""
    rows = rng.sample(list(table.values()), len(table))
    sides, start, total = {}, 0, sum(COUNTS.values())
    for split, count in COUNTS.items():
        end = start + len(rows) * count // total
        sides[split], start = rows[start:end], end
    return sides


def task(name: str, kind: str, split: str, solved: Solved) -> Task:
    """Return a task with its reference solution, one call or text a turn."""
    turns = [ReferenceTurn(calls=(one,)) for one in solved.calls]
    if solved.answer:
        turns.append(ReferenceTurn(text=solved.answer))
    return Task(
        id=name,
        prompt=solved.request,
        goal=solved.goal,
        tools=WRITING if kind == new_price.__name__ else READING,
        kind=kind,
        split=split,
        depth=len(solved.calls),
        reference=tuple(turns),
    )


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "tasks.jsonl")
    sys.stdout.write(f"wrote {write_tasks(target, all_tasks())} tasks to {target}\n")
