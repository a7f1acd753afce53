from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from http_server import McpProcess

from envs.backends import open_backend
from envs.client import Deadlines
from envs.errors import (
    ClientError,
    ConfigError,
    OptionError,
    ServerStartError,
    TaskError,
    ToolListError,
)
from envs.servers.backend import ServerBackend
from envs.servers.config import ServerConfig
from rewards.episode import ReferenceTurn, Status, ToolCall, ToolResult
from rewards.goals import (
    AnyOf,
    FinalAnswer,
    FinalState,
    FolderState,
    NoCall,
    Probe,
    ReturnedData,
)
from rewards.validate import check_task
from tests.envs.servers.playing import PATIENT, SHORT, Opener, play, starts, task, toy
from tests.envs.servers.steered_server import listed
from tests.envs.servers.test_process import alive, wait_for

MakeBackend = Callable[..., ServerBackend]

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture
def backend(folder: Path) -> Iterator[MakeBackend]:
    """Opens backends over one toy server with these settings."""
    made: list[ServerBackend] = []

    def make(slots: int = 1, deadlines: Deadlines = PATIENT, **settings: Any) -> ServerBackend:
        made.append(ServerBackend([toy(folder, **settings)], slots, deadlines))
        return made[-1]

    yield make
    for one in made:
        one.close()


def call(backend: ServerBackend, name: str, slot: int = 0, **arguments: Any) -> ToolResult:
    return backend.call_all([(slot, [ToolCall(name, arguments)])])[0][0]


def process(backend: ServerBackend, slot: int = 0) -> int:
    return int(json.loads(call(backend, "where", slot).text)["pid"])


def rewrite(folder: Path, *names: str) -> None:
    """Let the server list these tools from now on."""
    tools = [tool for tool in listed() if tool["name"] in names]
    (folder / "tools.json").write_text(json.dumps(tools))


# --- tools ----------------------------------------------------------------------------------------


def test_a_task_that_names_no_tools_is_offered_those_of_the_config(backend: MakeBackend) -> None:
    opened = backend(tools=("recall", "remember"))
    assert set(opened.fitted(task()).tools) == {"recall", "remember"}
    assert opened.fitted(task(FinalAnswer("x"), "recall")).tools == ("recall",)


def test_a_task_cannot_offer_what_the_config_does_not_allow(backend: MakeBackend) -> None:
    opened = backend(tools=("recall", "remember"))
    for name in ("die", "recal"):
        with pytest.raises(TaskError, match=f'mine: the tool "{name}" is not offered'):
            opened.fitted(task(FinalAnswer("x"), name))


@pytest.mark.parametrize("names", [(), ("toy/*",), ("toy/recall",)])
def test_what_an_open_offer_holds_decides_what_a_task_may_use(
    backend: MakeBackend, names: tuple[str, ...]
) -> None:
    opened = backend(tools=("recall", "remember"))
    solution = (ReferenceTurn((ToolCall("recall", {}),)),)
    goal = ReturnedData("recall", "", "x")
    opened.fitted(task(goal, *names, reference=solution))
    unoffered = (ReferenceTurn((ToolCall("recal", {}),)),)
    for wrong in (
        task(ReturnedData("recal", "", "x"), *names, reference=solution),
        task(goal, *names, reference=unoffered),
    ):
        check_task(wrong)
        with pytest.raises(TaskError, match=r'uses the tool "recal", which is not .*"recall"'):
            opened.fitted(wrong)


def test_an_allowed_tool_that_does_not_exist_is_an_error(backend: MakeBackend) -> None:
    with pytest.raises(ToolListError, match=r"no tool 'recal' .*did you mean .?recall"):
        backend(tools=("recal",))


def test_the_reset_tool_is_not_offered_unless_it_is_named(backend: MakeBackend) -> None:
    resetting = {"reset": "tool", "reset_tool": "forget"}
    assert "forget" not in backend(**resetting).fitted(task()).tools
    named = backend(**resetting, tools=("forget", "recall"))
    assert "forget" in named.fitted(task()).tools


def test_a_reset_tool_that_does_not_exist_is_an_error(backend: MakeBackend) -> None:
    with pytest.raises(ServerStartError, match="reset tool forgit failed"):
        backend(reset="tool", reset_tool="forgit")


def test_a_shared_server_must_not_offer_a_tool_that_writes(server: McpProcess) -> None:
    shared = ServerConfig("web", "http", url=server.url, reset="keep", shared=True)
    with pytest.raises(ConfigError, match=r"declared shared.* add, .*read-only.*mcpGym\.tools"):
        ServerBackend([shared], 1, PATIENT)


def test_a_shared_server_may_offer_tools_that_read(backend: MakeBackend) -> None:
    opened = backend(reset="keep", shared=True, tools=("recall", "where"))
    assert opened.fitted(task()).tools == ("recall", "where")


