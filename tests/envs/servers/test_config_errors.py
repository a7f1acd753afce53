from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envs.servers.config import ConfigError, ServerConfig, read_servers

Write = Callable[..., Path]
Read = Callable[..., ServerConfig]

pytestmark = pytest.mark.usefixtures("programs")


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
