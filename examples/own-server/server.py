"""Statues, lent to museums, as an MCP server over stdio: that of `docs/your-own-server.md`.

    python server.py

Every process begins with the same collection; what changes is kept in memory only.
"""

from __future__ import annotations

import json
import random
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

Row = dict[str, Any]
Table = dict[str, Row]

STATUES, MUSEUMS, KEEPERS, ORDERS = 160, 160, 160, 160

FIRST_NAMES = "Ada Bruno Carla Diego Elena Felix Greta Hugo Ines Jonas Kira Leo Mina Nora Oscar"
LAST_NAMES = "Adler Bishop Castro Dalton Ellis Flores Grant Hale Ito Jensen Kaya Lund Moreno"
CITIES = "Accra Berlin Cairo Dublin Geneva Hanoi Kyoto Lagos Lima Madrid Oslo Porto Riga Turin"
COLORS = "amber azure black bronze copper golden green ivory silver violet white yellow"


def new_collection() -> dict[str, Table]:
    """Return the tables that every process begins with: key -> row."""
    rng = random.Random(7)
    pairs = [f"{first} {last}" for first in FIRST_NAMES.split() for last in LAST_NAMES.split()]
    keepers = rng.sample(pairs, KEEPERS)
    statues, museums, orders = (
        [f"{letter}{number}" for number in rng.sample(range(100, 1000), count)]
        for letter, count in (("S", STATUES), ("M", MUSEUMS), ("R", ORDERS))
    )
    return {
        "statues": {key: _statue(rng, key) for key in statues},
        "museums": {key: _museum(rng, key) for key in museums},
        "keepers": {person: _keeper(rng, person) for person in keepers},
        "orders": {
            key: {
                "order_id": key,
                "statue_id": rng.choice(statues),
                "museum_id": rng.choice(museums),
            }
            for key in orders
        },
    }


def _statue(rng: random.Random, key: str) -> Row:
    return {
        "statue_id": key,
        "color": rng.choice(COLORS.split()),
        "weight": rng.randint(100, 999),
        "height": rng.randint(100, 999),
        "price": rng.randint(100, 999),
    }


def _museum(rng: random.Random, key: str) -> Row:
    return {
        "museum_id": key,
        "city": rng.choice(CITIES.split()),
        "phone": _phone(rng),
        "founder": f"{rng.choice(FIRST_NAMES.split())} {rng.choice(LAST_NAMES.split())}",
    }


def _keeper(rng: random.Random, person: str) -> Row:
    return {"person": person, "phone": _phone(rng), "age": rng.randint(20, 70)}


def _phone(rng: random.Random) -> str:
    return f"+{rng.randint(10, 99)}-{rng.randint(100, 999)}-{rng.randint(1000, 9999)}"


server = MCPServer("museums", log_level="WARNING")
collection = new_collection()


@server.tool(structured_output=False)
def get_statue(statue_id: str) -> str:
    """Get a statue by id."""
    return json.dumps(_row("statues", statue_id))


@server.tool(structured_output=False)
def get_museum(museum_id: str) -> str:
    """Get a museum by id."""
    return json.dumps(_row("museums", museum_id))


@server.tool(structured_output=False)
def get_keeper(person: str) -> str:
    """Get a keeper by name."""
    return json.dumps(_row("keepers", person))


@server.tool(structured_output=False)
def get_order(order_id: str) -> str:
    """Get an order by id."""
    return json.dumps(_row("orders", order_id))


@server.tool(structured_output=False)
def update_price(statue_id: str, price: int) -> str:
    """Update the price of a statue."""
    _row("statues", statue_id)["price"] = price
    return json.dumps({"statue_id": statue_id, "price": price})


@server.tool(structured_output=False)
def reset() -> str:
    """Put everything back as it was at the beginning."""
    collection.update(new_collection())
    return "done"


def _row(table: str, key: str) -> Row:
    if key not in collection[table]:
        raise ToolError(f"There is no {table.removesuffix('s')} {key}.")
    return collection[table][key]


if __name__ == "__main__":
    server.run()
