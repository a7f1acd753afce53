from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from http_server import McpProcess

from envs.servers.config import ServerConfig, read_servers
from tests.envs.servers.playing import Opener, nothing_left, open_envs

Write = Callable[..., Path]


@pytest.fixture
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    with nothing_left(tmp_path / "temporary"):
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder by whose files a toy server is steered."""
    return tmp_path / "toy"


@pytest.fixture
def opened() -> Iterator[Opener]:
    yield from open_envs()


@pytest.fixture(scope="module")
def server() -> Iterator[McpProcess]:
    """A server over HTTP."""
    started = McpProcess()
    yield started
    started.stop()


# --- config files ---------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with the programs that the samples name, and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("npx", "uvx", "node", "python", "docker", "mcp-server-memory"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a config file below a project folder."""

    def write_file(content: str | dict[str, Any], name: str = "mcp.json") -> Path:
        file = tmp_path / "project" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        file.write_text(text, encoding="utf-8")
        return file

    return write_file


@pytest.fixture
def read(write: Write) -> Callable[..., ServerConfig]:
    """Reads the config of one server, called `one`, from its entry."""

    def read_entry(entry: dict[str, Any], name: str = "mcp.json") -> ServerConfig:
        (server,) = read_servers(write({"mcpServers": {"one": entry}}, name))
        return server

    return read_entry
