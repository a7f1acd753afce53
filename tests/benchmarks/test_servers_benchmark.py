"""The benchmark on MCP servers: everybody answers alike, and the tables say what was measured."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envs.calls import call_all
from envs.client import Connection, connect
from envs.servers.stdio import StdioTransport
from rewards.episode import ToolCall

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
FAKE_PEER = """
import json, sys
print(json.dumps({"version": "1"}), flush=True)
for line in sys.stdin:
    if line.strip() == "broken":
        sys.exit(1)
    print(json.dumps({"steps": 2, "seconds": 0.5}), flush=True)
"""


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module as a script in the folder of the benchmarks does."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@needs_node
@pytest.mark.slow
def test_the_benchmark_measures_every_case_and_leaves_no_folder_behind(tmp_path: Path) -> None:
    file, scratch = tmp_path / "figures.json", tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, BENCHMARKS / "servers.py", "--quick", "--skip-peers"]
    done = subprocess.run(
        [*command, "--json", file],
        env={**os.environ, "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text(encoding="utf-8"))
    transports = ["in memory", "stdio Python", "stdio node", "HTTP"]
    for table in ("calls", "resets"):
        assert [(one["transport"], one["episodes"]) for one in figures[table]] == [
            (transport, 2) for transport in transports
        ]
    for one in figures["calls"]:
        assert set(one["calls_per_second"]) == {"plain", "crossed", "call_all", "step"}
        for rate in one["calls_per_second"].values():
            assert 0 < rate["low"] <= rate["median"] <= rate["high"]
            assert rate["n"] == 2
    for one in figures["resets"]:
        has_process = one["transport"] != "in memory"
        assert (one["server_mb_per_episode"] > 1) == has_process
        assert one["ours_ms"]["median"] > 0
        assert one["sdk_open_and_close_ms"]["median"] > 0
    assert [one["transport"] for one in figures["pool"]] == ["stdio node", "stdio Python"]
    assert len(figures["targets"]) == 3 + 2
    for one in figures["targets"]:
        assert f"{one['transport']:<14}" in done.stdout
    assert "wrote" in done.stdout
    assert "Traceback" not in done.stderr
    assert list(scratch.iterdir()) == []


@pytest.fixture(params=["in memory", "Python", pytest.param("node", marks=needs_node)])
def toy(request: pytest.FixtureRequest, load: Any) -> Iterator[Connection]:
    sources = {
        "in memory": lambda: load("toy_server").make_server(),
        "Python": lambda: StdioTransport(sys.executable, [str(BENCHMARKS / "toy_server.py")]),
        "node": lambda: StdioTransport("node", [str(BENCHMARKS / "toy_server.mjs")]),
    }
    connection = connect(sources[request.param]())
    yield connection
    connection.close()


def test_the_toy_servers_offer_and_answer_the_same(toy: Connection) -> None:
    (tool,) = toy.list_tools()
    assert tool.name == "add"
    assert {name: of["type"] for name, of in tool.input_schema["properties"].items()} == {
        "a": "integer",
        "b": "integer",
    }
    ((result,),) = call_all([[(toy, ToolCall("add", {"a": 20, "b": 22}))]])
    assert (result.text, result.structured) == ("42", {"result": 42})


def test_a_call_that_fails_is_not_measured(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sides = load("server_sides")
    monkeypatch.setattr(sides, "CALCULATE", ToolCall("calculate", {"expression": "1 / 0"}))
    ours = sides.Ours(sides.MEMORY, "", 1, fresh=False)
    try:
        assert ours.call_all(1) > 0
        with pytest.raises(SystemExit, match="did not run as the benchmark expects"):
            ours.step(1)
    finally:
        ours.close()


def test_a_step_that_goes_on_is_played_in_episodes_that_do_not_end_early(load: Any) -> None:
    sides = load("server_sides")
    ours = sides.Ours(sides.MEMORY, "", 2, fresh=False)
    try:
        assert ours.step(2 * sides.STEPS + 1) > 0
    finally:
        ours.close()


@pytest.fixture
def fake_peer(load: Any, tmp_path: Path) -> Iterator[Any]:
    cases = load("server_cases")
    script = tmp_path / "peer.py"
    script.write_text(FAKE_PEER, encoding="utf-8")
    named = cases.PeerCommand("fake", (sys.executable, str(script), "{url}"), ("good",))
    peer = cases.Peer(named, "http://place")
    yield peer
    peer.close()


def test_a_peer_plays_until_it_has_made_enough_calls(fake_peer: Any) -> None:
    assert fake_peer.play("good") == 0.25


def test_a_peer_that_ends_is_named_with_the_command_that_shows_why(fake_peer: Any) -> None:
    with pytest.raises(SystemExit, match=r"fake ended early.*peer\.py http://place"):
        fake_peer.play("broken")


def test_the_sides_take_turns_in_being_the_first_of_a_round(load: Any) -> None:
    played: list[str] = []

    def side(name: str) -> Any:
        return lambda: played.append(name) or 1.0

    times = load("server_cases").in_turn({"a": side("a"), "b": side("b")}, 2)
    assert played == ["a", "b", "a", "b", "b", "a"]
    assert times == {"a": [1.0, 1.0], "b": [1.0, 1.0]}


def calls_of(transport: str, episodes: int, overhead: float, **peers: float) -> dict[str, Any]:
    medians = {"plain": 1000.0, "call_all": 1000 / (1 + overhead), **peers}
    return {
        "transport": transport,
        "episodes": episodes,
        "calls_per_second": {name: {"median": median} for name, median in medians.items()},
        "overhead": {"call_all/plain": {"median": overhead}},
    }


@pytest.mark.parametrize(
    ("episodes", "overhead", "met"), [(1, 0.5, True), (1, 0.7, False), (16, 0.3, False)]
)
def test_one_episode_may_cost_more_over_the_sdk_than_many(
    load: Any, episodes: int, overhead: float, met: bool
) -> None:
    record = {"calls": [calls_of("HTTP", episodes, overhead)], "pool": []}
    (target,) = load("server_tables").targets(record)
    assert (target["met"], target["figure"]) == (met, overhead)


def test_the_ratio_in_memory_is_to_the_fastest_form_that_a_guide_describes(load: Any) -> None:
    forms = {"step": 50.0, "step_async": 125.0, "open_sessions": 900.0}
    peers = {f"openenv-core {form}": rate for form, rate in forms.items()}
    record = {"calls": [calls_of("in memory", 64, 0.0, **peers)], "pool": []}
    (target,) = load("server_tables").targets(record)
    assert (target["met"], target["figure"]) == (True, 8.0)


def test_without_peers_nothing_is_said_of_memory(load: Any) -> None:
    record = {"calls": [calls_of("in memory", 64, 0.9)], "pool": []}
    assert load("server_tables").targets(record) == []


def test_the_pool_is_said_to_keep_up_where_nearly_every_reset_does(load: Any) -> None:
    pool = [
        {"transport": "stdio node", "episodes": n, "keeps_up": n < 8, "limit_ms": 50.0}
        | {"reset_ms": {"median": 1.0}}
        for n in (4, 8, 16)
    ]
    tables = load("server_tables")
    assert list(tables.keeping_up(pool)) == [
        "stdio node: the pool no longer keeps up at 8 episodes",
        "stdio Python: the pool keeps up with all of these",
    ]
    assert [one["episodes"] for one in tables.targets({"calls": [], "pool": pool})] == [4]
