from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents.evaluate import EvaluateFlags, check_policy, episode_file, evaluate, main
from agents.figures import attempted_calls, compare, figures, invalid_calls, part
from agents.players import ScriptedPlayer
from agents.stats import wilson
from agents.summary import (
    read_stages,
    record_stage,
    summarise,
    summarise_stages,
    write_stage_summary,
)
from agents.tables import (
    aligned,
    bad_turn_share,
    largest_loss,
    lowest_kind,
    policy_table,
    stage_table,
)
from envs.policies import UnknownPolicyError, make_policy
from rewards.episode import (
    Episode,
    Fault,
    Outcome,
    ReferenceTurn,
    Status,
    Task,
    ToolCall,
    ToolResult,
    Turn,
)
from rewards.goals import AllOf, AnyOf, FinalAnswer, Goal, NoCall, NoCallNaming
from rewards.serialise import read_episodes, write_tasks

CALL = ToolCall("get_customer", {"customer_id": "C104"})
RAN = Turn(raw="", calls=(CALL,), results=(ToolResult("{}"),), outcome=Outcome.TOOL_EXECUTION)
RIGHT = Turn(raw="Rome", text="Rome", outcome=Outcome.SUCCESS, reward=10.0)
WRONG = Turn(raw="Bonn", text="Bonn", outcome=Outcome.STRUCTURAL_FAIL, reward=-1.0)


def task(name: str, goal: Goal | None = None, kind: str = "customer_field", **rest: Any) -> Task:
    goal = goal or FinalAnswer("Rome")
    return Task(name, "Which city?", goal, ("get_customer",), "database", kind, "test", **rest)


def played(a_task: Task, solved: bool, **rest: Any) -> Episode:
    return Episode(a_task, (RAN, RIGHT if solved else WRONG), terminated=True, **rest)


def batch(successes: int, n: int, prefix: str = "t", **rest: Any) -> list[Episode]:
    return [played(task(f"{prefix}{i}", **rest), i < successes) for i in range(n)]


# --- parts of the tasks -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a_task", "expected"),
    [
        (task("a"), "success"),
        (task("a", heldout="phrasing"), "heldout"),
        (task("a", NoCall()), "abstention"),
        (task("a", NoCallNaming(("customer",)), heldout="phrasing"), "abstention"),
        (task("a", AllOf((NoCall(), FinalAnswer("no")))), "abstention"),
        (task("a", AnyOf((NoCall(), FinalAnswer("Rome")))), "success"),
    ],
)
def test_a_task_belongs_to_exactly_one_part(a_task: Task, expected: str) -> None:
    assert part(a_task) == expected


def test_success_abstention_and_heldout_never_mix() -> None:
    episodes = [
        *batch(3, 4),
        *batch(1, 5, "n", goal=NoCall(), kind="no_tool"),
        *batch(2, 3, "p", heldout="phrasing"),
        *batch(0, 2, "d", heldout="depth", kind="deep"),
    ]
    one = figures(episodes)
    assert one["success"] == {
        "successes": 3,
        "n": 4,
        "rate": 0.75,
        "interval": list(wilson(3, 4)),
    }
    assert (one["abstention"]["successes"], one["abstention"]["n"]) == (1, 5)
    assert (one["heldout"]["successes"], one["heldout"]["n"]) == (2, 5)
    assert {name: (v["successes"], v["n"]) for name, v in one["heldout_by"].items()} == {
        "depth": (0, 2),
        "phrasing": (2, 3),
    }
    assert one["kinds"] == {"customer_field": {"successes": 3, "n": 4, "rate": 0.75}}
    assert one["abstention_kinds"] == {"no_tool": {"successes": 1, "n": 5, "rate": 0.2}}


def test_kinds_add_up_to_success() -> None:
    episodes = [*batch(3, 4), *batch(2, 7, "o", kind="order_field")]
    one = figures(episodes)
    assert sum(kind["n"] for kind in one["kinds"].values()) == one["success"]["n"] == 11
    assert sum(kind["successes"] for kind in one["kinds"].values()) == 5


# --- figures of turns and calls ---------------------------------------------------------------


def test_outcome_shares_are_over_turns_and_name_every_row_of_the_matrix() -> None:
    one = figures([played(task("a"), True), played(task("b"), False)])
    assert one["outcomes"] == {
        "success": 0.25,
        "tool_execution": 0.5,
        "tool_error": 0.0,
        "invalid_json": 0.0,
        "structural_fail": 0.25,
    }
    assert one["outcomes_by"]["success"] == one["outcomes"]
    assert set(one["outcomes_by"]["heldout"].values()) == {0.0}
    assert bad_turn_share(one["outcomes"]) == 0.25
    assert one["turns_per_episode"] == 2.0
    assert one["mean_return"] == pytest.approx((10 - 1) / 2)


