from __future__ import annotations

import importlib
import pkgutil

import agents
from agents import errors
from agents.errors import AgentError


def below(error: type[Exception]) -> set[type[Exception]]:
    found = set(error.__subclasses__())
    return found.union(*map(below, found))


def test_every_error_of_the_package_is_drawn_in_the_one_tree() -> None:
    for module in pkgutil.walk_packages(agents.__path__, "agents."):
        importlib.import_module(module.name)
    drawn = {line.strip("├─└│ ").split()[0] for line in (errors.__doc__ or "").split("\n")[2:-1]}
    mine = {one.__name__ for one in below(AgentError) if one.__module__.startswith("agents.")}
    assert drawn == mine | {"AgentError"}
    assert len(mine) > 5
