"""The loop over a real HTTP endpoint on localhost; what it says is scripted, but for one test."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from peers import free_port, python_of, serving
from tiny_tasks import sum_task

from agents.engine import SamplingConfig
from agents.models import load_model, load_tokenizer
from agents.players import LanguagePlayer
from agents.rollout import rollout
from envs.mcp_env import MCPGymEnv
from examples.openai_loop import as_turn, endpoint, main, play
from rewards.episode import Episode
from rewards.serialise import write_tasks

TASK = sum_task(25)
EMBEDDED = "agents/embedded"
ANSWER = {"role": "assistant", "content": "The result is 42.", "tool_calls": None}


def native(*calls: tuple[str, str]) -> dict[str, Any]:
    """Return a message with native tool calls (name, arguments as text)."""
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": f"id{number}",
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
            for number, (name, arguments) in enumerate(calls)
        ],
    }


GOOD = ("calculate", '{"expression": "17 + 25"}')


class Endpoint(ThreadingHTTPServer):
    """Says what it was given, one message a request; keeps the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(json.loads(body))
        self.server.keys.append(self.headers["Authorization"])
        known = self.path == "/v1/chat/completions"
        answer = {"choices": [{"message": self.server.script.pop(0)}]} if known else {}
        text = json.dumps(answer).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def scripted() -> Iterator[Endpoint]:
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


@pytest.fixture
def env() -> Iterator[MCPGymEnv]:
    made = MCPGymEnv(tasks=[TASK])
    yield made
    made.close()


Played = Callable[..., tuple[float, list[dict[str, Any]]]]


@pytest.fixture
def played(scripted: Endpoint, env: MCPGymEnv) -> Played:
    """Play an episode in which the model says these messages."""

    def run(*script: dict[str, Any]) -> tuple[float, list[dict[str, Any]]]:
        scripted.script = list(script)
        total = play(env, endpoint(scripted.url, "scripted", "secret"), seed=0)
        assert scripted.script == []
        return total, scripted.requests

    return run


def test_native_calls_and_an_answer_solve_a_task(played: Played, scripted: Endpoint) -> None:
    total, requests = played(native(GOOD), ANSWER)
    assert total == 10.0
    first, second = requests
    assert first["messages"] == [{"role": "user", "content": TASK.prompt}]
    assert [tool["function"]["name"] for tool in first["tools"]] == list(TASK.tools)
    assert first["model"] == "scripted"
    assert scripted.keys == ["Bearer secret"] * 2
    said, told = second["messages"][1:]
    # Back as it came, but for the keys with null, which some endpoints do not take back.
    assert said == {key: value for key, value in native(GOOD).items() if value is not None}
    assert (told["role"], told["tool_call_id"]) == ("tool", "id0")
    assert "42" in told["content"]


def test_every_native_call_gets_the_answer_to_its_own_id(played: Played) -> None:
    other = ("calculate", '{"expression": "1 + 1"}')
    _, requests = played(native(other, GOOD), ANSWER)
    told = requests[1]["messages"][2:]
    assert [message["tool_call_id"] for message in told] == ["id0", "id1"]
    assert "2" in told[0]["content"]
    assert "42" in told[1]["content"]


def test_a_fault_is_told_to_every_call_of_its_turn(played: Played) -> None:
    total, requests = played(native(GOOD, ("get_weather", "{}")), native(GOOD), ANSWER)
    told = requests[1]["messages"][2:]
    assert [message["tool_call_id"] for message in told] == ["id0", "id1"]
    assert all("get_weather" in message["content"] for message in told)
    assert total == 10.0 - 1.0


def test_arguments_that_are_not_json_are_invalid_json(played: Played) -> None:
    total, requests = played(native(("calculate", '{"expression": ')), native(GOOD), ANSWER)
    assert requests[1]["messages"][-1]["tool_call_id"] == "id0"
    assert total == pytest.approx(10.0 - 0.8)


def test_a_call_in_a_wrong_format_is_told_by_the_user(played: Played) -> None:
    bare = {"role": "assistant", "content": '{"name": "calculate", "arguments": {}}'}
    total, requests = played(bare, native(GOOD), ANSWER)
    assert requests[1]["messages"][-1]["role"] == "user"
    assert requests[1]["messages"][-1]["content"].startswith("Error")
    assert total == 10.0 - 1.0


def test_no_arguments_are_an_empty_object() -> None:
    assert '"arguments": {}' in as_turn(native(("calculate", "")))


def test_text_beside_native_calls_stays_in_the_turn() -> None:
    turn = as_turn({**native(GOOD), "content": "Let me see."})
    assert turn.startswith("Let me see.\n<tool_call>")


def test_an_endpoint_that_answers_with_an_error_is_an_error(
    scripted: Endpoint, env: MCPGymEnv
) -> None:
    with pytest.raises(httpx2.HTTPStatusError, match="404"):
        play(env, endpoint(scripted.url + "/elsewhere", "scripted", "secret"))


def test_the_command_prints_each_episode_and_its_return(
    scripted: Endpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tasks = tmp_path / "tasks.jsonl"
    write_tasks(tasks, [TASK])
    scripted.script = [native(GOOD), ANSWER, {**ANSWER, "content": "I do not know."}]
    monkeypatch.setenv("BASE_URL", scripted.url)
    monkeypatch.setenv("MODEL", "scripted")
    main(["--tasks", str(tasks), "--split", "train", "--episodes", "2"])
    printed = capsys.readouterr().out
    assert "return +10.0" in printed
    assert "return -1.0" in printed


@pytest.mark.slow
def test_the_embedded_policy_says_the_same_through_the_server_of_transformers(
    tmp_path: Path, env: MCPGymEnv
) -> None:
    python, port = python_of("serving"), free_port()
    command = [python, "-m", "transformers.cli.transformers", "serve", EMBEDDED]
    command += ["--reasoning", "off", "--device", "cpu", "--port", str(port)]
    with serving(command, port, tmp_path / "server.log"):
        play(env, endpoint(f"http://127.0.0.1:{port}/v1", EMBEDDED, "none"), seed=0)
    served = episode_of(env)
    greedy = SamplingConfig(temperature=0.0)
    player = LanguagePlayer(load_model("embedded"), load_tokenizer("embedded"), greedy, "embedded")
    [here] = rollout(player, [TASK])
    # Later turns may differ: what is wrong with a turn is told by the user here, by a tool there.
    assert served.turns[0].raw == here.episode.turns[0].raw
    assert served.terminated or served.truncated


def episode_of(env: MCPGymEnv) -> Episode:
    assert env._session is not None
    return env._session.episode
