"""Config files of other programs, one for each, as its documentation shows them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from envs.servers.config import read_servers

Write = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("programs")


def test_a_file_of_claude_desktop_is_read_unchanged(write: Write) -> None:
    file = write(
        """{
          "mcpServers": {
            "filesystem": {
              "command": "npx",
              "args": ["-y", "@modelcontextprotocol/server-filesystem", "/Users/me/Desktop"]
            },
            "memory": {"command": "docker", "args": ["run", "-i", "--rm", "mcp/memory"]}
          },
          "globalShortcut": "Ctrl+Space"
        }""",
        "claude_desktop_config.json",
    )
    filesystem, memory = read_servers(file)
    assert (filesystem.name, filesystem.transport, filesystem.command) == (
        "filesystem",
        "stdio",
        "npx",
    )
    assert filesystem.args == ("-y", "@modelcontextprotocol/server-filesystem", "/Users/me/Desktop")
    assert memory.args[:2] == ("run", "-i")
    assert (memory.reset, memory.era, memory.tools, memory.max_result_bytes) == (
        "restart",
        "auto",
        None,
        1_000_000,
    )


def test_a_file_of_claude_code_is_read_unchanged(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "sesame")
    file = write(
        """{
          "mcpServers": {
            "database": {
              "type": "stdio",
              "command": "node",
              "args": ["${CLAUDE_PROJECT_DIR:-.}/server.js", "$HOME"],
              "env": {"CACHE_DIR": "/tmp"},
              "timeout": 600000,
              "alwaysLoad": true
            },
            "api": {
              "type": "http",
              "url": "${API_BASE_URL:-https://api.example.com}/mcp",
              "headers": {"Authorization": "Bearer ${API_KEY}"},
              "mcpGym": {"shared": true}
            }
          }
        }""",
        ".mcp.json",
    )
    database, api = read_servers(file)
    assert database.args == ("./server.js", "$HOME")
    assert database.call_timeout == 600
    assert (api.transport, api.url) == ("http", "https://api.example.com/mcp")
    assert api.headers == {"Authorization": "Bearer sesame"}


def test_a_file_of_cursor_is_read_unchanged(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "sesame")
    project = write("TOKEN=from-file\n", ".env").parent
    file = write(
        """{
          "mcpServers": {
            "local": {
              "command": "python",
              "args": ["${workspaceFolder}/tools/mcp_server.py", "${userHome}${/}notes"],
              "env": {"API_KEY": "${env:SERVICE_TOKEN}"},
              "envFile": "${workspaceFolder}/.env"
            },
            "remote": {
              "url": "https://api.example.com/sse",
              "headers": {"X-Key": "${env:SERVICE_TOKEN}"},
              "mcpGym": {"episodeHeader": "X-Episode"}
            }
          }
        }""",
        ".cursor/mcp.json",
    )
    local, remote = read_servers(file)
    assert local.args == (f"{project}/tools/mcp_server.py", f"{Path.home()}/notes")
    assert local.env == {"TOKEN": "from-file", "API_KEY": "sesame"}
    assert (remote.transport, remote.headers) == ("sse", {"X-Key": "sesame"})
    assert remote.episode_header == "X-Episode"


def test_a_file_of_vs_code_is_read_unchanged(write: Write) -> None:
    file = write(
        """{
          // Asked for once, kept in the system's store of secrets.
          "inputs": [
            {"type": "promptString", "id": "api-key", "description": "Key", "password": true},
          ],
          "servers": {
            /* started by VS Code // itself */
            "memory": {
              "type": "stdio",
              "command": "mcp-server-memory",
              "args": ["--url", "http://localhost/*", "a,]"],
              "cwd": "${workspaceFolder}",
              "env": {"PORT": 3000, "GONE": null},
              "sandboxEnabled": true,
              "dev": {"watch": "src/**/*.ts"},
            },
            "context7": {
              "type": "http", "url": "https://mcp.context7.com/mcp", "mcpGym": {"shared": true}
            },
          },
        }""",
        ".vscode/mcp.json",
    )
    memory, context7 = read_servers(file)
    assert memory.args == ("--url", "http://localhost/*", "a,]")
    assert memory.env == {"PORT": "3000"}
    assert memory.cwd == file.parent.parent
    assert (context7.transport, context7.shared, context7.reset) == ("http", True, "keep")


def test_a_file_of_gemini_cli_is_read_unchanged(
    write: Write, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_API_TOKEN", "sesame")
    project = write("", "servers/python/.keep").parent.parent.parent
    file = write(
        """{
          "theme": "GitHub",
          "mcpServers": {
            "pythonTools": {
              "command": "python",
              "args": ["-m", "my_mcp_server", "costs 5$"],
              "cwd": "./servers/python",
              "env": {"API_KEY": "$MY_API_TOKEN", "OTHER": "${MY_API_TOKEN}!"},
              "timeout": 15000,
              "trust": true,
              "includeTools": ["safe_tool", "file_reader", "file_deleter"],
              "excludeTools": ["file_deleter"]
            },
            "streaming": {"httpUrl": "http://localhost:3000/mcp", "mcpGym": {"shared": true}},
            "events": {"url": "http://localhost:8080/stream", "mcpGym": {"shared": true}},
            "typed": {"url": "http://localhost:8/m", "type": "http", "mcpGym": {"shared": true}}
          }
        }""",
        ".gemini/settings.json",
    )
    tools, *remote = read_servers(file)
    assert tools.cwd == project / "servers" / "python"
    assert tools.env == {"API_KEY": "sesame", "OTHER": "sesame!"}
    assert tools.args[-1] == "costs 5$"
    assert tools.tools == ("safe_tool", "file_reader")
    assert [server.transport for server in remote] == ["http", "sse", "http"]
    assert not [one for one in caplog.records if one.levelno == logging.WARNING]


def test_a_file_of_the_inspector_is_read_unchanged(write: Write) -> None:
    file = write(
        """{
          "mcpServers": {
            "default-server": {
              "type": "stdio",
              "command": "node",
              "args": ["build/index.js"],
              "env": {"KEY": "value"},
              "protocolEra": "auto"
            },
            "my-http-server": {
              "type": "streamable-http",
              "url": "https://api.example.com/mcp",
              "requestTimeout": 10000,
              "mcpGym": {"reset": {"tool": "reset", "arguments": {"hard": true}}}
            },
            "old": {"type": "sse", "url": "http://localhost:3001/x", "mcpGym": {"shared": true}}
          }
        }"""
    )
    stdio, http, sse = read_servers(file)
    assert [stdio.transport, http.transport, sse.transport] == ["stdio", "http", "sse"]
    assert (http.reset, http.reset_tool, http.reset_arguments) == ("tool", "reset", {"hard": True})


def test_a_bare_map_of_servers_is_read_unchanged(write: Write) -> None:
    file = write('{"$schema": "x", "b": {"command": "node"}, "a": {"command": "python"}}')
    assert [server.name for server in read_servers(file)] == ["b", "a"]
