"""`MCP-v0` with a person beside it, who confirms calls and goes on after an answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from envs.session import EpisodeSession, Rules
from envs.untrusted import neutralise
from envs.vector_env import MCPVectorEnv
from rewards.episode import Turn
from sft.collecting.person import ApprovingBackend, Person


class AttendedEnv(MCPVectorEnv):
    """The vector environment, in which an episode may have several user turns.

    A task of `MCP-v0` has one user turn. `go_on` opens an ended episode again: the world, the turns
    and the conversation stay, the turn limit begins anew, and the task's goal is judged again at
    every turn.

    Args:
        approver: Confirms the calls; None runs them all.
        **rest: As in `MCPVectorEnv`.
    """

    def __init__(self, approver: Person | None = None, **rest: Any) -> None:
        super().__init__(**rest)
        if approver is not None:
            self._backend = ApprovingBackend(self._backend, approver)

    def go_on(self, row: int, text: str) -> None:
        """Open the ended episode of a sub-environment again with another message of the user."""
        before = self._running(row)
        *earlier, last = before.episode.turns
        told = _unsaid(last)
        observation = "\n".join(message["content"] for message in told)
        max_turns = len(before.episode.turns) + self._rules.max_turns
        rules = Rules(max_turns, self._rules.max_result_chars, self._rules.matrix)
        session = EpisodeSession(before.episode.task, self._backend.tools, rules)
        session.episode = replace(
            before.episode,
            turns=(*earlier, replace(last, observation=observation)),
            max_turns=max_turns,
            terminated=False,
            truncated=False,
        )
        session.new_messages = [*told, {"role": "user", "content": text}]
        session.messages = [*before.messages, *session.new_messages]
        self._sessions[row] = session
        self.infos[row] = session.info()


def _unsaid(turn: Turn) -> list[dict[str, Any]]:
    """Return what the model was not told about a turn, because it ended the episode."""
    if turn.fault is not None:
        return [{"role": "tool", "content": neutralise(f"Error: {turn.fault_detail}")}]
    return [{"role": "tool", "content": result.text} for result in turn.results]
