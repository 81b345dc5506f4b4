"""Progressive metrics against naive oracles."""

from __future__ import annotations

from itertools import pairwise
from math import isclose, log
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import driftline.online_models.tasks.metrics as metrics_module
from driftline.online_models.errors import ModelsError
from driftline.online_models.tasks.metrics import BinaryMetrics, RunningMetrics, metrics_of
from driftline.online_models.tasks.task import Binary, Decision, Label, Multiclass, Regression


class Any_:
    pass


LABEL = Label(Any_, on="id", value=lambda e: e, wait=1.0)
BINARY = Binary("b", ask=Any_, label=LABEL)

scored = st.lists(
    st.tuples(st.booleans(), st.floats(0, 1).map(lambda p: round(p, 2))), min_size=1, max_size=60
)


def naive(pairs: list[tuple[bool, float]]) -> dict[str, float | None]:
    positive = [p for y, p in pairs if y]
    negative = [p for y, p in pairs if not y]
    n = len(pairs)
    auc = None
    average_precision = None
    if positive and negative:
        wins = sum((p > q) + 0.5 * (p == q) for p in positive for q in negative)
        auc = wins / (len(positive) * len(negative))
        average_precision = 0.0
        for threshold in sorted({p for _, p in pairs}, reverse=True):
            said = [y for y, p in pairs if p >= threshold]
            gained = sum(y for y, p in pairs if p == threshold)
            average_precision += sum(said) / len(said) * gained / len(positive)
    right = sum((p >= 0.5) == y for y, p in pairs) / n
    yes, said_yes = len(positive) / n, sum(p >= 0.5 for _, p in pairs) / n
    chance = yes * said_yes + (1 - yes) * (1 - said_yes)
    same = [a == b for (a, _), (b, _) in pairwise(pairs)]
    no_change = sum(same) / len(same) if same else 1.0
    return {
        "roc_auc": auc,
        "pr_auc": average_precision,
        "log_loss": sum(-log(max(p if y else 1 - p, 1e-15)) for y, p in pairs) / n,
        "brier": sum((p - y) ** 2 for y, p in pairs) / n,
        "accuracy": right,
        "kappa": (right - chance) / (1 - chance) if chance < 1 else None,
        "kappa_temporal": (right - no_change) / (1 - no_change) if no_change < 1 else None,
    }


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    return all(
        found[name] is None if value is None else isclose(found[name], value, rel_tol=1e-9, abs_tol=1e-9)
        for name, value in expected.items()
    )


def fed(pairs: list[tuple[bool, float]]) -> BinaryMetrics:
    metrics = BinaryMetrics(BINARY)
    for y, p in pairs:
        metrics.update(y, p)
    return metrics


@given(scored)
def test_every_figure_equals_the_naive_one(pairs: list[tuple[bool, float]]) -> None:
    found = fed(pairs).summary()
    assert found["n"] == len(pairs)
    assert same(found, naive(pairs))


@given(scored, scored)
def test_merging_equals_scoring_all_in_one(
    first: list[tuple[bool, float]], second: list[tuple[bool, float]]
) -> None:
    merged = fed(first)
    merged.merge([fed(second)])
    expected = naive(first + second)
    del expected["kappa_temporal"]  # the pair across the seam was never neighbours
    assert same(merged.summary(), expected)


@given(scored)
def test_an_amended_label_counts_as_if_it_had_been_so_at_once(pairs: list[tuple[bool, float]]) -> None:
    metrics = fed(pairs)
    row = len(pairs) // 2
    y, p = pairs[row]
    metrics.amend(y, not y, p, row)
    amended = [*pairs[:row], (not y, p), *pairs[row + 1 :]]
    assert metrics.summary()["n"] == len(pairs)
    assert same(metrics.summary(), naive(amended))
    assert metrics.fading() == fed(amended).fading()


@given(scored)
def test_a_withdrawn_label_is_not_scored_and_can_come_back(pairs: list[tuple[bool, float]]) -> None:
    metrics = fed([(True, 0.5), *pairs])
    metrics.amend(True, None, 0.5, 0)
    assert same(metrics.summary(), naive(pairs))
    metrics.amend(None, False, 0.5, 0)
    assert same(metrics.summary(), naive([(False, 0.5), *pairs]))


