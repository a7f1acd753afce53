from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from http_server import McpProcess, free_port
from mcp_types import Tool

from envs.client import Deadlines
from envs.servers.__main__ import main
from envs.servers.check import ServerReport, about_tokens, as_text, check_servers
from envs.servers.config import ServerConfig
from envs.servers.mount import fingerprint
from envs.servers.oddities import LONG_DESCRIPTION, oddities
from envs.servers.stand import Eras
from tests.envs.servers.faulty_server import OLD_SERVER
from tests.envs.servers.playing import PATIENT, faulty, starts, toy
from tests.envs.servers.steered_server import listed

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def written(file: Path, *servers: ServerConfig, **settings: Any) -> str:
    """Write a config file and return its path."""
    entries = {
        one.name: {"command": one.command, "args": list(one.args), "mcpGym": settings}
        for one in servers
    }
    file.write_text(json.dumps({"mcpServers": entries}))
    return str(file)


def say_what(folder: Path, *tools: dict[str, Any]) -> None:
    """Let the toy server list these tools."""
    folder.mkdir(exist_ok=True)
    (folder / "tools.json").write_text(json.dumps(tools))


# --- the command ----------------------------------------------------------------------------------


def test_servers_that_work_are_shown_in_a_table_and_nothing_is_called(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = written(tmp_path / "mcp.json", toy(folder), faulty())
    assert main(["check", config]) == 0
    out = capsys.readouterr().out
    head, first, second, *_ = out.splitlines()
    assert re.split(r"\s{2,}", head) == [
        "server", "started in", "protocol", "tools", "tokens", "reset", "tool list (SHA-256)",
    ]  # fmt: skip
    name, seconds, protocol, tools, tokens, reset, sha256 = re.split(r"\s{2,}", first)
    assert (name, protocol, reset) == ("toy", "2025-11-25 (handshake)", "restart")
    assert re.fullmatch(r"\d+\.\d\d s", seconds)
    assert int(tools) == len(listed())
    assert 100 < int(tokens.removeprefix("about ")) < 1000
    assert re.fullmatch(r"[0-9a-f]{12}", sha256)
    assert second.startswith("faulty ")
    assert "next: " in out
    assert f"--servers {config}" in out.splitlines()[-1]
    assert len(starts(folder)) == 1


def test_everything_is_written_as_json_too(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "report.json"
    config = written(tmp_path / "mcp.json", toy(folder), tools=["recall", "where"])
    assert main(["check", config, "--json", str(file)]) == 0
    [report] = json.loads(file.read_text())["servers"]
    assert report["tools"] == ["recall", "where"]
    assert report["listed"] == len(listed())
    assert report["sha256"] == fingerprint([Tool.model_validate(tool) for tool in listed()])
    assert report["started_in"] > 0
    out = capsys.readouterr().out
    assert report["sha256"][:12] in out
    assert f"2 of {len(listed())}" in out


def test_a_server_that_fails_is_told_with_its_last_words_and_what_to_do(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = written(tmp_path / "mcp.json", toy(folder), faulty("exits"))
    assert main(["check", config]) == 1
    out = capsys.readouterr().out
    assert "faulty_server.py exits` did not start: it ended with exit code 3" in out
    assert OLD_SERVER.strip() in out
    assert "'mcp<2'" in out
    assert re.search(r"^faulty +FAILED", out, re.MULTILINE)
    assert re.search(r"^toy +\d", out, re.MULTILINE)
    assert "1 of 2 servers failed: faulty" in out
    assert f"python -m envs.servers check {config}" in out.splitlines()[-1]


def test_a_config_that_cannot_be_read_is_an_error_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err


def test_it_runs_as_a_program_without_the_training_stack(folder: Path, tmp_path: Path) -> None:
    config = written(tmp_path / "mcp.json", toy(folder))
    program = (
        "import sys, runpy\n"
        "for name in ('torch', 'transformers'): sys.modules[name] = None\n"
        f"sys.argv = ['servers', 'check', {config!r}]\n"
        "runpy.run_module('envs.servers', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("server ")


def test_help_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    assert "calls none" in capsys.readouterr().out


# --- what is found --------------------------------------------------------------------------------


def check(*servers: ServerConfig, deadlines: Deadlines = PATIENT) -> list[ServerReport]:
    return check_servers(servers, deadlines)


def test_servers_are_started_side_by_side(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        toy(tmp_path / name)
        (tmp_path / name / "silent").touch()
    servers = [toy(tmp_path / name, name=name) for name in ("a", "b", "c")]
    reports = check(*servers, toy(tmp_path / "fine", name="fine"), deadlines=Deadlines(start=2.0))
    assert [bool(report.error) for report in reports] == [True, True, True, False]
    assert "did not answer" in reports[0].error


def test_tokens_are_counted_by_whom_the_caller_names(folder: Path) -> None:
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return 7

    [report] = check_servers([toy(folder, tools=("recall",))], PATIENT, count)
    assert report.tokens == 7
    assert [tool["function"]["name"] for tool in json.loads(counted[0])] == ["recall"]
    assert about_tokens("12345") == 2


def test_an_http_server_is_checked_as_well() -> None:
    web = McpProcess()
    config = ServerConfig("web", "http", url=web.url, reset="keep", episode_header="mcp-episode")
    [report] = check(config)
    assert (report.era, report.reset, report.error) == ("modern", "header mcp-episode", "")
    [refused] = check(ServerConfig("web", "http", url=web.url, reset="keep", shared=True))
    assert "read-only" in refused.error
    web.stop()
    gone = f"http://127.0.0.1:{free_port()}/mcp"
    [report] = check(ServerConfig("web", "http", url=gone, reset="keep", shared=True))
    assert "is it running?" in report.error


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"tools": ("recal",)}, "no tool 'recal' (mcpGym.tools)"),
        ({"reset": "tool", "reset_tool": "forgit"}, "no tool 'forgit' (mcpGym.reset)"),
    ],
)
def test_a_config_that_does_not_go_with_the_tools_fails(
    folder: Path, settings: dict[str, Any], problem: str
) -> None:
    [report] = check(toy(folder, **settings))
    assert problem in report.error


def test_a_broken_schema_fails_where_the_tool_is_offered(folder: Path) -> None:
    say_what(
        folder,
        {"name": "good", "inputSchema": {"type": "object"}},
        {"name": "bad", "inputSchema": {"type": "object", "properties": {"a": {"type": 1}}}},
    )
    [report] = check(toy(folder))
    assert "tool 'bad' is broken" in report.error
    [report] = check(toy(folder, tools=("good",)))
    assert (report.error, report.tools) == ("", ("good",))


def test_a_tool_list_that_is_not_as_the_protocol_wants_it_fails(folder: Path) -> None:
    say_what(folder, {"name": "bad", "inputSchema": {"type": "array"}})
    [report] = check(toy(folder))
    assert "tool list cannot be read" in report.error
    assert "tools.0.inputSchema.type" in report.error


@pytest.mark.parametrize(("number", "warned"), [(25, False), (26, True)])
def test_too_many_tools_together_are_a_warning_that_says_what_to_do(
    tmp_path: Path, number: int, warned: bool
) -> None:
    servers = []
    for name in ("one", "two"):
        tools = [{"name": f"t{n}", "inputSchema": {"type": "object"}} for n in range(number)]
        say_what(tmp_path / name, *tools)
        servers.append(toy(tmp_path / name, name=name))
    text = as_text(check(*servers))
    assert ("WARNING: 52 tools" in text) is warned
    assert ("mcpGym" in text and "retrieval" in text) is warned


def test_a_server_without_tools_is_told(folder: Path) -> None:
    say_what(folder)
    assert "lists no tools" in as_text(check(toy(folder)))


def test_a_server_that_was_asked_for_the_wrong_era_for_long_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envs.servers.check.PROBE_S", 0.0)
    assert '"era": "handshake"' in as_text(check(toy(folder)))
    assert '"era"' not in as_text(check(toy(folder, era="handshake")))


def test_the_prefix_of_a_server_is_no_oddity_but_a_name_that_was_changed_is(
    tmp_path: Path,
) -> None:
    say_what(
        tmp_path / "a",
        *({"name": name, "inputSchema": {"type": "object"}} for name in ("read", "x.y")),
    )
    servers = [toy(tmp_path / "a", name="my files"), toy(tmp_path / "b", name="b")]
    reports = check(*servers)
    assert reports[0].tools == ("my_files_read", "my_files_x_y")
    [renamed] = [where for what, where in reports[0].oddities.items() if "another name" in what]
    assert renamed == ["x.y as x_y"]
    assert not any("another name" in what for what in reports[1].oddities)


# --- oddities -------------------------------------------------------------------------------------

NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
TWO = {"A": {"items": {"$ref": "#/$defs/B"}}, "B": {"items": {"$ref": "#/$defs/A"}}}
REFERS = {"a": {"$ref": "#/$defs/Node"}}


def odd(description: str = "Does it.", output: Any = None, **schema: Any) -> list[str]:
    """Return the first words of what is odd about a tool with such a schema."""
    tool = Tool(
        name="tool",
        description=description,
        input_schema=schema,
        output_schema=output or {"type": "object"},
    )
    return [what.partition(";")[0] for what in oddities([tool], {"tool": "tool"})]


@pytest.mark.parametrize(
    ("what", "tool"),
    [
        ([], {}),
        ([], {"properties": {"a": {"type": "string"}, "b": {"anyOf": [{"type": "null"}]}}}),
        ([], {"properties": REFERS, "$defs": {"Node": {"type": "string"}}}),
        (["without a description"], {"description": " "}),
        (
            [f"a description of more than {LONG_DESCRIPTION} characters"],
            {"description": "x" * (LONG_DESCRIPTION + 1)},
        ),
        (["parameters without a type"], {"properties": {"a": {"description": "what?"}}}),
        (["parameters without a type"], {"properties": {"a": True}}),
        (
            ["a schema that refers to itself"],
            {"properties": REFERS, "$defs": {"Node": NODE}},
        ),
        (["a schema that refers to itself"], {"properties": {"a": {"$ref": "#"}}}),
        (
            ["a schema that refers to itself"],
            {"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": TWO},
        ),
        (["a $ref that leads nowhere"], {"properties": REFERS}),
    ],
)
def test_what_is_odd_about_a_tool_is_found(what: list[str], tool: dict[str, Any]) -> None:
    assert odd(**tool) == what


def test_oddities_name_the_tools_and_parameters_that_have_them() -> None:
    properties = {"x": {}, "y": {"type": "string"}, "z": {}}
    schema = {"type": "object", "properties": properties}
    tools = [Tool(name=name, description="d", input_schema=schema) for name in ("a", "b")]
    found = oddities([*tools, tools[0]], {})
    assert found["parameters without a type"] == ["a.x", "a.z", "b.x", "b.z", "a.x", "a.z"]
    assert found["listed more than once"] == ["a"]
    assert [where for what, where in found.items() if "output schema" in what] == [["a", "b", "a"]]


def test_a_long_list_of_places_is_cut() -> None:
    report = ServerReport("server", oddities={"odd": [f"t{n}" for n in range(8)]})
    assert "odd: t0, t1, t2, t3, t4 and 3 more" in as_text([report])


def test_the_era_of_a_server_is_remembered() -> None:
    eras, server = Eras(), ServerConfig("a", "stdio")
    assert eras.mode(server) == "auto"
    eras.note(server, "2025-06-18")
    assert eras.mode(server) == "legacy"
    eras.note(server, "2026-07-28")
    assert eras.mode(server) == "2026-07-28"
    assert eras.mode(ServerConfig("a", "stdio", era="handshake")) == "legacy"
