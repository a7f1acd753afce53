"""The command: what it reads, what it proposes, what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import tiny_llama, tiny_qwen3

from agents.errors import ModelNotFoundError
from agents.value_head import add_value_head
from rl.preflight.__main__ import kind_of, main
from rl.preflight.changes import Reader, _smaller_micro_batch, first_that_fits
from rl.preflight.memory import MOMENTS, peak
from rl.preflight.shape import read_config, shape_of
from sft.flags import CONFIGS

T4_GIB = 14.5
"""What a T4 has left of its 16 GB (15 GiB) when error correction is on."""


# --- flags and changes --------------------------------------------------------------------------


def reader(kind: str, *flags: str, on_gpu: bool = True, prompt: int = 0) -> Reader:
    config = CONFIGS / f"qwen3-1.7b-t4-{kind}.yaml"
    return Reader(kind, ["--config", str(config), *flags], prompt, on_gpu, "")


@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_the_t4_configs_are_read_by_the_real_parser_and_fit(kind: str) -> None:
    # transformers takes fp16 without a GPU too; it is the training that then fails.
    run = reader(kind).read({})
    policy, config, plan = run.given[0], run.given[-1], run.plan
    assert policy.model_name_or_path == "Qwen/Qwen3-1.7B"
    assert (policy.load_in_4bit, policy.precision, policy.lora_r) == (True, "float16", 16)
    assert (config.fp16, config.bf16, config.use_cpu) == (True, False, False)
    assert config.gradient_checkpointing
    assert config.optim == "paged_adamw_8bit"
    assert (plan.prompt, plan.turns, plan.sampled) == (4096, 4, 512)
    assert run.peak() <= T4_GIB * 2**30
    if kind == "grpo":
        assert (plan.group, plan.rows, plan.micro) == (8, 8, 4)
        assert not plan.scored
        assert run.given[2].adapter == "runs/qwen3-1.7b-t4/sft"
    else:
        assert config.max_length == plan.prompt + plan.completion


def test_smaller_pieces_need_less_and_leave_the_step_as_it_is() -> None:
    whole = reader("grpo", "--tokens_per_forward", "0")
    start = whole.read({})
    assert start.plan.micro == 8
    found = [whole.read(step) for step in _smaller_micro_batch(start)]
    assert [run.plan.micro for run in found] == [4, 2, 1]
    peaks = [run.peak() for run in (start, *found)]
    assert peaks == sorted(peaks, reverse=True)
    assert {run.plan.rows for run in found} == {start.plan.rows}


def test_smaller_batches_of_sft_are_accumulated() -> None:
    several = reader("sft", "--per_device_train_batch_size", "4")
    start = several.read({})
    for step in _smaller_micro_batch(start):
        config = several.read(step).given[-1]
        assert config.per_device_train_batch_size * config.gradient_accumulation_steps == 64


@pytest.mark.parametrize(
    ("flags", "gib", "change"),
    [
        (("--per_device_eval_batch_size", "64"), 14.5, {"per_device_eval_batch_size"}),
        (("--activation_checkpointing", "false"), 14.5, {"activation_checkpointing"}),
        (("--tokens_per_forward", "0"), 10, {"tokens_per_forward"}),
        ((), 3.5, None),  # several together
    ],
)
def test_the_first_change_that_fits_does_fit(
    flags: tuple[str, ...], gib: float, change: set[str] | None
) -> None:
    run, memory = reader("grpo", *flags), int(gib * 2**30)
    assert run.read({}).peak() > memory
    step = first_that_fits(run, memory)
    assert step is not None
    assert run.read(step).peak() <= memory
    assert step.keys() == change if change else len(step) > 3


def test_sft_plays_fewer_test_tasks_where_they_do_not_fit_side_by_side() -> None:
    run = reader("sft", "--eval_limit", "64", "--per_device_eval_batch_size", "64")
    step = first_that_fits(run, int(T4_GIB * 2**30))
    assert step == {"per_device_eval_batch_size": "16"}


def test_nothing_makes_it_fit_where_the_weights_do_not() -> None:
    assert first_that_fits(reader("sft"), 2**30) is None


@pytest.mark.parametrize(
    ("flags", "moment"), [(("--beta", "0.1"), "scoring"), (("--num_iterations", "3"), "scoring")]
)
def test_a_kl_term_or_several_passes_score_the_whole_generation(
    flags: tuple[str, ...], moment: str
) -> None:
    parts = reader("grpo", *flags).read({}).parts
    assert "scoring" in parts["weights"]
    assert ("reference adapter" in parts) == ("--beta" in flags)
    assert peak(parts)[0] == moment


def test_ppo_learns_in_minibatches_and_has_a_value_head() -> None:
    flags = ("--minibatches", "2", "--per_device_train_batch_size", "16")
    config = CONFIGS / "starter-ppo.yaml"
    run = Reader("ppo", ["--config", str(config), *flags], 0, False, "").read({})
    assert (run.plan.rows, run.plan.group, run.plan.micro) == (16, 4, 8)
    assert run.plan.scored
    model = tiny_qwen3(hidden_size=128)
    add_value_head(model, 0)
    head = sum(p.numel() for p in model.value_head.parameters())
    shape = shape_of(read_config("embedded"))
    assert run.parts["trained parameters"]["layers"] == 4 * (shape.lora(run.plan.rank) + head)


# --- the command --------------------------------------------------------------------------------


def starter(*flags: str) -> list[str]:
    return ["--config", str(CONFIGS / "starter-grpo.yaml"), "--adapter", "none", *flags]


def test_a_run_that_fits_ends_with_its_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "estimate.json"
    assert main(starter("--memory_gib", "1000", "--json", str(file), "--num_generations", "2")) == 0
    said = capsys.readouterr().out
    assert "next: python -m rl.grpo --config" in said
    assert said.rstrip().endswith("--num_generations 2")
    written = json.loads(file.read_text(encoding="utf-8"))
    assert written["fits"]
    assert written["plan"]["group"] == 2
    sums = {
        moment: sum(row.get(moment, 0) for row in written["parts"].values()) for moment in MOMENTS
    }
    assert written["peak"] == max(sums.values()) == sums[written["moment"]]


def test_a_run_that_does_not_fit_names_flags_that_fit(capsys: pytest.CaptureFixture[str]) -> None:
    t4 = str(CONFIGS / "qwen3-1.7b-t4-grpo.yaml")
    many = ("--per_device_eval_batch_size", "32")
    assert main(["--config", t4, "--memory_gib", "14.5", *many]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("next: python -m rl.preflight --config")
    assert last.endswith("--per_device_eval_batch_size 16")
    assert main(last.removeprefix("next: python -m rl.preflight ").split()) == 0


def test_nothing_fits_on_a_device_without_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(starter("--memory_gib", "0.001")) == 1
    assert "it does not fit, whatever is changed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model_name_or_path", "nobody/nothing"], "with --model_config"),
        (["--tokens_per_prompt", "4096"], "leaves no room in --max_length_tokens 2048"),
    ],
)
def test_a_mistake_is_one_clear_line(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(starter(*flags)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_the_first_line_of_a_config_says_which_command_it_is_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = {kind_of(str(CONFIGS / f"starter-{kind}.yaml")): kind for kind in COMMANDS}
    assert kinds == {kind: kind for kind in COMMANDS}
    bare = tmp_path / "bare.yaml"
    bare.write_text("max_steps: 3\n", encoding="utf-8")
    assert main(["--config", str(bare)]) == 2
    assert "pass --kind sft, grpo or ppo" in capsys.readouterr().err
    assert main(["--config", str(tmp_path / "none.yaml")]) == 2
    assert "cannot read the config file" in capsys.readouterr().err


COMMANDS = ("sft", "grpo", "ppo")


def test_another_models_configuration_may_be_given(tmp_path: Path) -> None:
    model = tiny_llama()
    model.config.save_pretrained(tmp_path)
    shape = shape_of(model.config)
    for given in (tmp_path, tmp_path / "config.json"):
        assert shape_of(read_config(str(given))) == shape
    with pytest.raises(ModelNotFoundError, match=r"config\.json"):
        read_config(str(tmp_path / "nothing"))


def test_the_help_is_short_and_says_what_to_run(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    said = capsys.readouterr().out
    assert "Will it fit?" in said
    assert "Example: python -m rl.preflight --config" in said
    assert len(said.splitlines()) < 50