@given(scored, scored)
def test_requests_that_were_not_answered_are_not_scored(
    first: list[tuple[bool, float]], second: list[tuple[bool, float]]
) -> None:
    metrics = fed(first)
    metrics.skip()
    for y, p in second:
        metrics.update(y, p)
    assert same(metrics.summary(), naive(first + second))


def test_memory_is_bounded_and_binning_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    import random

    monkeypatch.setattr(metrics_module, "EXACT_LABELS", 2_000)
    rng = random.Random(3)
    pairs = [(rng.random() < 0.3, rng.random()) for _ in range(9_000)]
    metrics = fed(pairs)
    assert len(metrics._p) < 2_000
    monkeypatch.setattr(metrics_module, "EXACT_LABELS", 2**20)
    exact = fed(pairs).summary()
    found = metrics.summary()
    assert found["n"] == exact["n"]
    for name in ("log_loss", "brier", "accuracy", "kappa", "kappa_temporal"):
        assert isclose(found[name], exact[name], rel_tol=1e-9)
    for name in ("roc_auc", "pr_auc"):
        assert abs(found[name] - exact[name]) < 1e-3


def test_a_label_can_be_corrected_after_its_row_was_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    import random

    monkeypatch.setattr(metrics_module, "EXACT_LABELS", 100)
    rng = random.Random(4)
    pairs = [(rng.random() < 0.3, rng.random()) for _ in range(500)]
    metrics = fed(pairs)
    for row in (0, 1, 70, 499):
        y, p = pairs[row]
        metrics.amend(y, not y, p, row)
        pairs[row] = (not y, p)
    found, expected = metrics.summary(), naive(pairs)
    del expected["kappa_temporal"]
    for name in ("roc_auc", "pr_auc"):
        assert abs(found[name] - (expected.pop(name) or 0.0)) < 1e-3
    assert same(found, expected)


def test_fading_figures_stay_figures_when_every_label_is_corrected() -> None:
    metrics = fed([(False, 0.9)] * 3_000)
    for row in range(3_000):
        metrics.amend(False, row % 2 == 0, 0.9, row)
    assert isclose(metrics.fading()["accuracy"], 0.5, abs_tol=1e-3)
    regression = RunningMetrics(Regression("r", ask=Any_, label=LABEL))
    for row in range(3_000):
        regression.update(100.0 if row == 0 else 0.0, 0.0)
    regression.amend(100.0, 0.0, 0.0, 0)
    assert isclose(regression.fading()["rmse"], 0.0, abs_tol=1e-6)
    assert regression.summary()["rmse"] == 0.0


def test_fading_figures_follow_the_newest_labels() -> None:
    metrics = fed([(True, 0.0)] * 20_000 + [(True, 1.0)] * 20_000)
    assert metrics.summary()["accuracy"] == 0.5
    assert metrics.fading()["accuracy"] > 0.999


def test_costs_give_the_threshold_and_are_a_metric() -> None:
    task = Binary("b", ask=Any_, label=LABEL, decision=Decision(false_positive=1, false_negative=9))
    assert task.point(0.2) is True
    metrics = BinaryMetrics(task)
    for y, p in ((True, 0.05), (False, 0.2), (True, 0.9), (False, 0.01)):
        metrics.update(y, p)
    assert metrics.summary()["cost"] == (9 + 1) / 4
    with pytest.raises(ModelsError, match="Decision: false_positive: it must be above 0"):
        Decision(false_positive=0, false_negative=1)


def test_multiclass_and_regression_fit_the_same_types() -> None:
    multiclass = metrics_of(Multiclass("m", ask=Any_, label=LABEL))
    assert isinstance(multiclass, RunningMetrics)
    for y, output in (("a", {"a": 0.5, "b": 0.5}), ("b", {"a": 0.2, "b": 0.8}), ("a", {"b": 1.0})):
        multiclass.update(y, output)
    assert isclose(multiclass.summary()["accuracy"], 2 / 3)
    assert isclose(multiclass.summary()["brier"], (0.5 + 0.08 + 2.0) / 3)
    regression = metrics_of(Regression("r", ask=Any_, label=LABEL))
    assert isinstance(regression, RunningMetrics)
    for truth, value in ((1.0, 0.0), (3.0, 3.0)):
        regression.update(truth, value)
    assert isclose(regression.summary()["rmse"], 0.5**0.5)
    assert isclose(regression.summary()["mae"], 0.5)
