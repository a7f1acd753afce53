from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envs.servers.config import ConfigError, ServerConfig, read_servers

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
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


Read = Callable[..., ServerConfig]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


# One file per tool, as its documentation shows them.


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
    assert warnings(caplog) == []


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


@pytest.mark.parametrize("key", ["type", "transport"])
@pytest.mark.parametrize(
    ("written", "meant"),
    [("http", "http"), ("streamable-http", "http"), ("streamableHttp", "http"), ("sse", "sse")],
)
def test_every_spelling_of_a_transport_is_known(
    read: Read, key: str, written: str, meant: str
) -> None:
    entry = {key: written, "url": "http://localhost/x", "mcpGym": {"shared": True}}
    assert read(entry).transport == meant


def test_disabled_servers_are_left_out_whatever_they_say(write: Write) -> None:
    file = write(
        {
            "mcpServers": {
                "off": {"command": "missing", "disabled": True},
                "also-off": {"url": "${UNSET}", "enabled": False},
                "on": {"command": "node", "disabled": False, "enabled": True},
            }
        }
    )
    assert [server.name for server in read_servers(file)] == ["on"]


def test_an_unknown_key_is_ignored_with_one_line_in_the_debug_log(
    read: Read, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    read({"command": "node", "autoApprove": ["x"]})
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.endswith('project/mcp.json: server "one": autoApprove: is ignored')


# Variables.


def test_a_variable_that_is_set_wins_over_its_default_even_if_it_is_empty(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SET", "value")
    monkeypatch.setenv("EMPTY", "")
    args = ["${SET:-x}", "[${EMPTY:-x}]", "${UNSET:-}", "${env:UNSET:-a b}", "${SET}${SET}", "$SET"]
    server = read({"command": "node", "args": args})
    assert server.args == ("value", "[]", "", "a b", "valuevalue", "$SET")


def test_the_value_of_a_variable_is_not_searched_for_variables(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRICKY", "${HOME}")
    assert read({"command": "node", "args": ["${TRICKY}"]}).args == ("${HOME}",)


@pytest.mark.parametrize("folder", [".vscode/", ".cursor/", ".gemini/", ""])
def test_the_workspace_folder_is_that_of_the_project(
    read: Read, tmp_path: Path, folder: str
) -> None:
    entry = {"command": "node", "args": ["${workspaceFolder}", "${workspaceFolderBasename}"]}
    assert read(entry, f"{folder}mcp.json").args == (str(tmp_path / "project"), "project")


def test_an_env_file_is_read_with_its_quotes_and_comments(read: Read, write: Write) -> None:
    write(
        """# a comment
A=plain # not this
export B = "two\\nlines, \\"quoted\\" # kept"
C='${NOT_FILLED} # kept'

D=
E=a#b=c
""",
        "settings.env",
    )
    server = read({"command": "node", "envFile": "settings.env", "env": {"D": "from env"}})
    assert server.env == {
        "A": "plain",
        "B": 'two\nlines, "quoted" # kept',
        "C": "${NOT_FILLED} # kept",
        "D": "from env",
        "E": "a#b=c",
    }


def test_the_episodes_folder_stays_until_the_server_is_placed(read: Read) -> None:
    server = read(
        {
            "command": "mcp-server-memory",
            "args": ["--root", "${episodeFolder}/data"],
            "env": {"MEMORY_FILE_PATH": "${episodeFolder}/memory.json", "OTHER": "x"},
        }
    )
    assert server.args == ("--root", "${episodeFolder}/data")
    placed = server.placed(Path("/tmp/episode"))
    assert placed.args == ("--root", "/tmp/episode/data")
    assert placed.env == {"MEMORY_FILE_PATH": "/tmp/episode/memory.json", "OTHER": "x"}
    assert server.args == ("--root", "${episodeFolder}/data")


# Our own settings.


def test_every_setting_of_ours_is_read(read: Read, write: Write) -> None:
    template = write("", "start/file.txt").parent
    server = read(
        {
            "command": "node",
            "timeout": 5000,
            "includeTools": ["ignored"],
            "mcpGym": {
                "reset": "restart",
                "era": "2026-07-28",
                "tools": ["read", "write"],
                "maxResultBytes": 5000,
                "template": "start",
                "onToolChange": "warn",
                "startTimeout": 1500,
                "callTimeout": 250,
            },
        }
    )
    assert (server.reset, server.era, server.tools) == ("restart", "2026-07-28", ("read", "write"))
    assert (server.max_result_bytes, server.template) == (5000, template)
    assert (server.on_tool_change, server.start_timeout, server.call_timeout) == ("warn", 1.5, 0.25)


@pytest.mark.parametrize("reset", ["keep", {"tool": "reset"}])
def test_a_stdio_server_can_outlive_its_episodes(read: Read, reset: object) -> None:
    server = read({"command": "node", "mcpGym": {"reset": reset}})
    assert server.reset == ("keep" if reset == "keep" else "tool")
    assert server.reset_arguments == {}


def test_secrets_are_not_in_the_repr_of_a_server(read: Read) -> None:
    assert "sesame" not in repr(read({"command": "node", "env": {"KEY": "sesame"}}))
    remote = {"url": "http://localhost/", "headers": {"Key": "sesame"}, "mcpGym": {"shared": True}}
    assert "sesame" not in repr(read(remote))


# Programs.


def test_a_program_beside_the_config_becomes_an_absolute_path(read: Read, write: Write) -> None:
    script = write("#!/bin/sh\n", "bin/server")
    script.chmod(0o755)
    assert read({"command": "./bin/server"}).command == str(script)
    assert read({"command": "./server", "cwd": "bin"}).command == str(script)


def test_a_program_is_looked_for_on_the_servers_own_path(read: Read, write: Write) -> None:
    script = write("#!/bin/sh\n", "own/tool")
    script.chmod(0o755)
    server = read({"command": "tool", "env": {"PATH": "${workspaceFolder}/own"}})
    assert server.command == "tool"


@pytest.mark.parametrize("program", ["npx", "uvx"])
def test_a_server_that_is_downloaded_at_each_start_is_warned_about(
    read: Read, caplog: pytest.LogCaptureFixture, program: str
) -> None:
    read({"command": program, "args": ["some-server"]})
    (line,) = warnings(caplog)
    assert 'mcp.json: server "one": command' in line
    assert "install the package" in line


def test_a_script_with_a_relative_path_is_warned_about_unless_cwd_is_set(
    read: Read, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write("", "build/index.js")
    read({"command": "node", "args": ["build/index.js"], "cwd": "."})
    assert warnings(caplog) == []
    read({"command": "node", "args": ["-v", "build/index.js", "x" * 300]})
    (line,) = warnings(caplog)
    assert 'server "one": args[1]' in line
    assert "${workspaceFolder}/build/index.js" in line


def test_a_timeout_that_looks_like_seconds_is_warned_about(
    read: Read, caplog: pytest.LogCaptureFixture
) -> None:
    assert read({"command": "node", "timeout": 60}).call_timeout == 0.06
    assert "seconds" in warnings(caplog)[0]


def test_tools_that_cannot_be_excluded_are_warned_about(
    read: Read, caplog: pytest.LogCaptureFixture
) -> None:
    assert read({"command": "node", "excludeTools": ["delete"]}).tools is None
    assert "mcpGym.tools" in warnings(caplog)[0]


# Errors of one server: the key that is named, and what the message says beside it.

HTTP = {"url": "http://localhost/mcp"}
NODE = {"command": "node"}


def gym(entry: dict[str, Any], **extras: Any) -> dict[str, Any]:
    return {**entry, "mcpGym": extras}


BAD: list[tuple[Any, str, str]] = [
    ("npx", "", "is a string, not an object"),
    ({"args": []}, "", 'neither a "command" nor a "url"'),
    ({"command": "", "url": None}, "", 'neither a "command" nor a "url"'),
    ({**NODE, **HTTP}, "", 'both a "command" and a "url"'),
    ({**NODE, "httpUrl": "http://x/"}, "", 'both a "command" and a "httpUrl"'),
    ({**NODE, "type": "http"}, "", "needs a url"),
    (gym({**HTTP, "type": "stdio"}, shared=True), "", "needs a command"),
    ({**NODE, "type": "studio"}, "type", 'did you mean "stdio"?'),
    ({**HTTP, "transport": "websocket"}, "transport", "known: stdio, http"),
    ({"command": ["node"]}, "command", "is a list, not a string"),
    ({"command": "node\0"}, "command", "no program can take"),
    ({"command": "nodejs"}, "command", '"nodejs" is not a program on the PATH; install it'),
    ({"command": "node server.js"}, "command", "put its arguments into args"),
    ({"command": "./missing"}, "command", "is not an executable file"),
    ({"command": "~/bin/server"}, "command", "write ${userHome}"),
    ({**NODE, "args": "x"}, "args", "is a string, not a list of strings"),
    ({**NODE, "args": ["x", 3000]}, "args[1]", "is 3000, not a string; write it in quotes"),
    ({**NODE, "env": ["A=b"]}, "env", "is a list, not an object"),
    ({**NODE, "env": {"A": True}}, "env.A", "is true, not a string"),
    ({**NODE, "env": {"A": "\ud800"}}, "env.A", "no program can take"),
    ({**NODE, "env": {"A=B": "c"}}, "env.A=B", "is not the name of a variable"),
    ({**NODE, "envFile": "missing.env"}, "envFile", "there is no file"),
    ({**NODE, "envFile": "bad.env"}, "envFile", "bad.env:2 is not of the form NAME=value"),
    ({**NODE, "envFile": "latin.env"}, "envFile", "cannot be read"),
    ({**NODE, "cwd": "missing"}, "cwd", "there is no folder"),
    ({**NODE, "cwd": "x" * 300}, "cwd", "there is no folder"),
    ({**NODE, "cwd": "~/work"}, "cwd", "write ${userHome}"),
    ({**NODE, "timeout": "5000"}, "timeout", "is a string, not a number of milliseconds"),
    ({**NODE, "timeout": 0}, "timeout", "is 0, not a number of milliseconds"),
    ({**NODE, "timeout": True}, "timeout", "is true, not a number"),
    ({**NODE, "timeout": 10**400}, "timeout", "is a large number, not"),
    ({**NODE, "disabled": "no"}, "disabled", "is a string, not true or false"),
    ({**NODE, "includeTools": ["a"], "excludeTools": ["a"]}, "includeTools", "leaves no tool"),
    (gym({"url": "localhost:8000/mcp"}, shared=True), "url", "not an http:// or https://"),
    (gym({"url": "http://[::1/"}, shared=True), "url", "not an http:// or https://"),
    (gym({"url": "http://x:99999/"}, shared=True), "url", "not an http:// or https://"),
    (gym({**HTTP, "headers": {"A b": "c"}}, shared=True), "headers.A b", "is not an HTTP header"),
    (gym({**HTTP, "headers": {"A": "b\nC: d"}}, shared=True), "headers.A", "is not an HTTP header"),
    # variables
    ({**NODE, "args": ["${UNSET}"]}, "args[0]", "UNSET is not set; export UNSET, or write"),
    ({**NODE, "env": {"A": "${env:UNSET}"}}, "env.A", "the variable UNSET is not set"),
    ({**NODE, "env": {"A": "${input:api-key}"}}, "env.A", "write ${env:API_KEY} instead"),
    ({**NODE, "args": ["${workspacefolder}"]}, "args[0]", 'did you mean "workspaceFolder"?'),
    ({**NODE, "args": ["${config:x.y}"]}, "args[0]", "cannot be filled in (known: "),
    ({**NODE, "args": ["${}"]}, "args[0]", "cannot be filled in"),
    ({**NODE, "args": ["${A:-${B}}"]}, "args[0]", "cannot be filled in"),
    ({"command": "${episodeFolder}/x"}, "command", "only be used in args and in values of env"),
    ({**NODE, "cwd": "${episodeFolder}"}, "cwd", "only be used in args and in values of env"),
    ({"url": "http://x/${episodeFolder}"}, "url", "only be used in args and in values of env"),
    ({**HTTP, "headers": {"A": "${episodeFolder}"}}, "headers.A", "only be used in args"),
    # ours
    ({**NODE, "mcpGym": 1}, "mcpGym", "is 1, not an object"),
    ({**NODE, "mcp_gym": {}}, "mcp_gym", 'did you mean "mcpGym"?'),
    (gym(NODE, resets="keep"), "mcpGym.resets", 'did you mean "reset"?'),
    (gym(NODE, reset="kept"), "mcpGym.reset", 'did you mean "keep"?'),
    (gym(NODE, reset=1), "mcpGym.reset", "is 1, not a string"),
    (gym(NODE, reset={}), "mcpGym.reset", 'names no "tool"'),
    (gym(NODE, reset={"tool": "a", "args": {}}), "mcpGym.reset.args", "is unknown"),
    (gym(NODE, reset={"tool": "a", "arguments": []}), "mcpGym.reset.arguments", "is a list"),
    (gym(NODE, era="2025-11-25"), "mcpGym.era", "known: auto, handshake, 2026-07-28"),
    (gym(NODE, tools=[]), "mcpGym.tools", "at least one tool"),
    (gym(NODE, tools=["a", ""]), "mcpGym.tools", "none by an empty name"),
    (gym(NODE, maxResultBytes=0), "mcpGym.maxResultBytes", "is 0, not an integer above 0"),
    (gym(NODE, maxResultBytes=1.5), "mcpGym.maxResultBytes", "is 1.5, not an integer"),
    (gym(NODE, template="missing"), "mcpGym.template", "there is no folder"),
    (gym(NODE, onToolChange="stop"), "mcpGym.onToolChange", "known: error, warn"),
    (gym(NODE, startTimeout=-1), "mcpGym.startTimeout", "is -1, not a number of milliseconds"),
    (gym(NODE, callTimeout=None, shared=True), "mcpGym.shared", "is for HTTP servers"),
    (gym(NODE, episodeHeader="X"), "mcpGym.episodeHeader", "is for HTTP servers"),
    (gym(NODE, reset="keep", template="."), "mcpGym.template", "lives longer than an episode"),
    (
        gym({**NODE, "args": ["a", "${episodeFolder}"]}, reset="keep"),
        "args[1]",
        "lives longer than an episode",
    ),
    (
        gym({**NODE, "env": {"A": "${episodeFolder}"}}, reset={"tool": "r"}),
        "env.A",
        "lives longer than an episode",
    ),
    (HTTP, "mcpGym", '"episodeHeader": "X-Name"'),
    (gym(HTTP, reset="keep"), "mcpGym", '"reset": {"tool": "NAME"}'),
    (gym(HTTP, reset="restart"), "mcpGym.reset", '"shared": true'),
    (gym(HTTP, shared=True, episodeHeader="X"), "mcpGym.shared", "keep one"),
    (gym(HTTP, shared=True, reset={"tool": "r"}), "mcpGym.shared", "keep one"),
    (gym(HTTP, episodeHeader="X Y"), "mcpGym.episodeHeader", "is not a header name"),
    (gym(HTTP, shared=True, template="."), "mcpGym.template", "no working folder"),
]


@pytest.mark.parametrize(
    ("entry", "key", "problem"),
    BAD,
    ids=[f"{key or 'server'}-{i}" for i, (_, key, _) in enumerate(BAD)],
)
def test_an_error_names_file_server_and_key_and_what_is_wrong(
    write: Write, entry: Any, key: str, problem: str
) -> None:
    write("A=b\nno variable\n", "bad.env")
    write("", "latin.env").write_bytes(b"A=\xff")
    file = write({"mcpServers": {"good": NODE, "the bad one": entry}})
    with pytest.raises(ConfigError) as caught:
        read_servers(file)
    place = ": ".join(filter(None, (str(file), 'server "the bad one"', key)))
    assert str(caught.value).startswith(f"{place}: ")
    assert problem in str(caught.value)


def test_an_error_never_shows_the_value_of_a_variable(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "sesame\n")
    for entry in ({"url": "${SECRET}"}, {**HTTP, "headers": {"A": "${SECRET}"}}):
        with pytest.raises(ConfigError) as caught:
            read(gym(entry, shared=True))
        assert "sesame" not in str(caught.value)


# Errors of the file.


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not valid JSON: line 1, column 1"),
        ('{\n  "mcpServers": {\n    "a" {}\n  }\n}', "line 3, column 9: Expecting ':'"),
        ('{\n  /* two\n lines */ "mcpServers": {"a",}\n}', "line 3, column 30"),
        ('{"a": NaN}', "NaN is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "is a list, not an object"),
        ("{}", 'has no "mcpServers"'),
        ('{"mcpservers": {}}', 'did you mean "mcpServers"?'),
        ('{"mcpServers": {}}', "has no server that is enabled"),
        ('{"mcpServers": []}', "mcpServers: is a list, not an object"),
        ('{"mcpServers": {}, "servers": {}}', 'both "mcpServers" and "servers"'),
        ('{"mcpServers": {"": {"command": "node"}}}', "a server has an empty name"),
        ('{"mcpServers": {"a": {}, "b": {}, "a": {}}}', "mcpServers.a: is written twice"),
        ('{"servers": {"a": {"command": "x", "command": "y"}}}', 'server "a": command: is written'),
    ],
)
def test_an_error_of_the_file_names_it_and_the_place(write: Write, text: str, problem: str) -> None:
    file = write(text)
    with pytest.raises(ConfigError) as caught:
        read_servers(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert problem in str(caught.value)


def test_a_missing_file_names_the_one_that_may_be_meant(write: Write) -> None:
    file = write("{}", "mcp.json")
    with pytest.raises(ConfigError, match=r'mpc\.json: there is no such file; did you mean "mcp'):
        read_servers(file.with_name("mpc.json"))
    with pytest.raises(ConfigError, match="name the one that your MCP client uses"):
        read_servers(file.parent / "no-folder" / "x")
    for name in ("x" * 300, "x\0"):
        with pytest.raises(ConfigError, match="cannot be read"):
            read_servers(file.with_name(name))


def test_a_folder_and_a_file_that_is_no_text_are_errors(write: Write) -> None:
    file = write("")
    with pytest.raises(ConfigError, match="is a folder; name the config file in it"):
        read_servers(file.parent)
    file.write_bytes(b'{"\xff"}')
    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(byte 2\)"):
        read_servers(file)


# Whatever is in the file, the answer is a config or a ConfigError.

OURS = ["mcpGym", "reset", "tool", "arguments", "era", "tools", "maxResultBytes", "template"]
OURS += ["shared", "onToolChange", "startTimeout", "callTimeout", "episodeHeader"]
COMMON = [
    "command",
    "args",
    "env",
    "envFile",
    "cwd",
    "url",
    "httpUrl",
    "headers",
    "type",
    "timeout",
]
KEYS = st.sampled_from([*OURS, *COMMON, "mcpServers", "servers", "disabled", "includeTools", "a"])
TEXTS = st.text(max_size=8) | st.sampled_from(
    ["node", "./x", "http://x/sse", "${episodeFolder}", "${A:-b}", "${/}", "keep", "stdio", "http"]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | TEXTS, inner, max_size=4),
    max_leaves=12,
)
ENTRIES = st.dictionaries(KEYS, VALUES, max_size=5) | st.fixed_dictionaries(
    {"command": st.just("node")},
    optional={
        "args": st.lists(TEXTS, max_size=3),
        "env": st.dictionaries(TEXTS, TEXTS, max_size=3),
        "mcpGym": st.dictionaries(KEYS, VALUES, max_size=2),
    },
)
ANYTHING = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def check_reads_or_explains(file: Path) -> None:
    problem = ""
    try:
        servers = read_servers(file)
        assert all(server.placed(file.parent).name == server.name for server in servers)
    except ConfigError as error:
        problem = str(error)
    assert not problem or problem.startswith(f"{file}: ")
    problem.encode()  # can be printed


@ANYTHING
@given(VALUES | st.dictionaries(st.sampled_from(["mcpServers", "servers", "a"]), VALUES))
def test_any_json_is_a_config_or_a_config_error(write: Write, value: object) -> None:
    check_reads_or_explains(write(json.dumps(value)))


@ANYTHING
@given(st.dictionaries(TEXTS, ENTRIES, min_size=1, max_size=2))
def test_any_server_is_a_config_or_a_config_error(write: Write, servers: dict[str, Any]) -> None:
    check_reads_or_explains(write({"mcpServers": servers}))


@ANYTHING
@given(st.binary(max_size=40) | st.text(alphabet='{}[]",:/* \n\\a1', max_size=40).map(str.encode))
def test_any_bytes_are_a_config_or_a_config_error(write: Write, content: bytes) -> None:
    file = write("")
    file.write_bytes(content)
    check_reads_or_explains(file)


@given(VALUES)
def test_comments_and_trailing_commas_change_nothing(tmp_path_factory: Any, value: object) -> None:
    file = tmp_path_factory.mktemp("config") / "mcp.json"
    entry = {"command": "node", "mcpGym": {"reset": {"tool": "x", "arguments": {"value": value}}}}
    text = json.dumps({"mcpServers": {"one": entry}}, indent=1).replace("\n", " // , ]\n")
    file.write_text("/* x */" + text.removesuffix("}") + ", /**/ } //", encoding="utf-8")
    (server,) = read_servers(file)
    assert server.reset_arguments == {"value": value}
