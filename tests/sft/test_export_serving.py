from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from trl import SFTConfig

from agents.engine import SamplingConfig
from agents.models import load_player
from agents.rollout import rollout
from agents.template import ChatTemplate
from envs.mcp_env import MCPGymEnv
from envs.tasks.load import load_tasks
from examples.openai_loop import play
from rewards.episode import Episode, Fault, Task
from sft.export import main as export
from sft.flags import PolicyArguments, TaskArguments
from sft.serving import rollout_template, serve_adapter, serve_merged, write_template_options
from sft.train import WarmStartArguments
from sft.train import main as train
from tests.examples.peers import free_port, python_of, serving

TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"x": 1}}}],
}
ANSWER = {"role": "assistant", "content": "It is 2."}
CONVERSATION: list[dict[str, Any]] = [
    {"role": "user", "content": "Add one and one."},
    CALL,
    {"role": "tool", "content": "2"},
    ANSWER,
    {"role": "user", "content": "Again."},
    CALL,
    CALL,
    {"role": "tool", "content": "2"},
    {"role": "tool", "content": "2"},
]
MAX_TURNS = 5
MAX_TOKENS = 48


# --- the template -------------------------------------------------------------------------------


@pytest.mark.parametrize("length", range(1, len(CONVERSATION) + 1))
def test_a_server_with_the_options_shows_the_ids_of_a_rollout(
    tmp_path: Path, tokenizer: Any, length: int
) -> None:
    write_template_options(tmp_path, tokenizer)
    options = json.loads((tmp_path / "chat_template_kwargs.json").read_text(encoding="utf-8"))
    messages = CONVERSATION[:length]
    served = tokenizer.apply_chat_template(
        messages, tools=[TOOL], add_generation_prompt=True, return_dict=False, **options
    )
    assert served == ChatTemplate(tokenizer).prompt_ids(messages, [TOOL])


def test_the_tokenizers_own_template_shows_others_from_the_second_turn_on(tokenizer: Any) -> None:
    """The reason for the file: if this fails, it is no longer needed."""
    for length, same in ((1, True), (3, False)):
        own = tokenizer.apply_chat_template(
            CONVERSATION[:length],
            tools=[TOOL],
            add_generation_prompt=True,
            return_dict=False,
            enable_thinking=False,
        )
        shown = ChatTemplate(tokenizer).prompt_ids(CONVERSATION[:length], [TOOL])
        assert (own == shown) is same


def test_the_file_holds_the_template_of_the_options(tmp_path: Path, tokenizer: Any) -> None:
    original = tokenizer.chat_template
    write_template_options(tmp_path, tokenizer)
    options = json.loads((tmp_path / "chat_template_kwargs.json").read_text(encoding="utf-8"))
    assert options["enable_thinking"] is False
    template = (tmp_path / "rollout_template.jinja").read_text(encoding="utf-8")
    assert template == options["chat_template"] == rollout_template(tokenizer)
    assert not re.search(r"^\s*\{%-? (end)?generation", template, re.MULTILINE)
    assert tokenizer.chat_template == original


# --- the commands -------------------------------------------------------------------------------


def words_of(command: str) -> list[str]:
    """Return a command as the shell splits it."""
    script = 'told() { printf "%s\\0" "$@"; }; told ' + command
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True, text=True)
    return done.stdout.split("\0")[:-1]


def test_any_name_survives_the_shell(tmp_path: Path, tokenizer: Any) -> None:
    folder = tmp_path / "my models" / "it's"
    folder.mkdir(parents=True)
    write_template_options(folder, tokenizer)
    options = json.loads((folder / "chat_template_kwargs.json").read_text(encoding="utf-8"))
    place = str(folder)
    first, second, third = serve_merged(place, "it's")
    *rest, kwargs = words_of(first)
    assert rest == ["transformers", "serve", place, "--chat-template-kwargs"]
    assert json.loads(kwargs) == options
    commands = [second, third, *serve_adapter(place, "it's", "a b", 4)]
    for words in (words_of(part) for command in commands for part in command.split(" && ")):
        assert not [word for word in words if "'" in word and "it's" not in word]
        template = f"{place}/rollout_template.jinja"
        given = [json.loads(word) for word in words if word.startswith("{")]
        assert (template in words) is bool(given)
        assert all(one == {"enable_thinking": False} for one in given)
    adapter = words_of(serve_adapter(place, "it's", "a b", 4)[0])
    assert adapter[2] == "a b"
    assert f"it's={place}" in adapter


