"""The two sides of `grpo_step.py`: our trainer, and TRL's own with its `environment_factory`.

Both train the same random Qwen3 with the same LoRA adapter on one group of episodes, see the same
prompt (the same token ids), and are forced to the same tokens: every turn samples as many tokens
as it is told to, which are then replaced by scripted ones of the same number (a call in every turn
but the last, then an answer), so that both execute the same calls, hear the same answers and learn
from the same tokens. Every episode has an advantage, so nothing can be left out.

    ours    episodes of MCP-v0 on a real MCP server over stdio (`step_server.py`)
    trl     the tools are methods of a Python class that answer at once

A side runs in a process of its own; `serve` takes a step of `trainer.train()` for each message.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import step_server
import torch
from datasets import Dataset
from random_policy import Loading, forget_peak, model, now, peak_memory, used_memory
from transformers import PrinterCallback, TrainerCallback
from transformers import logging as hf_logging
from trl import GRPOConfig, GRPOTrainer

import agents.players
from agents.engine import Conversations, GeneratedTurn, Opening, SamplingConfig
from agents.models import load_tokenizer
from envs.policies import render_calls
from envs.servers.config import read_servers
from rewards.episode import Task, ToolCall
from rewards.goals import FinalAnswer
from rewards.trl_rewards import scaled_return
from rl.curriculum import Curriculum
from rl.trainer import ToolUseGRPOTrainer

QUESTION = "What is the status of the order of customer Kato, and how many are there?"


@dataclass(frozen=True)
class Setting:
    """What a step consists of, and how a side computes it.

    Attributes:
        side: Whose trainer.
        tools: Tools of the prompt.
        arguments: Arguments of each tool.
        turns: Turns of an episode; the last one answers.
        group: Episodes of the group.
        turn_tokens: Tokens that the policy says in a turn.
        threads: CPU threads.
        micro_batch: Rows of TRL that go through the model at once; 0 for all.
        checkpointing: Compute activations again in the backward pass.
        tokens_per_forward: The same limit of ours, in tokens; 0 for all.
        loading: The policy.
        cuda_graphs: Ours decodes with CUDA graphs.
    """

    side: Literal["ours", "trl"]
    tools: int = 30
    turns: int = 4
    group: int = 8
    turn_tokens: int = 64
    arguments: int = 2
    threads: int = 2
    micro_batch: int = 0
    checkpointing: bool = False
    tokens_per_forward: int = 0
    loading: Loading = field(default_factory=Loading)
    cuda_graphs: bool = True

    def describe(self) -> str:
        """Return how the side computes, in words."""
        rows = (
            f"{self.micro_batch or self.group} rows at once"
            if self.side == "trl"
            else (f"{self.tokens_per_forward or 'all'} tokens at once")
        )
        return f"{rows}, checkpointing {'on' if self.checkpointing else 'off'}"


@dataclass(frozen=True)
class Step:
    """What one step took.

    Attributes:
        seconds: From its beginning to the end of the optimizer step.
        rollout: Seconds of it until the episodes were played and scored.
        memory: Largest memory in it above that of the idle process, in bytes: resident memory, or
            what is allocated on the GPU.
        grad_norm: Size of the gradient.
        prompt_tokens: Tokens of the prompt.
        completion_tokens: Tokens of an episode after it, heard ones included.
        digest: Of all token ids, and which of them are trained.
    """

    seconds: float
    rollout: float
    memory: int
    grad_norm: float
    prompt_tokens: int
    completion_tokens: int
    digest: str

    @property
    def update(self) -> float:
        """Seconds of everything but the rollout."""
        return self.seconds - self.rollout


class Script:
    """What every turn says, in exactly as many tokens as wanted.

    Args:
        setting: How many turns, rows and tokens.
        tokenizer: The policy's tokenizer.
    """

    def __init__(self, setting: Setting, tokenizer: Any) -> None:
        self._setting = setting
        self._tokenizer = tokenizer
        self._names = step_server.tool_names(setting.tools)
        self._end = [tokenizer.eos_token_id]

    def turn(self, number: int) -> list[list[int]]:
        """Return the token ids of a turn of every row."""
        last = number == self._setting.turns - 1
        return [self._answer(row) if last else self._call(row, number) for row in self.rows]

    @property
    def rows(self) -> range:
        """The rows of the group."""
        return range(self._setting.group)

    def right(self, row: int) -> bool:
        """Return whether a row's answer is right; half of them are."""
        return row % 2 == 0

    def _call(self, row: int, number: int) -> list[int]:
        name = self._names[(3 * row + number) % len(self._names)]

        def call(words: str) -> str:
            keys = step_server.arguments(self._setting.arguments)
            arguments = dict.fromkeys(keys, "open") | {"customer": words}
            return render_calls([ToolCall(name, arguments)])

        return self._filled(call)

    def _answer(self, row: int) -> list[int]:
        number = 42 if self.right(row) else 17
        return self._filled(lambda words: f"There are {number} of them. {words}")

    def _filled(self, say: Callable[[str], str]) -> list[int]:
        """Return a text of the wanted length: words, then letters, until it is reached."""
        wanted = self._setting.turn_tokens
        for letters in range(12):
            for words in range(wanted):
                text = say("order " * words + "q" * letters)
                ids = self._tokenizer.encode(text, add_special_tokens=False) + self._end
                if len(ids) == wanted:
                    return list(ids)
                if len(ids) > wanted:
                    break
        raise SystemExit(f"no turn has exactly {wanted} tokens; choose another --turn_tokens")


