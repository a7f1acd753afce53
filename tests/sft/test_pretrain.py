"""Pretraining of the embedded policy: its losses by another route, and the same bytes again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from agents.models import EMBEDDED_FOLDER, load_tokenizer
from sft.pretrain import (
    CONTEXT_SHARE,
    DECISION_WEIGHT,
    IGNORED_WEIGHT,
    CorpusBatches,
    LookBack,
    PretrainArguments,
    build_model,
    main,
    weighted_loss,
)

SMALL = {"hidden_size": 64, "layers": 1, "steps": 3, "tokens_per_step": 512, "threads": 1}


@pytest.fixture
def arguments(tmp_path: Path) -> PretrainArguments:
    return PretrainArguments(
        output_dir=str(tmp_path / "model"),
        tokenizer=str(EMBEDDED_FOLDER),
        **SMALL,  # type: ignore[arg-type]
    )


def test_the_first_token_of_a_turn_weighs_most_and_padding_nothing(
    arguments: PretrainArguments,
) -> None:
    tokenizer = load_tokenizer("embedded")
    ids, targets, weights = next(iter(CorpusBatches(tokenizer, arguments)))
    assert ids.shape == targets.shape == weights.shape
    expected = {IGNORED_WEIGHT, arguments.context_weight, 1.0, DECISION_WEIGHT}
    assert {round(weight, 6) for weight in weights.unique().tolist()} <= expected
    padding = torch.cumsum((ids != tokenizer.pad_token_id).flip(1), 1).flip(1) == 0
    assert (weights[padding] == 0).all()
    starts = weights == DECISION_WEIGHT
    # What stands before a turn of the assistant is the template's header of it.
    header = tokenizer("<|im_start|>assistant\n<think>\n\n</think>\n\n")["input_ids"]
    rows, places = starts.nonzero(as_tuple=True)
    assert len(rows) > 0
    assert set(ids[rows, places - 1].tolist()) == {header[-1]}
    seen = (weights == torch.tensor(arguments.context_weight)).sum() / (weights < 1)[~padding].sum()
    assert abs(float(seen) - CONTEXT_SHARE) < 0.1


def test_the_loss_of_the_next_token_is_the_weighted_mean_over_all_rows(
    arguments: PretrainArguments,
) -> None:
    tokenizer = load_tokenizer("embedded")
    model = build_model(tokenizer, arguments)
    ids, targets, weights = next(iter(CorpusBatches(tokenizer, arguments)))
    with torch.no_grad():
        log_probs = model(input_ids=ids).logits.log_softmax(-1)
        found = float(weighted_loss(model, ids, targets, weights))
    total = norm = 0.0
    for row in range(ids.shape[0]):
        for place in range(1, ids.shape[1]):
            weight = float(weights[row, place])
            total -= weight * float(log_probs[row, place - 1, targets[row, place]])
            norm += weight
    assert found == pytest.approx(total / norm, rel=1e-4)


def test_the_auxiliary_loss_asks_for_the_token_that_stood_so_many_places_before(
    arguments: PretrainArguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sft.pretrain.LOOK_BACK_SHARE", 1.0)
    model = build_model(load_tokenizer("embedded"), arguments)
    look_back = LookBack(model, offsets=(2,))
    ids = torch.randint(20, 400, (2, 7))
    weights = torch.ones(2, 7)
    weights[1, 4:] = 0
    model.model(input_ids=ids)
    found = look_back(ids, weights)
    state = look_back._state / look_back._state.pow(2).mean(-1, keepdim=True).sqrt()
    logits = look_back.maps["2"](state) @ model.model.embed_tokens.weight.T
    places = [(0, place) for place in range(2, 7)] + [(1, 2), (1, 3)]
    wanted = [-logits[r, p].log_softmax(-1)[ids[r, p - 2]] for r, p in places]
    expected = torch.stack(wanted).mean()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    found.backward()
    gradients = {name for name, p in model.named_parameters() if p.grad is not None}
    assert "model.layers.0.self_attn.q_proj.weight" in gradients
    assert "model.norm.weight" not in gradients


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_the_tokenizer_is_kept(
    arguments: PretrainArguments, tmp_path: Path
) -> None:
    folder = Path(arguments.output_dir)
    main(arguments)
    first = (folder / "model.safetensors").read_bytes()
    main(arguments)
    assert (folder / "model.safetensors").read_bytes() == first
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (folder / name).read_bytes() == (EMBEDDED_FOLDER / name).read_bytes()
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.num_hidden_layers == 1
