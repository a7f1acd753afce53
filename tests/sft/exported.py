"""A finished run of tiny models to export: its folders as the training commands leave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tiny_models import save_adapter, shipped_tokenizer

from agents.summary import record_stage, write_stage_summary
from envs.tasks.load import load_tasks
from rewards.episode import Episode, Outcome, Turn
from rewards.serialise import write_tasks
from sft.flags import PolicyArguments, TaskArguments
from sft.recipe import write_recipe

TOKENS = 8
TASKS = load_tasks("starter", "test")[:12]
TRACES = [
    {"id": "a", "source": "reference", "messages": [], "tools": []},
    {"id": "b", "source": "toucan", "licence": "apache-2.0", "messages": [], "tools": []},
    {"id": "c", "source": "toucan", "licence": "apache-2.0", "messages": [], "tools": []},
    {"id": "d", "source": "apigen-mt", "licence": "cc-by-nc-4.0", "messages": [], "tools": []},
]
SOLVED = {"base": 1, "sft": 5, "ppo": 9}


def make_run(
    folder: Path, base: str, *, load_in_4bit: bool = False, thinking: bool = False, **lora: Any
) -> Path:
    """Make a run that ended with PPO; returns the folder of its adapter."""
    adapter = folder / "ppo"
    save_adapter(adapter, base, **lora)
    shipped_tokenizer().save_pretrained(adapter)
    # What PPO and the trainer leave beside an adapter.
    save_file({"outer.weight": torch.zeros(1, 4)}, adapter / "value_head.safetensors")
    for name in ("ref", "checkpoint-7"):
        (adapter / name).mkdir()
    (adapter / "ref" / "adapter_model.safetensors").write_bytes(b"frozen")
    (adapter / "checkpoint-7" / "trainer_state.json").write_text('{"global_step": 7}')
    (adapter / "metrics.jsonl").write_text("{}\n")
    write_tasks(folder / "tasks.jsonl", TASKS)
    policy = PolicyArguments(
        model_name_or_path=base,
        max_turn_tokens=TOKENS,
        load_in_4bit=load_in_4bit,
        enable_thinking=thinking,
    )
    write_recipe(adapter, "rl.ppo", (policy, TaskArguments(tasks=str(folder / "tasks.jsonl"))))
    (folder / "sft").mkdir()
    rows = "".join(json.dumps(row) + "\n" for row in TRACES)
    (folder / "sft" / "traces.jsonl").write_text(rows, encoding="utf-8")
    for stage, solved in SOLVED.items():
        record_stage(folder, stage, [_played(place, place < solved) for place in range(10)])
    write_stage_summary(folder)
    return adapter


def _played(place: int, solved: bool) -> Episode:
    outcome = Outcome.SUCCESS if solved else Outcome.STRUCTURAL_FAIL
    turn = Turn(raw="?", text="?", outcome=outcome, reward=10.0 if solved else -1.0)
    return Episode(TASKS[place], (turn,), terminated=True)
