from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tiny_models import save_base, tiny_qwen3, with_adapter
from tiny_tasks import sum_task
from trl import SFTConfig

from agents.attention import use_layouts
from agents.players import LanguagePlayer
from agents.template import ChatTemplate
from rewards.serialise import write_tasks
from sft.flags import PolicyArguments, TaskArguments
from sft.recipe import read_recipe
from sft.rendering import check_packing, tokenised
from sft.traces import Row, reference_traces
from sft.train import WarmStartArguments, WarmStartTrainer, main
from sft.validation import BEST, read_log


@pytest.fixture(scope="module")
def traces() -> list[Row]:
    return reference_traces([sum_task(number) for number in range(6)], max_turns=3)


def config(folder: Path, **options: Any) -> SFTConfig:
    return SFTConfig(
        output_dir=str(folder),
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        activation_checkpointing=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        **{"per_device_train_batch_size": 6, "max_length": 4096, **options},
    )


# --- packing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("played", [False, True], ids=["fresh", "after it has played"])
def test_packed_rows_have_the_loss_and_the_gradients_of_rows_by_themselves(
    traces: list[Row], tokenizer: Any, tmp_path: Path, played: bool
) -> None:
    rows = tokenised(ChatTemplate(tokenizer), traces, None)
    results = []
    for packing in (False, True):
        model = with_adapter(tiny_qwen3())
        if played:
            use_layouts(model)
        trainer = WarmStartTrainer(
            model=model,
            args=config(tmp_path, packing=packing),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        (batch,) = trainer.get_train_dataloader()
        assert batch["input_ids"].shape[0] == (1 if packing else len(rows))
        loss = trainer.compute_loss(trainer.model.double(), batch)
        loss.backward()
        grads = [p.grad for p in trainer.model.parameters() if p.requires_grad]
        results.append((loss, torch.cat([grad.flatten() for grad in grads])))
    (loss, gradient), (packed_loss, packed_gradient) = results
    assert gradient.norm() > 0
    torch.testing.assert_close(packed_loss, loss, rtol=1e-6, atol=0)
    torch.testing.assert_close(packed_gradient, gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"packing_strategy": "wrapped"}, "wrapped lets rows .* see each other; use .* bfd"),
        ({"packing_strategy": "bfd_split"}, "trains on pieces of rows"),
        ({"max_length": None}, "--packing fills rows up to --max_length"),
    ],
)
def test_packing_that_is_not_exact_is_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SystemExit, match=message):
        check_packing(config(tmp_path, packing=True, **options))


# --- what is rendered and trained ---------------------------------------------------------------


def text_of(tokenizer: Any, row: dict[str, list[int]]) -> str:
    text: str = tokenizer.decode(row["input_ids"])
    return text


@pytest.mark.parametrize("thinking", [False, True])
def test_a_thought_is_rendered_once_where_the_policy_thinks_and_else_not_at_all(
    tokenizer: Any, capsys: pytest.CaptureFixture[str], thinking: bool
) -> None:
    said = {"role": "assistant", "content": "Rome.", "reasoning_content": "Surely Rome it is."}
    asked = {"role": "user", "content": "?"}
    rows: list[Row] = [{"id": "a", "messages": [asked, said], "tools": []}]
    template = ChatTemplate(tokenizer, thinking=thinking)
    (row,) = tokenised(template, rows, None)
    assert text_of(tokenizer, row).count("Surely") == thinking
    prompt = template.prompt_ids(rows[0]["messages"][:1])
    assert row["input_ids"][: len(prompt)] == prompt
    assert row["assistant_masks"] == [0] * len(prompt) + [1] * (len(row["input_ids"]) - len(prompt))
    assert ("1 rows have reasoning" in capsys.readouterr().out) is not thinking


def test_loss_on_the_conversation_trains_every_token(traces: list[Row], tokenizer: Any) -> None:
    for row in tokenised(ChatTemplate(tokenizer), traces, None, "conversation"):
        assert set(row["assistant_masks"]) == {1}