def test_a_task_whose_goal_cannot_be_judged_here_is_refused(backend: MakeBackend) -> None:
    opened = backend()
    goals = {
        "about the state of a world": FinalState({"a": {"b": None}}),
        'the tool "recal" is not offered': Probe("recal", {}, "", 1),
        "goal's call: bad arguments": Probe("write", {"path": 1, "text": "x"}, "", 1),
    }
    for problem, goal in goals.items():
        with pytest.raises(TaskError, match=problem):
            opened.fitted(task(AnyOf((NoCall(), goal))))
    with pytest.raises(TaskError, match="faults can be seeded in the mock world only"):
        opened.fitted(task(faults={"latency_s": 1}))


def test_a_goal_about_a_folder_needs_a_server_that_has_one(server: McpProcess) -> None:
    remote = ServerConfig("web", "http", url=server.url, reset="keep", episode_header="x-episode")
    opened = ServerBackend([remote], 1, PATIENT)
    with pytest.raises(TaskError, match="about a working folder"):
        opened.fitted(task(FolderState({"a": None})))
    opened.close()


def test_several_servers_are_offered_together_and_reached_apart(tmp_path: Path) -> None:
    servers = [toy(tmp_path / name, name=name, tools=("where",)) for name in ("one", "two")]
    opened = ServerBackend(servers, 1, PATIENT)
    assert opened.fitted(task()).tools == ("one_where", "two_where")
    opened.reset(0, task())
    one, two = (json.loads(call(opened, f"{name}_where").text) for name in ("one", "two"))
    assert one["pid"] != two["pid"]
    assert one["work"] == two["work"]
    opened.close()


# --- reset ----------------------------------------------------------------------------------------


def test_with_restart_every_episode_has_a_process_and_a_folder_of_its_own(
    backend: MakeBackend,
) -> None:
    opened = backend(slots=2)
    seen = []
    for slot in (0, 1, 0, 1):
        opened.reset(slot, task())
        assert call(opened, "remember", slot, text="x").text == '["x"]'
        seen.append(json.loads(call(opened, "where", slot).text))
    for key in ("pid", "work", "home"):
        assert len({place[key] for place in seen}) == 4
    assert not Path(seen[0]["work"]).exists()
    assert not alive(seen[0]["pid"])


def test_the_servers_of_the_first_episode_are_those_whose_tools_were_read(
    backend: MakeBackend, folder: Path
) -> None:
    opened = backend()
    opened.reset(0, task())
    assert process(opened) == starts(folder)[0]


def test_a_server_that_died_before_the_first_episode_is_replaced(
    backend: MakeBackend, folder: Path
) -> None:
    opened = backend()
    first = starts(folder)[0]
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: not opened._slots[0].alive)
    opened.reset(0, task())
    assert process(opened) != first


