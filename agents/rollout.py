"""The rollout: a player plays a batch of episodes. GRPO, evaluation and trace collection use it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any, TypeVar

import torch
from gymnasium.vector import AutoresetMode
from tqdm import tqdm

from agents.players import LanguagePlayer, Player, Sampled
from envs.backends import ServerSource
from envs.vector_env import MCPVectorEnv
from rewards.episode import Episode, Status, Task
from rewards.matrix import RewardMatrix

log = logging.getLogger(__name__)

Batch = Sequence[tuple[Task, bool | None]]
"""Tasks, each with whether its first turn must open with a call."""


@dataclass(frozen=True)
class Trajectory:
    """An episode with the tokens it was played in.

    Attributes:
        episode: The episode as the environment recorded it.
        prompt_ids: Tokens of the prompt.
        completion_ids: Sampled tokens and observations, concatenated.
        mask: 1 for sampled tokens, 0 for observations.
        log_probs: Log-probability of each sampled token, 0 for observations.
        turn_ends: For each turn, the index in `completion_ids` of its last sampled token.
        tools: The offered tools as OpenAI function schemas.
    """

    episode: Episode
    prompt_ids: tuple[int, ...] = ()
    completion_ids: tuple[int, ...] = ()
    mask: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    turn_ends: tuple[int, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()


def rollout(
    player: Player,
    tasks: Sequence[Task],
    *,
    max_turns: int = 8,
    batch_size: int = 64,
    matrix: RewardMatrix | None = None,
    progress: bool = False,
    workers: int = 1,
    envs: Sequence[MCPVectorEnv] = (),
    servers: ServerSource | None = None,
    calls_first: Sequence[bool | None] = (),
) -> list[Trajectory]:
    """Play every task once.

    Args:
        player: Who plays.
        tasks: The tasks; a task may occur several times.
        max_turns: Turn limit of the environment.
        batch_size: Episodes played side by side in one batch.
        matrix: Rewards; the project's contract by default.
        progress: Show a progress bar.
        workers: Batches of a language model that are played side by side, each on one CPU thread.
            A small model gains more by this than by more threads for each product.
        envs: Environments of `open_envs` to play in, at least `batch_size` wide and one for each
            worker; `max_turns`, `matrix` and `servers` are then theirs. Otherwise some are made.
        servers: MCP servers to play on; None for the mock world.
        calls_first: For each task whether the first turn must open with a call (True), must not
            (False), or is free (None); for exploration by a language model.

    Returns:
        One trajectory per task, in order.
    """
    held = list(calls_first) or [None] * len(tasks)
    rows = list(zip(tasks, held, strict=True))
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    side_by_side = min(len(batches), workers if isinstance(player, LanguagePlayer) else 1)
    with (
        open_envs(
            0 if envs else side_by_side,
            min(batch_size, len(tasks)),
            tasks,
            max_turns=max_turns,
            matrix=matrix,
            servers=servers,
        ) as own,
        tqdm(total=len(tasks), desc=player.name, disable=not progress, mininterval=2) as bar,
    ):
        played = _play_all(player, batches, side_by_side, envs or own, bar)
    return [trajectory for batch in played for trajectory in batch]


def _play_all(
    player: Player,
    batches: Sequence[Batch],
    side_by_side: int,
    envs: Sequence[MCPVectorEnv],
    bar: tqdm[Any],
) -> list[list[Trajectory]]:
    """Play batches, each in an environment that no other is using."""
    spare: SimpleQueue[MCPVectorEnv] = SimpleQueue()
    for env in envs:
        spare.put(env)

    def play(who: Player, batch: Batch) -> list[Trajectory]:
        env = spare.get()
        try:
            played = _play(who, env, batch)
        finally:
            spare.put(env)
        bar.update(len(batch))
        return played

    if side_by_side > 1 and isinstance(player, LanguagePlayer):
        return _side_by_side(player, batches, side_by_side, play)
    return [play(player, batch) for batch in batches]


def _side_by_side(
    player: LanguagePlayer,
    batches: Sequence[Batch],
    workers: int,
    play: Callable[[Player, Batch], list[Trajectory]],
) -> list[list[Trajectory]]:
    threads = torch.get_num_threads()
    try:
        with (
            player.twins(len(batches)) as twins,
            ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
        ):
            return list(pool.map(play, twins, batches))
    finally:
        torch.set_num_threads(threads)


Played = TypeVar("Played")


def fitting(play: Callable[[int], Played], batch_size: int) -> Played:
    """Return what is played at a batch size, or at half of it while memory runs out.

    Args:
        play: Plays all tasks, with so many of them side by side.
        batch_size: How many it begins with.

    Raises:
        torch.OutOfMemoryError: If not even one fits.
    """
    while True:
        try:
            return play(batch_size)
        except torch.OutOfMemoryError:
            if batch_size == 1:
                raise
        batch_size //= 2
        log.warning("out of memory; the tasks begin again, %d side by side", batch_size)


@contextmanager
def open_envs(
    count: int,
    size: int,
    tasks: Sequence[Task],
    *,
    max_turns: int,
    matrix: RewardMatrix | None = None,
    servers: ServerSource | None = None,
) -> Iterator[list[MCPVectorEnv]]:
    """Give environments for `rollout`, closed at the end.

    Args:
        count: How many; one is played in by each worker.
        size: Episodes side by side in each.
        tasks: Tasks that will be played; they are checked to be playable.
        max_turns: Turn limit.
        matrix: Rewards; the project's contract by default.
        servers: MCP servers to play on; None for the mock world.
    """
    with ExitStack() as opened:
        envs = []
        for _ in range(count):
            env = MCPVectorEnv(
                num_envs=size,
                tasks=list(tasks),
                servers=servers,
                max_turns=max_turns,
                matrix=matrix or RewardMatrix(),
                autoreset_mode=AutoresetMode.DISABLED,
            )
            opened.callback(env.close)
            envs.append(env)
        yield envs


def _play(player: Player, env: MCPVectorEnv, batch: Batch) -> list[Trajectory]:
    """Play a batch in the first rows of an environment."""
    tasks = [task for task, _ in batch]
    idle = env.num_envs - len(tasks)
    used = [row < len(tasks) for row in range(env.num_envs)]
    env.reset(options={"tasks": [*tasks, *tasks[:1] * idle], "reset_mask": used})
    infos = env.infos[: len(tasks)]
    player.begin(infos)
    if isinstance(player, LanguagePlayer):
        player.hold_first_turns([held for _, held in batch])
    tools = [tuple(info["tools"]) for info in infos]
    played: list[list[Sampled]] = [[] for _ in batch]
    active, lost = list(range(len(batch))), set[int]()
    while active:
        turns = player.act(active, [env.infos[row] for row in active])
        actions: list[str | None] = [None] * env.num_envs
        for row, turn in zip(active, turns, strict=True):
            if turn is None:
                lost.add(row)
                continue
            played[row].append(turn)
            actions[row] = turn.text
        active = [row for row in active if row not in lost]
        if active:
            _, _, terminated, truncated, _ = env.step(actions)
            active = [row for row in active if not (terminated[row] or truncated[row])]
    return [
        _trajectory(_ended(env.infos[row]["episode"], row in lost), turns, tools[row])
        for row, turns in enumerate(played)
    ]


def _ended(episode: Episode, lost: bool) -> Episode:
    return replace(episode, truncated=True, status=Status.UNANSWERED) if lost else episode


def _trajectory(
    episode: Episode, turns: Sequence[Sampled], tools: tuple[Mapping[str, Any], ...]
) -> Trajectory:
    completion: list[int] = []
    mask: list[int] = []
    log_probs: list[float] = []
    ends: list[int] = []
    for index, turn in enumerate(turns):
        context = turn.context_ids if index else ()
        completion += [*context, *turn.token_ids]
        mask += [0] * len(context) + [1] * len(turn.token_ids)
        log_probs += [0.0] * len(context) + list(turn.log_probs)
        ends.append(len(completion) - 1)
    prompt = turns[0].context_ids if turns else ()
    return Trajectory(
        episode, prompt, tuple(completion), tuple(mask), tuple(log_probs), tuple(ends), tools
    )