def config(setting: Setting, folder: str) -> GRPOConfig:
    """Return what both trainers are told."""
    rows = setting.micro_batch if setting.side == "trl" and setting.micro_batch else setting.group
    return GRPOConfig(
        output_dir=folder,
        max_steps=1_000_000,
        num_generations=setting.group,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=setting.group // rows,
        steps_per_generation=setting.group // rows,
        activation_checkpointing=setting.checkpointing,
        learning_rate=1e-6,
        beta=0.0,
        temperature=1.0,
        scale_rewards="none",
        max_completion_length=setting.turns * (setting.turn_tokens + 200),
        max_tool_calling_iterations=setting.turns - 1,
        generation_kwargs={
            "min_new_tokens": setting.turn_tokens,
            "max_new_tokens": setting.turn_tokens,
        },
        chat_template_kwargs={"enable_thinking": False},
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=setting.loading.use_cpu,
        bf16=setting.loading.precision == "bfloat16",
        dataloader_pin_memory=False,
        disable_tqdm=True,
        shuffle_dataset=False,
    )


def trl_trainer(setting: Setting, folder: str) -> GRPOTrainer:
    """Return TRL's trainer, its tools being methods of a class."""
    tokenizer = load_tokenizer("embedded")
    script = Script(setting, tokenizer)

    class Scripted(GRPOTrainer):
        turn = 0

        def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
            ids, log_probs = super()._generate_single_turn(*args, **kwargs)
            said = script.turn(self.turn % setting.turns)
            self.turn += 1
            if [len(row) for row in ids] != [len(row) for row in said]:
                raise SystemExit("TRL sampled another number of tokens than it was told to")
            return said, log_probs

    def reward(prompts: Any, completions: Any, **_: Any) -> list[float]:
        ends = [one[-1]["content"] for one in completions]
        return [1.0 if "42" in str(end) else -0.1 for end in ends]

    return Scripted(
        model=model(setting.loading),
        processing_class=tokenizer,
        environment_factory=environment(setting),
        reward_funcs=reward,
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": QUESTION}]}] * 8),
        args=config(setting, folder),
    )


def environment(setting: Setting) -> type:
    """Return a class with a method for each tool of `step_server.py`."""
    described = step_server.arguments(setting.arguments)

    def reset(self: Any, **_: Any) -> None:
        pass

    def tool(name: str) -> Callable[..., str]:
        def method(self: Any, /, **arguments: str) -> str:
            return step_server.ANSWER

        lines = [f"    {key}: {text}" for key, text in described.items()]
        method.__name__ = name
        method.__doc__ = "\n".join([step_server.description(name), "", "Args:", *lines])
        method.__annotations__ = dict.fromkeys(described, str)
        own = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)]
        taken = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, annotation=str)
            for key in described
        ]
        method.__signature__ = inspect.Signature(own + taken)  # type: ignore[attr-defined]
        return method

    names = step_server.tool_names(setting.tools)
    return type("Tools", (), {"reset": reset, **{name: tool(name) for name in names}})


