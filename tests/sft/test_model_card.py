from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from exported import make_run
from tiny_models import save_base

from sft.export_folder import ExportError
from sft.model_card import Shipped, is_hub_id, write_card
from sft.recipe import Recipe, read_recipe
from sft.run_record import Run, count_traces, read_run, read_summary, trained_steps

SHIPPED = Shipped(
    name="me/caller",
    base="Qwen/Qwen3-1.7B",
    form="merged",
    weights="Merged, in float16.",
    licence="mit",
    serving=["transformers serve caller"],
    checked="49 of 50 outputs are equal.",
)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    return make_run(folder, save_base(folder / "base"))


@pytest.fixture(scope="module")
def run(adapter: Path) -> Run:
    return read_run(adapter, adapter.parent, read_recipe(adapter))


def front_matter(card: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(card.split("---")[1])
    return data


def section(card: str, title: str) -> str:
    return card.split(f"## {title}\n\n")[1].split("\n## ")[0]


# --- the metadata -------------------------------------------------------------------------------


def test_the_metadata_names_base_licence_library_and_results(run: Run) -> None:
    data = front_matter(write_card(SHIPPED, run))
    assert data["base_model"] == "Qwen/Qwen3-1.7B"
    assert data["license"] == "mit"
    assert data["library_name"] == "transformers"
    assert {"tool-calling", "mcp", "ppo"} <= set(data["tags"])
    [model] = data["model-index"]
    assert model["name"] == "me/caller"
    found = {m["type"]: (m["name"], m["value"]) for r in model["results"] for m in r["metrics"]}
    figures = run.summary["policies"]["ppo"]["success"]
    expected = (f"success, n={figures['n']}", round(figures["rate"] or 0, 4))
    assert found["success_rate"] == expected
    assert {r["dataset"]["name"] for r in model["results"]} == {"mcp-gym tasks"}


def test_a_base_in_a_folder_and_a_licence_that_is_not_stated_are_not_made_up(run: Run) -> None:
    local = replace(SHIPPED, base="/home/me/models/qwen", licence="", form="adapter")
    card = write_card(local, run)
    data = front_matter(card)
    assert "base_model" not in data
    assert "license" not in data
    assert data["library_name"] == "peft"
    assert "/home/me" not in card
    assert section(card, "Base").startswith("`qwen`. Merged, in float16.")
    assert section(card, "Licence").startswith("Not stated.")


def test_the_embedded_policy_is_said_to_be_a_toy(run: Run) -> None:
    card = write_card(replace(SHIPPED, base="embedded"), run)
    assert "base_model" not in front_matter(card)
    assert "toy" in section(card, "Base")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Qwen/Qwen3-1.7B", True),
        ("embedded", False),
        ("./Qwen", False),
        ("/srv/Qwen", False),
        ("~/Qwen", False),
        ("a/b/c", False),
        ("agents/embedded", False),  # a folder of this checkout
    ],
)
def test_only_what_is_no_folder_is_named_as_a_model_of_the_hub(name: str, expected: bool) -> None:
    assert is_hub_id(name) is expected


# --- what the run says --------------------------------------------------------------------------


def test_data_is_counted_by_source_and_licence(run: Run) -> None:
    text = section(write_card(SHIPPED, run), "Training data")
    assert "episodes that the policy played itself" in text
    assert "| toucan | apache-2.0 | 2 |" in text
    assert "| apigen-mt | cc-by-nc-4.0 | 1 |" in text
    assert "| reference | not stated | 1 |" in text


def test_the_recipe_is_that_of_the_run_without_places(run: Run, adapter: Path) -> None:
    text = section(write_card(SHIPPED, run), "Recipe")
    assert "LoRA, rank 4, alpha 8, on down_proj, gate_proj," in text
    assert "7 optimizer steps" in text
    assert "`python -m rl.ppo` with these flags" in text
    assert "| max_turn_tokens | 8 |" in text
    assert str(adapter.parent) not in text


def test_the_evaluation_has_every_stage_with_n_and_interval(run: Run) -> None:
    text = section(write_card(SHIPPED, run), "Evaluation")
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if "|" in line}
    assert {"base", "SFT", "PPO (this one)"} <= rows.keys()
    figures = run.summary["policies"]["ppo"]["success"]
    low, high = (100 * end for end in figures["interval"])
    assert f"{100 * (figures['rate'] or 0):.1f} [{low:.1f}, {high:.1f}] n={figures['n']}" in text
    assert "Which of these stages" not in text


