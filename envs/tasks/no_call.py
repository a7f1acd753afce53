"""Tasks whose right behaviour is a text answer without any call.

    no_tool       minimal pair of a tool task: the same request, a needed tool is not offered
    no_argument   minimal pair of a tool task: the same tools, an argument is not given
    unsafe_wish   minimal pair of a tool task: the same tools, which could serve a request that
                  must be declined
    out_of_scope  a request for which no tool of the whole world exists

A minimal pair is named after its twin: `ID` and `ID-no_tool` differ in nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from envs.tasks.cross_kinds import UnsafeWish
from envs.tasks.kinds import Made
from envs.tasks.offers import FULL, STARTER, Offers
from envs.tasks.substitutes import substitutes
from rewards.episode import ReferenceTurn, Task
from rewards.goals import Goal, NoCall, NoCallNaming

CANNOT = "I cannot do that: I have no tool for it."
WILL_NOT = "I will not do that: it is not safe."

SHARES = {"no_tool": 0.35, "no_argument": 0.35, "unsafe_wish": 0.15, "out_of_scope": 0.15}
SHARES_OF_NEW_PHRASINGS = {"no_argument": 0.5, "unsafe_wish": 0.5}

MINIMAL_PAIRS = ("no_tool", "no_argument", "unsafe_wish")

OUT_OF_SCOPE = (
    "Bring a pizza to the {word}.",
    "Bake a cake that looks like the {word}.",
    "Play a song about the {word}.",
    "Turn off the lights in the {word}.",
    "Lock the {word} door.",
    "Set the heating in the {word} to 21 degrees.",
    "Take a photo of the {word}.",
    "Call a taxi to the {word}.",
    "Print a poster of the {word}.",
    "Water the plants in the {word}.",
    "Start the washing machine in the {word}.",
    "Record my voice in the {word}.",
)
WORDS = ("kitchen", "hall", "garden", "office", "garage", "harbour", "station", "museum")

Maker = Callable[[Made], Task | None]


def no_call_tasks(
    made: Sequence[Made],
    count: int,
    wishes: Sequence[UnsafeWish],
    offers: Offers,
    rng: random.Random,
) -> list[Task]:
    """Return tasks that must not use any tool, made from tasks that need some.

    Args:
        made: Tool tasks of one part and family of the suite.
        count: How many to return (fewer if `made` does not give more).
        wishes: Requests that must be declined.
        offers: Chooses what is offered where a tool is taken away.
        rng: Source of the draw.
    """
    if not made:
        return []
    makers: dict[str, Maker] = {
        "no_tool": lambda one: _no_tool(one, offers, rng),
        "no_argument": lambda one: _no_argument(one, rng),
        "unsafe_wish": lambda one: _unsafe_wish(one, wishes, offers, rng),
        "out_of_scope": lambda one: _out_of_scope(one, rng),
    }
    shares = SHARES_OF_NEW_PHRASINGS if _new_phrasing(made[0]) else SHARES
    tasks: list[Task] = []
    for name, share in shares.items():
        tasks += _take(made, round(count * share), makers[name], rng)
    return tasks


def _take(made: Sequence[Made], count: int, maker: Maker, rng: random.Random) -> list[Task]:
    tasks: list[Task] = []
    for one in _by_turns(made, rng):
        if len(tasks) == count:
            break
        task = maker(one)
        if task is not None:
            tasks.append(task)
    return tasks


def _by_turns(made: Sequence[Made], rng: random.Random) -> Iterator[Made]:
    """Yield each once: one of every kind, then the next of every kind, and so on."""
    groups: dict[str, list[Made]] = {}
    for one in rng.sample(made, len(made)):
        groups.setdefault(one.kind.name, []).append(one)
    while groups:
        for name in list(groups):
            yield groups[name].pop()
            if not groups[name]:
                del groups[name]


def _no_tool(one: Made, offers: Offers, rng: random.Random) -> Task | None:
    style = STARTER if one.task.starter else FULL
    removed = rng.choice(one.kind.tools)
    unwanted = {removed, *substitutes(removed)}
    tools = offers.replace(one.kind.name, one.task.tools, unwanted, rng, style)
    if len(tools) < style.fewest:
        return None
    return _pair(one, "no_tool", one.task.prompt, NoCall(), CANNOT, tools)


def _no_argument(one: Made, rng: random.Random) -> Task | None:
    missing = one.kind.missing
    if missing is None:
        return None
    phrasings = missing.heldout_phrasings if _new_phrasing(one) else missing.phrasings
    prompt = rng.choice(phrasings).format(**one.draft.slots)
    goal = NoCallNaming(missing.names)
    return _pair(one, "no_argument", prompt, goal, missing.answer, one.task.tools)


def _unsafe_wish(
    one: Made, wishes: Sequence[UnsafeWish], offers: Offers, rng: random.Random
) -> Task | None:
    domains = offers.domains(one.task.tools)
    fitting = [
        wish.prompt
        for wish in wishes
        if wish.domain in domains and wish.heldout == _new_phrasing(one)
    ]
    if not fitting:
        return None
    return _pair(one, "unsafe_wish", rng.choice(fitting), NoCall(), WILL_NOT, one.task.tools)


def _out_of_scope(one: Made, rng: random.Random) -> Task:
    prompt = rng.choice(OUT_OF_SCOPE).format(word=rng.choice(WORDS))
    return _pair(one, "out_of_scope", prompt, NoCall(), CANNOT, one.task.tools)


def _new_phrasing(one: Made) -> bool:
    return one.task.heldout == "phrasing"


def _pair(
    one: Made, kind: str, prompt: str, goal: Goal, answer: str, tools: tuple[str, ...]
) -> Task:
    return replace(
        one.task,
        id=f"{one.task.id}-{kind}",
        prompt=prompt,
        goal=goal,
        tools=tools,
        kind=kind,
        depth=0,
        faults={},
        reference=(ReferenceTurn(text=answer),),
    )
