from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from exported import TASKS
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_models import save_adapter, save_base, shipped_tokenizer

from agents.engine import SamplingConfig
from agents.models import load_player
from agents.rollout import rollout
from sft.merge import Agreement, Trained, agreement, first_turns, merged_model

Ids = list[int]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([[1, 2, 3]], [[1, 2, 3]], Agreement(1, 1, 3, 3)),
        ([[1, 2, 3]], [[1, 9, 3]], Agreement(1, 0, 3, 1)),  # what follows a difference is no match
        ([[1, 2, 3]], [[1, 2]], Agreement(1, 0, 3, 2)),
        ([[1, 2]], [[1, 2, 3]], Agreement(1, 0, 2, 2)),
        ([[], [4]], [[], [5]], Agreement(2, 1, 1, 0)),
    ],
)
def test_agreement_counts_outputs_and_tokens_up_to_the_first_difference(
    first: list[Ids], second: list[Ids], expected: Agreement
) -> None:
    assert agreement(first, second) == expected


@given(st.lists(st.lists(st.integers(0, 3), max_size=5), max_size=5))
def test_whoever_says_the_same_agrees_in_full(said: list[Ids]) -> None:
    tokens = sum(map(len, said))
    assert agreement(said, said) == Agreement(len(said), len(said), tokens, tokens)


def test_an_agreement_is_told_with_counts_and_shares() -> None:
    told = str(Agreement(prompts=4, equal=3, tokens=40, equal_tokens=35))
    assert told == (
        "3 of 4 outputs are equal (75.0 %); up to the first difference 35 of 40 tokens are (87.5 %)"
    )
    assert "0 of 0 tokens" in str(Agreement(prompts=1, equal=1, tokens=0, equal_tokens=0))


def said(name: str, **options: Any) -> Any:
    return first_turns(name, TASKS, max_turn_tokens=8, precision="float32", **options)


def test_a_policy_is_compared_as_it_was_trained_thinking_or_not(tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", save_base(tmp_path / "base"))
    plain, thought = (said(adapter, thinking=thinking) for thinking in (False, True))
    for output, thinking in ((plain, False), (thought, True)):
        config = SamplingConfig(max_turn_tokens=8)
        player = load_player(adapter, config=config, thinking=thinking)
        assert output == [one.completion_ids for one in rollout(player, TASKS, max_turns=1)]
    assert plain != thought


@pytest.mark.filterwarnings("ignore:Model (has|with) `tie_word_embeddings=True`:UserWarning")
@pytest.mark.filterwarnings("ignore:Input and output embeddings are no longer tied:UserWarning")
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`:UserWarning")
@pytest.mark.parametrize("part", ["lm_head", "embed_tokens", "q_proj"])
@pytest.mark.parametrize("tied", [True, False])
def test_what_was_learned_for_one_end_of_tied_weights_does_not_change_the_other(
    tmp_path: Path, part: str, tied: bool
) -> None:
    base = save_base(tmp_path / "base", tie_word_embeddings=tied)
    adapter = save_adapter(tmp_path / "adapter", base, target_modules=["v_proj", part])
    disturb(Path(adapter), "lora_embedding_")
    model = merged_model(Trained(adapter), torch.float32)
    model.save_pretrained(tmp_path / "merged")
    shipped_tokenizer().save_pretrained(tmp_path / "merged")
    assert said(str(tmp_path / "merged")) == said(adapter)
    saved = load_file(tmp_path / "merged" / "model.safetensors")
    assert ("lm_head.weight" in saved) is (part != "q_proj" or not tied)


def disturb(adapter: Path, name: str) -> None:
    """Give parts of an adapter that peft begins at zero something to say."""
    path = adapter / "adapter_model.safetensors"
    torch.manual_seed(1)
    tensors = {
        key: torch.randn_like(tensor) if name in key else tensor
        for key, tensor in load_file(path).items()
    }
    save_file(tensors, path, metadata={"format": "pt"})


def test_rounding_to_16_bits_leaves_buffers_alone(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base)
    model = merged_model(Trained(adapter), torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert {b.dtype for b in model.buffers()} == {torch.float32}
