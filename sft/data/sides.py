"""Which side of a split a conversation goes to.

Rows that belong together form a group, and a group never stands on two sides. Groups are dealt in
an order that the seed decides, each to the side that lacks the most rows; so a side has its share
of the rows up to the size of one group.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sft.data.duplicates import Twins
from sft.data.rows import Located, conversation


class Groups:
    """Which things belong together (union-find over texts)."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def root(self, name: str) -> str:
        """Return the representative of a name's group; a new name is a group of its own."""
        root = self._parent.setdefault(name, name)
        while root != self._parent[root]:
            root = self._parent[root]
        while name != root:
            self._parent[name], name = root, self._parent[name]
        return root

    def join(self, first: str, second: str) -> None:
        """Put the groups of two names together."""
        self._parent[self.root(second)] = self.root(first)


def group_sizes(located: Iterable[Located], similarity: float) -> tuple[Groups, Counter[str]]:
    """Group the conversations of rows that must not be parted.

    Args:
        located: The rows.
        similarity: Conversations with near-duplicates from this similarity on belong together; 0
            looks at exact copies only.

    Returns:
        The groups of conversations, and for each conversation how many rows it has.
    """
    groups = Groups()
    sizes: Counter[str] = Counter()
    twins = Twins(similarity)
    names: list[str] = []
    for number, one in enumerate(located):
        name = conversation(one.row)
        names.append(name)
        sizes[name] += 1
        twin = twins.find(one.row, number)
        groups.join(names[twin.number] if twin else name, name)
    return groups, sizes


def deal(
    groups: Groups, sizes: Mapping[str, int], shares: Sequence[float], seed: int
) -> dict[str, int]:
    """Deal groups of conversations to the sides.

    Args:
        groups: The groups.
        sizes: Rows of each conversation.
        shares: Share of the rows for each side; they sum to 1.
        seed: Decides the order in which groups are dealt.

    Returns:
        The side of each conversation.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for name in sizes:
        members[groups.root(name)].append(name)
    lacking = [share * sum(sizes.values()) for share in shares]
    sides = {}
    # Ordered by a name that does not depend on the order of the rows.
    for group in sorted(
        (sorted(names) for names in members.values()), key=lambda g: _draw(g, seed)
    ):
        side = lacking.index(max(lacking))
        lacking[side] -= sum(sizes[name] for name in group)
        sides.update(dict.fromkeys(group, side))
    return sides


def _draw(group: Sequence[str], seed: int) -> bytes:
    return hashlib.blake2b(f"split/{seed}/{group[0]}".encode(), digest_size=16).digest()
