"""The turn logic of an episode, without any input or output of its own.

A turn has three parts. `read` parses the model's text and says which calls are to be run;
`answered` takes their results; `finish` takes the evidence, if the goal is going to be looked at,
judges the turn and says what the model is told. The single and the vector environment differ only
in how they run the calls and take the evidence in between.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from envs.backend import Evidence, ToolBox
from envs.errors import ActionError, EpisodeOverError, OptionError
from envs.parsing import ParsedTurn, parse_turn
from envs.results import fault
from envs.untrusted import neutralise
from rewards.episode import (
    MODEL_STATUSES,
    Episode,
    Fault,
    Status,
    Task,
    ToolCall,
    ToolResult,
    Turn,
)
from rewards.errors import did_you_mean
from rewards.judge import Judgement, judge_turn, reaches_goal
from rewards.matrix import DEFAULT_MATRIX, RewardMatrix

CUT_MARK = "\n[... {} more characters]"


@dataclass(frozen=True)
class Rules:
    """What an environment fixes for all its episodes.

    Attributes:
        max_turns: Turn limit.
        max_result_chars: Longest tool result shown to the model; longer ones are cut visibly.
        matrix: What each outcome is worth.
    """

    max_turns: int = 8
    max_result_chars: int = 2000
    matrix: RewardMatrix = DEFAULT_MATRIX

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            OptionError: If one is not positive.
        """
        for name in ("max_turns", "max_result_chars"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class PendingTurn:
    """A turn that was read but not finished.

    Attributes:
        raw: The model's text.
        parsed: What it says.
        refused: Results of calls that are not run (bad arguments), by their place.
        calls: The calls to run, in order.
    """

    raw: str
    parsed: ParsedTurn
    refused: Mapping[int, ToolResult]
    calls: tuple[ToolCall, ...]


@dataclass(frozen=True)
class StepResult:
    """What `step` returns for one episode."""

    observation: str
    reward: float
    terminated: bool
    truncated: bool


class EpisodeSession:
    """One episode in progress.

    Args:
        task: The task.
        tools: The server's tools.
        rules: The environment's rules.
    """

    def __init__(self, task: Task, tools: ToolBox, rules: Rules) -> None:
        self.episode = Episode(task, max_turns=rules.max_turns)
        self.offered = tools.offer(task.tools)
        self.messages: list[dict[str, Any]] = [{"role": "user", "content": task.prompt}]
        self.new_messages: list[dict[str, Any]] = list(self.messages)
        self._thought_cut = False
        self._tools = tools
        self._rules = rules

    @property
    def over(self) -> bool:
        """Return whether the episode has ended."""
        return self.episode.terminated or self.episode.truncated

    def info(self) -> dict[str, Any]:
        """Return the `info` of gymnasium's API; its containers belong to the caller."""
        last = self.episode.turns[-1] if self.episode.turns else None
        return {
            "messages": list(self.messages),
            "new_messages": list(self.new_messages),
            "tools": list(self.offered),
            "outcome": str(last.outcome) if last else "",
            "why": last.why if last else "",
            "thought_cut": self._thought_cut,
            "status": str(self.episode.status),
            "task": self.episode.task,
            "episode": self.episode,
        }

    def read(self, action: object) -> PendingTurn:
        """Parse a turn and find out which calls to run.

        Raises:
            ActionError: If the action is not text.
            EpisodeOverError: If the episode has ended.
        """
        if not isinstance(action, str):
            raise ActionError(
                f"an action is the model's raw turn as a str, not {type(action).__name__}"
            )
        if self.over:
            raise EpisodeOverError("the episode has ended; call reset() before the next step()")
        parsed = self._with_offer_checked(parse_turn(action))
        refused: dict[int, ToolResult] = {}
        calls: list[ToolCall] = []
        for place, call in enumerate(parsed.calls):
            if problem := self._tools.validators[call.name].problem(call.arguments):
                refused[place] = fault(Status.BAD_ARGUMENTS, problem)
            else:
                calls.append(call)
        return PendingTurn(action, parsed, refused, tuple(calls))

    def _with_offer_checked(self, parsed: ParsedTurn) -> ParsedTurn:
        names = self.episode.task.tools
        for call in parsed.calls:
            if call.name not in names:
                listed = ", ".join(names) or "none"
                detail = (
                    f'the tool "{call.name[:60]}" is not offered{did_you_mean(call.name, names)} '
                    f"(offered: {listed}); nothing was executed"
                )
                return replace(parsed, calls=(), fault=Fault.UNOFFERED_TOOL, fault_detail=detail)
        return parsed

    def answered(self, pending: PendingTurn, results: Sequence[ToolResult]) -> Turn:
        """Return a turn with its results, before it is judged.

        Args:
            pending: What `read` returned.
            results: One result for each of `pending.calls`.
        """
        parsed, fresh = pending.parsed, iter(results)
        merged = [
            pending.refused[place] if place in pending.refused else next(fresh)
            for place in range(len(parsed.calls))
        ]
        self._thought_cut = parsed.thought_cut
        return Turn(
            raw=pending.raw,
            calls=parsed.calls,
            text=parsed.text,
            thought=parsed.thought,
            fault=parsed.fault,
            fault_detail=parsed.fault_detail,
            results=tuple(self._shown(result) for result in merged),
        )

    def looks_at_goal(self, turn: Turn) -> bool:
        """Return whether judging a turn looks at the goal, and so needs evidence."""
        return reaches_goal(self.episode, turn)

    def finish(self, turn: Turn, evidence: Evidence) -> StepResult:
        """Judge a turn and say what the model is told.

        Args:
            turn: What `answered` returned.
            evidence: What the goal is judged by.
        """
        turn = replace(
            turn,
            state=evidence.state,
            state_digest=evidence.digest,
            probes=evidence.probes,
            files=evidence.files,
        )
        last = len(self.episode.turns) + 1 >= self._rules.max_turns
        judged = judge_turn(self.episode, turn, last, self._rules.matrix)
        replies = [] if judged.ends_episode else self._replies(turn)
        observation = "\n".join(message["content"] for message in replies)
        turn = replace(
            turn,
            observation=observation,
            outcome=judged.outcome,
            reward=judged.reward,
            why=judged.why,
        )
        self._record(turn, judged)
        self.messages += [{"role": "assistant", "content": turn.raw}, *replies]
        self.new_messages = replies
        return StepResult(
            observation, judged.reward, self.episode.terminated, self.episode.truncated
        )

    def _shown(self, result: ToolResult) -> ToolResult:
        """Make a text safe and short; what it holds stays whole for the judge."""
        limit, text = self._rules.max_result_chars, neutralise(result.text)
        if len(text) <= limit:
            return result if text == result.text else replace(result, text=text)
        structured = result.structured
        if structured is None and not result.is_error:
            structured = _parsed(result.text)
        cut = text[:limit] + CUT_MARK.format(len(text) - limit)
        return replace(result, text=cut, structured=structured)

    def _replies(self, turn: Turn) -> list[dict[str, Any]]:
        if turn.fault is not None:
            return [{"role": "tool", "content": neutralise(f"Error: {turn.fault_detail}")}]
        return [{"role": "tool", "content": result.text} for result in turn.results]

    def _record(self, turn: Turn, judged: Judgement) -> None:
        seen = (*turn.results, *turn.probes.values())
        broken = [result.status for result in seen if result.status not in MODEL_STATUSES]
        self.episode = replace(
            self.episode,
            turns=(*self.episode.turns, turn),
            terminated=judged.ends_episode and not judged.truncates,
            truncated=judged.truncates,
            status=broken[0] if broken else Status.OK,
        )


def _parsed(text: str) -> Any:
    """Return the JSON that a server without structured content wrote as text; None if none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def render_ansi(session: EpisodeSession | None) -> str:
    """Return the episode so far as text for a terminal."""
    if session is None:
        return "no episode yet: call reset()"
    lines = [f"task {session.episode.task.id}: {session.episode.task.prompt}"]
    for number, turn in enumerate(session.episode.turns, start=1):
        lines.append(f"[{number}] {turn.raw.strip()}")
        lines += [f"    -> {result.text}" for result in turn.results]
        if turn.fault is not None:
            lines.append(f"    -> Error: {turn.fault_detail}")
        lines.append(f"    = {turn.outcome} {turn.reward:+.1f}: {turn.why}")
    return "\n".join(lines)
