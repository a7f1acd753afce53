"""The statistics of a table of success rates: intervals, paired tests, pass@k and pass^k.

wilson(successes, n)       95 % interval of a success rate
mcnemar_exact(b, c)        two-sided exact p that two policies differ on the same tasks
sign_flip_exact(d)         the same for policies of several seeds, which played every task each
pass_at_k(n, c, k)         chance that ANY of k attempts succeeds
pass_hat_k(n, c, k)        chance that ALL of k attempts succeed

Where n is 0 nothing is known: the interval is (0, 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.stats import binomtest


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a success rate.

    Args:
        successes: Number of successes, 0 to `n`.
        n: Number of attempts; 0 gives the interval (0, 1), which says that nothing is known.
        confidence: Coverage of the interval, between 0 and 1.

    Returns:
        The lower and the upper end, both between 0 and 1.

    Raises:
        ValueError: The counts are negative, or there are more successes than attempts.

    Reference: Wilson (1927), "Probable inference, the law of succession, and statistical
    inference", JASA 22. No continuity correction.
    """
    _check_counts(successes, n)
    if n == 0:
        return 0.0, 1.0
    ends = binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    return float(ends.low), float(ends.high)


def mcnemar_exact(b: int, c: int) -> float:
    """Exact McNemar test on paired outcomes.

    Args:
        b: Tasks that only the first policy solved.
        c: Tasks that only the second policy solved.

    Returns:
        The two-sided p-value of `b` under Binomial(b + c, 1/2); 1.0 where no task differs.

    Raises:
        ValueError: A count is negative.

    Reference: McNemar (1947), "Note on the sampling error of the difference between correlated
    proportions or percentages", Psychometrika 12; exact (conditional) form.
    """
    if b < 0 or c < 0:
        raise ValueError(f"counts of differing pairs must not be negative: got b={b}, c={c}")
    if b + c == 0:
        return 1.0
    return float(binomtest(min(b, c), b + c, 0.5).pvalue)


def sign_flip_exact(differences: Sequence[int]) -> float:
    """Exact sign-flip (permutation) test on differences within tasks.

    Tasks are what is drawn: a task that was played with several seeds counts once, with the sum of
    its seeds, as they are not independent of each other. With one seed it is McNemar's test.

    Args:
        differences: For each task how many more seeds of the second recipe than of the first
            solved it.

    Returns:
        The share of the sign flips of all differences whose sum is as far from 0 as theirs.

    Reference: Fisher (1935), "The Design of Experiments", section 21.
    """
    ways = {0: 1}
    for size in filter(None, differences):
        flipped: dict[int, int] = {}
        for total, count in ways.items():
            for sign in (size, -size):
                flipped[total + sign] = flipped.get(total + sign, 0) + count
        ways = flipped
    distance = abs(sum(differences))
    extreme = sum(count for total, count in ways.items() if abs(total) >= distance)
    return extreme / sum(ways.values())


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate of the chance that at least one of `k` attempts succeeds.

    Args:
        n: Attempts made at the task.
        c: Attempts that succeeded.
        k: Attempts allowed, 1 to `n`.

    Raises:
        ValueError: The counts are impossible, or `k` is not between 1 and `n`.

    Reference: Chen et al. (2021), "Evaluating large language models trained on code", eq. 1.
    """
    _check_k(n, c, k)
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def pass_hat_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate of the chance that all of `k` attempts succeed.

    Args:
        n: Attempts made at the task.
        c: Attempts that succeeded.
        k: Attempts that must all succeed, 1 to `n`.

    Raises:
        ValueError: The counts are impossible, or `k` is not between 1 and `n`.

    Reference: Yao et al. (2024), "tau-bench", section on pass^k.
    """
    _check_k(n, c, k)
    return math.comb(c, k) / math.comb(n, k)


def _check_counts(successes: int, n: int) -> None:
    if not 0 <= successes <= n:
        raise ValueError(f"successes must be between 0 and n: got {successes} of {n}")


def _check_k(n: int, c: int, k: int) -> None:
    _check_counts(c, n)
    if not 1 <= k <= n:
        raise ValueError(f"k must be between 1 and the number of attempts, {n}: got {k}")
