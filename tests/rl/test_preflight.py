"""The estimate beside real tensors: equal where it counts, within 15 % where it is a peak."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from tiny_models import tiny_llama, tiny_qwen3
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from transformers import Qwen3Config, Qwen3ForCausalLM
from trl.trainer.utils import add_fused_lm_head

from agents.attention import _plain_gradients, _plain_read
from agents.engine import Conversations, SamplingConfig
from agents.errors import ModelNotFoundError
from agents.merged import folded_adapter
from agents.models import add_adapter, load_model
from agents.shared_prompt import completion_log_probs
from agents.value_head import add_value_head
from rl.preflight.__main__ import kind_of, main
from rl.preflight.changes import Reader, _smaller_micro_batch, first_that_fits
from rl.preflight.memory import (
    MOMENTS,
    OVERHEAD,
    cache_bytes,
    estimate,
    own_slots,
    peak,
    saved_in_layer,
    weights_bytes,
)
from rl.preflight.plan import Plan, state_bytes
from rl.preflight.shape import Shape, read_config, shape_of
from sft.flags import CONFIGS

RANK = 16
T4_GIB = 14.5
"""What a T4 has left of its 16 GB (15 GiB) when error correction is on."""
PLAN = Plan(
    kind="grpo",
    on_gpu=False,
    load_in_4bit=False,
    weight_bytes=4,
    mixed=False,
    checkpointing=False,
    state_bytes=0,
    rank=RANK,
    reference=False,
    gathers=False,
    accumulates=False,
    scored=True,
    prompt=500,
    completion=40,
    sampled=40,
    turns=1,
    group=4,
    rows=4,
    batch=4,
    micro=4,
    row=300,
    evaluated=1,
)
AS_ON_T4 = replace(PLAN, on_gpu=True, load_in_4bit=True, weight_bytes=2, mixed=True)
"""With bfloat16 in the place of float16, which a CPU is slow at."""


def small_qwen3(layers: int = 4, vocabulary: int = 4000) -> Any:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        tie_word_embeddings=True,
        eos_token_id=1,
        pad_token_id=0,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config)


@pytest.fixture
def load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Plan, Any], tuple[Any, Shape]]:
    """Loads a model as a plan says; attention on this CPU is then computed as on a GPU."""

    def make(plan: Plan, model: Any) -> tuple[Any, Shape]:
        folder = tmp_path / f"{model.config.num_hidden_layers}"
        model.save_pretrained(folder)
        loaded = load_model(
            str(folder),
            load_in_4bit=plan.load_in_4bit,
            precision="bfloat16" if plan.weight_bytes == 2 else "float32",
        )
        shape = shape_of(loaded.config)
        loaded = add_adapter(loaded, rank=RANK, alpha=32, seed=0).train()
        if plan.checkpointing:
            loaded.enable_input_require_grads()
            loaded.activation_checkpointing_enable()
        if plan.on_gpu:
            for module in ("agents.packed", "agents.kv_cache"):
                monkeypatch.setattr(f"{module}.read", _plain_read)
            monkeypatch.setattr("agents.packed.read_gradients", _plain_gradients)
            # peft asks whether there is autocast on GPUs.
            enabled = torch.is_autocast_enabled
            monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: enabled("cpu"))
        return loaded, shape

    return make


def autocast(plan: Plan) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16) if plan.mixed else nullcontext()


def group_of(plan: Plan) -> tuple[list[tuple[int, ...]], list[list[int]]]:
    groups = plan.micro // plan.group
    prompts = [tuple(range(2 + i, 2 + i + plan.prompt)) for i in range(groups)]
    completions = [[5 + row] * plan.completion for row in range(plan.micro)]
    return [prompts[row // plan.group] for row in range(plan.micro)], completions


def scored(model: Any, plan: Plan) -> torch.Tensor:
    fold = nullcontext() if plan.checkpointing else folded_adapter(model)
    with autocast(plan), fold:
        return completion_log_probs(model, *group_of(plan))[0].sum()


def most_allocated(run: Callable[[], Any]) -> int:
    """Return the most bytes that were allocated at once while something ran, by the profiler."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    now = most = 0
    for event in sorted(
        (event for event in events if event.name() == "[memory]"), key=lambda e: e.start_ns()
    ):
        now += event.nbytes()
        most = max(most, now)
    return most


def bytes_of(model: Any) -> int:
    """Return the bytes of a model's tensors, those of its 4-bit layers included."""
    tensors = list(model.parameters())
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            state = module.weight.quant_state
            tensors += [state.absmax, state.code, state.offset, state.state2.absmax]
            tensors.append(state.state2.code)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def estimated(shape: Shape, plan: Plan, *moments: str) -> int:
    """Return the most of some moments, without what is assumed for the process."""
    parts = estimate(shape, plan)
    return max(sum(row.get(name, 0) for row in parts.values()) for name in moments) - OVERHEAD


