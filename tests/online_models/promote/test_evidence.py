"""Evidence: errors within alpha however often one looks, power, intervals, a budget over restarts."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.online_models.promote.evidence import AlphaSpending, PairedTest
from driftline.streams.code.state_hash import state_hash

RUNS, LABELS = 200, 1_500
Source = Callable[[random.Random, int], float]


def fair(rng: random.Random, n: int) -> float:
    return 0.5 if rng.random() < 0.5 else -0.5


def rare_disasters(rng: random.Random, n: int) -> float:
    """Nearly always a little better, now and then much worse: the mean is 0."""
    return -1.0 if rng.random() < 0.02 else 1.0 * 0.02 / 0.98


def quiet_then_wild(rng: random.Random, n: int) -> float:
    return fair(rng, n) * (0.01 if n < LABELS / 2 else 2.0)


NOTHING_GAINED = [fair, rare_disasters, quiet_then_wild]


def run(source: Source, seed: int, shift: float = 0.0, alpha: float = 0.05) -> tuple[PairedTest, int]:
    """The test after all labels, and the label at which it was first proven; 0 for never."""
    rng = random.Random(seed)
    test = PairedTest(1.0, alpha)
    first = 0
    for n in range(LABELS):
        test.update(max(-1.0, min(1.0, source(rng, n) + shift)))
        if not first and test.is_proven:
            first = n + 1
    return test, first


@pytest.mark.parametrize("source", NOTHING_GAINED)
def test_looking_at_every_label_errs_no_more_often_than_promised(source: Source) -> None:
    wrong = sum(run(source, seed)[1] > 0 for seed in range(RUNS))
    assert wrong <= 0.05 * RUNS


@pytest.mark.parametrize("source", NOTHING_GAINED)
def test_the_interval_misses_the_truth_at_no_label_more_often_than_promised(source: Source) -> None:
    missed = 0
    for seed in range(100):
        rng = random.Random(seed)
        test = PairedTest(1.0, 0.05)
        seen = False
        for n in range(LABELS):
            test.update(source(rng, n))
            if n % 100 == 0 and not seen:
                low, high = test.interval(0.1)
                seen = not low <= 0.0 <= high
        missed += seen
    assert missed <= 10


def test_a_gain_is_proven_the_sooner_the_larger_it_is() -> None:
    at = []
    for gain in (0.05, 0.1, 0.2):
        firsts = [run(fair, seed, shift=gain)[1] for seed in range(40)]
        assert gain < 0.1 or all(firsts)
        at.append(sorted(first or math.inf for first in firsts)[20])
    assert at == sorted(at, reverse=True)
    assert at[2] < 150
    assert at[1] < 450
    assert at[0] < LABELS


def test_a_gain_below_the_margin_is_not_proven() -> None:
    test = PairedTest(1.0, 0.05)
    beyond = PairedTest(1.0, 0.05)
    rng = random.Random(1)
    for n in range(5_000):
        difference = fair(rng, n) + 0.1
        test.update(difference, margin=0.1)
        beyond.update(difference, margin=0.02)
    assert not test.is_proven
    assert beyond.is_proven
    assert test.interval(0.05) == beyond.interval(0.05)


differences = st.lists(st.floats(-1, 1), min_size=1, max_size=60)


@given(differences, st.floats(0.001, 0.5))
def test_the_interval_holds_the_mean_and_is_wider_for_less_error(drawn: list[float], alpha: float) -> None:
    test = PairedTest(1.0, alpha)
    mirrored = PairedTest(1.0, alpha)
    for difference in drawn:
        test.update(difference)
        mirrored.update(-difference)
    low, high = test.interval(alpha)
    wide_low, wide_high = test.interval(alpha / 2)
    assert wide_low <= low <= test.gain + 1e-12
    assert test.gain - 1e-12 <= high <= wide_high
    assert mirrored.interval(alpha) == pytest.approx((-high, -low))
    assert -1.0 <= low <= high <= 1.0


@given(differences, st.floats(0.001, 0.5))
def test_the_cheap_look_says_what_the_evidence_does(drawn: list[float], alpha: float) -> None:
    test = PairedTest(1.0, alpha)
    for difference in drawn:
        test.update(difference)
        assert test.is_proven == (test.evidence >= -math.log(alpha))


@given(differences, st.floats(0.01, 1e6))
def test_the_unit_of_the_losses_is_nothing(drawn: list[float], unit: float) -> None:
    test, other = PairedTest(1.0, 0.05), PairedTest(unit, 0.05)
    for difference in drawn:
        test.update(difference)
        other.update(difference * unit)
    assert other.evidence == pytest.approx(test.evidence, abs=1e-9)


def test_before_the_first_label_nothing_is_known() -> None:
    test = PairedTest(2.0, 0.05)
    assert (test.n, test.gain, test.deviation, test.evidence) == (0, 0.0, 0.0, pytest.approx(0.0))
    assert test.interval(0.05) == (-2.0, 2.0)
    assert not test.is_proven


def test_a_test_goes_on_after_a_pickle_and_has_a_canonical_form() -> None:
    test, _ = run(fair, 3)
    restored = pickle.loads(pickle.dumps(test, protocol=5))
    assert state_hash(restored) == state_hash(test)
    for other in (test, restored):
        other.update(0.25)
    assert restored.evidence == test.evidence


def test_the_budget_is_never_spent() -> None:
    budget = AlphaSpending(0.05)
    shares = [budget.next() for _ in range(10_000)]
    assert shares == sorted(shares, reverse=True)
    assert budget.spent == pytest.approx(sum(shares))
    assert 0.0499 < budget.spent < 0.05
