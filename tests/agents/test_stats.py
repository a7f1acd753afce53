from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.stats import mcnemar_exact, pass_at_k, pass_hat_k, sign_flip_exact, wilson

Z95 = 1.959963984540054


def wilson_by_the_quadratic(successes: int, n: int) -> tuple[float, float]:
    """The two p at which |rate - p| = z * sqrt(p (1 - p) / n): roots of a quadratic in p."""
    rate = successes / n
    a, b, c = 1 + Z95**2 / n, -(2 * rate + Z95**2 / n), rate**2
    root = math.sqrt(max(b * b - 4 * a * c, 0.0))
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def mcnemar_by_sums(b: int, c: int) -> float:
    """Adds up, in exact fractions, every split of b + c that is no likelier than the one seen."""
    n = b + c
    chances = [Fraction(math.comb(n, i), 2**n) for i in range(n + 1)]
    return float(sum(chance for chance in chances if chance <= chances[b]))


@pytest.mark.parametrize(("successes", "n"), [(36, 40), (1, 3), (250, 300), (0, 20), (20, 20)])
def test_wilson_equals_the_roots_of_its_quadratic(successes: int, n: int) -> None:
    assert wilson(successes, n) == pytest.approx(wilson_by_the_quadratic(successes, n), abs=1e-9)


def test_ninety_percent_of_forty_has_the_interval_of_the_design_note() -> None:
    low, high = wilson(36, 40)
    assert (round(low, 2), round(high, 2)) == (0.77, 0.96)


def test_wilson_of_no_attempts_says_that_nothing_is_known() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("n", [1, 7, 60])
def test_wilson_stays_inside_zero_and_one_and_mirrors(n: int) -> None:
    for successes in range(n + 1):
        low, high = wilson(successes, n)
        assert 0 <= low <= successes / n <= high <= 1
        mirrored = wilson(n - successes, n)
        assert (low, high) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]), abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(-1, 3), (4, 3)])
def test_wilson_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} of {n}"):
        wilson(successes, n)


def test_mcnemar_equals_brute_force_binomial_sums() -> None:
    for b in range(13):
        for c in range(13):
            assert mcnemar_exact(b, c) == pytest.approx(mcnemar_by_sums(b, c), abs=1e-12), (b, c)


def test_mcnemar_on_large_counts_equals_the_exact_sum() -> None:
    assert mcnemar_exact(10, 90) == pytest.approx(mcnemar_by_sums(10, 90), rel=1e-9)
    assert mcnemar_exact(10, 90) < 1e-15


def test_the_sign_flip_test_of_one_seed_is_mcnemars() -> None:
    for better, worse in ((0, 0), (3, 0), (7, 2), (5, 5), (40, 21)):
        differences = [1] * better + [-1] * worse + [0] * 9
        assert sign_flip_exact(differences) == pytest.approx(mcnemar_exact(worse, better))


@given(st.lists(st.integers(-3, 3), max_size=8))
def test_the_sign_flip_test_counts_every_flip(differences: list[int]) -> None:
    sums = [
        abs(sum(sign * one for sign, one in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    expected = sum(one >= abs(sum(differences)) for one in sums) / len(sums)
    assert sign_flip_exact(differences) == pytest.approx(expected)


def test_a_task_that_three_seeds_solved_counts_once() -> None:
    assert sign_flip_exact([3, 3, 3, 3]) == pytest.approx(2 / 16)
    assert sign_flip_exact([1] * 12) == pytest.approx(2 / 2**12)


def test_mcnemar_is_one_where_no_task_differs_and_refuses_negative_counts() -> None:
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(5, 5) == 1.0
    with pytest.raises(ValueError, match="b=-1"):
        mcnemar_exact(-1, 2)


def test_pass_at_k_and_pass_hat_k_equal_counting_every_choice_of_attempts() -> None:
    for n in range(1, 6):
        for c in range(n + 1):
            attempts = [True] * c + [False] * (n - c)
            for k in range(1, n + 1):
                choices = list(combinations(attempts, k))
                any_of = sum(map(any, choices)) / len(choices)
                all_of = sum(map(all, choices)) / len(choices)
                assert pass_at_k(n, c, k) == pytest.approx(any_of)
                assert pass_hat_k(n, c, k) == pytest.approx(all_of)


def test_pass_at_k_refuses_more_attempts_than_were_made() -> None:
    with pytest.raises(ValueError, match="between 1 and the number of attempts, 4: got 5"):
        pass_at_k(4, 2, 5)
    with pytest.raises(ValueError, match="got 0"):
        pass_hat_k(4, 2, 0)
