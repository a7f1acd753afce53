"""Figures as text: one table of policies, one of training stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from agents.figures import PARTS, Count, Part, PolicyFigures, Proportion
from agents.summary import Summary, pair_name
from rewards.episode import Outcome

Row = list[str]

STAGE_TITLES = {"base": "base", "sft": "SFT", "grpo": "GRPO", "ppo": "PPO"}

PART_TITLES: Mapping[Part, str] = {
    "success": "success",
    "abstention": "abstention",
    "heldout": "held-out",
}

OUTCOME_TITLES = {
    Outcome.SUCCESS: "ok",
    Outcome.TOOL_EXECUTION: "exec",
    Outcome.TOOL_ERROR: "error",
    Outcome.INVALID_JSON: "json",
    Outcome.STRUCTURAL_FAIL: "struct",
}

LEGEND = (
    "success: tasks that need tools, as in training; held-out: phrasings, tool sets and depths\n"
    "that training never showed; abstention: tasks that must not use any tool. [Wilson 95 %]\n"
    "ok exec error json struct: % of turns by outcome; bad calls: % of attempted calls\n"
    "p: exact McNemar against the policy of the row above, on `success` tasks"
)


class _Figure(NamedTuple):
    title: str
    cell: Callable[[PolicyFigures], str]


_FIGURES = (
    _Figure("turns per episode", lambda one: f"{one['turns_per_episode']:.2f}"),
    _Figure("calls per episode", lambda one: f"{one['calls_per_episode']:.2f}"),
    _Figure("invalid calls, % of calls", lambda one: percent(one["invalid_call_rate"])),
    _Figure("turns cut inside <think>", lambda one: str(one["cut_thoughts"])),
    _Figure("mean return", lambda one: f"{one['mean_return']:.2f}"),
    _Figure("infrastructure faults, not counted", lambda one: str(faults(one))),
)


class KindChange(NamedTuple):
    """How success on one kind of task changed, in points."""

    kind: str
    points: float


def aligned(rows: Sequence[Row]) -> str:
    """Lay rows out in columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(rows: Sequence[Row]) -> str:
    """Lay rows out as a markdown table; the first one is the header."""
    header, *body = rows
    lines = [header, ["---"] * len(header), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(rate: float | None) -> str:
    """A rate in percent, or a dash where there is none."""
    return "-" if rate is None else f"{100 * rate:.1f}"


def with_interval(figure: Proportion) -> str:
    """A rate in percent with its interval and n."""
    if not figure["n"]:
        return "-"
    low, high = (100 * end for end in figure["interval"])
    return f"{percent(figure['rate'])} [{low:.1f}, {high:.1f}] n={figure['n']}"


def with_n(figure: Count | None) -> str:
    """A rate in percent with its n."""
    return f"{percent(figure['rate'])} n={figure['n']}" if figure and figure["n"] else "-"


def p_value(p: float) -> str:
    """A p-value with two digits."""
    return f"{p:.2g}"


def faults(figures: PolicyFigures) -> int:
    """Episodes that an infrastructure fault ended."""
    return sum(figures["infrastructure_faults"].values())


def policy_table(summary: Summary) -> str:
    """One line per policy, for any number of policies."""
    names = list(summary["policies"])
    tests = _tests(summary, "success")
    several = any("attempts" in one for one in summary["policies"].values())
    header = ["policy", *(PART_TITLES[part] for part in PARTS), "p"]
    header += [*OUTCOME_TITLES.values(), "turns", "calls", "bad calls", "return", "faults"]
    rows = [header + ["pass@1", "pass@k", "pass^k", "k"] * several]
    for name, p in zip(names, tests, strict=True):
        one = summary["policies"][name]
        rows.append(
            [
                name,
                *(with_interval(one[part]) for part in PARTS),
                p,
                *(percent(one["outcomes"][outcome.value]) for outcome in OUTCOME_TITLES),
                f"{one['turns_per_episode']:.2f}",
                f"{one['calls_per_episode']:.2f}",
                percent(one["invalid_call_rate"]),
                f"{one['mean_return']:.2f}",
                str(faults(one)),
                *(_attempts(one) if several else ()),
            ]
        )
    followed = [
        f"{name}: % of planted instructions followed: {with_interval(one['obedience'])}"
        for name, one in summary["policies"].items()
        if "obedience" in one
    ]
    return "\n".join([aligned(rows), "", *followed, *([""] if followed else []), LEGEND])


def stage_table(summary: Summary) -> str:
    """One column per training stage, success per kind of task below the aggregates."""
    policies = summary["policies"]
    rows = [["% [Wilson 95 %]", *(STAGE_TITLES.get(name, name) for name in policies)]]
    for part in PARTS:
        rows.append([PART_TITLES[part], *(with_interval(one[part]) for one in policies.values())])
        rows.append(["  exact McNemar p, stage before", *_tests(summary, part)])
    rows += _split(policies, "held-out by what is new", lambda one: one["heldout_by"])
    rows.append(["turns by outcome, %", *_blanks(policies)])
    for outcome in Outcome:
        shares = (percent(one["outcomes"][outcome.value]) for one in policies.values())
        rows.append([f"  {outcome.value}", *shares])
    rows.append(["  last two, `success` tasks only", *map(_last_two, policies.values())])
    rows += [[one.title, *map(one.cell, policies.values())] for one in _FIGURES]
    rows += _split(policies, "success by kind of task", lambda one: one["kinds"])
    rows += _split(policies, "abstention by kind of task", lambda one: one["abstention_kinds"])
    return "\n".join([aligned(rows), "", *notes(summary)])


def notes(summary: Summary) -> list[str]:
    """What the aggregates could hide: the lowest kind, the largest loss, tasks that differ."""
    policies = summary["policies"]
    lines = []
    last = list(policies)[-1] if policies else ""
    title = STAGE_TITLES.get(last, last)
    if last and policies[last]["kinds"]:
        kind, figure = lowest_kind(policies[last]["kinds"])
        lines.append(f"lowest kind after {title}: {kind} {with_n(figure)}")
    for stage in ("grpo", "ppo"):
        if {"sft", stage} <= policies.keys():
            change = largest_loss(policies["sft"]["kinds"], policies[stage]["kinds"])
            if change:
                points = f"{change.kind} {change.points:+.1f} points"
                title = STAGE_TITLES[stage]
                lines.append(f"worst change of a kind from SFT to {title}: {points}")
    for name, test in summary["mcnemar"].items():
        pairs = sum(test[part]["n"] for part in PARTS)
        either = sum(test[part]["either"] for part in PARTS)
        if pairs < either:
            lines.append(f"{name}: only {pairs} of {either} tasks were played by both")
    return lines


def lowest_kind(kinds: Mapping[str, Count]) -> tuple[str, Count]:
    """The kind with the lowest success rate."""
    return min(kinds.items(), key=lambda item: item[1]["rate"] or 0.0)


def largest_loss(before: Mapping[str, Count], after: Mapping[str, Count]) -> KindChange | None:
    """The kind that changed for the worse the most (or gained the least); None without kinds."""
    changes = [
        KindChange(kind, 100 * ((after[kind]["rate"] or 0.0) - (before[kind]["rate"] or 0.0)))
        for kind in before
        if kind in after
    ]
    return min(changes, key=lambda change: change.points, default=None)


def bad_turn_share(shares: Mapping[str, float]) -> float:
    """Share of turns that are invalid JSON or a structural fail."""
    return shares[Outcome.INVALID_JSON.value] + shares[Outcome.STRUCTURAL_FAIL.value]


def _last_two(one: PolicyFigures) -> str:
    return percent(bad_turn_share(one["outcomes_by"]["success"]))


def _tests(summary: Summary, part: Part) -> Row:
    pairs = pairwise(summary["policies"])
    tests = [summary["mcnemar"][pair_name(first, second)] for first, second in pairs]
    return ["-", *(p_value(test[part]["p"]) for test in tests)]


def _blanks(policies: Mapping[str, PolicyFigures]) -> Row:
    return [""] * len(policies)


def _split(
    policies: Mapping[str, PolicyFigures],
    title: str,
    kinds: Callable[[PolicyFigures], Mapping[str, Count]],
) -> list[Row]:
    names = sorted({name for one in policies.values() for name in kinds(one)})
    rows = [
        [f"  {name}", *(with_n(kinds(p).get(name)) for p in policies.values())] for name in names
    ]
    return [[title, *_blanks(policies)], *rows] if rows else []


def _attempts(one: PolicyFigures) -> Row:
    if "attempts" not in one:
        return ["-"] * 4
    attempts = one["attempts"]
    rates = (attempts["pass_at_1"], attempts["pass_at_k"], attempts["pass_hat_k"])
    return [*map(percent, rates), str(attempts["k"])]
