"""Episodes side by side, each going on as soon as its own answer is there."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any

from agents.chat_answers import Answer
from agents.chat_client import ChatClient
from agents.chat_errors import EndpointError, UnansweredError
from agents.endpoint import LOST_IN_A_ROW, PATIENCE_S, Conversation
from rewards.episode import Episode, Outcome, Status, Task
from sft.collecting.attended import AttendedEnv
from sft.collecting.person import Person, QuitError


@dataclass(frozen=True)
class Job:
    """An episode to play, and the id of its row."""

    id: str
    task: Task


@dataclass(frozen=True)
class Played:
    """An episode that has ended.

    Attributes:
        job: What was played.
        episode: The episode as the environment recorded it.
        tools: The offered tools as OpenAI function schemas.
        user_turns: Further messages of the user, by the number of turns before them.
        lost: Why the endpoint lost it; "" where it played to the end.
    """

    job: Job
    episode: Episode
    tools: tuple[Mapping[str, Any], ...]
    user_turns: Mapping[int, str]
    lost: str = ""

    @property
    def outcome(self) -> Outcome:
        """Return what the last turn came to, or success if any user turn ended in it."""
        outcomes = [turn.outcome for turn in self.episode.turns]
        return Outcome.SUCCESS if Outcome.SUCCESS in outcomes else outcomes[-1]


@dataclass
class _Seat:
    """An episode in progress."""

    job: Job
    conversation: Conversation
    user_turns: dict[int, str] = field(default_factory=dict)


class Collector:
    """Lets an endpoint play one job after another in the rows of an environment.

    Args:
        env: The environment; its width is the number of episodes side by side.
        client: What asks the endpoint.
        system_prompt: As in `Conversation`.
        patience_s: Most seconds that the endpoint may take for one episode.
        user: Types further messages after an answer; None for episodes of one user turn.
    """

    def __init__(
        self,
        env: AttendedEnv,
        client: ChatClient,
        system_prompt: str = "",
        patience_s: float = PATIENCE_S,
        user: Person | None = None,
    ) -> None:
        self._env = env
        self._client = client
        self._system_prompt = system_prompt
        self._patience_s = patience_s
        self._user = user
        self._seats: dict[int, _Seat] = {}
        self._asked: dict[Future[Answer], int] = {}
        self._lost_in_a_row = 0
        self._quits = False

    def play(self, jobs: Iterable[Job]) -> Generator[Played, None, None]:
        """Play jobs and give each as it ends; an ended one makes room for the next.

        Raises:
            EndpointError: The endpoint cannot be used, or is gone.
            EnvsError: The servers cannot be used.
            QuitError: The person refuses to go on while an episode is running.
        """
        coming = iter(jobs)
        try:
            for row, job in zip(range(self._env.num_envs), coming, strict=False):
                self._begin(row, job)
            while self._asked:
                answered, _ = wait(self._asked, return_when=FIRST_COMPLETED)
                ended = self._ended([*answered])
                # All that is finished is given away before anything that takes long.
                yield from ended.values()
                self._check_not_gone(ended.values())
                for row, job in zip(() if self._quits else ended, coming, strict=False):
                    self._begin(row, job)
        finally:
            for future in self._asked:
                future.cancel()

    def _begin(self, row: int, job: Job) -> None:
        width = self._env.num_envs
        mask = [other == row for other in range(width)]
        self._env.reset(options={"tasks": [job.task] * width, "reset_mask": mask})
        info = self._env.infos[row]
        self._seats[row] = _Seat(job, Conversation(info, self._system_prompt, self._patience_s))
        self._ask(row)

    def _ask(self, row: int) -> None:
        talk = self._seats[row].conversation
        self._asked[self._client.submit(talk.messages, talk.tools, talk.left_s)] = row

    def _ended(self, answered: Sequence[Future[Answer]]) -> dict[int, Played]:
        """Play the turns that have come in; return the episodes that ended, by their rows."""
        turns: dict[int, str] = {}
        ended: dict[int, Played] = {}
        for future in answered:
            row = self._asked.pop(future)
            try:
                turns[row] = self._seats[row].conversation.said(future.result())
            except UnansweredError as error:
                ended[row] = self._played(row, str(error))
        if turns:
            self._lost_in_a_row = 0
            self._env.step([turns.get(row) for row in range(self._env.num_envs)])
        for row in turns:
            if self._is_over(row):
                ended[row] = self._played(row)
            else:
                self._seats[row].conversation.told(self._env.infos[row]["new_messages"])
                self._ask(row)
        return ended

    def _is_over(self, row: int) -> bool:
        episode: Episode = self._env.infos[row]["episode"]
        ended = episode.terminated or episode.truncated
        if self._user is None:
            return ended
        self._user.watches(episode.turns[-1])
        if not ended or episode.status is not Status.OK:
            return ended
        try:
            text = self._user.speaks()
        except QuitError:
            self._quits = True  # but the episode has ended, and counts
            text = ""
        if text:
            self._env.go_on(row, text)
            self._seats[row].user_turns[len(episode.turns)] = text
        return not text

    def _played(self, row: int, lost: str = "") -> Played:
        seat = self._seats.pop(row)
        episode = self._env.infos[row]["episode"]
        return Played(seat.job, episode, tuple(seat.conversation.tools), seat.user_turns, lost)

    def _check_not_gone(self, ended: Iterable[Played]) -> None:
        lost = [played.lost for played in ended if played.lost]
        self._lost_in_a_row += len(lost)
        if lost and self._lost_in_a_row >= LOST_IN_A_ROW:
            raise EndpointError(
                f"{lost[-1]}; {self._lost_in_a_row} episodes were lost in a row. What is written "
                "is safe; the same command goes on where it stopped"
            )
