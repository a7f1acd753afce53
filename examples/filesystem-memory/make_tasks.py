"""Writes `tasks.jsonl`: 20 tasks on a folder of files and a memory, each with its proof of success.

    python examples/filesystem-memory/make_tasks.py

The goals are derived from the template that every episode starts with, so that a change of the
template cannot leave them behind. To prove what was written:

    python -m envs.tasks check examples/filesystem-memory/tasks.jsonl \
        --servers examples/filesystem-memory/mcp.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rewards.episode import ReferenceTurn, Task, ToolCall
from rewards.goals import (
    AllOf,
    FinalAnswer,
    FolderState,
    Goal,
    NoCall,
    NoCallNaming,
    Probe,
    WantedEntry,
)
from rewards.serialise import write_tasks
from rewards.validate import SPLITS

HERE = Path(__file__).parent
TEMPLATE = HERE / "template"

_SERVERS = json.loads((HERE / "mcp.json").read_text(encoding="utf-8"))["mcpServers"]
# With several servers in the config, the tools of each carry its name.
FILES, MEMORY = (
    tuple(f"{server}_{tool}" for tool in _SERVERS[server]["mcpGym"]["tools"])
    for server in ("filesystem", "memory")
)
OFFERED = {"files": FILES, "memory": MEMORY, "both": FILES + MEMORY}

Turn = ToolCall | str


def task(name: str, split: str, domain: str, prompt: str, goal: Goal, *solution: Turn) -> Task:
    """Return a task with its reference solution, one call or text a turn."""
    calls = [turn for turn in solution if isinstance(turn, ToolCall)]
    reference = (
        ReferenceTurn(calls=(turn,)) if isinstance(turn, ToolCall) else ReferenceTurn(text=turn)
        for turn in solution
    )
    return Task(
        id=f"{domain}-{name}",
        prompt=prompt,
        goal=goal,
        tools=OFFERED[domain],
        domain=domain,
        kind=name,
        split=split,
        depth=len(calls),
        reference=tuple(reference),
    )


def on_files(tool: str, **arguments: Any) -> ToolCall:
    """Return a call of the filesystem server."""
    return ToolCall(f"filesystem_{tool}", arguments)


def on_memory(tool: str, **arguments: Any) -> ToolCall:
    """Return a call of the memory server."""
    return ToolCall(f"memory_{tool}", arguments)


def text_of(path: str) -> str:
    """Return a file of the template."""
    return (TEMPLATE / "files" / path).read_text(encoding="utf-8")


def changed(files: dict[str, str | None]) -> FolderState:
    """Return the goal that files came to hold these texts, or were removed, and nothing else."""
    return FolderState(
        {
            f"files/{path}": None if text is None else WantedEntry(text=text)
            for path, text in files.items()
        }
    )


# --- files ---------------------------------------------------------------------------------------


def file_tasks() -> Iterator[Task]:
    """Yield the tasks that need the filesystem server only."""
    yield task(
        "find-address",
        "train",
        "files",
        "What is the address of the supplier Uji Fields? It is in the file suppliers.txt.",
        FinalAnswer("4 Temple Lane, Kyoto"),
        on_files("read_text_file", path="suppliers.txt"),
        "The address is 4 Temple Lane, Kyoto.",
    )
    yield task(
        "find-number",
        "train",
        "files",
        "How many crates does order O-102 ask for? The orders are in orders/march.csv.",
        FinalAnswer(12, "number"),
        on_files("read_text_file", path="orders/march.csv"),
        "It asks for 12 crates.",
    )
    yield task(
        "write-file",
        "train",
        "files",
        "Make the file notes/shopping.txt with the single line: buy oat milk",
        changed({"notes/shopping.txt": "buy oat milk"}),
        on_files("write_file", path="notes/shopping.txt", content="buy oat milk\n"),
    )
    yield task(
        "edit-file",
        "train",
        "files",
        "In settings.ini the port is 8080. Change it to 9090 and leave the rest as it is.",
        changed({"settings.ini": text_of("settings.ini").replace("8080", "9090")}),
        on_files("edit_file", path="settings.ini", edits=[{"oldText": "8080", "newText": "9090"}]),
    )
    yield task(
        "make-folder",
        "train",
        "files",
        "Make an empty folder archive/2026.",
        FolderState({"files/archive/2026": WantedEntry(folder=True)}),
        on_files("create_directory", path="archive/2026"),
    )
    letter = text_of("drafts/letter.txt")
    yield task(
        "move-file",
        "validation",
        "files",
        "Move drafts/letter.txt to sent/letter.txt. The folder sent does not exist yet.",
        changed({"drafts/letter.txt": None, "sent/letter.txt": letter}),
        on_files("create_directory", path="sent"),
        on_files("move_file", source="drafts/letter.txt", destination="sent/letter.txt"),
    )
    yield task(
        "search-file",
        "validation",
        "files",
        "Somewhere below the folder reports there is a file whose name starts with audit. "
        "Who was the auditor?",
        FinalAnswer("Ines Berg"),
        on_files("search_files", path="reports", pattern="**/audit*"),
        on_files("read_text_file", path="reports/2026/audit-storeroom.txt"),
        "The auditor was Ines Berg.",
    )
    yield task(
        "copy-file",
        "test",
        "files",
        "Copy notes/todo.txt to backup/todo.txt. The folder backup does not exist yet.",
        changed({"backup/todo.txt": text_of("notes/todo.txt")}),
        on_files("read_text_file", path="notes/todo.txt"),
        on_files("create_directory", path="backup"),
        on_files("write_file", path="backup/todo.txt", content=text_of("notes/todo.txt")),
    )


# --- memory --------------------------------------------------------------------------------------

Graph = dict[str, list[dict[str, Any]]]


def graph() -> Graph:
    """Return the graph that every episode starts with, as the memory server shows it."""
    found: Graph = {"entities": [], "relations": []}
    for line in (TEMPLATE / "memory.json").read_text(encoding="utf-8").splitlines():
        node = json.loads(line)
        found["entities" if node.pop("type") == "entity" else "relations"].append(node)
    return found


def observations(of: Graph, name: str) -> list[str]:
    """Return the observations of an entity, as a list that can be changed."""
    entity = next(one for one in of["entities"] if one["name"] == name)
    noted: list[str] = entity["observations"]
    return noted


def remembered(wanted: Graph) -> Probe:
    """Return the goal that the memory holds exactly this."""
    return Probe("memory_read_graph", {}, "", wanted)


def relation(start: str, kind: str, end: str) -> dict[str, str]:
    """Return a relation as the memory server writes it."""
    return {"from": start, "to": end, "relationType": kind}


def memory_questions() -> Iterator[Task]:
    """Yield the tasks that only read the memory."""
    yield task(
        "find-phone",
        "train",
        "memory",
        "What is Ann Lee's phone number? Look it up in the memory.",
        FinalAnswer("555-0101"),
        on_memory("open_nodes", names=["Ann Lee"]),
        "Her phone number is 555-0101.",
    )
    yield task(
        "find-leader",
        "validation",
        "memory",
        "Who leads Project Willow, according to the memory? Answer with the name.",
        FinalAnswer("Bo Kim"),
        on_memory("open_nodes", names=["Project Willow"]),
        "Bo Kim leads Project Willow.",
    )


def memory_additions() -> Iterator[Task]:
    """Yield the tasks that add something to the memory."""
    dora = {"name": "Dora Lind", "entityType": "person", "observations": ["works in design"]}
    after = graph()
    after["entities"].append(dora)
    yield task(
        "add-person",
        "train",
        "memory",
        "Remember Dora Lind: an entity of the type person, with the one observation "
        '"works in design".',
        remembered(after),
        on_memory("create_entities", entities=[dora]),
    )
    after = graph()
    observations(after, "Bo Kim").append("speaks Norwegian")
    yield task(
        "add-observation",
        "train",
        "memory",
        'Add the observation "speaks Norwegian" to Bo Kim in the memory.',
        remembered(after),
        on_memory(
            "add_observations",
            observations=[{"entityName": "Bo Kim", "contents": ["speaks Norwegian"]}],
        ),
    )
    supports = relation("Ann Lee", "supports", "Project Willow")
    after = graph()
    after["relations"].append(supports)
    yield task(
        "add-relation",
        "train",
        "memory",
        'Add a relation of the type "supports" from Ann Lee to Project Willow to the memory.',
        remembered(after),
        on_memory("create_relations", relations=[supports]),
    )


def memory_corrections() -> Iterator[Task]:
    """Yield the tasks that change or remove what the memory holds."""
    after = graph()
    after["entities"] = [one for one in after["entities"] if one["name"] != "Cleo Ruiz"]
    after["relations"] = [one for one in after["relations"] if one["from"] != "Cleo Ruiz"]
    yield task(
        "delete-person",
        "train",
        "memory",
        "Delete the person Cleo Ruiz from the memory.",
        remembered(after),
        on_memory("delete_entities", entityNames=["Cleo Ruiz"]),
    )
    old, new = "phone 555-0102", "phone 555-0199"
    after = graph()
    observations(after, "Bo Kim").remove(old)
    observations(after, "Bo Kim").append(new)
    yield task(
        "replace-observation",
        "test",
        "memory",
        f'Bo Kim has a new phone number: replace the observation "{old}" by "{new}" in the memory.',
        remembered(after),
        on_memory(
            "delete_observations", deletions=[{"entityName": "Bo Kim", "observations": [old]}]
        ),
        on_memory("add_observations", observations=[{"entityName": "Bo Kim", "contents": [new]}]),
    )
    before, now = (relation(who, "leads", "Project Heron") for who in ("Cleo Ruiz", "Ann Lee"))
    after = graph()
    after["relations"].remove(before)
    after["relations"].append(now)
    yield task(
        "replace-relation",
        "validation",
        "memory",
        'Project Heron is led by Ann Lee now, no longer by Cleo Ruiz. Correct the relation "leads" '
        "in the memory.",
        remembered(after),
        on_memory("delete_relations", relations=[before]),
        on_memory("create_relations", relations=[now]),
    )


# --- both servers, and none ----------------------------------------------------------------------


def crossing_tasks() -> Iterator[Task]:
    """Yield the tasks that carry something from one server to the other."""
    yield task(
        "memory-to-file",
        "train",
        "both",
        "Look up Bo Kim's phone number in the memory and write the number alone to the new file "
        "contact.txt.",
        changed({"contact.txt": "555-0102"}),
        on_memory("open_nodes", names=["Bo Kim"]),
        on_files("write_file", path="contact.txt", content="555-0102"),
    )
    deadline = "deadline 2026-05-18"
    after = graph()
    observations(after, "Project Willow").append(deadline)
    yield task(
        "file-to-memory",
        "test",
        "both",
        "The file notes/meeting.md names a deadline. Add it to Project Willow in the memory, as an "
        'observation of the form "deadline YYYY-MM-DD".',
        AllOf(
            (
                remembered(after),
                FolderState({"memory.json": WantedEntry(contains=(deadline,))}),
            )
        ),
        on_files("read_text_file", path="notes/meeting.md"),
        on_memory(
            "add_observations",
            observations=[{"entityName": "Project Willow", "contents": [deadline]}],
        ),
    )


def no_call_tasks() -> Iterator[Task]:
    """Yield the tasks in which every call is a mistake."""
    yield task(
        "no-such-tool",
        "train",
        "both",
        "Send Ann Lee an email with the text: see you on Monday",
        NoCall(),
        "I cannot send emails; I can only work with files and the memory.",
    )
    yield task(
        "missing-value",
        "test",
        "memory",
        "Replace Ann Lee's phone number in the memory by her new one.",
        NoCallNaming(("number", "phone number")),
        "What is the new phone number?",
    )


def all_tasks() -> list[Task]:
    """Return the tasks, train before validation before test."""
    tasks = [
        *file_tasks(),
        *memory_questions(),
        *memory_additions(),
        *memory_corrections(),
        *crossing_tasks(),
        *no_call_tasks(),
    ]
    return sorted(tasks, key=lambda task: SPLITS.index(task.split))


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "tasks.jsonl"
    sys.stdout.write(f"wrote {write_tasks(target, all_tasks())} tasks to {target}\n")
