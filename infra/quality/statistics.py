"""Statistics, schema and anomalies of the features that a case has served, from archive and Kafka."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from pathlib import Path

import msgspec

from driftline.features.quality.distance import distances
from driftline.features.quality.feature_schema import ReferencePeriod, Schema
from driftline.features.quality.schema_inference import infer
from driftline.features.quality.statistics import FeatureStatistics
from driftline.infra.errors import InfraError
from driftline.infra.local.kafka import LocalStack
from driftline.infra.settings import Settings
from driftline.streams.archive.parts import Archive
from driftline.streams.archive.storage import Storage
from driftline.streams.archive.topic_history import Past
from driftline.streams.code.provenance import EXAMPLES, is_users
from driftline.streams.declare.usecase import UseCase, module_name
from driftline.streams.quality.feature_statistics import PartitionStatistics, WindowStatistics, predictions_of
from driftline.streams.quality.judgement import Judged, judge, summary
from driftline.streams.quality.publisher import DataPublisher, PublishedCount
from driftline.streams.quality.skew import skew
from driftline.streams.records.messages import DataAnomaly, FeatureDistance, FeatureSummary

CLOSED_WINDOWS_EVERY = 2.0
ANOMALIES_SHOWN = 50
TEXTS_REPORTED = 100
"""So many of the most frequent texts are reported."""


class PooledStatistics(msgspec.Struct, frozen=True):
    """Statistics over some windows of all partitions, by feature."""

    requests: int
    features: dict[str, FeatureSummary]


class DataReport(msgspec.Struct, frozen=True):
    """What was served in [`start`, `end`) of event time (None: unbounded).

    `current` is that, the reference left out where there is more than it; `reference` are the windows of
    `reference_span`, as the schema has it. `distances` are of the one from the other, over all windows.
    `windows` have closed, `open` ones can still grow and are neither in `anomalies` nor published.
    """

    case: str
    schema: str
    start: datetime | None
    end: datetime | None
    windows: int
    open: int
    reference_span: ReferencePeriod
    reference: PooledStatistics
    current: PooledStatistics
    distances: dict[str, FeatureDistance]
    anomalies: tuple[DataAnomaly, ...]
    parts: int
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 without anomalies, else 1."""
        return 1 if self.anomalies else 0

    def as_json(self) -> str:
        """One JSON object."""
        return msgspec.json.encode(self).decode()


def schema_path(case_path: str, case: UseCase) -> Path:
    """Where a case's schema is: beside the declaration, or in the current folder for a case of an installed
    package or of driftline's examples, whose folders are not the user's to write to."""
    module = sys.modules[module_name(case_path)]
    if module.__file__ is None:
        raise InfraError(f"{case_path} is declared in no file: name its schema (--schema)")
    is_of_the_project = is_users(module.__name__) and not module.__name__.startswith(EXAMPLES)
    return (Path(module.__file__).parent if is_of_the_project else Path()) / f"{case.name}.schema.json"


def read_schema(path: Path, case: UseCase) -> Schema:
    """The frozen schema; raises FeaturesError when there is none, InfraError when it is another case's."""
    schema = Schema.read(path)
    if schema.case != case.name:
        raise InfraError(f"{path} is the schema of {schema.case}, not of {case.name}")
    return schema


def freeze_schema(schema: Schema, path: Path) -> None:
    """Write an inferred schema; raises InfraError if the file exists: a frozen schema is edited or
    removed."""
    if path.exists():
        raise InfraError(f"{path} is there: edit it, or remove it to have it inferred again")
    Storage(str(path.absolute().parent)).write(path.name, schema.encode())


@contextmanager
def _tail(case: UseCase, settings: Settings) -> Iterator[Past | None]:
    """Access to what Kafka has beyond the archive; None if no Kafka is named or runs."""
    from driftline.infra.serving.serve import open_history

    if settings.bootstrap is None and LocalStack(settings.home).status() is None:
        print("no Kafka: what is archived is counted, and nothing beyond it", file=sys.stderr)
        yield None
    else:
        with open_history(case, settings) as history:
            yield history


