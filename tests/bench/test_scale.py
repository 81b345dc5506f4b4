"""The fold of a case that grows, as the bench measures it."""

from __future__ import annotations

import json
from itertools import islice
from multiprocessing import get_context

from driftline.bench import table
from driftline.bench.readme import RESULTS
from driftline.bench.speed import scale
from driftline.bench.speed.scale import SIZES, Size

SMALL = Size(50, 10_000, 1.0)


def test_all_events_are_accepted_and_what_is_measured_is_of_them() -> None:
    asked = sum(event.__class__.__name__ == "Payment" for event in islice(scale.events(SMALL), SMALL.events))
    # in a process of its own, as in the bench: what this one has freed before would be used first
    with get_context("spawn").Pool(1) as pool:
        found = pool.apply(scale.measure, (SMALL,))
    assert found["predictions"] == asked
    assert 0 < found["open"] < asked, "disputes are joined, and nothing else is known within 14 days"
    assert found["cpu_us_per_event"] > 0.0
    assert found["resident_mb"] > 1.0, "thousands of waiting predictions take more than this"


def test_predictions_that_nobody_disputes_are_closed_in_time() -> None:
    steady = scale.measure(SMALL._replace(seconds_between=3_600.0))
    assert steady["open"] <= 14 * 24 + 1


def test_a_size_that_fails_is_reported_in_the_table() -> None:
    good = {"cpu_us_per_event": 40.0, "resident_mb": 100.0, "open": 5, "events": 7, "cards": 2}
    found = dict.fromkeys(SIZES, good) | {"many_events": {"failure": "did not end within 600 s"}}
    rows = table.scale_rows(json.loads(RESULTS.read_text()) | {"scale": found})
    assert rows[0][1:] == ("40.0", "100")
    assert rows[2][1:] == ("-", "not measured: did not end within 600 s")
