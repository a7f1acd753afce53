"""The tables of `servers.py`, and what they promise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from server_sides import MEMORY, STDIO_NODE, STDIO_PYTHON

SDK, OURS = ("plain", "crossed"), ("call_all", "step")
DESCRIBED = ("openenv-core step", "openenv-core step_async")
"""The forms in memory that a guide of the peer describes: calls without parsing or reward."""
BY_HAND = ("openenv-core open_sessions", "gem-llm sync", "gem-llm async")
"""The forms in memory that none describes; faster, or not there at all."""

MANY, MOST_OVERHEAD, MOST_OVERHEAD_MANY = 16, 0.60, 0.25
"""What `call_all` may take more than the plain SDK; the second from so many episodes on."""
LEAST_RATIO = 5.0
"""Of `call_all` to the fastest of `DESCRIBED`."""
POOL_LIMITS_MS = {STDIO_NODE: 50.0, STDIO_PYTHON: 100.0}
POOL_PROMISED = 4
"""Most episodes side by side for which the median is promised."""

CALLS_HEAD = (
    f"{'calls per second':<20}{'plain SDK':>10}{'crossed':>9}{'call_all':>9}{'step()':>9}"
    f"{'call_all over SDK':>24}{'over crossed':>14}{'step() over SDK':>17}{'n':>5}"
)
RESETS_HEAD = (
    f"{'ms per episode':<20}{'ours':>9}{'quartiles':>20}{'SDK opens, closes':>19}{'n':>5}"
    f"{'server MB':>11}{'own MB':>8}{'MB':>8}"
)
POOL_HEAD = f"{'ms':<20}{'median':>9}{'quartiles':>20}{'90 %':>9}{'n':>5}{'limit':>7}  keeps up"
PEERS_HEAD = (
    f"{'calls per second':<20}{'':<29}{'median':>9}{'quartiles':>20}"
    f"{'call_all':>11}{'step()':>9}{'n':>5}"
)


def title(record: dict[str, Any]) -> str:
    """Return how a line begins: transport and number of episodes."""
    return f"{record['transport']:<14}{record['episodes']:>4}  "


def calls_row(record: dict[str, Any]) -> str:
    """Return a line of the table of calls."""
    rates = [record["calls_per_second"][name]["median"] for name in (*SDK, *OURS)]
    more = record["overhead"]
    ours = more["call_all/plain"]
    limits = f"({ours['low']:+.0%} to {ours['high']:+.0%})"
    return (
        f"{title(record)}{rates[0]:>10,.0f}{rates[1]:>9,.0f}{rates[2]:>9,.0f}{rates[3]:>9,.0f}"
        f"{ours['median']:>+7.0%} {limits:>16}{more['call_all/crossed']['median']:>+14.0%}"
        f"{more['step/plain']['median']:>+17.0%}{ours['n']:>5}"
    )


def peer_rows(record: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the table of peers that belong to a record of calls."""
    rates = record["calls_per_second"]
    for name, rate in rates.items():
        if name in (*SDK, *OURS):
            continue
        mark = "*" if record["transport"] == MEMORY and name in BY_HAND else " "
        ratios = [rates[side]["median"] / rate["median"] for side in OURS]
        quartiles = f"{rate['low']:,.1f} to {rate['high']:,.1f}"
        yield (
            f"{title(record)}{name:<28}{mark}{rate['median']:>9,.1f}{quartiles:>20}"
            f"{ratios[0]:>11.1f}{ratios[1]:>9.1f}{rate['n']:>5}"
        )


def resets_row(record: dict[str, Any]) -> str:
    """Return a line of the table of resets without a pause."""
    ours, sdk = record["ours_ms"], record["sdk_open_and_close_ms"]
    quartiles = f"{ours['low']:,.2f} to {ours['high']:,.2f}"
    server, own = record["server_mb_per_episode"], record["own_mb_per_episode"]
    return (
        f"{title(record)}{ours['median']:>9,.2f}{quartiles:>20}{sdk['median']:>19,.2f}"
        f"{ours['n']:>5}{server:>11,.1f}{own:>8,.2f}{server + own:>8,.1f}"
    )


def pool_row(record: dict[str, Any]) -> str:
    """Return a line of the table of resets from the pool."""
    ms = record["reset_ms"]
    quartiles = f"{ms['low']:,.1f} to {ms['high']:,.1f}"
    kept = "yes" if record["keeps_up"] else "no"
    return (
        f"{title(record)}{ms['median']:>9,.1f}{quartiles:>20}{record['reset_ms_p90']:>9,.1f}"
        f"{ms['n']:>5}{record['limit_ms']:>7.0f}  {kept}"
    )


def keeping_up(pool: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield, for each kind of server, up to where the pool keeps up."""
    for transport in POOL_LIMITS_MS:
        lost = [
            one["episodes"] for one in pool if one["transport"] == transport and not one["keeps_up"]
        ]
        end = (
            f"no longer keeps up at {min(lost)} episodes" if lost else "keeps up with all of these"
        )
        yield f"{transport}: the pool {end}"


def targets(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the project promises, each with the figure and whether it is met."""
    found = []
    for one in record["calls"]:
        if one["transport"] != MEMORY:
            found.append(_overhead_target(one))
        elif all(name in one["calls_per_second"] for name in DESCRIBED):
            found.append(_ratio_target(one))
    for one in record["pool"]:
        if one["episodes"] <= POOL_PROMISED:
            figure, limit = one["reset_ms"]["median"], one["limit_ms"]
            what = f"median reset from the pool, at most {limit:g} ms"
            found.append(_target(one, what, figure, figure <= limit))
    return found


def _overhead_target(record: dict[str, Any]) -> dict[str, Any]:
    most = MOST_OVERHEAD_MANY if record["episodes"] >= MANY else MOST_OVERHEAD
    figure = record["overhead"]["call_all/plain"]["median"]
    what = f"what call_all takes more than the plain SDK, at most {most:.2f}"
    return _target(record, what, figure, figure <= most)


def _ratio_target(record: dict[str, Any]) -> dict[str, Any]:
    rates = {name: rate["median"] for name, rate in record["calls_per_second"].items()}
    figure = rates["call_all"] / max(rates[name] for name in DESCRIBED)
    what = f"call_all to the fastest described form of OpenEnv, at least {LEAST_RATIO:g}"
    return _target(record, what, figure, figure >= LEAST_RATIO)


def _target(record: dict[str, Any], what: str, figure: float, met: bool) -> dict[str, Any]:
    case = {"transport": record["transport"], "episodes": record["episodes"]}
    return {**case, "target": what, "figure": figure, "met": met}


def target_row(target: dict[str, Any]) -> str:
    """Return a line of the list of targets."""
    met = "met" if target["met"] else "MISSED"
    return f"{title(target)}{met:<7}{target['figure']:>8.2f}  {target['target']}"
