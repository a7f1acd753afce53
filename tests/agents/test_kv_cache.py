from __future__ import annotations

from typing import Any

import torch

from agents.engine import Conversations, SamplingConfig

END, PAD = 1511, 1509


def started(model: Any, prompts: list[list[int]]) -> Conversations:
    engine = Conversations(model, END, PAD, SamplingConfig(max_turn_tokens=4))
    engine.start(prompts)
    engine.generate()
    return engine


def test_a_prompt_is_kept_once_however_many_rows_share_it(tiny_model: Any) -> None:
    engine = started(tiny_model, [[1, 2, 3, 4]] * 5 + [[5, 6]] * 3)
    for keys, values in engine._cache._prompts.layers:
        assert keys.shape[0] == values.shape[0] == 2
        assert keys.shape[2] == 3  # the last token of a prompt is the first input


def test_a_prompt_is_forgotten_with_the_last_row_that_went_on_from_it(tiny_model: Any) -> None:
    engine = started(tiny_model, [[1, 2, 3, 4]] * 2 + [[5, 6]] * 2)
    engine.extend([0, 3], [[7], [8]])
    assert len(engine._cache._prompts) == 2
    engine.extend([1], [[7]])
    assert len(engine._cache._prompts) == 1
    assert engine._cache._own[0].buffers[0].shape[0] == 1


def test_a_row_holds_only_what_it_said_and_heard(tiny_model: Any) -> None:
    """Not its prompt: 40 prompt tokens, and room for few slots more than were used."""
    engine = started(tiny_model, [list(range(40))] * 3)
    own = engine._cache._own[0]
    assert own.used == 4  # the prompt's last token and three of four sampled ones
    assert torch.equal(engine._cache.lengths, torch.tensor([43, 43, 43]))