def infer_schema(
    case: UseCase, settings: Settings, window: float, since: datetime | None, until: datetime | None
) -> Schema:
    """The schema that what was served in [since, until) fits, by the requests' own time."""
    topics = case.topics(settings.namespace)
    topic = topics.predictions
    archive = Archive(settings.archive_uri(case.name))

    def requests(past: Past | None) -> Iterator[tuple[float, Mapping[str, object]]]:
        for partition in range(topics.predicting):
            source = archive if past is None else past
            begin, end = source.begin(topic, partition), source.end(topic, partition)
            read = archive.read if past is None else past.records
            chunks = read(topic, partition, begin, end)
            for _, published in predictions_of(chain.from_iterable(chunks), f"{topic}-{partition}"):
                if (since is None or published.at >= since) and (until is None or published.at < until):
                    yield published.at.timestamp(), published.features

    with _tail(case, settings) as past:
        return infer(case.name, case.features, requests(past), window)


def report(
    case: UseCase,
    settings: Settings,
    schema: Schema,
    since: datetime | None,
    until: datetime | None,
) -> DataReport:
    """Count what was served and judge it. Parts of the archive that were not counted yet are, and written."""
    started = time.perf_counter()
    with _tail(case, settings) as past:
        counting = _counting(case, settings, schema, past)
        windows = [one.counted() for one in counting]
    closed = [counted.closed(schema.window, case.allowed_lateness) for counted in windows]
    judged = list(chain.from_iterable(judge(case, schema, number, one) for number, one in enumerate(closed)))
    first, last = schema.reference.start.timestamp(), schema.reference.end.timestamp()
    every = [(n * schema.window, window) for one in windows for n, window in one.windows.items()]
    wanted = [
        (at, window)
        for at, window in every
        if (since is None or at >= since.timestamp()) and (until is None or at < until.timestamp())
    ]
    current = [window for at, window in wanted if at >= last] or [window for _, window in wanted]
    reference = _merged(schema, [window for at, window in every if first <= at < last])
    merged = _merged(schema, current)
    return DataReport(
        case.name,
        schema.digest,
        since,
        until,
        sum(map(len, closed)),
        sum(len(one.windows) for one in windows) - sum(map(len, closed)),
        schema.reference,
        _side(schema, reference),
        _side(schema, merged),
        {
            name: FeatureDistance(*distances(reference.features[name], merged.features[name]))
            for name in schema.features
            if reference.requests and merged.requests
        },
        _within(judged, since, until),
        sum(one.written for one in counting),
        round(time.perf_counter() - started, 3),
    )


def _within(
    judged: Sequence[Judged], since: datetime | None, until: datetime | None
) -> tuple[DataAnomaly, ...]:
    """The anomalies of windows that begin in [since, until), by time."""
    windows = [
        anomaly
        for window in judged
        for anomaly in window.anomalies
        if (since is None or anomaly.at >= since) and (until is None or anomaly.at < until)
    ]
    return tuple(sorted(windows, key=lambda anomaly: (anomaly.at, anomaly.partition)))


def _counting(
    case: UseCase, settings: Settings, schema: Schema, past: Past | None
) -> list[PartitionStatistics]:
    uri = settings.archive_uri(case.name)
    archive, storage = Archive(uri), Storage(uri)
    topics = case.topics(settings.namespace)
    return [
        PartitionStatistics(schema, archive, storage, topics.predictions, number, past)
        for number in range(topics.predicting)
    ]


def _merged(schema: Schema, windows: Sequence[WindowStatistics]) -> WindowStatistics:
    merged = WindowStatistics(0, 0, 0, {name: FeatureStatistics() for name in schema.features})
    for window in windows:
        merged = merged.merged(window)
    return merged


def _side(schema: Schema, window: WindowStatistics) -> PooledStatistics:
    fields = {
        name: summary(schema.features.get(name), seen, top=TEXTS_REPORTED)
        for name, seen in window.features.items()
    }
    return PooledStatistics(window.requests, fields)