@pytest.mark.parametrize(("rank", "most"), [(4, 8), (16, 16), (17, 32), (1000, 1000)])
def test_vllm_is_told_a_rank_that_it_knows(rank: int, most: int) -> None:
    command = serve_adapter("out", "out", "base", rank)[0]
    assert f"--max-lora-rank {most} " in command


# --- end to end ---------------------------------------------------------------------------------


@pytest.fixture
def server_python() -> str:
    return python_of("serving")


@pytest.fixture
def adapter(tmp_path: Path, server_python: str) -> Path:
    """An adapter of the embedded policy after a short warm start."""
    config = SFTConfig(
        output_dir=str(tmp_path / "run" / "sft"),
        max_steps=60,
        per_device_train_batch_size=4,
        learning_rate=4e-3,
        max_length=1024,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        activation_checkpointing=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )
    play_ = TaskArguments(run_dir=str(tmp_path / "run"), eval_limit=2, max_turns=MAX_TURNS)
    policy = PolicyArguments(threads=1, max_turn_tokens=MAX_TOKENS)
    warm = WarmStartArguments(num_traces=60, eval_base=False)
    train(policy, play_, warm, config)
    return tmp_path / "run" / "sft"


def in_process(adapter: Path, tasks: list[Task]) -> list[Episode]:
    greedy = SamplingConfig(temperature=0.0, max_turn_tokens=MAX_TOKENS, max_length=4096)
    player = load_player(str(adapter), config=greedy)
    return [one.episode for one in rollout(player, tasks, max_turns=MAX_TURNS, batch_size=16)]


@pytest.mark.slow
def test_the_served_export_plays_like_the_policy_in_process(
    adapter: Path, server_python: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "shipped"
    flags = ["--adapter", str(adapter), "--output_dir", str(folder), "--prompts", "10"]
    capfd.readouterr()
    assert export(flags) == 0
    printed = capfd.readouterr().out
    assert "10 of 10 outputs are equal" in printed
    [command] = [line for line in printed.splitlines() if line.startswith("  transformers serve")]
    # The server answers with status 500 to a call that is not JSON.
    here = [
        episode
        for episode in in_process(adapter, load_tasks("starter", "test")[:40])
        if not any(turn.fault is Fault.INVALID_JSON for turn in episode.turns)
    ][:10]
    assert len(here) == 10
    assert len({str(turn.outcome) for episode in here for turn in episode.turns}) > 2
    assert any(len(episode.turns) > 2 for episode in here)
    port = free_port()
    # The printed command, with the packages of the test and a port of its own.
    program = shlex.join([server_python, "-m", "transformers.cli.transformers"])
    served = command.strip().replace("transformers", program, 1)
    shell = ["bash", "-c", f"exec {served} --device cpu --port {port}"]
    with serving(shell, port, tmp_path / "server.log"):
        ask = asking(f"http://127.0.0.1:{port}/v1/chat/completions", str(folder))
        there = [episode_through(ask, episode.task) for episode in here]
    for one, other in zip(here, there, strict=True):
        assert [t.raw.strip() for t in other.turns] == [t.raw.strip() for t in one.turns]
        assert [t.outcome for t in other.turns] == [t.outcome for t in one.turns]
        assert other.total_reward == one.total_reward


def asking(url: str, model: str) -> Callable[..., Any]:
    """Return a function that asks as the card says: greedily, with the limit of a turn."""

    def ask(messages: Any, tools: Any) -> Any:
        body = {"model": model, "messages": messages, "tools": tools}
        body |= {"temperature": 0, "max_tokens": MAX_TOKENS}
        answer = httpx2.post(url, json=body, timeout=60)
        answer.raise_for_status()
        message = answer.json()["choices"][0]["message"]
        return {key: value for key, value in message.items() if value is not None}

    return ask


def episode_through(ask: Any, task: Task) -> Episode:
    env = MCPGymEnv(tasks=[task], max_turns=MAX_TURNS)
    try:
        play(env, ask, options={"task": task})
        assert env._session is not None
        return env._session.episode
    finally:
        env.close()