def test_a_template_fills_the_folder_of_each_episode(backend: MakeBackend, tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.mkdir()
    (template / "file").write_text("as it was")
    opened = backend(template=template)
    for _ in range(2):
        opened.reset(0, task())
        file = Path(json.loads(call(opened, "where").text)["work"]) / "file"
        assert file.read_text() == "as it was"
        call(opened, "write", path="file", text="changed")
        assert file.read_text() == "changed"


def test_a_server_that_is_kept_stays_for_the_next_episode(
    backend: MakeBackend, folder: Path
) -> None:
    opened = backend(slots=2, reset="keep")
    for slot in (0, 1, 0, 1):
        opened.reset(slot, task())
    assert len(starts(folder)) == 2
    assert process(opened, 0) != process(opened, 1)


def test_a_reset_tool_is_called_before_each_episode(backend: MakeBackend, folder: Path) -> None:
    opened = backend(reset="tool", reset_tool="forget")
    for _ in range(2):
        opened.reset(0, task())
        assert call(opened, "remember", text="x").text == '["x"]'
    assert len(starts(folder)) == 1


@pytest.mark.parametrize("settings", [{"reset": "keep"}, {"reset": "tool", "reset_tool": "forget"}])
def test_a_lasting_server_that_died_is_replaced_at_the_reset(
    backend: MakeBackend, settings: dict[str, Any]
) -> None:
    opened = backend(**settings)
    opened.reset(0, task())
    first = process(opened)
    assert call(opened, "die").status is Status.SERVER_CRASHED
    opened.reset(0, task())
    second = process(opened)
    os.kill(second, signal.SIGKILL)  # between two episodes, unseen
    wait_for(lambda: not alive(second))
    opened.reset(0, task())
    assert len({first, second, process(opened)}) == 3


def test_a_lasting_server_that_hangs_is_replaced_at_the_reset(backend: MakeBackend) -> None:
    opened = backend(reset="keep", deadlines=SHORT)
    opened.reset(0, task())
    first = process(opened)
    assert call(opened, "nap", seconds=600).status is Status.TIMEOUT
    opened.reset(0, task())
    assert process(opened) != first
    wait_for(lambda: not alive(first))


def test_a_server_that_does_not_start_ends_the_episode_and_the_next_reset_works(
    backend: MakeBackend, folder: Path
) -> None:
    opened = backend(slots=1)
    opened.reset(0, task())
    wait_for(lambda: len(starts(folder)) == 2)
    (folder / "broken").touch()
    opened.reset(0, task())  # the spare was made before
    assert call(opened, "recall").status is Status.OK
    opened.reset(0, task())
    results = opened.call_all([(0, [ToolCall("recall", {}), ToolCall("where", {})])])[0]
    assert [result.status for result in results] == [Status.SERVER_START_FAILED] * 2
    assert "it is broken" in results[0].text
    [evidence] = opened.evidence([(0, FolderState({"a": None}))])
    assert [one.status for one in evidence.probes.values()] == [Status.SERVER_START_FAILED]
    (folder / "broken").unlink()
    opened.reset(0, task())
    assert call(opened, "recall").status is Status.OK


def test_an_episode_without_servers_is_truncated_even_if_it_calls_nothing(
    opened: Opener, folder: Path
) -> None:
    env = opened(toy(folder), goal=NoCall())
    (folder / "broken").touch()
    episodes = [play(env, "I would rather not.") for _ in range(3)]
    assert (episodes[-1].truncated, episodes[-1].total_reward) == (True, 0.0)
    assert episodes[-1].status is Status.SERVER_START_FAILED
    assert episodes[0].success


def test_a_server_that_never_starts_is_an_error_of_the_environment(
    folder: Path, backend: MakeBackend
) -> None:
    folder.mkdir()
    (folder / "broken").touch()
    with pytest.raises(ServerStartError, match="exit code 1"):
        backend(slots=4)


def test_tools_that_change_during_a_run_are_an_error(backend: MakeBackend, folder: Path) -> None:
    opened = backend(reset="keep")
    opened.reset(0, task())
    rewrite(folder, "recall", "where")
    with pytest.raises(ToolListError, match=r"server 'toy' changed.*gone: .*remember.*\"warn\""):
        opened.reset(0, task())


def test_tools_that_change_during_a_run_are_a_warning_where_the_config_says_so(
    backend: MakeBackend, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened = backend(reset="keep", on_tool_change="warn")
    opened.reset(0, task())
    rewrite(folder, "recall", "where")
    with caplog.at_level(logging.WARNING):
        opened.reset(0, task())
    assert "going on with the list as it was" in caplog.text
    assert "remember" in opened.fitted(task()).tools
    assert call(opened, "recall").status is Status.OK


def test_a_tool_that_is_gone_is_a_fault_of_the_server(backend: MakeBackend, folder: Path) -> None:
    opened = backend()
    opened.reset(0, task())
    rewrite(folder, "recall")
    result = call(opened, "remember", text="x")
    assert result.status is Status.PROTOCOL_ERROR
    assert "gone: remember" in result.text


def test_a_tool_that_says_unknown_tool_of_something_else_has_failed(backend: MakeBackend) -> None:
    opened = backend()
    opened.reset(0, task())
    assert call(opened, "complain").status is Status.TOOL_ERROR


def test_faults_cannot_be_seeded_in_servers(backend: MakeBackend) -> None:
    with pytest.raises(OptionError, match="mock world only"):
        backend().reset(0, task(), {"latency_s": 1})


def test_a_backend_that_is_closed_does_nothing_and_can_be_closed_again(
    backend: MakeBackend,
) -> None:
    opened = backend()
    opened.close()
    opened.close()
    for use in (
        lambda: opened.reset(0, task()),
        lambda: opened.call_all([(0, [ToolCall("recall", {})])]),
    ):
        with pytest.raises(ClientError, match="is closed"):
            use()


def test_a_slot_that_was_never_reset_cannot_be_played(backend: MakeBackend) -> None:
    with pytest.raises(ClientError, match=r"call reset\(\) first"):
        call(backend(slots=2), "recall", slot=1)


# --- evidence -------------------------------------------------------------------------------------


def test_a_server_that_cannot_say_what_it_shows_shows_nothing(
    backend: MakeBackend, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir()
    (folder / "world.json").write_text("[1]")
    opened = backend()
    assert "resources cannot be listed" in caplog.text
    assert opened.fitted(task()).tools
    with pytest.raises(TaskError, match="no server shows"):
        opened.fitted(task(FinalState({})))


# --- opening --------------------------------------------------------------------------------------


def test_a_config_file_opens_a_backend(folder: Path, tmp_path: Path) -> None:
    config = toy(folder)
    file = tmp_path / "mcp.json"
    entry = {"command": config.command, "args": list(config.args)}
    file.write_text(json.dumps({"mcpServers": {"toy": entry}}))
    opened = open_backend(file, 1, PATIENT)
    assert "recall" in opened.tools.schemas
    opened.close()