# --- what is counted exactly --------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [tiny_qwen3(), tiny_qwen3(tie_word_embeddings=False), tiny_llama()],
    ids=["qwen3", "head of its own", "llama"],
)
def test_parameters_are_those_of_the_built_model_and_of_its_adapter(model: Any) -> None:
    shape = shape_of(model.config)
    linears = sum(one * other for one, other in shape.linears)
    assert linears + shape.embeddings + shape.others == model.num_parameters()
    model.name_or_path = "tiny"
    adapted = add_adapter(model, rank=4, alpha=8, seed=0)
    trained = [p.numel() for p in adapted.parameters() if p.requires_grad]
    assert shape.lora(4) == sum(trained)


@pytest.mark.parametrize(
    ("name", "billions"), [("0.6B", 0.44), ("1.7B", 1.41), ("4B", 3.63)]
)  # "Number of Parameters (Non-Embedding)" on the model cards: 0.44B, 1.4B, 3.6B
def test_qwen3_is_known_without_a_network(name: str, billions: float) -> None:
    shape = shape_of(read_config(f"Qwen/Qwen3-{name}"))
    inside = sum(one * other for one, other in shape.linears) + shape.others
    assert inside / 1e9 == pytest.approx(billions, abs=0.005)


@pytest.mark.parametrize("plan", [PLAN, AS_ON_T4, replace(PLAN, weight_bytes=2)])
def test_weights_take_the_bytes_of_the_loaded_model(load: Any, plan: Plan) -> None:
    model, shape = load(plan, small_qwen3(layers=2))
    assert bytes_of(model) == weights_bytes(shape, plan) + 4 * shape.lora(RANK)


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("paged_adamw_8bit", bitsandbytes.optim.PagedAdamW8bit),
        ("adamw_torch_fused", torch.optim.AdamW),
        ("sgd", torch.optim.SGD),
    ],
)
def test_the_optimizer_keeps_the_bytes_of_its_state(name: str, make: Any) -> None:
    parameter = torch.nn.Parameter(torch.randn(256, 64))
    parameter.grad = torch.randn(256, 64)
    optimizer = make([parameter], lr=0.1)
    optimizer.step()
    kept = [
        value
        for key, value in optimizer.state[parameter].items()
        if isinstance(value, torch.Tensor) and value.ndim and not key.startswith("qmap")
    ]
    assert sum(t.numel() * t.element_size() for t in kept) == state_bytes(name) * 256 * 64


def test_the_cache_keeps_a_prompt_once_and_the_tokens_of_each_row() -> None:
    model, rows, prompt, sampled = small_qwen3(layers=2), 4, 30, 90
    config = SamplingConfig(max_turn_tokens=sampled, max_length=1000)
    conversations = Conversations(model.eval(), -1, 0, config)
    conversations.start([tuple(range(2, 2 + prompt))] * rows)
    conversations.generate()
    cache = conversations._cache
    layers = [part for layer in cache._prompts.layers for part in layer]
    own = [buffer for slots in cache._own for buffer in slots.buffers]
    found = [sum(t.numel() * t.element_size() for t in kept) for kept in (layers, own)]
    shape = shape_of(model.config)
    # The last token of a prompt is the first of a row's own.
    assert found == [
        cache_bytes(shape, PLAN, prompt - 1),
        cache_bytes(shape, PLAN, rows * own_slots(sampled)),
    ]


def saved_bytes(model: Any, plan: Plan) -> int:
    """Return the bytes of what a forward pass saves, tensors that share memory counted once."""
    known = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scored(model, plan)
    return sum(t.untyped_storage().nbytes() for key, t in saved.items() if key not in known)


@pytest.mark.parametrize(
    "plan",
    [
        replace(PLAN, prompt=60, completion=20),
        replace(AS_ON_T4, prompt=60, completion=20),
        replace(PLAN, prompt=60, completion=20, checkpointing=True),
    ],
    ids=["float32", "as on a T4", "checkpointed"],
)
def test_a_layer_saves_the_bytes_that_autograd_saves(load: Any, plan: Plan) -> None:
    (less, smaller), (more, shape) = (load(plan, small_qwen3(layers)) for layers in (2, 3))
    difference = saved_bytes(more, plan) - saved_bytes(less, plan)
    tokens = plan.prompt + plan.micro * plan.completion
    if plan.checkpointing:
        assert difference == tokens * shape.hidden * plan.weight_bytes
        return
    expected = sum(saved_in_layer(shape, plan, tokens))
    if plan.folds:  # W + s B A of each linear layer
        layer = shape.linears[len(smaller.linears) :]
        expected += 4 * sum(one * other for one, other in layer)
    if plan.mixed:  # autocast's copies of the adapter
        expected += 2 * (shape.lora(RANK) - smaller.lora(RANK))
    assert difference == expected


