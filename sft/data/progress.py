"""A progress bar for who looks on, and nothing for a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def counted(items: Iterable[Item], name: str) -> Iterator[Item]:
    """Pass items on, and show on a terminal how many there were."""
    bar = tqdm(items, desc=name, unit=" rows", disable=not sys.stderr.isatty(), mininterval=1)
    yield from bar
