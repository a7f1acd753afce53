from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.evaluate import EvaluateFlags, check_policy, episode_file, evaluate, main
from agents.players import ScriptedPlayer
from agents.rollout import rollout
from agents.summary import (
    summarise,
)
from agents.tables import (
    policy_table,
)
from envs.policies import UnknownPolicyError, make_policy
from rewards.episode import (
    ReferenceTurn,
    Task,
    ToolCall,
)
from rewards.goals import FinalAnswer, NoCall
from rewards.serialise import read_episodes, write_tasks


def sums(count: int, **rest: Any) -> list[Task]:
    """Tasks with a right answer that does not depend on the world."""
    made = []
    for i in range(count):
        call = ToolCall("calculate", {"expression": f"17 + {i}"})
        answer = f"The result is {17 + i}."
        reference = (ReferenceTurn(calls=(call,)), ReferenceTurn(text=answer))
        name = f"sum{i}{rest.get('heldout', '')}"
        goal = FinalAnswer(17 + i, "number")
        prompt = f"What is the result of 17 + {i}?"
        made.append(
            Task(name, prompt, goal, TOOLS, "math", "sum", "test", reference=reference, **rest)
        )
    return made


TOOLS = ("calculate", "solve_equation")


@pytest.fixture
def suite(tmp_path: Path) -> str:
    refused = replace(
        sums(1)[0], id="no", goal=NoCall(), kind="no_tool", reference=(ReferenceTurn(text="No."),)
    )
    path = tmp_path / "sums.jsonl"
    write_tasks(path, [*sums(5), refused, *sums(2, heldout="phrasing")])
    return str(path)


@pytest.fixture
def floors(suite: str, tmp_path: Path) -> EvaluateFlags:
    return EvaluateFlags(policies=["silent", "oracle"], suite=suite, output_dir=str(tmp_path))


def test_the_oracle_solves_everything_and_silence_nothing(
    floors: EvaluateFlags, tmp_path: Path
) -> None:
    evaluate(floors)
    data = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    policies = data["suites"]["sums"]["policies"]
    for name, n in (("success", 5), ("abstention", 1), ("heldout", 2)):
        assert (policies["oracle"][name]["successes"], policies["oracle"][name]["n"]) == (n, n)
        assert (policies["silent"][name]["successes"], policies["silent"][name]["n"]) == (0, n)
    assert policies["oracle"]["calls_per_episode"] == 7 / 8
    assert policies["oracle"]["invalid_call_rate"] == 0.0
    assert data["suites"]["sums"]["mcnemar"]["silent->oracle"]["success"]["p"] == 2 * 0.5**5
    assert data["suites"]["sums"]["flags"]["seed"] == 0


def test_stored_episodes_give_the_same_figures(floors: EvaluateFlags, tmp_path: Path) -> None:
    summary = evaluate(floors)
    stored = {
        name: list(read_episodes(tmp_path / "episodes" / f"{name}.jsonl"))
        for name in ("silent", "oracle")
    }
    assert summarise(stored) == summary


def test_a_limit_plays_the_first_tasks(floors: EvaluateFlags) -> None:
    summary = evaluate(replace(floors, limit=3))
    assert summary["policies"]["oracle"]["episodes"] == 3


def test_attempts_of_a_random_canary_differ(floors: EvaluateFlags, tmp_path: Path) -> None:
    evaluate(replace(floors, policies=["random_call"], k=2, temperature=1.0, max_turns=1))
    episodes = list(read_episodes(tmp_path / "episodes" / "random_call.jsonl"))
    pairs = list(zip(episodes[::2], episodes[1::2], strict=True))
    assert len(pairs) == 8
    assert all(first.task.id == second.task.id for first, second in pairs)
    assert any(first.turns != second.turns for first, second in pairs)


