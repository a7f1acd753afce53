"""A config file as JSON. Comments and trailing commas are allowed, as in the tools' own readers."""

from __future__ import annotations

import json
import re
from pathlib import Path

from envs.servers.config_values import JsonObject, Place
from rewards.errors import did_you_mean

_STRING = r'"(?:\\.|[^"\\\n])*"'
_COMMENT = re.compile(rf"{_STRING}|//[^\n]*|/\*.*?\*/", re.DOTALL)
_TRAILING_COMMA = re.compile(rf"{_STRING}|,(?=\s*[}}\]])", re.DOTALL)
_INK = re.compile(r"[^\r\n]")


def read_json(file: Path) -> object:
    """Return the JSON value in a file; its objects are `JsonObject`s.

    Raises:
        ConfigError: If the file is missing, is not UTF-8 or not JSON; the message names the line
            and the column.
    """
    place = Place(file)
    text = _read_text(file)
    try:
        return json.loads(_strict(text), object_pairs_hook=JsonObject, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise place.error(f"is not valid JSON: {where}: {error.msg}") from error
    except RecursionError as error:
        raise place.error("is nested too deeply to be a config file") from error
    except ValueError as error:
        raise place.error(f"is not valid JSON: {error}") from error


def _read_text(file: Path) -> str:
    place = Place(file)
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise place.error(f"there is no such file{_hint(file)}") from error
    except IsADirectoryError as error:
        raise place.error("is a folder; name the config file in it") from error
    except UnicodeDecodeError as error:
        raise place.error(f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except (OSError, ValueError) as error:
        raise place.error(f"cannot be read: {error}") from error


def _hint(file: Path) -> str:
    beside = [path.name for path in file.parent.iterdir()] if file.parent.is_dir() else []
    return did_you_mean(file.name, beside) or (
        "; write the servers into one, or name the one that your MCP client uses"
    )


def _strict(text: str) -> str:
    """Blank comments and trailing commas; every other character keeps its line and column."""
    return _TRAILING_COMMA.sub(_blank, _COMMENT.sub(_blank, text))


def _blank(match: re.Match[str]) -> str:
    found = match.group()
    return found if found.startswith('"') else _INK.sub(" ", found)


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
