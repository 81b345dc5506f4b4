"""A warm-up that was cut short continues where it stopped, and can be ended as it stands."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import shop

from driftline.infra.errors import InfraError
from driftline.infra.topics.warm_up import Placed, Standing, ends, remaining
from driftline.streams.declare.events import Event
from driftline.streams.simulation.sources import LogRecord, as_warm_up, layout

CASE = shop.orders
HISTORY = list(shop.trade(30))


def whole(history: Sequence[Event] = HISTORY) -> list[list[LogRecord]]:
    """The records of each partition of the whole warm-up."""
    logs: list[list[LogRecord]] = [[] for _ in range(CASE.partitions)]
    for partition, record in layout(CASE, as_warm_up(CASE, history), CASE.partitions):
        logs[partition].append(record)
    return logs


def standing(log: Sequence[LogRecord], cut: int) -> Standing:
    """That of a partition whose first `cut` records were sent."""
    if not cut:
        return Standing("empty")
    if cut == len(log):
        return Standing("over", cut - 2, log[-2].value)
    return Standing("under way", cut - 1, log[cut - 1].value if cut > 1 else b"")


def sent(placed: Sequence[Placed], partition: int) -> list[tuple[bytes | None, bytes]]:
    return [(key, value) for number, key, value in placed if number == partition]


@pytest.mark.parametrize("cuts", [(0, 0), (1, 0), (0, 1), (2, 7), (30, 1), (12, 21), (41, 5)])
def test_what_is_missing_of_each_partition_is_sent_and_nothing_twice(cuts: tuple[int, int]) -> None:
    logs = whole()
    assert {len(log) for log in logs} == {22, 42}
    found = [standing(log, min(cut, len(log))) for log, cut in zip(logs, cuts, strict=True)]
    placed = list(remaining(CASE, HISTORY, found))
    for partition, (log, cut) in enumerate(zip(logs, cuts, strict=True)):
        assert sent(placed, partition) == [(record.key, record.value) for record in log[cut:]]


@pytest.mark.parametrize("history", [HISTORY[:10], [*HISTORY[:10], *HISTORY[12:]]])
def test_another_history_than_the_one_that_is_there_is_refused(history: list[Event]) -> None:
    found = [standing(log, cut) for log, cut in zip(whole(), (0, 30), strict=True)]
    assert found[1].stage == "under way"
    with pytest.raises(InfraError, match="records of another history"):
        next(remaining(CASE, history, found))


def test_a_warm_up_is_ended_only_where_it_is_under_way() -> None:
    found = [standing(log, cut) for log, cut in zip(whole(), (0, 5), strict=True)]
    (placed,) = ends(CASE, found)
    assert placed[0] == 1
    assert b'"serve"' in placed[2]