def our_trainer(setting: Setting, folder: str) -> ToolUseGRPOTrainer:
    """Return our trainer, playing on a real server over stdio."""
    tokenizer = load_tokenizer("embedded")
    script = Script(setting, tokenizer)

    class Scripted(Conversations):
        """Samples as many tokens as it is told to, and says those of the script."""

        def __init__(self, model: Any, end_of_turn: int, pad: int, config: SamplingConfig) -> None:
            super().__init__(model, -1, pad, replace(config, max_turn_tokens=setting.turn_tokens))
            self.turn = 0

        def start(self, prompts: Sequence[Sequence[int]]) -> None:
            super().start(prompts)
            self.turn = 0

        def generate(self, openings: Sequence[Opening | None] = ()) -> list[GeneratedTurn]:
            turns = super().generate(openings)
            said = script.turn(self.turn)
            self.turn += 1
            return [
                GeneratedTurn(ids, turn.log_probs) for ids, turn in zip(said, turns, strict=True)
            ]

    agents.players.conversations_with = Scripted
    servers = Path(folder) / "mcp.json"
    program = str(Path(step_server.__file__).resolve())
    server = {
        "command": sys.executable,
        "args": [program, str(setting.tools), str(setting.arguments)],
        "mcpGym": {"reset": "keep"},
    }
    servers.write_text(json.dumps({"mcpServers": {"step": server}}), encoding="utf-8")
    task = Task("step", QUESTION, FinalAnswer(42, "number"))
    return ToolUseGRPOTrainer(
        curriculum=Curriculum([task], seed=0, learnability=0.0),
        reward=scaled_return(0.1),
        sampling=SamplingConfig(temperature=1.0, max_length=32768, cuda_graphs=setting.cuda_graphs),
        max_turns=setting.turns,
        servers=read_servers(servers),
        tokens_per_forward=setting.tokens_per_forward,
        log_dir=Path(folder),
        model=model(setting.loading),
        args=config(setting, folder),
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": "group"}]}] * 8),
        processing_class=tokenizer,
    )


class Paced(TrainerCallback):
    """Takes one step of `trainer.train()` for each message, and answers with a `Step`."""

    def __init__(self, trainer: Any, connection: Connection) -> None:
        self._trainer = trainer
        self._connection = connection
        self._idle = 0
        self._rollout = 0.0
        self._started = 0.0
        self._seconds = 0.0
        self._tokens = (0, 0, "")
        scored = trainer._generate_and_score_completions

        def timed(inputs: Any) -> Any:
            started = now()
            batch = scored(inputs)
            self._rollout += now() - started
            self._tokens = (
                int(batch["prompt_mask"].sum(1).max()),
                int(batch["completion_mask"].sum(1).max()),
                digest(batch),
            )
            return batch

        trainer._generate_and_score_completions = timed

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Wait for a message."""
        if self._connection.recv() != "step":
            os._exit(0)  # in the middle of `train`, from which nothing is wanted any more
        self._idle = self._idle or used_memory()
        forget_peak()
        self._rollout, self._started = 0.0, now()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Answer: after the optimizer's step there is one line of the log."""
        if logs and "grad_norm" in logs:
            step = Step(
                self._seconds,
                self._rollout,
                peak_memory() - self._idle,
                float(logs["grad_norm"]),
                *self._tokens,
            )
            self._connection.send(step)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Stop the clock."""
        self._seconds = now() - self._started


def digest(batch: dict[str, torch.Tensor]) -> str:
    """Return a hash of what is learned from."""
    found = hashlib.sha256()
    for name in ("prompt_ids", "completion_ids", "completion_mask", "tool_mask"):
        found.update(batch[name].long().cpu().numpy().tobytes())
    return found.hexdigest()[:16]


def serve(connection: Connection, setting: Setting) -> None:
    """Train as messages arrive; the first answer is None, when everything is built."""
    hf_logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    torch.set_num_threads(setting.threads)
    make = our_trainer if setting.side == "ours" else trl_trainer
    with tempfile.TemporaryDirectory() as folder:
        trainer = make(setting, folder)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(Paced(trainer, connection))
        connection.send(None)
        trainer.train()
