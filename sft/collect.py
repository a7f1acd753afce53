"""`python -m sft.collect`: traces of a model behind an OpenAI-compatible endpoint.

The model plays the tasks over `MCP-v0`, on the mock world or on any MCP servers, and every episode
that ends becomes a canonical row of the output at once. The same command goes on where it stopped.
An episode that the endpoint or a server broke off says nothing about the model: it is counted, not
written, and played again by the next call.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from agents.chat_client import ChatClient, ChatConfig, key_from_environment
from agents.cli import INTERRUPTED, fail, parse_flags, say
from agents.errors import AgentError
from agents.rollout import Trajectory
from envs.errors import EnvsError
from envs.tasks.load import load_tasks
from mock_mcp.server import served_tools
from rewards.episode import Status, Task
from rewards.errors import FormatError, RewardsError
from rewards.goals import FinalAnswer
from sft.collecting.attended import AttendedEnv
from sft.collecting.loop import Collector, Job, Played
from sft.collecting.output import RowWriter, resume
from sft.collecting.person import Person, QuitError
from sft.collecting.tally import UNJUDGED, Tally
from sft.traces import Row, shown_only, trace_row, turn_messages

PROGRAM = "python -m sft.collect"

DESCRIPTION = (
    "Collect traces from a model behind any OpenAI-compatible endpoint, as canonical rows. The key "
    f"comes from OPENAI_API_KEY. Try: transformers serve agents/embedded --reasoning off & "
    f"{PROGRAM} --endpoint http://localhost:8000/v1 --model agents/embedded --output traces.jsonl"
)

SOURCE = "collected"


@dataclass(frozen=True)
class CollectFlags:
    """Flags of `python -m sft.collect`."""

    endpoint: str = field(
        metadata={"help": "URL of the endpoint up to /v1, such as http://localhost:8000/v1."}
    )
    model: str = field(metadata={"help": "What the endpoint calls the model."})
    output: str = field(
        metadata={"help": "JSONL file of the rows; what is already in it is not played again."}
    )
    tasks: str = field(
        default="starter",
        metadata={
            "help": "starter, mock, planted, or a JSONL file of tasks. With --interactive also '': "
            "the first message is typed as well, and nothing is judged."
        },
    )
    servers: str = field(
        default="",
        metadata={
            "help": "Config file of MCP servers to play on, such as mcp.json; empty for the mock "
            "world."
        },
    )
    split: Literal["train", "validation", "test", "all"] = field(
        default="train", metadata={"help": "Split of the tasks."}
    )
    episodes: int = field(
        default=0,
        metadata={
            "help": "How many episodes in all: the first tasks, or several episodes of each where "
            "there are fewer tasks; 0 for each task once."
        },
    )
    parallel: int = field(
        default=4, metadata={"help": "Episodes side by side; one with --interactive."}
    )
    max_turns: int = field(
        default=8, metadata={"help": "Most turns of the model in an episode (or user turn)."}
    )
    max_tool_chars: int = field(
        default=2000,
        metadata={"help": "Longest tool response; longer ones are cut, with a mark in the text."},
    )
    max_turn_tokens: int = field(
        default=0, metadata={"help": "Most tokens of one turn; 0 leaves it to the endpoint."}
    )
    temperature: float | None = field(
        default=None, metadata={"help": "Sampling temperature; the endpoint's own by default."}
    )
    system_prompt: str = field(
        default="", metadata={"help": "File of a guiding prompt that is sent and not stored."}
    )
    retries: int = field(default=5, metadata={"help": "How often a request is tried again."})
    request_timeout: float = field(
        default=300.0, metadata={"help": "Most seconds for one request."}
    )
    episode_timeout: float = field(
        default=1800.0, metadata={"help": "Most seconds for all requests of an episode together."}
    )
    requests_per_minute: float = field(
        default=0.0, metadata={"help": "Most requests a minute, evenly spaced; 0 for no limit."}
    )
    approve: bool = field(
        default=False, metadata={"help": "Ask at the terminal before every tool call."}
    )
    interactive: bool = field(
        default=False,
        metadata={"help": "Type further messages of the user after each answer of the model."},
    )

    def __post_init__(self) -> None:
        """Refuse flags that cannot be meant."""
        for name in ("parallel", "max_turns", "max_tool_chars"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, not {getattr(self, name)}")
        for name in ("episodes", "max_turn_tokens", "retries", "requests_per_minute"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name} must not be negative: {getattr(self, name)}")
        for name in ("request_timeout", "episode_timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"--{name} must be positive, not {getattr(self, name)}")
        if not self.tasks and not self.interactive:
            raise ValueError("--tasks is empty: only with --interactive are tasks typed")


def collect(flags: CollectFlags) -> int:
    """Collect, print what came out, and return the exit code.

    Returns:
        0, or 1 if episodes were lost to infrastructure faults, or 130 after Ctrl-C.

    Raises:
        EndpointError: The endpoint cannot be used.
        EnvsError: The tasks or the servers cannot be used.
        FormatError: The output holds something else.
        OSError: A file cannot be read or written.
    """
    path, person, tally = Path(flags.output), Person(), Tally()
    system_prompt = _system_prompt(flags.system_prompt)
    tasks = _tasks(flags)
    earlier = resume(path, flags.model)
    jobs = [job for job in _jobs(tasks, flags.episodes) if job.id not in earlier.ids]
    if earlier.discarded:
        say(f"{path}: the last line was half-written and is discarded")
    if earlier.ids:
        say(f"{path} holds {len(earlier.ids)} rows already; {len(jobs)} episodes are to be played")
    if not jobs:
        return 0
    code = 0
    with (
        closing(RowWriter(path)) as file,
        closing(ChatClient(_chat(flags), key_from_environment())) as client,
        closing(_environment(flags, tasks, person)) as env,
    ):
        user = person if flags.interactive else None
        collector = Collector(env, client, system_prompt, flags.episode_timeout, user)
        try:
            with closing(collector.play(jobs if flags.tasks else _typed(person, flags))) as playing:
                _write(playing, len(jobs), file, tally, flags)
        except (KeyboardInterrupt, QuitError) as stop:
            code = INTERRUPTED * isinstance(stop, KeyboardInterrupt)
            say("\nstopped; the same command goes on where it stopped")
        finally:
            say(tally.table(client.usage))
            say(f"{path} holds {len(earlier.ids) + tally.rows} rows")
    return code or int(bool(tally.lost))


def _write(
    playing: Iterator[Played], count: int, file: RowWriter, tally: Tally, flags: CollectFlags
) -> None:
    """Write every row as its episode ends."""
    watched = flags.approve or flags.interactive
    with tqdm(total=count, desc=flags.model, disable=watched or not sys.stderr.isatty()) as bar:
        for played in playing:
            if played.lost or played.episode.status is not Status.OK:
                tally.add_lost(played)
            else:
                row = collected_row(played, flags.model, judged=bool(flags.tasks))
                file.write(row)
                tally.add(row.get("outcome", UNJUDGED))
            bar.update()


def collected_row(played: Played, model: str, *, judged: bool = True) -> Row:
    """Return an episode as a canonical row.

    Args:
        played: The episode.
        model: Who played it.
        judged: The task has a goal, so the row has an outcome.
    """
    row = trace_row(Trajectory(played.episode, tools=played.tools), SOURCE, model)
    messages = [{"role": "user", "content": played.episode.task.prompt}]
    for number, turn in enumerate(played.episode.turns, start=1):
        messages += turn_messages(turn)
        if number in played.user_turns:
            messages.append({"role": "user", "content": played.user_turns[number]})
    while messages[-1]["role"] == "tool":
        messages.pop()
    # What a person asks for later has no goal.
    shown_only(messages, played.episode.turns, judged=judged and not played.user_turns)
    timestamp = datetime.now(UTC).isoformat(timespec="seconds")
    row |= {"id": played.job.id, "timestamp": timestamp, "messages": messages}
    row["outcome"] = str(played.outcome)
    if not judged:
        del row["outcome"]
    return row


def _chat(flags: CollectFlags) -> ChatConfig:
    return ChatConfig(
        flags.endpoint,
        flags.model,
        flags.temperature,
        flags.max_turn_tokens,
        flags.retries,
        request_s=flags.request_timeout,
        requests_per_minute=flags.requests_per_minute,
    )


def _environment(flags: CollectFlags, tasks: Sequence[Task], person: Person) -> AttendedEnv:
    return AttendedEnv(
        person if flags.approve else None,
        num_envs=1 if flags.interactive else flags.parallel,
        tasks=list(tasks),
        servers=flags.servers or None,
        max_turns=flags.max_turns,
        max_result_chars=flags.max_tool_chars,
    )


def _tasks(flags: CollectFlags) -> list[Task]:
    if not flags.tasks:
        return [_typed_task("", flags)]
    split = None if flags.split == "all" else flags.split
    return load_tasks(flags.tasks, split, mock=not flags.servers)


def _jobs(tasks: Sequence[Task], episodes: int) -> Iterator[Job]:
    """Give the first tasks, then the same once more under other ids."""
    for number in range(episodes or len(tasks)):
        again, place = divmod(number, len(tasks))
        task = tasks[place]
        yield Job(f"{task.id}#{again + 1}" if again else task.id, task)


def _typed(person: Person, flags: CollectFlags) -> Iterator[Job]:
    """Give an episode for each first message that is typed, until one is empty."""
    for _ in range(flags.episodes) if flags.episodes else count():
        if not (text := person.speaks()):
            return
        task = _typed_task(text, flags)
        yield Job(task.id, task)


def _typed_task(prompt: str, flags: CollectFlags) -> Task:
    """Return a task without a goal that anybody could know; it offers every tool."""
    tools = () if flags.servers else tuple(served_tools())
    return Task(f"typed-{uuid.uuid4().hex}", prompt, FinalAnswer(uuid.uuid4().hex), tools)


def _system_prompt(path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not UTF-8 text: {error.reason}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    flags = parse_flags(CollectFlags, PROGRAM, DESCRIPTION, arguments)
    try:
        return collect(flags)
    except (AgentError, EnvsError, RewardsError, OSError) as error:
        return fail(error)
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
