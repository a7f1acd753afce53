"""`python -m agents.evaluate`: policies side by side on the same tasks.

A policy is the name of a canary, `oracle`, `embedded`, a model folder, an adapter folder, a hub id,
or MODEL@URL for a model behind an OpenAI-compatible endpoint, whose key comes from OPENAI_API_KEY.
Every one is played by the rollout and judged by the rewards that training uses.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from agents.chat_client import ChatClient, ChatConfig, base_url, key_from_environment
from agents.cli import fail, interrupted, parse_flags, say
from agents.endpoint import EndpointPlayer, model_at
from agents.engine import SamplingConfig
from agents.errors import AgentError, ModelNotFoundError
from agents.models import EMBEDDED, Precision, check_adapter, is_adapter, load_player
from agents.players import Player, ScriptedPlayer
from agents.rollout import Trajectory, fitting, rollout
from agents.summary import Summary, summarise, write_json
from agents.tables import policy_table
from envs.errors import EnvsError
from envs.policies import (
    POLICY_NAMES,
    TextPolicy,
    UnknownPolicyError,
    make_policy,
    most_common_answer,
)
from envs.tasks.load import SUITES, load_tasks
from rewards.episode import Episode, Task
from rewards.errors import RewardsError, did_you_mean
from rewards.serialise import write_episodes

PROGRAM = "python -m agents.evaluate"

DESCRIPTION = (
    "Play policies on the same tasks and compare them: success with Wilson intervals, exact "
    "McNemar p between consecutive policies, calls, outcomes. Without a model, try: "
    f"{PROGRAM} --policies silent random_call oracle --limit 100. "
    f"Scripted policies: {', '.join(POLICY_NAMES)}."
)

FLOORS_AND_CEILING = ("silent", "random_call", "repeat", "oracle")


@dataclass(frozen=True)
class EvaluateFlags:
    """Flags of `python -m agents.evaluate`."""

    policies: list[str] = field(
        default_factory=lambda: list(FLOORS_AND_CEILING),
        metadata={
            "help": "What to compare: scripted policies (oracle, canaries), 'embedded', model "
            "folders, adapter folders, hub ids such as Qwen/Qwen3-1.7B, and MODEL@URL for an "
            "OpenAI-compatible endpoint such as agents/embedded@http://localhost:8000/v1."
        },
    )
    suite: str = field(
        default="mock",
        metadata={"help": "Tasks: mock, starter, planted, or a JSONL file of tasks."},
    )
    servers: str = field(
        default="",
        metadata={
            "help": "Config file of MCP servers to play on, such as mcp.json; empty for the mock "
            "world."
        },
    )
    split: Literal["train", "validation", "test", "all"] = field(
        default="test", metadata={"help": "Split of the tasks."}
    )
    limit: int = field(
        default=0, metadata={"help": "Play only the first tasks, balanced by kind; 0 for all."}
    )
    output_dir: str = field(
        default="runs/evaluation", metadata={"help": "Folder for summary.json and the episodes."}
    )
    k: int = field(
        default=1,
        metadata={"help": "Attempts per task; above 1 pass@k and pass^k are shown as well."},
    )
    temperature: float = field(
        default=0.0, metadata={"help": "Sampling temperature of models; 0 takes the best token."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of the sampling and of random canaries."})
    max_turns: int = field(default=8, metadata={"help": "Turn limit of an episode."})
    max_turn_tokens: int = field(
        default=256, metadata={"help": "Most tokens that a model may sample in one turn."}
    )
    max_length_tokens: int = field(
        default=16384, metadata={"help": "Most tokens of a conversation, prompt included."}
    )
    batch_size: int = field(default=64, metadata={"help": "Episodes played side by side."})
    load_in_4bit: bool = field(default=False, metadata={"help": "Load models in 4 bits (NF4)."})
    precision: Precision = field(
        default="float32", metadata={"help": "Compute type of models; float16 on a T4."}
    )
    enable_thinking: bool = field(
        default=False,
        metadata={"help": "Let models that are loaded here think, as they were trained to."},
    )
    use_cpu: bool = field(
        default=False, metadata={"help": "Play models on the CPU even if there is a GPU."}
    )
    cuda_graphs: bool = field(
        default=True,
        metadata={"help": "On a GPU, record how a token is decoded and replay it."},
    )
    threads: int = field(default=2, metadata={"help": "CPU threads of torch."})

    def __post_init__(self) -> None:
        """Refuse flags that contradict each other."""
        for name in ("k", "max_turns", "batch_size", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, not {getattr(self, name)}")
        if self.limit < 0:
            raise ValueError(f"--limit must not be negative: {self.limit}; 0 plays all tasks")
        if self.k > 1 and self.temperature <= 0:
            raise ValueError("--k above 1 needs --temperature above 0: all attempts are equal at 0")
        twice = [name for name in self.policies if self.policies.count(name) > 1]
        if twice:
            raise ValueError(f"--policies names {twice[0]!r} twice")


def check_policy(name: str) -> None:
    """Raise a clear error if nothing can be called `name`, before anything is played.

    Raises:
        UnknownPolicyError: Neither a scripted policy, nor a folder, nor a hub id.
        ModelNotFoundError: A folder that does not exist.
        ModelFileError: An adapter folder that is incomplete.
        EndpointError: A URL that is none.
    """
    path = Path(name).expanduser()
    if name in POLICY_NAMES or name == EMBEDDED:
        return
    if endpoint := model_at(name):
        base_url(endpoint[1])
    elif is_adapter(path):
        check_adapter(path)
    elif path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelNotFoundError(
                f"{name} holds neither a model (config.json) nor an adapter (adapter_config.json)"
            )
    elif "/" not in name:
        known = (*POLICY_NAMES, EMBEDDED)
        raise UnknownPolicyError(
            f'no policy "{name}"{did_you_mean(name, known)}; known: {", ".join(known)}, model '
            "folders, adapter folders, hub ids such as Qwen/Qwen3-1.7B, and MODEL@URL"
        )
    elif path.parent.is_dir():
        beside = [str(other) for other in path.parent.iterdir() if other.is_dir()]
        raise ModelNotFoundError(f"no folder {name}{did_you_mean(str(path), beside)}")


def play(name: str, tasks: Sequence[Task], flags: EvaluateFlags) -> list[Episode]:
    """Let one policy play every task `flags.k` times; attempts at a task follow each other."""
    players: list[Player]
    with ExitStack() as opened:
        if name in POLICY_NAMES:
            policy = _scripted(name, flags)
            players = [ScriptedPlayer(policy, flags.seed + attempt) for attempt in range(flags.k)]
            rows = list(tasks)
        else:
            players = [_model(name, flags, opened)]
            rows = [task for task in tasks for _ in range(flags.k)]

        def play_all(player: Player, batch_size: int) -> list[Trajectory]:
            return rollout(
                player,
                rows,
                max_turns=flags.max_turns,
                batch_size=batch_size,
                servers=flags.servers or None,
                progress=sys.stderr.isatty(),
            )

        played = [
            trajectory.episode
            for player in players
            for trajectory in fitting(partial(play_all, player), flags.batch_size)
        ]
    order = {task.id: place for place, task in enumerate(tasks)}
    return sorted(played, key=lambda episode: order[episode.task.id])


def evaluate(flags: EvaluateFlags) -> Summary:
    """Play every policy, write the episodes and `summary.json`, and return the figures."""
    for name in flags.policies:
        check_policy(name)
    torch.set_num_threads(flags.threads)
    split = None if flags.split == "all" else flags.split
    tasks = load_tasks(flags.suite, split, mock=not flags.servers)
    tasks = tasks[: flags.limit or None]
    folder = Path(flags.output_dir)
    played: dict[str, list[Episode]] = {}
    for name in flags.policies:
        played[name] = play(name, tasks, flags)
        write_episodes(episode_file(folder, name), played[name])
    summary = summarise(played)
    entry: dict[str, Any] = {"flags": asdict(flags), "tasks": len(tasks), **summary}
    write_json(folder / "summary.json", {"suites": {suite_name(flags.suite): entry}})
    return summary


def suite_name(suite: str) -> str:
    """What a suite is called in `summary.json`: a file by its name without the ending."""
    return suite if suite in SUITES else Path(suite).stem


def episode_file(folder: Path, policy: str) -> Path:
    """Where the episodes of a policy are stored: its name, slashes made into underscores."""
    name = policy.strip("/.").replace("/", "_")
    return folder / "episodes" / f"{name}.jsonl"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    flags = parse_flags(EvaluateFlags, PROGRAM, DESCRIPTION, arguments)
    try:
        summary = evaluate(flags)
    except (AgentError, EnvsError, RewardsError, UnknownPolicyError) as error:
        return fail(error)
    except KeyboardInterrupt:
        return interrupted("policies that were played to the end have their episodes written")
    folder = Path(flags.output_dir)
    say(policy_table(summary))
    say(f"\nwrote {folder / 'summary.json'}")
    for name in flags.policies:
        say(f"wrote {episode_file(folder, name)}")
    say(f"next: {_next(flags)}")
    return 0


def _scripted(name: str, flags: EvaluateFlags) -> TextPolicy:
    if name != "one_call" or flags.suite not in SUITES:
        return make_policy(name)
    return make_policy(name, answer=most_common_answer(load_tasks(flags.suite, "train")))


def _model(name: str, flags: EvaluateFlags, opened: ExitStack) -> Player:
    if endpoint := model_at(name):
        model, url = endpoint
        config = ChatConfig(url, model, flags.temperature, flags.max_turn_tokens)
        client = ChatClient(config, key_from_environment())
        opened.callback(client.close)
        return EndpointPlayer(client, name)
    sampling = SamplingConfig(
        temperature=flags.temperature,
        max_turn_tokens=flags.max_turn_tokens,
        max_length=flags.max_length_tokens,
        seed=flags.seed,
        cuda_graphs=flags.cuda_graphs,
    )
    return load_player(
        name,
        load_in_4bit=flags.load_in_4bit,
        precision=flags.precision,
        config=sampling,
        thinking=flags.enable_thinking,
        use_cpu=flags.use_cpu,
    )


def _next(flags: EvaluateFlags) -> str:
    if all(name in POLICY_NAMES for name in flags.policies):
        return f"{PROGRAM} --policies embedded oracle --suite starter"
    return "python -m sft.train   (or read an episode: head -n 1 EPISODES.jsonl)"


if __name__ == "__main__":
    sys.exit(main())
