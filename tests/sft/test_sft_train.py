from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import save_base
from trl import SFTConfig, SFTTrainer

from agents.cli import run
from agents.models import EMBEDDED_FOLDER, base_of_adapter, load_model
from agents.template import ChatTemplate
from envs.errors import TaskError
from envs.tasks.load import load_tasks
from rewards.episode import Task
from rewards.serialise import read_episodes, write_tasks
from sft.flags import PolicyArguments, TaskArguments
from sft.playing import evaluation_tasks
from sft.recipe import read_recipe
from sft.rendering import tokenised
from sft.traces import pick_tasks, reference_traces, token_row
from sft.train import WarmStartArguments, main

STEPS = 3


@dataclass
class Run:
    """One run of the command on a tiny model and what went through the trainer."""

    policy: PolicyArguments
    play: TaskArguments
    output: Path
    batches: list[dict[str, torch.Tensor]] = field(default_factory=list)
    dtypes: set[torch.dtype] = field(default_factory=set)
    text: str = ""

    def config(self, **options: Any) -> SFTConfig:
        return SFTConfig(
            output_dir=str(self.output),
            max_steps=STEPS,
            per_device_train_batch_size=4,
            learning_rate=0.01,
            max_length=1024,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            dataloader_pin_memory=False,
            disable_tqdm=True,
            **options,
        )


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    """Two training tasks and some test tasks."""
    train = pick_tasks(load_tasks("starter", "train"), 16, seed=0)
    return [*train, *(replace(t, id=f"{t.id}-test", split="test") for t in train[:3])]


