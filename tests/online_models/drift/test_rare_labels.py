"""A change of what a rare class is like, seen in the ranks of its few answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import exp, log

import numpy as np
import pytest

from driftline.online_models.drift import Drift, DriftManager, Monitoring
from driftline.online_models.drift.alarm_budget import _table
from driftline.online_models.drift.monitors.rare_labels import (
    OTHERS,
    RANKING_OF_RARE,
    RARE_BLOCK,
    RARE_HISTORY,
    RARE_KEPT,
    RARE_WINDOWS,
    RareRanks,
)
from driftline.online_models.drift.monitors.windows import BLOCK
from driftline.online_models.drift.surveillance import MATURE
from driftline.online_models.tasks.task import Binary, Label

TOTAL_BEFORE = 100
"""Rare labels before the change."""


class Ask:
    """The type of the request, of which the monitors need no field."""


TASK = Binary("b", ask=Ask, label=Label(Ask, on="id", value=lambda event: event, wait=1.0, at_expiry=False))


def watched(rate: float, seed: int, *, changes: bool, rare: bool = True) -> tuple[list[Drift], int]:
    """What is confirmed where the model ranks rare labels well, and from the 101st of them on badly, and how
    many there were. Its answers fall by half all the time: it learns how rare they are."""
    random = np.random.default_rng(seed)
    manager = DriftManager(Monitoring(), TASK, ["m"])
    confirmed: list[Drift] = []
    found = 0
    for number in range(int(2.2 * TOTAL_BEFORE / rate)):
        y = bool(random.random() < rate)
        found += y and number > MATURE
        shift = (-1.5 if changes and found > TOTAL_BEFORE else 1.5) if y else 0.0
        odds = random.normal() + shift - log(1.0 / rate) * (1.0 - exp(-number * rate / 50.0))
        p = 1.0 / (1.0 + exp(-odds))
        y, p = (y, p) if rare else (not y, 1.0 - p)
        loss = TASK.loss(y, p)
        at = float(number)
        drifts = [
            *manager.observe({}, p, at, 2 * number),
            *manager.learn(y, p, loss, (loss,), at, 2 * number, at, 2 * number + 1, (p,)),
        ]
        confirmed += [drift for drift in drifts if drift.severity == "drift"]
        if confirmed:
            break
    return confirmed, found


@pytest.mark.parametrize(("rate", "rare"), [(0.02, True), (0.005, False), (0.0018, True)])
def test_a_change_is_found_within_few_rare_labels_however_rare_they_are(rate: float, rare: bool) -> None:
    (drift,), found = watched(rate, 1, changes=True, rare=rare)
    assert (drift.kind, drift.suspects[0].stream) == ("concept drift", RANKING_OF_RARE)
    assert TOTAL_BEFORE < found <= TOTAL_BEFORE + 3 * RARE_BLOCK
    assert drift.before.mean < 0.3 < 0.5 < drift.after.mean
    assert drift.after.count in RARE_WINDOWS
    assert 0 < drift.labels.first_offset < drift.labels.last_offset <= drift.offset


@pytest.mark.parametrize("seed", range(3))
def test_what_the_model_learns_of_their_rate_is_no_change(seed: int) -> None:
    assert watched(0.005, seed, changes=False) == ([], pytest.approx(2 * TOTAL_BEFORE, rel=0.3))


def _independent(random: np.random.Generator) -> Iterator[float]:
    while True:
        yield from random.beta(0.3, 3.0, 1_000).tolist()


def _alike(random: np.random.Generator) -> Iterator[float]:
    """Neighbours that correlate by .9."""
    x = random.normal()
    while True:
        x = 0.9 * x + (1.0 - 0.81) ** 0.5 * random.normal()
        yield 1.0 / (1.0 + exp(2.0 - x))


def _two_values(random: np.random.Generator) -> Iterator[float]:
    """A model that ranks nearly all of them rightly; a normal distribution is far from their sums."""
    while True:
        yield from (random.random(1_000) < 0.05).astype(float).tolist()


@pytest.mark.parametrize("losses", [_independent, _alike, _two_values])
def test_no_evidence_is_found_oftener_than_the_budget_reckons_with(
    losses: Callable[[np.random.Generator], Iterator[float]],
) -> None:
    evidence, log_blocks = _table()
    least, between = evidence[0], exp(log_blocks[0])
    blocks = int(2 * between)
    ranks = RareRanks()
    others = np.linspace(0.0, 1.0, OTHERS[1])
    for start in range(0, OTHERS[1], BLOCK):
        ranks.update([False] * BLOCK, others[start : start + BLOCK].tolist(), True, least)
    stream = losses(np.random.default_rng(3))
    exceedances = 0
    for _ in range(blocks):
        # of equally spaced others, this share is above
        scores = [1.0 - next(stream) for _ in range(RARE_BLOCK)]
        if ranks.update([True] * RARE_BLOCK, scores, True, least):
            exceedances += 1
            ranks.restart()
    assert exceedances <= 2
    assert len(ranks._losses) <= RARE_KEPT


def test_fewer_labels_than_a_history_and_a_window_say_nothing() -> None:
    ranks = RareRanks()
    ranks.update([False] * BLOCK, np.linspace(0.0, 1.0, BLOCK).tolist(), True, 0.0)
    good = [ranks.update([True] * RARE_BLOCK, [0.9] * RARE_BLOCK, True, 0.0) for _ in range(5)]
    assert good == [[]] * 5
    assert RARE_HISTORY > 5 * RARE_BLOCK
    assert ranks.update([True] * RARE_BLOCK, [0.1] * RARE_BLOCK, True, 0.0) == []