def test_limits_name_the_tasks_the_weak_spots_and_what_the_data_forbids(run: Run) -> None:
    text = section(write_card(SHIPPED, run), "Limits")
    assert "measured on the tasks `tasks` only" in text
    assert "was not measured" in text
    assert "- Lowest kind after PPO: " in text
    assert "- 1 training rows: licence forbids commercial use." in text
    assert "- 1 training rows: spoils tau-bench." in text


def test_planted_instructions_are_mentioned_where_they_were_measured(run: Run) -> None:
    counted = {"successes": 1, "n": 4, "rate": 0.25, "interval": [0.0, 0.5]}
    policies = {
        name: {**one, "obedience": counted} for name, one in run.summary["policies"].items()
    }
    summary: Any = {**run.summary, "policies": policies}
    text = section(write_card(SHIPPED, replace(run, summary=summary)), "Limits")
    assert "is in the evaluation of the run" in text


def test_it_says_how_to_serve_it_and_how_to_ask(run: Run) -> None:
    card = write_card(SHIPPED, run)
    assert "```bash\ntransformers serve caller\n```" in card
    assert "`temperature` 0 and `max_tokens` 8, as it was evaluated" in card
    assert "49 of 50 outputs are equal." in section(card, "Base")
    assert "Ask with `enable_thinking` false" in card
    assert "`response_template`" in card
    assert "`response_template`" not in write_card(replace(SHIPPED, form="adapter"), run)


def test_it_says_that_the_policy_thinks_where_it_does(run: Run) -> None:
    recipe = replace(run.recipe, flags={**run.recipe.flags, "enable_thinking": True})
    card = write_card(SHIPPED, replace(run, recipe=recipe))
    assert "Ask with `enable_thinking` true" in card
    assert "trained to think" in card
    assert "without thinking" not in card


def test_nothing_is_claimed_of_a_run_that_left_nothing() -> None:
    card = write_card(replace(SHIPPED, checked=""), Run())
    assert "model-index" not in front_matter(card)
    assert section(card, "Evaluation").startswith("None")
    assert section(card, "Training data").startswith("Not known")
    assert "optimizer steps" not in card
    assert "max_tokens" not in card
    assert "the tasks of its run only" in section(card, "Limits")


def test_text_of_the_data_cannot_break_the_table(run: Run) -> None:
    odd = replace(run, sources={("a | b\n<x>", "mit"): 3})
    assert r"| a \| b &lt;x> | mit | 3 |" in write_card(SHIPPED, odd)


# --- reading the run ----------------------------------------------------------------------------


def test_an_adapter_in_the_middle_of_a_run_is_shown_with_what_led_to_it(
    adapter: Path, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(adapter, tmp_path / "sft"))
    run = read_run(copied, adapter.parent, Recipe())
    assert run.stage == "sft"
    assert list(run.summary["policies"]) == ["base", "sft"]
    assert list(run.summary["mcnemar"]) == ["base->sft"]


def test_an_adapter_of_no_known_stage_claims_no_stage(adapter: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(adapter, tmp_path / "mine"))
    run = read_run(copied, adapter.parent, Recipe())
    assert run.stage == ""
    card = write_card(SHIPPED, run)
    assert "(this one)" not in card
    assert "Which of these stages this one is, the run does not say." in card
    assert "model-index" not in front_matter(card)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"stages": {}}', "{"])
def test_a_damaged_summary_names_the_command_that_makes_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(ExportError, match=rf"python -m rl\.report --run_dir {tmp_path}"):
        read_summary(tmp_path / "summary.json")


@pytest.mark.parametrize("line", ["{", "3"])
def test_a_damaged_trace_is_named_by_file_and_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_text(json.dumps({"source": "a"}) + f"\n{line}\n")
    with pytest.raises(ExportError, match=f"{path}:2: "):
        count_traces([tmp_path / "none.jsonl", path])


def test_a_checkpoint_that_was_cut_counts_no_steps(tmp_path: Path) -> None:
    for name, content in (("5", '{"global_step": 5}'), ("9", "{"), ("12", "[]")):
        (tmp_path / f"checkpoint-{name}").mkdir()
        (tmp_path / f"checkpoint-{name}" / "trainer_state.json").write_text(content)
    assert trained_steps(tmp_path) == 5
