"""When checkpoints are taken: worth their cost, and within what all of a worker's may cost."""

from __future__ import annotations

from itertools import pairwise

import pytest

from driftline.streams.checkpoints.cadence import (
    CHECKPOINT_SHARE,
    LEAST_FOLDED,
    MOST_FOLDED,
    SPREAD,
    Cadence,
    CheckpointBudget,
)


def simulated(partitions: int, load: float, cost: float, seconds: int) -> list[tuple[int, int]]:
    """(second, partition) of each checkpoint of a worker that folds for `load` of its time."""
    budget = CheckpointBudget()
    budget.partitions = partitions
    cadences = [Cadence(budget, 0.0) for _ in range(partitions)]
    storing: dict[int, float] = {}
    found = []
    for second in range(1, seconds + 1):
        for number in [n for n, until in storing.items() if until <= second]:
            del storing[number]
            cadences[number].taken(second, cost)
        for number, cadence in enumerate(cadences):
            cadence.folded(load / partitions)
            if number not in storing and cadence.due(second):
                cadence.begin()
                storing[number] = second + cost
                found.append((second, number))
    return found


@pytest.mark.parametrize("partitions", [1, 3, 12])
@pytest.mark.parametrize("load", [0.01, 0.2, 1.0])
@pytest.mark.parametrize("cost", [0.1, 0.5, 2.0])
def test_all_checkpoints_of_a_worker_take_at_most_a_share_of_its_time(
    partitions: int, load: float, cost: float
) -> None:
    taken = simulated(partitions, load, cost, 3_600)
    assert 0 < len(taken) * cost <= CHECKPOINT_SHARE * 3_600 + cost * partitions
    assert {number for _, number in taken} == set(range(partitions))


def test_they_are_taken_one_after_another_with_pauses_though_all_are_due_at_once() -> None:
    taken = simulated(3, 0.01, 1.0, 200)
    apart = 1 + SPREAD * MOST_FOLDED / 3
    assert taken[:3] == [(MOST_FOLDED + number * apart, number) for number in range(3)]
    begun = [at for at, _ in simulated(12, 0.01, 1.0, 600)]
    assert min(later - earlier for earlier, later in pairwise(begun)) >= 1 + SPREAD * MOST_FOLDED / 12


def test_little_folding_is_worth_one_a_minute_and_much_is_worth_more() -> None:
    assert [at for at, _ in simulated(1, 0.01, 0.01, 185)] == [60, 121, 182]
    assert simulated(1, 1.0, 0.01, 6)[0][0] == LEAST_FOLDED


def test_a_minute_of_folding_makes_one_due_at_any_cost() -> None:
    budget = CheckpointBudget()
    budget.begin()  # another partition's takes long
    cadence = Cadence(budget, 0.0)
    cadence.folded(MOST_FOLDED - 1.0)
    assert not cadence.due(100.0)
    cadence.folded(1.0)
    assert cadence.due(100.0)
