"""Which world a request acts on: one handle per episode.

In memory and over stdio one server serves one `WorldHandle`. Over HTTP one server serves many
episodes, and `EpisodeWorlds` finds the handle by what the request says about itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from mock_mcp.faults import Faults
from mock_mcp.toolspec import ToolFailure
from mock_mcp.world import World

EPISODE_HEADER = "mcp-episode"
SESSION_HEADER = "mcp-session-id"
MAX_WORLDS = 512
MAX_EPISODE_NAME = 200

HandleOf = Callable[[Mapping[str, str], bool], "WorldHandle"]
"""Finds the handle of a request: `(HTTP headers, the request only reads) -> handle`."""


class WorldHandle:
    """What a server's tools act on.

    Attributes:
        world: The world as it is now.
        faults: The faults of the episode.
        start: The world as it was when the episode began (for `world://changes`).
    """

    def __init__(
        self, world: World, faults: Faults | None = None, start: World | None = None
    ) -> None:
        """Hold a world; `start` defaults to a copy of it."""
        self.world = world
        self.faults = faults or Faults()
        self.start = start or world.copy()

    def reset(self, template: World, faults: Faults | None = None) -> None:
        """Start an episode from a copy of `template`, which nobody may change afterwards."""
        self.world = template.copy()
        self.faults = faults or Faults()
        self.start = template


class EpisodeWorlds:
    """The worlds of an HTTP server's episodes, at most `limit`; the longest unused one goes first.

    An episode is named by the header `mcp-episode` or, for clients with a session, by the session
    id. A request that names none may read a fresh world but not write: nobody could tell whose
    world it changed. An episode whose world was dropped is refused, never silently restarted.
    """

    def __init__(
        self,
        template: World,
        faults: Callable[[], Faults] = Faults,
        limit: int = MAX_WORLDS,
    ) -> None:
        """Serve copies of `template`, each with faults of its own."""
        self._template = template
        self._faults = faults
        self._limit = limit
        self._handles: OrderedDict[str, WorldHandle] = OrderedDict()
        self._dropped: OrderedDict[str, None] = OrderedDict()

    def __call__(self, headers: Mapping[str, str], read_only: bool) -> WorldHandle:
        """Return the handle of the episode that a request's headers name.

        Raises:
            ToolFailure: If it names none and writes, or names one whose world was dropped.
        """
        name = _episode_name(headers)
        if name is None and not read_only:
            raise ToolFailure(
                f"This request belongs to no episode. Send the HTTP header {EPISODE_HEADER} with a "
                "name of your choice; every name has a world of its own."
            )
        if name is None:
            return self._fresh(Faults())
        if name in self._dropped:
            raise ToolFailure("The world of this episode was dropped. Start another episode.")
        if name not in self._handles:
            self._make_room()
            self._handles[name] = self._fresh(self._faults())
        self._handles.move_to_end(name)
        return self._handles[name]

    def _fresh(self, faults: Faults) -> WorldHandle:
        return WorldHandle(self._template.copy(), faults, self._template)

    def _make_room(self) -> None:
        while len(self._handles) >= self._limit:
            name, _ = self._handles.popitem(last=False)
            self._dropped[name] = None
        # Names are remembered longer than worlds, but not for ever.
        while len(self._dropped) > 100 * self._limit:
            self._dropped.popitem(last=False)


def _episode_name(headers: Mapping[str, str]) -> str | None:
    for header in (EPISODE_HEADER, SESSION_HEADER):
        value = headers.get(header)
        if value:
            if len(value) > MAX_EPISODE_NAME:
                raise ToolFailure(f"{header} is longer than {MAX_EPISODE_NAME} characters.")
            # The header's name keeps an episode and a session of the same name apart.
            return f"{header}/{value}"
    return None
