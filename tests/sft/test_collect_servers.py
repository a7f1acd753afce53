"""The command with real MCP servers over stdio, and with a real model behind the endpoint."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_endpoint import ScriptedEndpoint, message, native, scripted_endpoint

from agents.engine import SamplingConfig
from agents.models import load_model, load_tokenizer
from agents.players import LanguagePlayer
from agents.rollout import rollout
from envs.tasks.load import load_tasks
from rewards.episode import Task
from rewards.goals import FinalAnswer
from rewards.serialise import write_tasks
from sft.collect import main
from tests.envs.servers import steered_server
from tests.examples.peers import free_port, python_of, serving

EMBEDDED = "agents/embedded"


@pytest.fixture
def server() -> Iterator[ScriptedEndpoint]:
    with scripted_endpoint() as running:
        yield running


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "traces.jsonl"


def collect(
    server: ScriptedEndpoint, folder: Path, output: Path, *flags: str, tasks: list[Task]
) -> int:
    write_tasks(folder / "tasks.jsonl", tasks)
    command = ["--endpoint", server.url, "--model", "tiny", "--output", str(output)]
    return main([*command, "--tasks", str(folder / "tasks.jsonl"), *flags])


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Write the config of a real server over stdio."""
    command = ["-I", "-S", steered_server.__file__, str(tmp_path / "toy")]
    (tmp_path / "toy").mkdir()
    entry = {"command": sys.executable, "args": command}
    config = tmp_path / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"toy": entry}}))
    return config


def test_tools_of_a_real_server_are_offered_called_and_stored(
    server: ScriptedEndpoint, output: Path, notes: Path, tmp_path: Path
) -> None:
    task = Task("remembers", "Remember blue.", FinalAnswer("blue"), ("remember",))
    server.script = [native(("remember", '{"text": "blue"}')), message("I noted: blue")]
    assert collect(server, tmp_path, output, "--servers", str(notes), tasks=[task]) == 0
    [row] = rows(output)
    assert row["outcome"] == "success"
    assert row["messages"][2]["content"] == '["blue"]'
    assert [tool["function"]["name"] for tool in row["tools"]] == ["remember"]


def test_an_episode_whose_server_died_is_counted_and_not_written(
    server: ScriptedEndpoint,
    output: Path,
    notes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    task = Task("dies", "Die.", FinalAnswer("blue"), ("die",))
    server.script = [native(("die", "{}"))]
    assert collect(server, tmp_path, output, "--servers", str(notes), tasks=[task]) == 1
    assert rows(output) == []
    assert "lost, not written: server_crashed 1" in capsys.readouterr().out


@pytest.mark.slow
def test_collecting_greedily_comes_to_the_outcomes_of_the_policy_in_process(
    tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    python, port = python_of("serving"), free_port()
    command = [python, "-m", "transformers.cli.transformers", "serve", EMBEDDED]
    command += ["--reasoning", "off", "--device", "cpu", "--port", str(port)]
    flags = ["--endpoint", f"http://127.0.0.1:{port}/v1", "--model", EMBEDDED]
    flags += ["--output", str(output), "--split", "test", "--episodes", "8", "--max_turns", "3"]
    with serving(command, port, tmp_path / "server.log"):
        assert main([*flags, "--temperature", "0", "--max_turn_tokens", "96"]) == 0
    greedy = SamplingConfig(temperature=0.0, max_turn_tokens=96)
    player = LanguagePlayer(load_model("embedded"), load_tokenizer("embedded"), greedy, "embedded")
    here = rollout(player, load_tasks("starter", "test")[:8], max_turns=3)
    wanted = {one.episode.task.id: str(one.episode.turns[-1].outcome) for one in here}
    assert {row["id"]: row["outcome"] for row in rows(output)} == wanted
    assert len(set(wanted.values())) > 1