def test_rows_that_keep_no_trained_token_are_counted(
    traces: list[Row], tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenised(ChatTemplate(tokenizer), traces, 20)
    assert f"{len(traces)} rows keep no trained token" in capsys.readouterr().out


def test_a_row_that_the_template_refuses_is_named(tokenizer: Any) -> None:
    row = {"id": "odd", "messages": [{"role": "user", "content": "?"}], "tools": [object()]}
    with pytest.raises(SystemExit, match='refuses the row "odd"'):
        tokenised(ChatTemplate(tokenizer), [row], None)


# --- the command --------------------------------------------------------------------------------


def test_rows_of_files_are_trained_on_and_validated_by_episodes(
    traces: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(trace) + "\n" for trace in traces), encoding="utf-8")
    splits = ("validation", "validation", "test")
    write_tasks(tmp_path / "tasks.jsonl", [sum_task(i, split) for i, split in enumerate(splits)])
    output = tmp_path / "sft"
    main(
        PolicyArguments(save_base(tmp_path / "base"), max_turn_tokens=4, threads=1, lora_r=4),
        TaskArguments(str(tmp_path / "tasks.jsonl"), max_turns=2, run_dir=str(tmp_path)),
        WarmStartArguments(
            num_traces=0,
            data=[str(data)],
            data_weights=[2],
            eval_base=False,
            eval_every=2,
            eval_tasks_during=1,
            patience=1,
        ),
        config(output, max_steps=9, per_device_train_batch_size=2),
    )
    kept = (output / "traces.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in kept] == traces
    assert [(line["step"], line["n"]) for line in read_log(output)] == [(2, 1), (4, 1)]
    assert not (output / BEST).exists()
    text = capsys.readouterr().out
    assert f"{data}: 6 rows, weight 2: 12 shown" in text
    assert "the adapter of step 2 is kept" in text


@pytest.mark.parametrize("thinking", [False, True])
def test_one_flag_lets_a_policy_think_in_its_rows_and_when_it_plays(
    tokenizer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], thinking: bool
) -> None:
    said = {"role": "assistant", "content": "Rome.", "reasoning_content": "Surely Rome it is."}
    row = {"id": "a", "messages": [{"role": "user", "content": "City?"}, said], "tools": []}
    (tmp_path / "data.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    write_tasks(tmp_path / "tasks.jsonl", [sum_task(0, "validation"), sum_task(1, "test")])
    policy = PolicyArguments(
        save_base(tmp_path / "base"), max_turn_tokens=4, threads=1, enable_thinking=thinking
    )
    data = [str(tmp_path / "data.jsonl")]
    prompts: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        begin = LanguagePlayer.begin

        def spy(player: LanguagePlayer, infos: Any) -> None:
            begin(player, infos)
            prompts.extend(tokenizer.decode(prompt) for prompt in player._prompts)

        patch.setattr(LanguagePlayer, "begin", spy)
        main(
            policy,
            TaskArguments(str(tmp_path / "tasks.jsonl"), max_turns=2, run_dir=str(tmp_path)),
            WarmStartArguments(num_traces=0, data=data, eval_every=1),
            config(tmp_path / "sft", max_steps=1, per_device_train_batch_size=1),
        )
    assert len(prompts) == 3  # of the base, in validation, and afterwards
    assert {prompt.endswith("assistant\n") for prompt in prompts} == {thinking}
    text = capsys.readouterr().out
    assert ("1 rows have reasoning" in text) is not thinking
    assert ("--enable_thinking true" in text.splitlines()[-1]) is thinking
    assert read_recipe(tmp_path / "sft").flags.get("enable_thinking", False) is thinking


def test_several_processes_are_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SFTConfig, "world_size", 2)
    warm, play = WarmStartArguments(eval_every=1), TaskArguments(run_dir=str(tmp_path))
    with pytest.raises(SystemExit, match="--eval_every plays in one process, and 2 train"):
        main(PolicyArguments("./no/model"), play, warm, config(tmp_path / "sft"))
    assert not (tmp_path / "sft").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"num_traces": 0}, "--num_traces must be at least 1, not 0"),
        ({"num_traces": -1, "data": ["a"]}, "not -1"),
        ({"data": ["a"], "data_weights": [1.0, 2.0]}, "2 for 1"),
        ({"data": ["a"], "data_weights": [0.0]}, "above 0, not 0.0"),
        ({"eval_every": -1}, "--eval_every must not be negative"),
        ({"patience": 1}, "give --eval_every"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WarmStartArguments(**flags)
