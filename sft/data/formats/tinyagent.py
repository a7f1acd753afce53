"""`tinyagent`: samples with the steps of a planner and of the one who joins what came of a plan.

A sample holds two kinds of message sequence, and each step becomes a row of its own:

    plan, replan    the query, answered by the plan as calls in their order; a later call refers to
                    the result of the n-th as `$n`, and `join` is a tool like the others
    join            what was done, answered by a thought and a decision, finish or replan, as text

The planner's prompt lists the tools by their signatures and says how to write a plan; with the plan
as calls that prompt is left out. The joiner's prompt is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sft.data.formats.draft import Draft, Row, list_field, text_field
from sft.data.formats.literals import python_literal
from sft.data.formats.roles import ROLES, SYSTEM, USER, spoken
from sft.data.formats.tool_lists import tool_of
from sft.data.formats.type_names import schema_of, split_at_commas
from sft.data.reasons import Reason
from sft.data.rejected import Rejected

_SIGNATURE = re.compile(
    r"^\d+\. (\w+)\(([^()]*)\)(?: *-> *[^\n:]+)?:?\n((?: +- [^\n]*\n?)*)", re.MULTILINE
)
_END = re.compile(r"\s*<END_OF_(?:PLAN|RESPONSE)>\s*$")
_FIRST_STEP = re.compile(r"^\s*\d+\. ", re.MULTILINE)
_QUESTION = "Question: "


def split(row: Row) -> Iterator[Row]:
    """Yield the steps of the samples of a row `{key: {input, output: [step, ...]}}`.

    Raises:
        Rejected: If it is no such row.
    """
    for key, sample in row.items():
        if not isinstance(sample, dict):
            raise Rejected(Reason.UNKNOWN_LAYOUT, f'"{key[:40]}" is not a sample')
        for number, step in enumerate(list_field(sample, "output"), start=1):
            yield {"id": f"{key}-{number}", "input": sample.get("input"), "step": step}


def parse(row: Row) -> Draft:
    """Read one step, as `split` yields them."""
    step = row["step"]
    if not isinstance(step, dict):
        raise Rejected(Reason.BAD_FIELD, "a step is not an object")
    draft = Draft(fields={"id": row["id"]})
    system, user = _prompt(step)
    kind, output = step.get("type"), _END.sub("", text_field(step, "raw_output"))
    if kind in ("plan", "replan"):
        draft.add("user", text_field(row, "input") if kind == "plan" else user)
        _add_plan(draft, system, list_field(step, "parsed_output"), output)
    elif kind == "join":
        draft.system(system)
        draft.add("user", user)
        draft.add("assistant", output.strip())
    else:
        raise Rejected(Reason.BAD_FIELD, f'there is no step of type "{str(kind)[:40]}"')
    return draft


def _prompt(step: Mapping[str, Any]) -> tuple[str, str]:
    """Return system and user text of a step's input: messages, or one text with the question."""
    raw = step.get("raw_input")
    if isinstance(raw, str) and raw.lstrip().startswith("["):
        raw = python_literal(raw)
    if isinstance(raw, list):
        said = [spoken(message, ROLES) for message in raw]
        return _joined(said, SYSTEM), _joined(said, USER)
    system, question, user = text_field(step, "raw_input").rpartition(_QUESTION)
    return system, question + user


def _joined(said: Sequence[tuple[str, str]], role: str) -> str:
    return "\n".join(text for speaker, text in said if speaker == role)


def _add_plan(draft: Draft, system: str, plan: Sequence[Any], output: str) -> None:
    parameters: dict[str, list[str]] = {"join": []}
    draft.tools = [tool_of("join", "Joins the results.", {})]
    for name, signature, description in _SIGNATURE.findall(system):
        if name != "join":
            pairs = [part.partition(":") for part in split_at_commas(signature) if part.strip()]
            parameters[name] = [argument.strip() for argument, _, _ in pairs]
            schema = {argument.strip(): schema_of(kind) for argument, _, kind in pairs}
            draft.tools.append(_tool(name, description, schema))
    first = _FIRST_STEP.search(output)
    draft.add("assistant", output[: first.start()].strip() if first else "")
    for step in plan:
        if not isinstance(step, dict):
            raise Rejected(Reason.BROKEN_CALL, "a step of the plan is not an object")
        name, arguments = step.get("tool_name"), step.get("tool_args")
        draft.call(name, _named(arguments, parameters.get(str(name), [])))


def _tool(name: str, description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    lines = [line.strip().removeprefix("- ") for line in description.splitlines()]
    required = {"required": list(schema)} if schema else {}
    return tool_of(name, "\n".join(lines), {"properties": schema, **required})


def _named(arguments: Any, names: Sequence[str]) -> Any:
    """Return arguments by their names; a plan gives them by position."""
    if not isinstance(arguments, list):
        return arguments
    if len(arguments) > len(names):
        raise Rejected(Reason.BAD_ARGUMENTS, f"{len(arguments)} arguments for {len(names)}")
    return dict(zip(names, arguments, strict=False))
