"""What a backend of servers records beside the results: probes, folders, the state servers show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from http_server import McpProcess

from envs.evidence import FolderWatch
from envs.servers.config import ServerConfig
from rewards.episode import Outcome, Status, ToolCall
from rewards.evidence import probe_key
from rewards.goals import FinalState, FolderState, Probe, WantedEntry
from tests.envs.servers.playing import SHORT, Opener, play, toy, turn

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def test_a_probe_is_called_where_the_goal_is_judged(opened: Opener, folder: Path) -> None:
    goal = Probe("recall", {}, "[0]", "milk")
    env = opened(toy(folder), goal=goal, tools=["remember"])
    episode = play(env, turn("remember", text="eggs"), turn("remember", text="milk"))
    key = probe_key(ToolCall("recall", {}))
    assert [one.probes[key].text for one in episode.turns] == ['["eggs"]', '["eggs", "milk"]']
    assert play(env, turn("remember", text="milk")).success


def test_a_probe_that_meets_a_fault_ends_the_episode_without_a_reward(
    opened: Opener, folder: Path
) -> None:
    goal = Probe("nap", {"seconds": 600}, "", "rested")
    env = opened(toy(folder), goal=goal, tools=["recall"], deadlines=SHORT)
    episode = play(env, turn("recall"))
    assert (episode.status, episode.truncated) == (Status.TIMEOUT, True)
    assert episode.total_reward == 0


@pytest.mark.parametrize("reset", ["restart", "keep"])
def test_a_folder_is_compared_with_the_start_of_its_episode(
    opened: Opener, folder: Path, reset: str
) -> None:
    goal = FolderState({"out.txt": WantedEntry(text="done")})
    env = opened(toy(folder, reset=reset), goal=goal, max_turns=2)
    assert play(env, turn("write", path="out.txt", text="done")).success
    if reset == "keep":  # its folder outlives the episode
        assert not play(env, turn("write", path="out.txt", text="done")).success
    else:
        both = [turn("write", path=name, text="done") for name in ("wrong.txt", "out.txt")]
        episode = play(env, *both)
        assert episode.turns[0].outcome is Outcome.TOOL_EXECUTION
        assert not episode.success  # there is another file beside it


def test_the_folder_is_that_of_the_servers_which_work_in_one(
    opened: Opener, server: McpProcess, folder: Path
) -> None:
    remote = ServerConfig("web", "http", url=server.url, reset="keep", episode_header="x-episode")
    goal = FolderState({"out.txt": WantedEntry(text="done")})
    env = opened(remote, toy(folder, reset="keep"), goal=goal, tools=["toy_write"])
    assert play(env, turn("toy_write", path="out.txt", text="done")).success


def test_a_folder_that_cannot_be_watched_is_an_infrastructure_fault(
    opened: Opener, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FolderWatch.__init__, "__defaults__", (100, 1000))
    template = tmp_path / "template"
    template.mkdir()
    goal = FolderState({"out.txt": WantedEntry(text="done")})
    servers = [toy(folder, template=template)]
    env = opened(*servers, goal=goal)
    scattered = play(env, turn("scatter", number=200))
    (template / "big").write_bytes(b"x" * 2000)
    full_from_the_start = [play(env, turn("recall")) for _ in range(2)][-1]
    for episode in (scattered, full_from_the_start):
        assert (episode.status, episode.truncated) == (Status.BAD_RESULT, True)
        assert episode.total_reward == 0
    (template / "big").unlink()
    assert [play(env, turn("recall")).status for _ in range(2)][-1] is Status.OK


def show_world(folder: Path, changes: str, digest: str = '{"digest": "abc"}') -> None:
    folder.mkdir(exist_ok=True)
    world = {"world://changes": changes, "world://digest": digest}
    (folder / "world.json").write_text(json.dumps(world))


def test_the_state_that_a_server_shows_of_itself_is_evidence(opened: Opener, folder: Path) -> None:
    show_world(folder, "{}")
    goal = FinalState({"rows": {"1": {"a": 2}}}, digest="abc")
    env = opened(toy(folder), goal=goal)
    env.reset()
    assert env.step(turn("recall"))[4]["outcome"] == Outcome.TOOL_EXECUTION
    show_world(folder, '{"rows": {"1": {"a": 2}}}')
    *_, info = env.step(turn("recall"))
    assert info["episode"].success
    assert info["episode"].turns[1].state_digest == "abc"


@pytest.mark.parametrize(
    ("changes", "digest"), [("[1]", "{}"), ("{}", "{}"), ("no json", "{}"), ("{}", "[]")]
)
def test_a_state_that_cannot_be_read_is_an_infrastructure_fault(
    opened: Opener, folder: Path, changes: str, digest: str
) -> None:
    show_world(folder, "{}")
    goal = FinalState({}, digest="abc")
    env = opened(toy(folder), goal=goal)
    env.reset()
    show_world(folder, changes, digest)
    *_, info = env.step(turn("recall"))
    assert (info["status"], info["episode"].total_reward) == (Status.BAD_RESULT, 0.0)
