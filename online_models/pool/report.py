"""The figures of the members so far, merged over the pools."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from driftline.online_models.pool.intervals import Intervals
from driftline.online_models.pool.pool import Pool
from driftline.online_models.pool.seat import Seat
from driftline.online_models.tasks.metrics import Metrics, metrics_of


def merged_report(pools: Iterable[Pool]) -> dict[str, dict[str, Any]]:
    """{member: {role, live, serving, whole-run metrics, fading: {...}}} over several pools of one task.

    `failures` is how often it raised or gave no finite number, `quarantine` the newest reason if it is in
    quarantine; both are absent for a member that never failed. `role` is as declared; `serving` is the number
    of pools in which it serves now. With intervals, `coverage` is the share of labels within those that were
    published while it served, `width` their mean width.
    """
    return {name: report() for name, report in member_reports(pools)}


def member_reports(pools: Iterable[Pool]) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """The entries of `merged_report` one by one. The data of an entry is copied at once, 9 bytes a label; the
    function that then computes it takes ten times as long, and may run on another thread."""
    seats: dict[str, list[Seat]] = {}
    serving: dict[str, int] = {}
    intervals: list[Intervals] = []
    tasks = {}
    for pool in pools:
        serving[pool.serving] = serving.get(pool.serving, 0) + 1
        if pool.intervals is not None:
            intervals.append(pool.intervals)
        for seat in pool.roster.seats:
            seats.setdefault(seat.name, []).append(seat)
            tasks[seat.name] = pool.task
    for name, held in seats.items():
        entry: dict[str, Any] = {
            "role": held[0].role,
            "live": all(seat.state.live for seat in held),
            "serving": serving.get(name, 0),
        }
        entry |= _failed(held)
        counted = [sum(counts) for counts in zip(*(i.counts(name) for i in intervals), strict=True)]
        if counted and counted[0]:
            entry |= {"coverage": counted[1] / counted[0], "width": counted[2] / counted[0]}
        merged = None
        if whole := [seat.state.metrics for seat in held if seat.state.metrics is not None]:
            merged = metrics_of(tasks[name])
            merged.merge(whole)  # type: ignore[arg-type]
        yield name, partial(_entry, entry, merged)


def _failed(seats: Iterable[Seat]) -> dict[str, Any]:
    failed = [failures for seat in seats if (failures := seat.state.failures) is not None]
    reasons = [failures.reason for failures in failed if failures.is_confined]
    entry: dict[str, Any] = {"failures": sum(failures.total for failures in failed)} if failed else {}
    return entry | {"quarantine": reasons[-1]} if reasons else entry


def _entry(entry: dict[str, Any], metrics: Metrics | None) -> dict[str, Any]:
    return entry if metrics is None else entry | metrics.summary() | {"fading": metrics.fading()}
