"""Which tools a task offers: the needed ones, and distractors of the same domains first.

For every kind a third of all distractors is reserved: training and validation never show them
beside that kind, and the tasks held out by tool set show them as far as they go.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

RESERVED_SHARE = 1 / 3
MOST_FOREIGN = 3


@dataclass(frozen=True)
class Style:
    """How many tools a family of tasks offers, and how much room they take.

    Attributes:
        fewest: Fewest tools.
        most: Most tools.
        room: Characters that all offered tools may take together.
        largest: Characters that one distractor may take.
    """

    fewest: int
    most: int
    room: float = math.inf
    largest: float = math.inf


FULL = Style(8, 12)
STARTER = Style(4, 6, room=1_300, largest=300)
"""Prompts of at most about 450 tokens of the embedded policy's tokenizer."""


class Offers:
    """Chooses the tools that are offered."""

    def __init__(
        self, tools: Mapping[str, Sequence[str]], seed: int, sizes: Mapping[str, int] | None = None
    ) -> None:
        """Remember the tools.

        Args:
            tools: Names of the tools by domain.
            seed: Seed of the suite; it decides what is reserved.
            sizes: Characters that each tool takes in a prompt (counted as 0 where unknown).
        """
        self._tools = tools
        self._seed = seed
        self._sizes = sizes or MappingProxyType({})
        self._domain = {name: domain for domain, names in tools.items() for name in names}

    def domains(self, tools: Iterable[str]) -> set[str]:
        """Return the domains of some tools."""
        return {self._domain[name] for name in tools}

    def reserved(self, kind: str) -> frozenset[str]:
        """Return the distractors that training never shows beside `kind`."""
        rng = random.Random(f"{self._seed}/reserved/{kind}")
        chosen: set[str] = set()
        for names in self._tools.values():
            chosen.update(rng.sample(names, round(len(names) * RESERVED_SHARE)))
        return frozenset(chosen)

    def choose(
        self,
        kind: str,
        needed: Collection[str],
        rng: random.Random,
        style: Style,
        *,
        heldout: bool = False,
    ) -> tuple[str, ...]:
        """Return the tools of a task, in a random order.

        Args:
            kind: Name of the kind.
            needed: Tools of the reference solution.
            rng: Source of the draw.
            style: How many tools, and how much room they have.
            heldout: Take the distractors that are reserved for this kind first.
        """
        reserved = self.reserved(kind)
        total = max(rng.randint(style.fewest, style.most), len(needed) + 1)
        wanted = total - len(needed)
        foreign = rng.randint(0, min(MOST_FOREIGN, wanted // 2))
        usual = self._distractors(needed, reserved, rng, wanted - foreign, foreign)
        if heldout:
            others = {*self._domain} - reserved
            usual = self._distractors(needed, others, rng, wanted - foreign, foreign) + usual
        chosen = self._fill(list(needed), usual, total, style)
        rng.shuffle(chosen)
        return tuple(chosen)

    def replace(
        self,
        kind: str,
        offered: Sequence[str],
        unwanted: Collection[str],
        rng: random.Random,
        style: Style,
    ) -> tuple[str, ...]:
        """Return `offered` with other distractors in the places of the unwanted tools."""
        excluded = {*unwanted, *self.reserved(kind)}
        spare = self._distractors(offered, excluded, rng, len(offered), 0)
        kept = [name for name in offered if name not in unwanted]
        new = self._fill(kept, spare, len(offered), style)[len(kept) :]
        replaced = [new.pop() if name in unwanted and new else name for name in offered]
        return tuple(name for name in replaced if name not in unwanted)

    def _fill(self, chosen: list[str], spare: list[str], total: int, style: Style) -> list[str]:
        """Return `chosen` and as many of `spare`, in order, as there is room for."""
        chosen = list(chosen)
        room = style.room - sum(self._sizes.get(name, 0) for name in chosen)
        for name in spare:
            size = self._sizes.get(name, 0)
            if len(chosen) < total and size <= min(room, style.largest):
                chosen.append(name)
                room -= size
        return chosen

    def _distractors(
        self,
        needed: Collection[str],
        excluded: Collection[str],
        rng: random.Random,
        first: int,
        foreign: int,
    ) -> list[str]:
        """Return all tools that may be distractors: `first` of the same domains, then others."""
        domains = self.domains(needed)
        home: list[str] = []
        away: list[str] = []
        for name, domain in self._domain.items():
            if name not in needed and name not in excluded:
                (home if domain in domains else away).append(name)
        rng.shuffle(home)
        rng.shuffle(away)
        return home[:first] + away[:foreign] + home[first:] + away[foreign:]
