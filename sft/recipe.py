"""The recipe beside an adapter: what it was trained with, as a config file that trains it again.

    # python -m sft.train --config recipe.yaml
    model_name_or_path: Qwen/Qwen3-1.7B
    load_in_4bit: true

It has the form of the files in `configs/`; flags that have their default value are left out.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from agents.errors import ModelFileError

FILE = "recipe.yaml"

_FIRST_LINE = re.compile(r"# python -m ([\w.]+)")
_NOT_KEPT = ("hub_token", "resume_from_checkpoint")
"""A secret, and what is said of one run and not of the recipe."""


@dataclass(frozen=True)
class Recipe:
    """What an adapter was trained with.

    Attributes:
        program: The command, such as `sft.train`; empty where it is not known.
        flags: Its flags by name, without those that had their default value.
    """

    program: str = ""
    flags: Mapping[str, Any] = field(default_factory=dict)


def write_recipe(folder: Path, program: str, arguments: Sequence[Any]) -> Path:
    """Write the recipe of a run beside its adapter.

    Args:
        folder: Folder of the adapter; made if it is not there yet.
        program: The command, such as `sft.train`.
        arguments: The dataclasses of its flags.

    Returns:
        The file.
    """
    flags: dict[str, Any] = {}
    for one in arguments:
        flags |= _changed(one)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    text = yaml.safe_dump(flags, sort_keys=False, allow_unicode=True)
    path.write_text(f"# python -m {program} --config {FILE}\n{text}", encoding="utf-8")
    return path


def read_recipe(folder: str | Path) -> Recipe:
    """Return the recipe of an adapter; an empty one where none was written.

    Raises:
        ModelFileError: If the file is no recipe.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return Recipe()
    try:
        text = path.read_text(encoding="utf-8")
        flags = yaml.safe_load(text) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelFileError(f"{path} is damaged ({' '.join(str(error).split())})") from error
    if not isinstance(flags, dict):
        raise ModelFileError(f"{path} must contain a YAML mapping of flags to values")
    named = _FIRST_LINE.match(text)
    return Recipe(named[1] if named else "", flags)


def _changed(arguments: Any) -> dict[str, Any]:
    """Return the flags of one dataclass that are not at their default, without secrets."""
    changed = {}
    for one in dataclasses.fields(arguments):
        value = getattr(arguments, one.name)
        value = value.value if isinstance(value, Enum) else value
        plain = value is None or isinstance(value, str | int | float | bool | list | dict)
        kept = one.init and not one.name.endswith(_NOT_KEPT)
        if kept and plain and value != _default(one):
            changed[one.name] = value
    return changed


def _default(one: dataclasses.Field[Any]) -> Any:
    if one.default_factory is not dataclasses.MISSING:
        return one.default_factory()
    return one.default.value if isinstance(one.default, Enum) else one.default
