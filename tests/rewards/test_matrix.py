from __future__ import annotations

from rewards import DEFAULT_MATRIX, Outcome, RewardMatrix


def test_the_defaults_are_the_contract():
    assert {outcome: DEFAULT_MATRIX.value(outcome) for outcome in Outcome} == {
        Outcome.SUCCESS: 10.0,
        Outcome.TOOL_EXECUTION: 0.0,
        Outcome.TOOL_ERROR: -0.5,
        Outcome.INVALID_JSON: -0.8,
        Outcome.STRUCTURAL_FAIL: -1.0,
    }


def test_an_integer_in_a_config_becomes_a_float_reward():
    reward = RewardMatrix(success=5).value(Outcome.SUCCESS)
    assert reward == 5.0
    assert isinstance(reward, float)