@pytest.fixture(scope="module")
def finished(tasks: list[Task], tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("sft")
    write_tasks(folder / "tasks.jsonl", tasks)
    policy = PolicyArguments(
        model_name_or_path=save_base(folder / "base"), max_turn_tokens=4, threads=1, lora_r=4
    )
    play = TaskArguments(
        tasks=str(folder / "tasks.jsonl"), max_turns=6, run_dir=str(folder / "runs")
    )
    one = Run(policy, play, folder / "runs" / "sft")
    with pytest.MonkeyPatch.context() as patch:
        compute = SFTTrainer.compute_loss

        def spy(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            one.batches.append({name: value.clone() for name, value in inputs.items()})
            one.dtypes |= {p.dtype for p in model.parameters() if p.requires_grad}
            return compute(self, model, inputs, *args, **kwargs)

        patch.setattr(SFTTrainer, "compute_loss", spy)
        written: list[str] = []
        patch.setattr(sys.stdout, "write", written.append)
        main(policy, play, WarmStartArguments(num_traces=16), one.config())
    one.text = "".join(written)
    return one


# --- what the trainer is given ------------------------------------------------------------------


def test_the_trainer_is_trained_on_exactly_the_tokens_of_the_policy(
    finished: Run, tasks: list[Task], tokenizer: Any
) -> None:
    template = ChatTemplate(tokenizer)
    expected = set()
    for trace in reference_traces(tasks[:16], max_turns=6):
        row = token_row(template, trace)
        pairs = zip(row["input_ids"], row["assistant_masks"], strict=True)
        labels = tuple(i if said else -100 for i, said in pairs)
        expected.add((tuple(row["input_ids"]), labels))
    seen = set()
    for batch in finished.batches:
        for ids, labels, real in zip(
            batch["input_ids"], batch["labels"], batch["attention_mask"].bool(), strict=True
        ):
            assert (labels[~real] == -100).all()
            seen.add((tuple(ids[real].tolist()), tuple(labels[real].tolist())))
    assert seen <= expected
    assert len(seen) == 4 * STEPS


def test_tool_output_is_among_the_inputs_and_never_among_the_labels(
    finished: Run, tokenizer: Any
) -> None:
    opening = tokenizer.convert_tokens_to_ids("<tool_response>")
    inputs = torch.cat([batch["input_ids"].flatten() for batch in finished.batches])
    labels = torch.cat([batch["labels"].flatten() for batch in finished.batches])
    assert (inputs == opening).any()
    assert not (labels == opening).any()
    assert (labels == tokenizer.eos_token_id).any()


def test_trained_parameters_are_float32(finished: Run) -> None:
    assert finished.dtypes == {torch.float32}


# --- what it leaves behind ----------------------------------------------------------------------


def test_the_adapter_was_trained_and_names_its_base(finished: Run) -> None:
    base = finished.policy.model_name_or_path
    assert base_of_adapter(finished.output) == base
    tensors = load_file(finished.output / "adapter_model.safetensors")
    trained = [tensor for name, tensor in tensors.items() if "lora_B" in name]
    assert len(trained) == 2 * 7
    assert all(tensor.abs().max() > 0 for tensor in trained)
    config = json.loads((finished.output / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["r"] == 4
    assert not torch.allclose(logits(str(finished.output)), logits(base))


def logits(name: str) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = load_model(name).eval()(torch.tensor([[5, 6, 7]])).logits
    return result


def test_the_recipe_is_kept_beside_the_adapter(finished: Run) -> None:
    recipe = read_recipe(finished.output)
    assert recipe.program == "sft.train"
    assert recipe.flags["model_name_or_path"] == finished.policy.model_name_or_path


def test_the_saved_tokenizer_has_the_original_template(finished: Run) -> None:
    for name in ("chat_template.jinja", "tokenizer.json"):
        saved = (finished.output / name).read_text(encoding="utf-8")
        shipped = (EMBEDDED_FOLDER / name).read_text(encoding="utf-8")
        if name.endswith(".json"):
            assert json.loads(saved)["model"] == json.loads(shipped)["model"]
        else:
            assert saved == shipped


def test_the_traces_are_kept_as_rows(finished: Run, tasks: list[Task]) -> None:
    lines = (finished.output / "traces.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert {row["id"] for row in rows} == {task.id for task in tasks[:16]}
    assert {row["outcome"] for row in rows} == {"success"}


def test_base_and_result_are_measured_on_the_same_test_tasks(
    finished: Run, tasks: list[Task]
) -> None:
    folder = Path(finished.play.run_dir)
    played = {
        stage: [e.task.id for e in read_episodes(folder / "episodes" / f"{stage}.jsonl")]
        for stage in ("base", "sft")
    }
    assert played["base"] == played["sft"] == [task.id for task in tasks[16:]]
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert list(summary["stages"]) == ["base", "sft"]
    assert {"successes", "n", "rate", "interval"} <= set(summary["stages"]["sft"]["success"])


def test_the_command_ends_by_naming_its_files_and_the_next_command(finished: Run) -> None:
    assert "base: 0 of 3 test tasks solved" in finished.text
    assert f"wrote {finished.output} (adapter, traces.jsonl)" in finished.text
    last = finished.text.strip().splitlines()[-1]
    assert last == f"next: python -m rl.grpo --adapter {finished.output}"


def test_the_same_seed_gives_the_same_adapter(finished: Run, tmp_path: Path) -> None:
    again = replace(finished, output=tmp_path / "sft", play=replace(finished.play))
    play = replace(finished.play, run_dir=str(tmp_path))
    warm = WarmStartArguments(num_traces=16, eval_base=False)
    main(finished.policy, play, warm, again.config())
    first, second = (
        load_file(one.output / "adapter_model.safetensors") for one in (finished, again)
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not (tmp_path / "episodes" / "base.jsonl").exists()


# --- parts --------------------------------------------------------------------------------------


def test_rows_that_would_lose_trained_tokens_are_counted(
    tasks: list[Task], tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    template = ChatTemplate(tokenizer)
    traces = reference_traces(tasks[:4], max_turns=6)
    lengths = [len(token_row(template, trace)["input_ids"]) for trace in traces]
    rows = tokenised(template, traces, max(lengths) - 1)
    trained = sum(sum(row["assistant_masks"]) for row in rows)
    text = capsys.readouterr().out
    assert text.startswith(f"4 rows, {trained} trained tokens, longest row {max(lengths)} tokens")
    cut = sum(length == max(lengths) for length in lengths)
    assert f", {cut} rows lose trained tokens at max_length {max(lengths) - 1}" in text
    tokenised(template, traces, None)
    assert ", 0 rows lose" in capsys.readouterr().out


def test_nothing_to_train_on_is_a_clear_message(tokenizer: Any) -> None:
    with pytest.raises(SystemExit, match="no task of the training split has a reference"):
        tokenised(ChatTemplate(tokenizer), [], 100)


def test_a_limit_thins_the_test_tasks_evenly(finished: Run, tasks: list[Task]) -> None:
    names = [t.id for t in evaluation_tasks(replace(finished.play, eval_limit=2))]
    assert names == [tasks[16].id, tasks[17].id]
    assert len(evaluation_tasks(replace(finished.play, eval_limit=50))) == 3


@pytest.mark.parametrize(
    ("policy", "play", "message"),
    [
        ({"model_name_or_path": "./no/model"}, {}, "no folder ./no/model"),
        ({}, {"tasks": "stater"}, 'did you mean "starter"?'),
    ],
)
def test_a_missing_model_or_task_source_is_one_clear_line(
    finished: Run,
    policy: dict[str, Any],
    play: dict[str, Any],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = (
        replace(finished.policy, **policy),
        replace(finished.play, **play),
        WarmStartArguments(num_traces=1),
        finished.config(),
    )
    assert run(main, flags) == 2
    assert message in capsys.readouterr().err


def test_test_tasks_that_are_not_there_are_said_before_anything_is_trained(
    finished: Run, tmp_path: Path
) -> None:
    play = replace(finished.play, eval_split="validation")
    warm = WarmStartArguments(num_traces=16, eval_base=False)
    with pytest.raises(TaskError, match='no task of split "validation"'):
        main(finished.policy, play, warm, replace(finished, output=tmp_path / "sft").config())
    assert not (tmp_path / "sft" / "adapter_model.safetensors").exists()


def test_resuming_where_there_is_no_checkpoint_is_said_before_any_work(finished: Run) -> None:
    config = finished.config(resume_from_checkpoint="true")
    with pytest.raises(SystemExit, match="no complete checkpoint"):
        main(finished.policy, finished.play, WarmStartArguments(), config)
