"""JSON objects read key by key, so that every error names the file, the server and the key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from envs.errors import ConfigError
from rewards.errors import did_you_mean

LONGEST_WAIT_MS = 24 * 60 * 60 * 1000
"""The longest wait that a config file can ask for: a day, in milliseconds."""

_KINDS: Mapping[type, str] = {
    str: "a string",
    dict: "an object",
    list: "a list",
    type(None): "null",
}


class JsonObject(dict[str, object]):
    """A JSON object that remembers the first key that was written twice.

    Attributes:
        repeated: That key, or None.
    """

    def __init__(self, pairs: Sequence[tuple[str, object]] = ()) -> None:
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        twice = (name for index, name in enumerate(names) if name in names[:index])
        self.repeated = next(twice, None) if len(self) < len(names) else None


@dataclass(frozen=True)
class Place:
    """Where in a config file something is written.

    Attributes:
        file: The config file.
        server: Name of the server, "" outside of one.
        key: The key, as in `mcpGym.reset`; "" for the server or the file as a whole.
    """

    file: Path
    server: str = ""
    key: str = ""

    def at(self, key: str) -> Place:
        """Return the place of a key inside this one."""
        return replace(self, key=f"{self.key}.{key}" if self.key else key)

    def item(self, index: int) -> Place:
        """Return the place of an item of the list that is here."""
        return replace(self, key=f"{self.key}[{index}]")

    def error(self, problem: str) -> ConfigError:
        """Return an error about what is written here; the caller raises it."""
        return ConfigError(f"{self}: {problem}")

    def __str__(self) -> str:
        server = f"server {shown(self.server)}" if self.server else ""
        return ": ".join(filter(None, (str(self.file), server, one_line(self.key))))


class Section:
    """One JSON object of a config file.

    A key that is absent and a key that is null are the same. The keys that were asked for are
    remembered: the others are `unknown`. Every method that reads a value raises ConfigError if it
    is not of the kind that the method wants.

    Args:
        place: Where the object is written.
        value: The object; anything else, or one with a key twice, is a ConfigError.

    Attributes:
        place: Where the object is written.
    """

    def __init__(self, place: Place, value: object) -> None:
        if not isinstance(value, JsonObject):
            raise place.error(f"is {kind(value)}, not an object")
        if value.repeated is not None:
            raise place.at(value.repeated).error("is written twice; keep one of the two")
        self.place = place
        self._values = value
        self._asked: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def get(self, key: str) -> object:
        """Return the JSON value of a key, None if it has none."""
        self._asked.append(key)
        return self._values.get(key)

    def section(self, key: str) -> Section:
        """Return the object at a key, an empty one if it has none."""
        value = self.get(key)
        return Section(self.place.at(key), JsonObject() if value is None else value)

    def text(self, key: str) -> str:
        """Return the string at a key, "" if it has none."""
        value = self.get(key)
        return "" if value is None else checked_text(value, self.place.at(key))

    def texts(self, key: str) -> tuple[str, ...] | None:
        """Return the list of strings at a key, None if it has none."""
        value, place = self.get(key), self.place.at(key)
        if value is None:
            return None
        if not isinstance(value, list):
            raise place.error(f"is {kind(value)}, not a list of strings")
        return tuple(checked_text(item, place.item(index)) for index, item in enumerate(value))

    def variables(self, key: str) -> dict[str, str]:
        """Return an object of strings, such as `env`; a number is read as text, a null left out."""
        section = self.section(key)
        found: dict[str, str] = {}
        for name in section:
            value, place = section.get(name), section.place.at(name)
            if isinstance(value, int) and not isinstance(value, bool):
                value = str(value)
            if value is not None:
                found[checked_text(name, place)] = checked_text(value, place)
        return found

    def flag(self, key: str, default: bool) -> bool:
        """Return the boolean at a key."""
        value = self.get(key)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        raise self.place.at(key).error(f"is {kind(value)}, not true or false")

    def choice(self, key: str, known: Sequence[str], default: str) -> str:
        """Return the string at a key, which must be one of `known`."""
        value = self.text(key) or default
        if value not in (*known, default):
            raise self.place.at(key).error(
                f"is {shown(value)} (known: {', '.join(known)}){did_you_mean(value, known)}"
            )
        return value

    def count(self, key: str, default: int) -> int:
        """Return the positive integer at a key."""
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.place.at(key).error(f"is {kind(value)}, not an integer above 0")
        return value

    def seconds(self, key: str) -> float | None:
        """Return the milliseconds at a key in seconds, None if it has none."""
        value = self.get(key)
        if value is None:
            return None
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and isinstance(value, int | float) and 0 < value <= LONGEST_WAIT_MS):
            limit = f"a number of milliseconds above 0 and at most {LONGEST_WAIT_MS} (a day)"
            raise self.place.at(key).error(f"is {kind(value)}, not {limit}")
        return value / 1000

    def unknown(self) -> list[str]:
        """Return the keys that nobody asked for."""
        return [key for key in self._values if key not in self._asked]

    def refuse_unknown(self) -> None:
        """Raise ConfigError if there is a key that nobody asked for."""
        known = list(dict.fromkeys(self._asked))
        for key in self.unknown():
            hint = did_you_mean(key, known)
            raise self.place.at(key).error(f"is unknown (known: {', '.join(known)}){hint}")


def checked_text(value: object, place: Place) -> str:
    """Return a string that a process or a file system can take.

    Raises:
        ConfigError: If it is no string, or holds a null byte or half of a surrogate pair. Its value
            is not shown: it may be a secret.
    """
    if not isinstance(value, str):
        quotes = "; write it in quotes" if isinstance(value, int | float) else ""
        raise place.error(f"is {kind(value)}, not a string{quotes}")
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise place.error("holds a character that no program can take (a null or half a surrogate)")
    return value


def existing(place: Place, path: Path, what: str) -> Path:
    """Return `path` if it is an existing "file" or "folder", as `what` says.

    Raises:
        ConfigError: If it is not.
    """
    if not exists(path, what):
        raise place.error(f"there is no {what} {shown(str(path))}{home_hint(path.as_posix())}")
    return path


def exists(path: Path, what: str) -> bool:
    """Return whether there is such a "file" or "folder", as `what` says."""
    try:
        return path.is_dir() if what == "folder" else path.is_file()
    except OSError:  # a name longer than the file system allows, for one
        return False


def home_hint(path: str) -> str:
    """Return a hint for a path with a "~", which the tools that share these files do not expand."""
    return '; "~" is not expanded here, write ${userHome}' if "~" in path.split("/") else ""


def kind(value: object) -> str:
    """Name a JSON value in an error message; a string is not shown, it may be a secret."""
    for of, name in _KINDS.items():
        if isinstance(value, of):
            return name
    written = str(value).lower()
    return written if len(written) <= 20 else "a large number"


def shown(text: str) -> str:
    """Return a text in quotes, on one line."""
    return f'"{one_line(text)}"'


def one_line(text: str) -> str:
    """Return a text that can stand in a message: printable and not too long."""
    clean = text if text.isprintable() else text.encode("unicode_escape").decode()
    return clean if len(clean) <= 300 else f"{clean[:300]}..."
