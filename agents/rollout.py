"""The rollout: a player plays a batch of episodes. GRPO, evaluation and trace collection use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gymnasium.vector import AutoresetMode
from tqdm import tqdm

from agents.players import Player, Sampled
from envs.vector_env import MCPVectorEnv
from rewards.episode import Episode, Task
from rewards.matrix import RewardMatrix


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
    env: MCPVectorEnv | None = None,
) -> list[Trajectory]:
    """Play every task once.

    Args:
        player: Who plays.
        tasks: The tasks; a task may occur several times.
        max_turns: Turn limit of the environment.
        batch_size: Episodes played side by side.
        matrix: Rewards; the project's contract by default.
        progress: Show a progress bar.
        env: An environment of `batch_size` sub-environments to reuse; made and closed otherwise.

    Returns:
        One trajectory per task, in order.
    """
    if not tasks:
        return []
    if env is not None:
        batch_size = env.num_envs
    trajectories: list[Trajectory] = []
    bar = tqdm(total=len(tasks), desc=player.name, disable=not progress, mininterval=2)
    for start in range(0, len(tasks), batch_size):
        batch = tasks[start : start + batch_size]
        if env is not None and len(batch) == env.num_envs:
            trajectories += _play(player, env, batch)
        else:
            own = MCPVectorEnv(
                num_envs=len(batch),
                tasks=list(batch),
                max_turns=max_turns,
                matrix=matrix or RewardMatrix(),
                autoreset_mode=AutoresetMode.DISABLED,
            )
            try:
                trajectories += _play(player, own, batch)
            finally:
                own.close()
        bar.update(len(batch))
    bar.close()
    return trajectories


def _play(player: Player, env: MCPVectorEnv, tasks: Sequence[Task]) -> list[Trajectory]:
    env.reset(options={"tasks": list(tasks)})
    player.begin(env.infos)
    tools = [tuple(info["tools"]) for info in env.infos]
    played: list[list[Sampled]] = [[] for _ in tasks]
    active = list(range(len(tasks)))
    while active:
        turns = player.act(active, [env.infos[row] for row in active])
        actions: list[str | None] = [None] * len(tasks)
        for row, turn in zip(active, turns, strict=True):
            played[row].append(turn)
            actions[row] = turn.text
        _, _, terminated, truncated, _ = env.step(actions)
        active = [row for row in active if not (terminated[row] or truncated[row])]
    return [
        _trajectory(env.infos[row]["episode"], turns, tools[row])
        for row, turns in enumerate(played)
    ]


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
