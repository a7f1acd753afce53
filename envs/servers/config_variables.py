"""What a config file takes from outside of itself: variables, and files of variables.

    ${VAR}  ${env:VAR}  ${VAR:-default}     an environment variable (the default if it is not set)
    $VAR                                    likewise, in files of Gemini CLI only
    ${workspaceFolder}                      the folder of the config file; if it lies in .vscode,
                                            .cursor or .gemini, that folder's parent
    ${workspaceFolderBasename}  ${userHome}  ${pathSeparator}  ${/}
    ${episodeFolder}                        ours: stays, until an episode has a folder

A value that was filled in is not searched again. The tools differ in what they do with a variable
that is not set (Claude Code passes the text on, VS Code nothing); a training run must not start
with either, so it is an error here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from envs.servers.config_server import EPISODE_FOLDER
from envs.servers.config_values import Place, existing, shown
from rewards.errors import did_you_mean

_TOOL_FOLDERS = (".vscode", ".cursor", ".gemini")
_BRACED = re.compile(r"\$\{([^}]*)\}")
_BRACED_OR_BARE = re.compile(r"\$\{([^}]*)\}|\$([A-Za-z_]\w*)")
_NAME = re.compile(r"[A-Za-z_]\w*")
_ENV_LINE = re.compile(r"(?:export\s+)?([\w.-]+)\s*=\s*(.*)")
_ENV_VALUE = re.compile(r"""(?:"((?:\\.|[^"\\])*)"|'([^']*)'|((?:(?!\s#).)*))\s*(?:#.*)?""")


class Variables:
    """Fills in the variables of one config file.

    Args:
        file: The config file.
        gemini: Whether it is one of Gemini CLI, which knows `$VAR` too.

    Attributes:
        workspace: What `${workspaceFolder}` stands for; relative paths start here too.
        gemini: As given.
    """

    def __init__(self, file: Path, gemini: bool) -> None:
        folder = file.parent.resolve()
        self.workspace = folder.parent if folder.name in _TOOL_FOLDERS else folder
        self.gemini = gemini
        self._reference = _BRACED_OR_BARE if gemini else _BRACED
        self._known = {
            "workspaceFolder": str(self.workspace),
            "workspaceFolderBasename": self.workspace.name,
            "userHome": str(Path.home()),
            "pathSeparator": os.sep,
            "/": os.sep,
        }

    def fill(self, text: str, place: Place, episode_folder: bool = False) -> str:
        """Return `text` with every variable replaced by its value.

        Args:
            text: A value of the config file.
            place: Where it is written.
            episode_folder: Whether `${episodeFolder}` may be used here (and then stays).

        Raises:
            ConfigError: If a variable has no value; the message says what to do.
        """

        def value(match: re.Match[str]) -> str:
            if match.group() == EPISODE_FOLDER and episode_folder:
                return EPISODE_FOLDER
            return self._value(match.group(match.lastindex or 0), place)

        return self._reference.sub(value, text)

    def path(self, text: str, place: Place, what: str) -> Path | None:
        """Return an existing "file" or "folder" (`what`), None if `text` is empty.

        Raises:
            ConfigError: If there is none; a relative path starts in the workspace folder.
        """
        return existing(place, self.workspace / self.fill(text, place), what) if text else None

    def _value(self, reference: str, place: Place) -> str:
        if reference in self._known:
            return self._known[reference]
        written = shown(f"${{{reference}}}")
        if reference == "episodeFolder":
            raise place.error(f"{EPISODE_FOLDER} can only be used in args and in values of env")
        if reference.startswith("input:"):
            name = re.sub(r"\W", "_", reference.removeprefix("input:")).upper() or "NAME"
            raise place.error(
                f"nobody is there to be asked for {written}; "
                f"export the value as a variable and write ${{env:{name}}} instead"
            )
        name, with_default, default = reference.removeprefix("env:").partition(":-")
        if not _NAME.fullmatch(name) or "${" in default:
            known = ", ".join(f"${{{key}}}" for key in (*self._known, "VAR", "VAR:-default"))
            raise place.error(f"{written} cannot be filled in (known: {known})")
        value = os.environ.get(name, default if with_default else None)
        if value is None:
            hint = did_you_mean(name, [*self._known, "episodeFolder"])
            todo = f"export {name}, or write ${{{name}:-default}}"
            raise place.error(f"{written}: the variable {name} is not set; {todo}{hint}")
        return value


def read_env_file(file: Path, place: Place) -> dict[str, str]:
    """Return the variables of a file with one `NAME=value` a line, as of VS Code's `envFile`.

    Args:
        file: The file. Values may be in single or double quotes; `#` starts a comment.
        place: Where the config file names it.

    Raises:
        ConfigError: If it cannot be read, or a line is something else; the message names the line.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise place.error(f"{file} cannot be read: {error}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        entry = _ENV_LINE.fullmatch(line)
        value = _ENV_VALUE.fullmatch(entry.group(2)) if entry else None
        if entry is None or value is None or "\0" in line:
            raise place.error(f"{file}:{number} is not of the form NAME=value")
        found[entry.group(1)] = _unquoted(value)
    return found


def _unquoted(value: re.Match[str]) -> str:
    double, single, plain = value.groups()
    if double is not None:
        return str(double).replace("\\n", "\n").replace('\\"', '"')
    return str(single if single is not None else plain).strip()
