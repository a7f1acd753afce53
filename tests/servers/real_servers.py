"""The servers that others wrote, each with a task that leaves a mark on it.

A task's goal holds only where its own mark was left and no other, so that it fails on a server
that another episode has used.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewards.episode import Episode, ReferenceTurn, Task, ToolCall
from rewards.goals import AllOf, Custom, FinalAnswer, FolderState, Probe, ReturnedData, WantedEntry

SERVERS = Path(__file__).parents[2] / ".servers"
PROGRAMS = SERVERS / "node_modules" / ".bin"
SCRIPTS = SERVERS / "venv" / "bin"

PATIENT = {"startTimeout": 60_000, "callTimeout": 60_000}
"""Chromium takes its time on a busy machine."""


@dataclass(frozen=True)
class RealServer:
    """A server, and how to see that its episodes are kept apart.

    Attributes:
        name: Its name in the config file.
        entry: Makes its entry in a config file, given a folder for what it needs.
        task: Makes the task that leaves the mark 1 to 9, given the address of the test's site.
    """

    name: str
    entry: Callable[[Path], dict[str, Any]]
    task: Callable[[int, str], Task]


def reference(*turns: ToolCall | str) -> tuple[ReferenceTurn, ...]:
    return tuple(
        ReferenceTurn(text=turn) if isinstance(turn, str) else ReferenceTurn(calls=(turn,))
        for turn in turns
    )


def solved_by(prompt: str, goal: Any, *turns: ToolCall | str) -> Task:
    calls = [turn for turn in turns if isinstance(turn, ToolCall)]
    tools = tuple(dict.fromkeys(call.name for call in calls))
    return Task(
        id=prompt,
        prompt=prompt,
        goal=goal,
        tools=tools,
        depth=len(calls),
        reference=reference(*turns),
    )


# --- filesystem: a file is read, another one written ---------------------------------------------


def filesystem_entry(folder: Path) -> dict[str, Any]:
    template = folder / "template"
    template.mkdir()
    (template / "greeting.txt").write_text("Good morning", encoding="utf-8")
    return {
        "command": str(PROGRAMS / "mcp-server-filesystem"),
        "args": ["${episodeFolder}"],
        "mcpGym": {"template": str(template)},
    }


def filesystem_task(mark: int, _: str) -> Task:
    letter = f"letter-{mark}.txt"
    return solved_by(
        f"Write the greeting of greeting.txt to {letter}.",
        FolderState({letter: WantedEntry(text="Good morning")}),
        ToolCall("read_text_file", {"path": "greeting.txt"}),
        ToolCall("write_file", {"path": letter, "content": "Good morning"}),
    )


# --- memory: a graph of one person ---------------------------------------------------------------


def memory_entry(_: Path) -> dict[str, Any]:
    return {
        "command": str(PROGRAMS / "mcp-server-memory"),
        "env": {"MEMORY_FILE_PATH": "${episodeFolder}/memory.json"},
    }


def memory_task(mark: int, _: str) -> Task:
    person = {"name": f"Ann {mark}", "entityType": "person", "observations": ["likes tea"]}
    return solved_by(
        f"Remember that the person Ann {mark} likes tea.",
        Probe("read_graph", {}, "", {"entities": [person], "relations": []}),
        ToolCall("create_entities", {"entities": [person]}),
    )


# --- everything: a sum, and a switch that belongs to the session ---------------------------------


def everything_entry(_: Path) -> dict[str, Any]:
    return {"command": str(PROGRAMS / "mcp-server-everything")}


def everything_task(mark: int, _: str) -> Task:
    return solved_by(
        f"Switch on the simulated logging, then tell the sum of {mark} and 40.",
        AllOf((Custom("tests.servers.real_servers:was_off"), FinalAnswer(mark + 40, "number"))),
        ToolCall("toggle-simulated-logging", {}),
        ToolCall("get-sum", {"a": mark, "b": 40}),
        f"The sum is {mark + 40}.",
    )


def was_off(episode: Episode) -> bool:
    """Return whether the one toggling of the episode switched the logging on."""
    toggled = [
        result.text
        for turn in episode.turns
        for call, result in zip(turn.calls, turn.results, strict=True)
        if call.name == "toggle-simulated-logging"
    ]
    return len(toggled) == 1 and toggled[0].startswith("Started simulated")


# --- git: a branch and a commit ------------------------------------------------------------------


def git_entry(folder: Path) -> dict[str, Any]:
    repository = folder / "repository"
    repository.mkdir()

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(repository), *arguments], check=True, timeout=30)

    git("init", "--quiet", "--initial-branch=main")
    git("config", "user.name", "Ann")
    git("config", "user.email", "ann@example.com")
    (repository / "tea.txt").write_text("green\n", encoding="utf-8")
    git("add", "tea.txt")
    git("commit", "--quiet", "--no-gpg-sign", "--message", "First")
    (repository / "tea.txt").write_text("green\nblack\n", encoding="utf-8")
    return {
        "command": str(SCRIPTS / "mcp-server-git"),
        "args": ["--repository", "${episodeFolder}"],
        "mcpGym": {"template": str(repository), **PATIENT},
    }


def git_task(mark: int, _: str) -> Task:
    here = {"repo_path": "."}
    branches = f"* main\n  topic-{mark}"
    clean = "nothing to commit, working tree clean"
    return solved_by(
        f"Commit tea.txt with the message Tea {mark}, then make the branch topic-{mark}.",
        AllOf(
            (
                Probe("git_branch", {**here, "branch_type": "local"}, "", branches),
                Probe("git_log", {**here, "max_count": 1}, "", f"Message: Tea {mark}", "contains"),
                Probe("git_status", here, "", clean, "contains"),
            )
        ),
        ToolCall("git_add", {**here, "files": ["tea.txt"]}),
        ToolCall("git_commit", {**here, "message": f"Tea {mark}"}),
        ToolCall("git_create_branch", {**here, "branch_name": f"topic-{mark}"}),
    )


# --- time: no state at all; neither of the two places has summer time ----------------------------


def time_entry(_: Path) -> dict[str, Any]:
    return {"command": str(SCRIPTS / "mcp-server-time"), "mcpGym": PATIENT}


def time_task(mark: int, _: str) -> Task:
    answer = f"{mark + 9:02}:30"
    return solved_by(
        f"What time is it in Tokyo when it is {mark:02}:30 in UTC?",
        AllOf(
            (
                ReturnedData("convert_time", "time_difference", "+9.0h"),
                FinalAnswer(answer, "exact"),
            )
        ),
        ToolCall(
            "convert_time",
            {
                "source_timezone": "Etc/UTC",
                "time": f"{mark:02}:30",
                "target_timezone": "Asia/Tokyo",
            },
        ),
        f"It is {answer} in Tokyo.",
    )


# --- playwright: orders at a shop that keeps them in the browser ---------------------------------

SHOP = """<!DOCTYPE html>
<title>Tea shop</title>
<input id="tea">
<button onclick="localStorage.orders = (localStorage.orders || '') +
  document.querySelector('#tea').value + ';'">Order</button>
"""


def playwright_entry(_: Path) -> dict[str, Any]:
    return {
        "command": str(PROGRAMS / "playwright-mcp"),
        "args": [
            "--headless",
            "--no-sandbox",  # Chromium's own sandbox does not work as root
            "--isolated",
            "--executable-path",
            shutil.which("chromium") or "chromium",
        ],
        "mcpGym": PATIENT,
    }


def playwright_task(mark: int, site: str) -> Task:
    read_orders = {"function": "() => localStorage.orders"}
    return solved_by(
        f"Order tea number {mark} at {site}.",
        Probe("browser_evaluate", read_orders, "", f'### Result\n"tea {mark};"\n', "contains"),
        ToolCall("browser_navigate", {"url": site}),
        ToolCall("browser_type", {"target": "#tea", "text": f"tea {mark}"}),
        ToolCall("browser_click", {"target": "button"}),
    )


REAL_SERVERS = (
    RealServer("filesystem", filesystem_entry, filesystem_task),
    RealServer("memory", memory_entry, memory_task),
    RealServer("everything", everything_entry, everything_task),
    RealServer("git", git_entry, git_task),
    RealServer("time", time_entry, time_task),
    RealServer("playwright", playwright_entry, playwright_task),
)
