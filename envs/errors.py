"""Every error of the `envs` package.

    EnvsError
    ├── TaskError               there is no such task, split, domain or task file
    ├── OptionError             an option of `reset` or of the environment cannot be used
    ├── ActionError             an action is not text, or there is not one per sub-environment
    ├── EpisodeOverError        a step without an episode in progress (also gymnasium's ResetNeeded)
    ├── ConfigError             a config file of servers cannot be used
    ├── FolderError             the working folder of an episode cannot be watched
    └── ClientError             talking to a server failed
        ├── ServerStartError    a connection could not be opened in time
        ├── ServerGoneError     an HTTP server cannot be reached, or has forgotten the session
        ├── ForbiddenAddressError   a public name leads to an address that is not public
        └── ToolListError       the server's tool list cannot be used

A model's mistake is never one of these: it is an observation and a reward. A fault of a server in
the middle of an episode is a status of the episode.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gymnasium.error import ResetNeeded

from rewards.errors import did_you_mean


class EnvsError(Exception):
    """Base of every error of this package."""


class TaskError(EnvsError):
    """There is no such task, split, domain or task file; the message names what there is."""


class OptionError(EnvsError):
    """An option of `reset` or of the environment cannot be used; the message says why."""


class ActionError(EnvsError):
    """An action is not text, or there is not one for every sub-environment."""


class EpisodeOverError(EnvsError, ResetNeeded):
    """A step without an episode in progress; call `reset` first."""


class ConfigError(EnvsError):
    """A config file of servers cannot be used; the message names file, server and key."""


class FolderError(EnvsError):
    """A working folder cannot be watched: it is missing, or holds more than is looked through."""


class ClientError(EnvsError):
    """Talking to a server failed."""


class ServerStartError(ClientError):
    """A connection could not be opened in time."""


class ServerGoneError(ClientError):
    """An HTTP server cannot be reached, or has forgotten the session."""


class ForbiddenAddressError(ClientError):
    """A public name leads to an address that is not public."""


class ToolListError(ClientError):
    """The server's tool list cannot be used."""


def check_options(options: Iterable[str], known: Sequence[str]) -> None:
    """Check the keys of `reset`'s options.

    Raises:
        OptionError: If a key is unknown.
    """
    for key in options:
        if key not in known:
            hint = did_you_mean(str(key), known)
            raise OptionError(f'reset has no option "{key}" (known: {", ".join(known)}){hint}')