@pytest.mark.parametrize(
    ("turn", "attempted", "invalid"),
    [
        (RAN, 1, 0),
        (RIGHT, 0, 0),
        (Turn(raw="", fault=Fault.EMPTY), 0, 0),
        (Turn(raw="<tool_call>{", fault=Fault.INVALID_JSON), 1, 1),
        (Turn(raw="{}", fault=Fault.WRONG_FORMAT), 1, 1),
        (Turn(raw="", calls=(CALL, CALL), fault=Fault.UNOFFERED_TOOL), 1, 1),
        (
            Turn(
                raw="",
                calls=(CALL, CALL, CALL),
                results=(
                    ToolResult("{}"),
                    ToolResult("no", is_error=True, status=Status.BAD_ARGUMENTS),
                    ToolResult("gone", is_error=True, status=Status.TOOL_ERROR),
                ),
            ),
            3,
            1,
        ),
    ],
)
def test_calls_that_were_wrong_before_they_ran_are_invalid(
    turn: Turn, attempted: int, invalid: int
) -> None:
    assert (attempted_calls(turn), invalid_calls(turn)) == (attempted, invalid)


def test_invalid_call_rate_is_per_attempted_call_and_calls_are_per_episode() -> None:
    broken = Turn(raw="<tool_call>{", fault=Fault.INVALID_JSON, outcome=Outcome.INVALID_JSON)
    one = figures([Episode(task("a"), (broken, RAN, RAN, RIGHT)), Episode(task("b"), (RAN, WRONG))])
    assert one["calls_per_episode"] == 2.0
    assert one["invalid_call_rate"] == 0.25


def test_a_thought_that_was_cut_off_is_counted() -> None:
    cut = Turn(raw="<think>so the", fault=Fault.EMPTY, outcome=Outcome.STRUCTURAL_FAIL)
    closed = Turn(raw="<think>so</think>Rome", outcome=Outcome.SUCCESS)
    assert figures([Episode(task("a"), (cut, closed))])["cut_thoughts"] == 1


def test_infrastructure_faults_are_counted_and_enter_no_figure() -> None:
    lost = [
        played(task("x"), False, status=Status.SERVER_CRASHED),
        played(task("y"), True, status=Status.TIMEOUT),
        played(task("z"), False, status=Status.TIMEOUT),
    ]
    with_faults, without = figures([*batch(1, 2), *lost]), figures(batch(1, 2))
    assert with_faults["infrastructure_faults"] == {"server_crashed": 1, "timeout": 2}
    assert {**with_faults, "infrastructure_faults": {}} == without


def test_a_mistake_of_the_model_is_not_an_infrastructure_fault() -> None:
    one = figures([played(task("a"), False, status=Status.TOOL_ERROR)])
    assert one["success"]["n"] == 1
    assert one["infrastructure_faults"] == {}


def test_no_episodes_give_no_rate_but_valid_json() -> None:
    one = figures([])
    assert one["success"] == {"successes": 0, "n": 0, "rate": None, "interval": [0.0, 1.0]}
    assert "NaN" not in json.dumps(one)
    assert "-" in policy_table(summarise({"nobody": []}))
    assert stage_table(summarise({"base": []}))


# --- several attempts -------------------------------------------------------------------------


def test_the_first_attempt_counts_and_all_attempts_enter_pass_at_k() -> None:
    a, b = task("a"), task("b")
    episodes = [played(a, False), played(a, True), played(b, True), played(b, True)]
    one = figures(episodes)
    assert (one["success"]["successes"], one["success"]["n"]) == (1, 2)
    assert one["attempts"] == {
        "k": 2,
        "tasks": 2,
        "pass_at_1": 0.75,
        "pass_at_k": 1.0,
        "pass_hat_k": 0.5,
    }
    assert "pass^k" in policy_table(summarise({"a": episodes, "b": batch(1, 2)}))


def test_a_task_that_lost_an_attempt_to_a_fault_leaves_pass_at_k() -> None:
    a, b = task("a"), task("b")
    lost = played(b, False, status=Status.TIMEOUT)
    one = figures([played(a, True), played(a, True), lost, played(b, False)])
    assert one["attempts"]["tasks"] == 1
    assert one["success"]["n"] == 2


# --- paired tests -----------------------------------------------------------------------------


def test_mcnemar_pairs_the_same_tasks_whatever_their_order() -> None:
    before = batch(2, 10)
    after = list(reversed(batch(10, 10)))
    test = compare(before, after)["success"]
    assert (test["n"], test["only_first"], test["only_second"]) == (10, 0, 8)
    assert test["p"] == pytest.approx(2 * 0.5**8)


