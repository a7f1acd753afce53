from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trl import SFTConfig

from agents.chat_client import ChatClient, ChatConfig
from agents.endpoint import EndpointPlayer
from agents.engine import SamplingConfig
from agents.models import load_player
from agents.rollout import rollout
from agents.template import ChatTemplate
from envs.tasks.load import load_tasks
from rewards.episode import Episode, Fault, Task
from sft.export import main as export
from sft.flags import PolicyArguments, TaskArguments
from sft.serving import (
    response_template,
    rollout_template,
    serve_adapter,
    serve_merged,
    write_template_options,
)
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
PIECES = ("<tool_call>", "</tool_call>", "<think>", "</think>", "<|im_end|>", "{", "\n")
MAX_TURNS = 5
MAX_TOKENS = 48


# --- the template -------------------------------------------------------------------------------


def options_of(folder: Path, tokenizer: Any, thinking: bool) -> dict[str, Any]:
    write_template_options(folder, tokenizer, thinking=thinking)
    text = (folder / "chat_template_kwargs.json").read_text(encoding="utf-8")
    options: dict[str, Any] = json.loads(text)
    return options


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("length", range(1, len(CONVERSATION) + 1))
def test_a_server_with_the_options_shows_the_ids_of_a_rollout(
    tmp_path: Path, tokenizer: Any, length: int, thinking: bool
) -> None:
    thought = {"reasoning_content": "One and one."} if thinking else {}
    messages = [
        {**message, **thought} if message is ANSWER else message
        for message in CONVERSATION[:length]
    ]
    options = options_of(tmp_path, tokenizer, thinking)
    served = tokenizer.apply_chat_template(
        messages, tools=[TOOL], add_generation_prompt=True, return_dict=False, **options
    )
    assert served == ChatTemplate(tokenizer, thinking=thinking).prompt_ids(messages, [TOOL])


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


@pytest.mark.parametrize("thinking", [False, True])
def test_the_file_holds_the_template_of_the_options(
    tmp_path: Path, tokenizer: Any, thinking: bool
) -> None:
    original = tokenizer.chat_template
    options = options_of(tmp_path, tokenizer, thinking)
    assert options["enable_thinking"] is thinking
    template = (tmp_path / "rollout_template.jinja").read_text(encoding="utf-8")
    assert template == options["chat_template"] == rollout_template(tokenizer)
    assert not re.search(r"^\s*\{%-? (end)?generation", template, re.MULTILINE)
    assert tokenizer.chat_template == original


# --- how answers are handed over ----------------------------------------------------------------


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize(
    "turn",
    [
        "It is 2.",
        '<tool_call>\n{"name": "add", "arguments": {"x": "1"}}\n</tool_call>',
        "First this.\n<tool_call>\n{'name': 'add'}\n</tool_call>\nThen that.",
        "<tool_call>\n{",
        "</tool_call>",
    ],
)
def test_an_answer_is_handed_over_as_it_was_said_with_the_thought_apart(
    tokenizer: Any, turn: str, thinking: bool
) -> None:
    ids = ChatTemplate(tokenizer, thinking=thinking).prompt_ids(CONVERSATION[:5], [TOOL])
    said = f"<think>\nhm\n</think>\n\n{turn}" if thinking else turn
    answer = tokenizer.parse_response(
        f"{said}<|im_end|>", response_template(tokenizer), prefix=ids, tools=[TOOL]
    )
    thought = {"reasoning_content": "hm"} if thinking else {}
    assert answer == {"role": "assistant", "content": turn, **thought}


@given(said=st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=6).map("".join))
def test_no_answer_is_too_broken_to_be_handed_over(tokenizer: Any, said: str) -> None:
    prompt = tokenizer.decode(ChatTemplate(tokenizer).prompt_ids(CONVERSATION[:5], [TOOL]))
    answer = tokenizer.parse_response(said, response_template(tokenizer), prefix=prompt)
    assert "tool_calls" not in answer


# --- the commands -------------------------------------------------------------------------------


def words_of(command: str) -> list[str]:
    """Return a command as the shell splits it."""
    script = 'told() { printf "%s\\0" "$@"; }; told ' + command
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True, text=True)
    return done.stdout.split("\0")[:-1]


@pytest.mark.parametrize("thinking", [False, True])
def test_any_name_survives_the_shell(tmp_path: Path, tokenizer: Any, thinking: bool) -> None:
    folder = tmp_path / "my models" / "it's"
    folder.mkdir(parents=True)
    options = options_of(folder, tokenizer, thinking)
    place = str(folder)
    first, second, third = serve_merged(place, "it's", thinking=thinking)
    *rest, kwargs = words_of(first)
    assert rest == ["transformers", "serve", place, "--chat-template-kwargs"]
    assert json.loads(kwargs) == options
    commands = [second, third, *serve_adapter(place, "it's", "a b", 4, thinking=thinking)]
    for words in (words_of(part) for command in commands for part in command.split(" && ")):
        assert not [word for word in words if "'" in word and "it's" not in word]
        template = f"{place}/rollout_template.jinja"
        given = [json.loads(word) for word in words if word.startswith("{")]
        assert (template in words) is bool(given)
        assert all(one == {"enable_thinking": thinking} for one in given)
    adapter = words_of(commands[2])
    assert adapter[2] == "a b"
    assert f"it's={place}" in adapter


@pytest.mark.parametrize(("rank", "most"), [(4, 8), (16, 16), (17, 32), (1000, 1000)])
def test_vllm_is_told_a_rank_that_it_knows(rank: int, most: int) -> None:
    command = serve_adapter("out", "out", "base", rank, thinking=False)[0]
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
    here = chosen(in_process(adapter, load_tasks("starter", "test")[:40]))
    port = free_port()
    # The printed command, with the packages of the test and a port of its own.
    program = shlex.join([server_python, "-m", "transformers.cli.transformers"])
    served = command.strip().replace("transformers", program, 1)
    shell = ["bash", "-c", f"exec {served} --device cpu --port {port}"]
    # As the card says: greedily, with the limit of a turn.
    config = ChatConfig(f"http://127.0.0.1:{port}/v1", str(folder), 0.0, MAX_TOKENS, retries=0)
    client = ChatClient(config)
    with serving(shell, port, tmp_path / "server.log"):
        player = EndpointPlayer(client, "shipped")
        there = rollout(player, [one.task for one in here], max_turns=MAX_TURNS)
    client.close()
    for one, other in zip(here, (trajectory.episode for trajectory in there), strict=True):
        assert [t.raw.strip() for t in other.turns] == [t.raw.strip() for t in one.turns]
        assert [t.outcome for t in other.turns] == [t.outcome for t in one.turns]
        assert other.total_reward == one.total_reward


def chosen(played: list[Episode]) -> list[Episode]:
    """A few episodes, those with a call that is not JSON first."""
    broken = [one for one in played if any(t.fault is Fault.INVALID_JSON for t in one.turns)]
    few = [*broken[:4], *(one for one in played if one not in broken)][:10]
    assert broken
    assert len({str(turn.outcome) for episode in few for turn in episode.turns}) > 3
    assert any(len(episode.turns) > 2 for episode in few)
    return few
