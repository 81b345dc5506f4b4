"""The monitors of streams that come in the same blocks: a request's features, or what a label shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import nan
from typing import Any, NamedTuple

import numpy as np

from driftline.online_models.drift.drift_report import Side
from driftline.online_models.drift.monitors.alarm import Alarm, Aspect
from driftline.online_models.drift.monitors.blocks import complete_rates, counted, matrix, number_or_nan
from driftline.online_models.drift.monitors.calendar_features import Calendar, Departure
from driftline.online_models.drift.monitors.leaps import FAMILIAR, far_beyond
from driftline.online_models.drift.monitors.new_categories import Newcomers
from driftline.online_models.drift.monitors.regimes import Regimes
from driftline.online_models.drift.monitors.season import Season
from driftline.online_models.drift.monitors.slow_changes import PATIENT, STRIDE, SlowWindows
from driftline.online_models.drift.monitors.value_scale import HUGE, Scale
from driftline.online_models.drift.monitors.windows import (
    BLOCK,
    LEAST,
    MEAN,
    SQUARE,
    TOTAL,
    WEIGHT,
    Array,
    Exceedance,
    Windows,
)

SCALE_VALUES = 128
"""Values of a stream from which its scale, or its most frequent values, are taken, once."""

LEARNING = 512
"""Of values that are for the scale alone, the newest so many."""

CERTAIN = 100.0
"""The evidence of a leap out of the range."""
STUCK = 0.25
"""Share of repeated values below which nothing is frozen: scores at their bound repeat now and then."""
Columns = Mapping[str, Sequence[Any]]
"""The `BLOCK` values of each stream; `math.nan` (that very object) or None where one is missing."""


class _Text(NamedTuple):
    """Where monitors of a text stream are: of its values, and where `whole` of all others and of missing."""

    stream: str
    values: tuple[Any, ...]
    first: int
    whole: bool

    @property
    def columns(self) -> int:
        """How many they are."""
        return len(self.values) + 2 * self.whole


class Panel:
    """Monitors of numbers and of texts, each with its columns in `Windows`; those of rates, labels and losses
    in `SlowWindows` too.

    Numbers have one column for each of the panel's aspects (the mean alone, or all), laid out aspect by
    aspect so that they are computed together; texts' columns come after those. Only rises alarm of a frozen
    value and of streams in `rising` (a loss); a fall starts their history again. Streams in `slow_only` are
    watched by the slow windows alone. With a `season`, in seconds, columns are compared with the same phase;
    until one is over, only missing values and leaps are reported.
    """

    __slots__ = (
        "_aspects", "_categories", "_clock", "_familiar", "_last", "_most", "_newcomers", "_newest",
        "_numbers", "_ranges", "_regimes", "_rising", "_scales", "_season", "_shapes", "_slow", "_slow_only",
        "_texts", "_waiting", "_widths", "_windows",
    )  # fmt: skip

    def __init__(
        self,
        whole: bool,
        most_categories: int,
        rising: frozenset[str],
        slow_only: frozenset[str] = frozenset(),
        season: float | None = None,
    ) -> None:
        self._aspects: tuple[Aspect, ...] = ("mean", "spread", "missing", "frozen") if whole else ("mean",)
        self._most = most_categories
        self._rising = rising
        self._slow_only = slow_only
        self._clock = Calendar()
        self._season = None if season is None else Season(season)
        self._regimes = Regimes()
        self._windows = Windows()
        self._slow = SlowWindows()  # of one aspect of the numbers, and of all columns of texts
        self._numbers: dict[str, int] = {}
        self._texts: list[_Text] = []
        self._newcomers: dict[str, Newcomers] = {}  # by text stream
        self._categories = 0  # columns of them
        self._scales = np.zeros((4, 0, 1))
        self._last = np.zeros(0)
        # least and largest value of each number: up to the block before the newest, and of that
        self._ranges = np.zeros((2, 2, 0))
        self._familiar = np.zeros(0, dtype=np.int64)  # blocks seen
        # widths of the range when these were a power of two the last time, and the time before
        self._widths = np.zeros((2, 0))
        self._shapes = 2 if whole else 1
        self._newest = np.zeros((0, BLOCK))  # the newest block of each number
        self._waiting: dict[str, list[Any]] = {}

    @property
    def monitors(self) -> int:
        """How many there are."""
        return self._windows.columns + self._slow.columns

    def newest(self, stream: str) -> list[float]:
        """The numbers of a stream in the newest block; none where it is no stream of numbers."""
        values = self._newest[self._numbers[stream]]
        return [value for value in values.tolist() if -HUGE < value < HUGE]

    def prime(self, columns: Columns) -> None:
        """Take a block for the scales alone of streams that are new when `update` gets the next one."""
        for name, values in columns.items():
            self._waiting[name] = [*self._waiting.get(name, ()), *_present(values)][-LEARNING:]

    def update(self, columns: Columns, least: float, times: Sequence[float] = ()) -> list[Alarm]:
        """Fold one block; the alarms of `least` evidence or more.

        With the `times` of its values, a season is compared with itself, and so are features that are the
        calendar.
        """
        new = [name for name in columns if name not in self._newcomers and name not in self._numbers]
        if new:
            self._meet({name: columns[name] for name in new})
        monitors = self._windows.columns
        if not monitors:
            return []
        block = np.empty((4, monitors))
        beyond: list[int] = []
        if self._numbers:
            self._measure_numbers(columns, block)
            if self._shapes == 2:
                beyond = self._beyond()
        newcomers = self._measure_texts(columns, block) if self._texts else ()
        if self._season is not None:
            for column in self._season.compare(block, times):
                self._forget(column)
        exceedances = {found.column: found for found in self._windows.update(block, least)}
        for stream in self._slow_only & self._numbers.keys():
            exceedances.pop(self._numbers[stream], None)
        for exceedance in self._slowly(least) if self._windows.now % STRIDE == 0 else ():
            known = exceedances.get(exceedance.column)
            if known is None or known.evidence < exceedance.evidence:
                exceedances[exceedance.column] = exceedance
        for column in beyond:
            if column not in exceedances or exceedances[column].evidence < CERTAIN:
                exceedances[column] = self._windows.newest(block, column, CERTAIN)
        departures = self._clock.update(times, columns) if self._shapes == 2 else ()
        alarms = [_departed(departure) for departure in departures]
        for exceedance in exceedances.values():
            alarm = self._alarm(exceedance)
            if alarm is not None:
                is_leap = alarm.column in beyond
                if self._clock.explains(alarm.stream, alarm.aspect, is_leap):
                    continue
                if not (is_leap or self._judges(alarm)):
                    continue
                if is_leap or not self._regimes.knows(alarm, self._windows.now):
                    alarms.append(alarm)
        for stream, value, rate in newcomers:
            self._watch_newcomer(stream, value, rate)
        return alarms

    def _slowly(self, least: float) -> Iterator[Exceedance]:
        """What the slow windows find at the end of a stride, by column of the panel."""
        numbers, aspects = len(self._numbers), len(self._aspects)
        first, texts = self._aspects.index(self._slow_aspect) * numbers, aspects * numbers
        sums = self._windows.sums
        watched = np.concatenate([sums[:, first : first + numbers], sums[:, texts:]], axis=1)
        for exceedance in self._slow.update(watched, least):
            place = exceedance.column
            yield exceedance._replace(column=place + (first if place < numbers else texts - numbers))

    @property
    def _slow_aspect(self) -> Aspect:
        """Of numbers, what has a level: whether they are missing; labels and losses themselves."""
        return "missing" if self._shapes == 2 else "mean"

    def _judges(self, alarm: Alarm) -> bool:
        """Whether the alarm is no rhythm's, for all that is known."""
        season = self._season
        return season is None or alarm.aspect == "missing" or season.judges(alarm.column)

    def _restart(self, column: int) -> None:
        """Forget the history of a column of the panel, and its season."""
        self._forget(column)
        if self._season is not None:
            self._season.restart(column)

    def _fell(self, column: int) -> None:
        """Compare with what comes from here on; a first season goes on, as models learn in it."""
        if self._season is not None and self._season.judges(column):
            self._restart(column)
        else:
            self._forget(column)

    def _forget(self, column: int) -> None:
        """Forget the history of a column of the panel."""
        self._windows.restart(column)
        numbers = len(self._numbers)
        aspect, number = divmod(column, numbers) if numbers else (0, 0)
        if aspect >= len(self._aspects):
            self._slow.restart(column - (len(self._aspects) - 1) * numbers)
        elif self._aspects[aspect] == self._slow_aspect:
            self._slow.restart(number)

    def _beyond(self) -> list[int]:
        """Numbers whose newest values are all far beyond those so far, the block before left out: it may be
        half new already."""
        values = self._newest
        present = np.abs(values) < HUGE
        many = np.add.reduce(present, 1) >= BLOCK // 2
        least = np.minimum.reduce(np.where(present, values, np.inf), 1)
        largest = np.maximum.reduce(np.where(present, values, -np.inf), 1)
        (low, high), before = self._ranges
        beyond: list[int] = []
        if ((least > high) | (largest < low)).any():  # seldom
            found = many & far_beyond(low, high, self._widths[1], least, largest)
            beyond = np.nonzero(found)[0].tolist()
        np.minimum(low, before[0], out=low)
        np.maximum(high, before[1], out=high)
        before[:] = least, largest
        familiar = self._familiar
        familiar += many
        marked = many & (familiar >= FAMILIAR) & ((familiar & (familiar - 1)) == 0)
        if marked.any():
            self._widths[1, marked] = self._widths[0, marked]
            self._widths[0, marked] = (high - low)[marked]
        return beyond

    def restart(self, alarm: Alarm) -> None:
        """Compare what comes with what comes from here on: the values that alarmed give the new scale."""
        self._regimes.add(alarm)
        if alarm.aspect == "calendar":
            for column in self._columns_of(alarm.stream):
                self._restart(column)
            return
        if alarm.aspect not in ("mean", "spread"):
            self._restart(alarm.column)
            return
        number = self._numbers[alarm.stream]
        for shape in range(self._shapes):
            self._restart(number + shape * len(self._numbers))
        sample = self.newest(alarm.stream)
        if sample:
            self._scales[:, number, 0] = Scale.of(sample)

    def _columns_of(self, stream: str) -> list[int]:
        numbers, aspects = len(self._numbers), len(self._aspects)
        if stream in self._numbers:
            return [self._numbers[stream] + aspect * numbers for aspect in range(aspects)]
        texts = (text for text in self._texts if text.stream == stream)
        return [aspects * numbers + text.first + place for text in texts for place in range(text.columns)]

    def _scale(self, number: int) -> tuple[float, float]:
        center, width = self._scales[:2, number, 0].tolist()
        return center, width

    def _meet(self, columns: Columns) -> None:
        """Collect values of new streams until their scales are known."""
        scales: dict[str, Scale] = {}
        for name, values in columns.items():
            waiting = self._waiting.setdefault(name, [])
            waiting.extend(_present(values))
            if len(waiting) < SCALE_VALUES:
                continue
            texts = [value for value in waiting if isinstance(value, (str, bool))]
            del self._waiting[name]
            if 2 * len(texts) > len(waiting):
                self._watch_text(name, texts)
            else:
                numbers = [number for value in waiting if (number := number_or_nan(value)) == number]
                scales[name] = Scale.of(numbers or [0.0])
        if scales:
            self._watch_numbers(scales)

    def _watch_numbers(self, scales: Mapping[str, Scale]) -> None:
        """Monitor numbers from here on: all that begin together at once, as each array is copied for it."""
        numbers, new = len(self._numbers), len(scales)
        self._insert([numbers * place for place in range(1, len(self._aspects) + 1) for _ in scales])
        # losses and what is left of labels are impatient
        patience = [LEAST if self._shapes == 1 and name != "label" else PATIENT for name in scales]
        self._slow.insert(numbers, patience)
        self._numbers.update(zip(scales, range(numbers, numbers + new), strict=True))
        added = np.ascontiguousarray(np.array(list(scales.values())).T)[:, :, None]
        self._scales = np.concatenate([self._scales, added], axis=1)
        self._last = np.append(self._last, [nan] * new)
        self._ranges = np.concatenate([self._ranges, [[[np.inf] * new, [-np.inf] * new]] * 2], axis=2)
        self._familiar = np.append(self._familiar, [0] * new)
        self._widths = np.append(self._widths, np.zeros((2, new)), axis=1)

    def _insert(self, positions: Sequence[int], *, judged: bool = False) -> None:
        self._windows.insert(positions)
        if self._season is not None:
            self._season.insert(positions, judged=judged)

    def _watch_text(self, name: str, sample: Sequence[Any]) -> None:
        counts = sorted(Counter(sample).items(), key=lambda item: (-item[1], str(item[0])))
        values = tuple(value for value, count in counts[: self._most] if count > 1)
        self._newcomers[name] = Newcomers()
        self._add_text(_Text(name, values, self._categories, True))

    def _add_text(self, text: _Text) -> None:
        self._texts.append(text)
        # a value that was next to never there had no rhythm
        self._insert([self._windows.columns] * text.columns, judged=not text.whole)
        self._slow.insert(self._slow.columns, [PATIENT] * text.columns)
        self._categories += text.columns

    def _watch_newcomer(self, stream: str, value: Any, rate: float) -> None:
        """Monitor the frequency of a value that was as good as never there."""
        of_stream = [text for text in self._texts if text.stream == stream]
        if len(of_stream) <= self._most and not any(value in text.values for text in of_stream):
            self._add_text(_Text(stream, (value,), self._categories, False))
            texts = len(self._aspects) * len(self._numbers)
            self._windows.suppose(self._windows.columns - 1, rate, texts + of_stream[0].first)

    def _measure_numbers(self, columns: Columns, block: Array) -> None:
        values = matrix([columns[name] for name in self._numbers])
        center, width, offset, square = self._scales
        numbers = len(values)
        present = np.abs(values) < HUGE
        count = np.add.reduce(present, 1, dtype=float)
        complete = bool(present.all())  # nearly always; then nothing needs to be left out
        distance = values - center if complete else np.where(present, values - center, 0.0)
        u = distance / width
        q = u / (1.0 + np.abs(u))
        monitored = np.empty((self._shapes, numbers, BLOCK))
        np.subtract(q, offset, out=monitored[0])
        powers = np.empty((self._shapes, numbers, BLOCK))
        powers[0] = distance
        if self._shapes == 2:
            np.subtract(q * q, square, out=monitored[1])
            np.multiply(distance, distance, out=powers[1])
        if not complete:
            monitored *= present
        totals = np.add.reduce(powers, 2)
        shapes = block[:, : self._shapes * numbers].reshape(4, self._shapes, numbers)
        shapes[MEAN] = np.add.reduce(monitored, 2)
        shapes[SQUARE] = np.add.reduce(monitored * monitored, 2)
        shapes[:TOTAL] *= 1.0 / BLOCK
        shapes[TOTAL] = totals
        shapes[WEIGHT] = count
        if self._shapes == 2:
            repeats = np.empty(values.shape, dtype=bool)
            np.equal(values[:, 1:], values[:, :-1], out=repeats[:, 1:])
            np.equal(values[:, 0], self._last, out=repeats[:, 0])
            rates = block[:, 2 * numbers : 4 * numbers]
            rates[TOTAL, :numbers] = BLOCK - count
            rates[TOTAL, numbers:] = np.add.reduce(repeats, 1, dtype=float)
            complete_rates(rates)
            self._last = values[:, -1]
        self._newest = values

    def _measure_texts(self, columns: Columns, block: Array) -> list[tuple[str, Any, float]]:
        """The rates of texts; newcomers among their values, each with its share before."""
        counts: list[int] = []
        newcomers = []
        by_stream = {stream: counted(columns[stream]) for stream in self._newcomers}
        for text in self._texts:
            row = by_stream[text.stream]
            known = [row[value] for value in text.values]
            counts += known
            if text.whole:
                missing = row[nan] + row[None]
                counts += (BLOCK - missing - sum(known), missing)
        rates = block[:, -len(counts) :]
        rates[TOTAL] = counts
        complete_rates(rates)
        for text in self._texts:
            if text.whole:
                newly = self._newcomers[text.stream].update(by_stream[text.stream], text.values)
                newcomers += [(text.stream, value, rate) for value, rate in newly]
        return newcomers

    def _alarm(self, exceedance: Exceedance) -> Alarm | None:
        numbers = len(self._numbers)
        column, blocks = exceedance.column, 2**exceedance.level
        (total, weight), (new_total, new_weight) = exceedance.before, exceedance.after
        before, after = total / max(weight, 1.0), new_total / max(new_weight, 1.0)
        if column >= numbers * len(self._aspects):
            stream, aspect, category = self._category_of(column - numbers * len(self._aspects))
            scale = None
        else:
            aspect, stream, category = (
                self._aspects[column // numbers],
                list(self._numbers)[column % numbers],
                "",
            )
            if not exceedance.rises and (aspect == "frozen" or stream in self._rising):
                self._fell(column)
                return None
            scale = self._scale(column % numbers) if self._shapes == 2 else None
            if aspect == "mean":
                center = float(self._scales[0, column % numbers, 0])
                before, after = before + center, after + center
            elif aspect == "spread":
                before, after = before**0.5, after**0.5
            elif aspect == "frozen" and after < STUCK:
                return None
        return Alarm(
            stream, aspect, category, exceedance.evidence, Side(before, int(weight)),
            Side(after, int(new_weight)), blocks, scale, column,
        )  # fmt: skip

    def _category_of(self, place: int) -> tuple[str, Aspect, str]:
        for text in self._texts:
            index = place - text.first
            if 0 <= index < len(text.values):
                return text.stream, "categories", str(text.values[index])
            if index == len(text.values) and text.whole:
                return text.stream, "categories", "others"
            if index == len(text.values) + 1 and text.whole:
                return text.stream, "missing", ""
        raise AssertionError(f"column {place} is no category's")


def _present(values: Sequence[Any]) -> Iterator[Any]:
    return (value for value in values if value is not None and value == value)


def _departed(departure: Departure) -> Alarm:
    before, after = Side(*departure.before), Side(*departure.after)
    return Alarm(departure.stream, "calendar", "", CERTAIN, before, after, 1, None, -1)
