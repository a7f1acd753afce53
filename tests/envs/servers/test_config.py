from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from envs.servers.config import ServerConfig, read_servers

Write = Callable[..., Path]
Read = Callable[..., ServerConfig]

pytestmark = pytest.mark.usefixtures("programs")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


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