def test_a_model_plays_each_task_k_times_side_by_side(
    floors: EvaluateFlags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def load_oracle(name: str, **options: Any) -> ScriptedPlayer:
        kept = ("config", "load_in_4bit", "thinking", "use_cpu")
        asked.append((name, *(options[one] for one in kept)))
        return ScriptedPlayer(make_policy("oracle"))

    monkeypatch.setattr("agents.evaluate.load_player", load_oracle)
    summary = evaluate(
        replace(
            floors,
            policies=["embedded"],
            k=3,
            temperature=0.7,
            seed=5,
            load_in_4bit=True,
            enable_thinking=True,
            use_cpu=True,
            cuda_graphs=False,
        )
    )
    assert summary["policies"]["embedded"]["attempts"]["k"] == 3
    assert summary["policies"]["embedded"]["episodes"] == 24
    ((name, sampling, four_bit, thinking, use_cpu),) = asked
    assert (name, four_bit, thinking, use_cpu) == ("embedded", True, True, True)
    assert (sampling.temperature, sampling.seed, sampling.cuda_graphs) == (0.7, 5, False)


def test_fewer_tasks_are_played_side_by_side_where_memory_runs_out(
    floors: EvaluateFlags, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sizes: list[int] = []

    def small(*arguments: Any, **options: Any) -> Any:
        sizes.append(options["batch_size"])
        if options["batch_size"] > 2:
            raise torch.OutOfMemoryError
        return rollout(*arguments, **options)

    monkeypatch.setattr("agents.evaluate.rollout", small)
    summary = evaluate(replace(floors, policies=["oracle"], limit=4, batch_size=8))
    assert sizes == [8, 4, 2]
    assert summary["policies"]["oracle"]["episodes"] == 4
    assert "out of memory; the tasks begin again, 4 side by side" in caplog.messages


def test_the_command_ends_by_naming_files_and_the_next_command(
    suite: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--policies", "silent", "oracle", "--suite", suite, "--limit", "2"]
    assert main([*arguments, "--output_dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["policy", "success"]
    assert lines[2].startswith("oracle  100.0 [")
    assert f"wrote {tmp_path}/summary.json" in lines
    assert f"wrote {tmp_path}/episodes/silent.jsonl" in lines
    assert lines[-1].startswith("next: python -m agents.evaluate --policies embedded")


def test_help_explains_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    assert "exact McNemar" in " ".join(text.split())
    assert "random_call" in text
    assert "--policies" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--polices", "oracle"], 'unknown flag --polices; did you mean "--policies"?'),
        (["--k", "3"], "--k above 1 needs --temperature above 0"),
        (["--k", "0"], "--k must be at least 1"),
        (["--limit", "-1"], "--limit must not be negative"),
        (["--policies", "oracle", "oracle"], "names 'oracle' twice"),
        (["--split", "tset"], "invalid choice: 'tset'"),
        (["--config", "missing.yaml"], "cannot read the config file missing.yaml"),
        (["--config"], "--config needs the path"),
    ],
)
def test_mistakes_in_the_flags_are_one_clear_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policies", "orcale"], 'no policy "orcale"; did you mean "oracle"?'),
        (["--policies", "oracle", "--suite", "stater"], 'did you mean "starter"?'),
    ],
)
def test_an_unknown_name_is_an_error_with_a_suggestion(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--output_dir", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_folders_are_checked_before_anything_is_played(tmp_path: Path) -> None:
    (tmp_path / "grpo").mkdir()
    with pytest.raises(Exception, match=r'no folder .*gpro; did you mean ".*grpo"'):
        check_policy(str(tmp_path / "gpro"))
    with pytest.raises(Exception, match="neither a model"):
        check_policy(str(tmp_path / "grpo"))
    (tmp_path / "grpo" / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(Exception, match=r"no adapter_model\.safetensors"):
        check_policy(str(tmp_path / "grpo"))
    with pytest.raises(UnknownPolicyError, match='did you mean "embedded"'):
        check_policy("embeded")
    check_policy("Qwen/Qwen3-1.7B")
    check_policy("oracle")


def test_the_file_of_a_policy_is_named_after_it() -> None:
    assert episode_file(Path("d"), "runs/sft/") == Path("d/episodes/runs_sft.jsonl")
    assert episode_file(Path("d"), "oracle") == Path("d/episodes/oracle.jsonl")


def test_obedience_to_planted_instructions_is_counted_over_the_episodes_that_showed_one(
    tmp_path: Path,
) -> None:
    flags = EvaluateFlags(
        policies=["oracle"], suite="planted", split="validation", limit=12, output_dir=str(tmp_path)
    )
    summary = evaluate(flags)
    figures = summary["policies"]["oracle"]["obedience"]
    assert (figures["successes"], figures["n"]) == (0, 12)
    assert "oracle: % of planted instructions followed: 0.0" in policy_table(summary)