def test_tasks_that_only_one_policy_played_are_not_paired() -> None:
    faulty = played(task("t1"), False, status=Status.TIMEOUT)
    test = compare([*batch(1, 1), faulty, *batch(1, 1, "other")], batch(2, 2))["success"]
    assert (test["n"], test["either"]) == (1, 3)
    table = stage_table(summarise({"base": batch(0, 3), "sft": batch(1, 2)}))
    assert "base->sft: only 2 of 3 tasks were played by both" in table


def test_parts_are_tested_apart() -> None:
    before = [*batch(0, 4), *batch(4, 4, "n", goal=NoCall())]
    after = [*batch(4, 4), *batch(0, 4, "n", goal=NoCall())]
    tests = compare(before, after)
    assert (tests["success"]["only_first"], tests["success"]["only_second"]) == (0, 4)
    assert (tests["abstention"]["only_first"], tests["abstention"]["only_second"]) == (4, 0)
    assert tests["heldout"] == {"n": 0, "either": 0, "only_first": 0, "only_second": 0, "p": 1.0}


def test_consecutive_policies_are_compared() -> None:
    summary = summarise({"a": batch(0, 3), "b": batch(1, 3), "c": batch(3, 3)})
    assert list(summary["mcnemar"]) == ["a->b", "b->c"]
    assert list(summary["policies"]) == ["a", "b", "c"]


# --- stages -----------------------------------------------------------------------------------


def test_the_summary_of_a_run_has_the_layout_of_its_readers(tmp_path: Path) -> None:
    for stage, successes in (("base", 0), ("sft", 5), ("grpo", 9)):
        record_stage(tmp_path, stage, batch(successes, 10))
    data = json.loads(write_stage_summary(tmp_path).read_text(encoding="utf-8"))
    assert list(data["stages"]) == ["base", "sft", "grpo"]
    assert data["stages"]["sft"]["success"]["rate"] == 0.5
    assert data["stages"]["grpo"]["kinds"]["customer_field"] == {
        "successes": 9,
        "n": 10,
        "rate": 0.9,
    }
    assert list(data["mcnemar"]) == ["base->sft", "sft->grpo", "base->grpo"]
    assert data["mcnemar"]["base->grpo"]["success"]["only_second"] == 9


def test_recorded_episodes_come_back_equal(tmp_path: Path) -> None:
    episodes = batch(2, 3)
    record_stage(tmp_path, "sft", episodes)
    assert read_stages(tmp_path) == {"sft": episodes}


def test_recording_a_stage_removes_later_ones_which_were_trained_on_the_old(tmp_path: Path) -> None:
    for stage in ("base", "sft", "grpo"):
        record_stage(tmp_path, stage, batch(1, 2))
    record_stage(tmp_path, "sft", batch(2, 2))
    assert list(read_stages(tmp_path)) == ["base", "sft"]


def test_an_unknown_stage_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'no stage "gpro".*did you mean "grpo"'):
        record_stage(tmp_path, "gpro", [])


# --- tables -----------------------------------------------------------------------------------


def test_the_stage_table_shows_what_the_aggregate_hides(tmp_path: Path) -> None:
    sft = [*batch(8, 10), *batch(8, 10, "c", kind="calculate")]
    grpo = [*batch(10, 10), *batch(1, 10, "c", kind="calculate")]
    record_stage(tmp_path, "base", [*batch(0, 10), *batch(0, 10, "c", kind="calculate")])
    record_stage(tmp_path, "sft", sft)
    record_stage(tmp_path, "grpo", grpo)
    table = stage_table(summarise_stages(tmp_path))
    assert "lowest kind after GRPO: calculate 10.0 n=10" in table
    assert "worst change of a kind from SFT to GRPO: calculate -70.0 points" in table
    rows = {line.split("  ")[0].strip(): line for line in table.splitlines() if line}
    assert rows["success"].split()[-4:] == ["55.0", "[34.2,", "74.2]", "n=20"]


def test_lowest_kind_and_largest_loss() -> None:
    before = figures([*batch(4, 4), *batch(1, 4, "b", kind="b")])["kinds"]
    after = figures([*batch(3, 4), *batch(2, 4, "b", kind="b")])["kinds"]
    assert lowest_kind(after) == ("b", {"successes": 2, "n": 4, "rate": 0.5})
    assert largest_loss(before, after) == ("customer_field", -25.0)
    assert largest_loss({}, after) is None


def test_columns_are_aligned() -> None:
    assert aligned([["policy", "n"], ["a", "100"]]) == "policy    n\na       100"


# --- the command ------------------------------------------------------------------------------


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
        asked.append((name, options["config"], options["load_in_4bit"], options["thinking"]))
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
        )
    )
    assert summary["policies"]["embedded"]["attempts"]["k"] == 3
    assert summary["policies"]["embedded"]["episodes"] == 24
    ((name, sampling, four_bit, thinking),) = asked
    assert (name, four_bit, thinking) == ("embedded", True, True)
    assert (sampling.temperature, sampling.seed) == (0.7, 5)


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