def publish(
    case: UseCase,
    settings: Settings,
    schema: Schema,
    skewed: Sequence[DataAnomaly] | None,
    tell: Callable[[PublishedCount], None],
    following: Callable[[], bool],
) -> None:
    """Write closed windows and their anomalies to the case's topics, and skew where it was looked for: now,
    and whenever other windows have closed, while `following` says so."""
    from driftline.infra.local.bootstrap import bootstrap_of
    from driftline.infra.serving.serve import open_history
    from driftline.infra.topics.administration import ensure_topics

    topics = case.topics(settings.namespace)
    bootstrap = bootstrap_of(settings)
    ensure_topics(bootstrap, topics.all())
    publisher = DataPublisher(bootstrap, topics)
    published: list[Mapping[int, WindowStatistics]] = [{}] * topics.predicting
    with open_history(case, settings) as history:
        counting = _counting(case, settings, schema, history)
        while True:
            closed = [one.counted().closed(schema.window, case.allowed_lateness) for one in counting]
            judged = {n: judge(case, schema, n, one, published[n]) for n, one in enumerate(closed)}
            if any(judged.values()):
                tell(publisher.publish(judged, skewed))
            published = [*closed]
            until = time.monotonic() + CLOSED_WINDOWS_EVERY
            while following() and time.monotonic() < until:
                time.sleep(0.1)
            if not following():
                return


def skew_of(
    case: UseCase, settings: Settings, schema: Schema, since: datetime | None, until: datetime | None
) -> tuple[DataAnomaly, ...]:
    """Where values as served are not those of the feature history, which must have been written."""
    from driftline.features.feast.registry import OnlineStoreRepo
    from driftline.infra.serving.deploy import archived_places
    from driftline.streams.offline.training_set import ArchivedAnswers, training_log, training_set

    archive = Archive(settings.archive_uri(case.name))
    answers = ArchivedAnswers(archive, archived_places(case, settings, archive), since, until)
    repo = OnlineStoreRepo(settings.features(case.name), case.views())
    repo.apply()
    return tuple(skew(case, schema, training_log(case, answers), training_set(case, answers, repo).table))


def statistics_text(report: DataReport) -> str:
    """A table for people."""
    heading = f"{report.current.requests:,} requests, {report.windows:,} windows closed, {report.open:,} open"
    head = ("feature", "count", "missing", "mean", "std", "min", "median", "max", "top", "psi", "js", "ks")
    rows = [
        head,
        *(_row(name, one, report.distances.get(name)) for name, one in report.current.features.items()),
    ]
    widths = [max(len(row[place]) for row in rows) for place in range(len(head))]
    lines = [
        "  ".join(
            text.ljust(w) if n in (0, 8) else text.rjust(w)
            for n, (text, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    beyond = f"; distances from the reference of {report.reference.requests:,} requests"
    return "\n".join([f"{report.case}: {heading}{beyond}", *(line.rstrip() for line in lines)])


def _row(name: str, one: FeatureSummary, distance: FeatureDistance | None) -> tuple[str, ...]:
    missing = "" if one.missing_share is None else f"{one.missing_share:.1%}"
    top = ", ".join(f"{text} {count / max(one.count, 1):.0%}" for text, count in one.top[:3])
    numbers = (one.mean, one.std, one.minimum, one.median, one.maximum)
    far = (None, None, None) if distance is None else (distance.psi, distance.js, distance.ks)
    return (
        name, f"{one.count:,}", missing, *map(four_digits, numbers), top,
        *(("" if value is None else f"{value:.3f}") for value in far),
    )  # fmt: skip


def four_digits(value: float | None) -> str:
    """Four digits, without an exponent where that reads better; nothing for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def anomalies_text(report: DataReport) -> str:
    """A line an anomaly, the first ones."""
    lines = [
        f"{one.at:%Y-%m-%d %H:%M}  partition {one.partition}  {one.severity}  {one.feature}: {one.kind}: "
        f"{one.count:,} of {one.requests:,}: expected {one.expected}, found {one.found}"
        for one in report.anomalies[:ANOMALIES_SHOWN]
    ]
    more = len(report.anomalies) - len(lines)
    if more > 0:
        lines.append(f"and {more:,} more (--json lists all)")
    return "\n".join(
        [f"{report.case}: {len(report.anomalies):,} anomalies in {report.windows:,} windows", *lines]
    )