# --- peaks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(PLAN, id="kernel"),
        pytest.param(replace(AS_ON_T4, checkpointing=True), id="T4"),
        pytest.param(
            replace(PLAN, group=8, rows=8, micro=8, checkpointing=True),
            id="checkpointed, 8",
            marks=pytest.mark.slow,
        ),
        pytest.param(replace(PLAN, on_gpu=True), id="plain", marks=pytest.mark.slow),
        pytest.param(
            replace(
                AS_ON_T4,
                checkpointing=True,
                group=8,
                rows=8,
                micro=8,
                prompt=100,
                completion=80,
                sampled=80,
            ),
            id="T4, long completions, 8",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            replace(AS_ON_T4, prompt=200, completion=80, sampled=80, rows=8, micro=8),
            id="T4, two groups",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_update_and_its_scoring_peak_within_15_percent(load: Any, plan: Plan) -> None:
    model, shape = load(plan, small_qwen3())
    there = bytes_of(model)
    scored(model, plan).backward()  # gradients are there from then on, as `estimate` counts them
    model.zero_grad()
    measured = there + most_allocated(lambda: scored(model, plan).backward())
    assert estimated(shape, plan, "logits", "layers") == pytest.approx(measured, rel=0.15)
    model.zero_grad()
    with torch.no_grad():
        measured = there + most_allocated(lambda: scored(model, plan))
    assert estimated(shape, plan, "scoring") == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize(
    "plan",
    [
        replace(PLAN, completion=60, sampled=20, turns=2),
        replace(AS_ON_T4, completion=60, sampled=20, turns=2),
        pytest.param(
            replace(AS_ON_T4, prompt=60, completion=140, sampled=40, turns=2, rows=8, group=8),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["kernel", "T4", "T4, long turns"],
)
def test_a_rollout_peaks_within_15_percent(load: Any, plan: Plan) -> None:
    model, shape = load(plan, small_qwen3())
    model.eval()
    prompts = [tuple(range(2, 2 + plan.prompt))] * plan.rows
    observed = plan.completion - plan.sampled
    config = SamplingConfig(1.0, max_turn_tokens=plan.sampled // 2, max_length=10**6)

    def play() -> None:
        with torch.no_grad(), folded_adapter(model):
            conversations = Conversations(model, -1, 0, config)
            conversations.start(prompts)
            conversations.generate()
            conversations.extend(range(plan.rows), [[3] * observed] * plan.rows)
            conversations.generate()

    measured = bytes_of(model) + most_allocated(play)
    parts = estimate(shape, plan)
    parts.pop("copies of half the rows")  # all rows speak to the end
    _, most = peak({name: pick(row, "prompts", "turns") for name, row in parts.items()})
    assert most - OVERHEAD == pytest.approx(measured, rel=0.15)


def pick(row: dict[str, int], *moments: str) -> dict[str, int]:
    return {name: size for name, size in row.items() if name in moments}


@pytest.mark.parametrize(
    "plan",
    [
        replace(PLAN, kind="sft", micro=3),
        replace(PLAN, kind="sft", micro=1, checkpointing=True),
        replace(AS_ON_T4, kind="sft", micro=1, row=600, checkpointing=True),
    ],
    ids=["three rows", "checkpointed", "T4"],
)
def test_an_sft_step_peaks_within_15_percent(load: Any, plan: Plan) -> None:
    model, shape = load(plan, small_qwen3())
    add_fused_lm_head(model.get_base_model())
    ids = torch.randint(2, 3000, (plan.micro, plan.row))
    mask = torch.ones_like(ids)
    mask[1:, plan.row // 2 :] = 0
    fold = nullcontext() if plan.checkpointing else folded_adapter(model)

    def step() -> None:
        inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
        with autocast(plan), fold:
            if not plan.on_gpu:
                output = model(**inputs, labels=ids, fused_lm_head=True)
                output.log_probs.sum().backward()
                return
            # TRL's head is another one on a GPU; the layers are measured without it.
            with sdpa_kernel(SDPBackend.MATH):
                model.get_decoder()(**inputs).last_hidden_state.sum().backward()

    measured = bytes_of(model) + most_allocated(step)
    moments = ("layers",) if plan.on_gpu else ("logits", "layers")
    assert estimated(shape, plan, *moments) == pytest.approx(measured, rel=0.15)


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
        (("--eval_limit", "64"), 14.5, {"eval_limit"}),
        (("--activation_checkpointing", "false"), 14.5, {"activation_checkpointing"}),
        (("--tokens_per_forward", "0"), 10, {"tokens_per_forward"}),
        ((), 5.0, None),  # several together
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
    assert main(["--config", t4, "--memory_gib", "14.5", "--eval_limit", "8"]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("next: python -m rl.preflight --config")
    assert last.endswith("--eval_limit 2")
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
