"""Training sets: requests with their features and outcomes, one row a published prediction.

The *training log* has the features as they were served, straight from the archived predictions. A *training
set* has windows and lookups from the feature history, joined by Feast at each request's stamp; they are what
the fold read, and each value is compared with the one that was published.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
import pyarrow as pa

from driftline.features.declare.declaration import (
    Derived,
    Elapsed,
    Feature,
    Lookup,
    OnDemand,
    RequestField,
    Window,
)
from driftline.features.declare.on_demand import AT, OnDemandView, evaluation
from driftline.features.feast.history import (
    ARROW_TYPES,
    STAMP_TYPE,
    column_type,
    metadata_of,
    window_type,
)
from driftline.features.feast.registry import OnlineStoreRepo
from driftline.features.state.event_time import MICROSECONDS
from driftline.streams.archive.parts import Archive
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import StreamsError
from driftline.streams.offline.history_rows import HistoryRows, history_columns
from driftline.streams.offline.request_places import RequestPlace, places_by_stage
from driftline.streams.records.messages import Outcome, Prediction
from driftline.streams.records.positions import POSITIONS_OF_AN_EPOCH, position_of
from driftline.streams.stages.places import StagePlaces

_Answer = TypeVar("_Answer", Prediction, Outcome)


class Served(NamedTuple):
    """An archived prediction: partition and offset of its request, in the log or in the topic of the stage
    that answered, and what was published."""

    partition: int
    offset: int
    published: Prediction

    @property
    def place(self) -> RequestPlace:
        """Where its request is."""
        return RequestPlace(self.partition, self.offset)


class ValueDifference(msgspec.Struct, frozen=True):
    """A feature value that differs between the history and the published prediction."""

    prediction_id: str
    feature: str
    published: Any
    history: Any


class Comparison(msgspec.Struct, frozen=True):
    """Features out of the history beside those published: so many `predictions`, of which `equal` agree in
    every value. `differing` counts by feature, `first` is the first difference. Features that no prediction
    published are listed as `unpublished`, and were not compared."""

    predictions: int
    values: int
    equal: int
    differing: Mapping[str, int]
    unpublished: tuple[str, ...]
    first: ValueDifference | None

    @property
    def share(self) -> float | None:
        """The share of predictions that are equal; None without any."""
        return self.equal / self.predictions if self.predictions else None


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """The rows, and their origin: `outside` counts predictions that the history does not reach."""

    table: pa.Table
    outside: int
    comparison: Comparison


class PublishedAnswers(Protocol):
    """Published predictions, and their outcomes."""

    def predictions(self) -> Iterator[Served]:
        """The predictions, in the order of the rows to come."""
        ...

    def outcomes(self) -> dict[str, Outcome]:
        """The newest revision of each prediction's outcome, by prediction id."""
        ...


class PlacedAnswers(PublishedAnswers, Protocol):
    """Published predictions of which it is known where their requests came to each stage."""

    def places(self, served: Sequence[Served]) -> Sequence[Sequence[RequestPlace | None]]:
        """For each stage the places of the requests; None where they are not known."""
        ...


class ArchivedAnswers:
    """A case's archived predictions and outcomes; `since` and `until` bound the requests' own times."""

    def __init__(
        self, archive: Archive, places: StagePlaces, since: datetime | None, until: datetime | None
    ) -> None:
        self._archive = archive
        self._places = places
        self._topics = places.topics
        self._since = since
        self._until = until

    def predictions(self) -> Iterator[Served]:
        """The predictions by partition and offset."""
        for partition in range(self._topics.predicting):
            for headers, published in self._records(self._topics.predictions, partition, Prediction):
                if (self._since is None or published.at >= self._since) and (
                    self._until is None or published.at < self._until
                ):
                    # in a chain, what another epoch has answered came to it in other topics
                    offset = position_of(headers)[0] - self._places.first_position
                    if 0 <= offset < POSITIONS_OF_AN_EPOCH:
                        yield Served(partition, offset, published)

    def outcomes(self) -> dict[str, Outcome]:
        """The newest revision of each prediction's outcome."""
        newest: dict[str, Outcome] = {}
        for partition in range(self._topics.learning):
            for _, outcome in self._records(self._topics.outcomes, partition, Outcome):
                known = newest.get(outcome.prediction_id)
                if known is None or outcome.revision >= known.revision:
                    newest[outcome.prediction_id] = outcome
        return newest

    def places(self, served: Sequence[Served]) -> Sequence[Sequence[RequestPlace | None]]:
        """For each stage the places of the requests, as far as the archive reaches."""
        return places_by_stage(self._archive, self._places, [one.place for one in served])

    def _records(self, topic: str, partition: int, kind: type[_Answer]) -> Iterator[tuple[Any, _Answer]]:
        archive = self._archive
        decode = msgspec.json.Decoder(kind).decode
        begin, end = archive.begin(topic, partition), archive.end(topic, partition)
        for records in archive.read(topic, partition, begin, end):
            for record in records:
                try:
                    answer = decode(record.value or b"")
                except msgspec.MsgspecError as error:
                    raise StreamsError(
                        f"{topic}-{partition}: the record at offset {record.offset} cannot be read: {error}"
                    ) from error
                yield record.headers, answer


def training_log(case: UseCase, answers: PublishedAnswers) -> pa.Table:
    """Features as served, with labels: `TrainingSet.table` as it was published."""
    served = list(answers.predictions())
    features = {
        name: _column(case, name, feature, [one.published.features.get(name) for one in served])
        for name, feature in case.features.items()
    }
    return _table(case, _identity(case, served), features, _labels(served, answers.outcomes()))


def training_set(case: UseCase, answers: PlacedAnswers, repo: OnlineStoreRepo) -> TrainingSet:
    """The archived predictions with windows and lookups from the feature history.

    Raises StreamsError when there is no history or no prediction, FeaturesError when a part of the history
    has changed.
    """
    every = list(answers.predictions())
    if not every:
        raise StreamsError(
            f"{case.name}: no prediction is archived of the time asked for. `driftline archive` writes what "
            "fills a part (--part-size)"
        )
    rows = HistoryRows(case, repo, answers.places(every))
    served = [one for one, is_reached in zip(every, rows.reached, strict=True) if is_reached]
    asked = rows.asked()
    history = _with_on_demand(case, served, asked[0], history_columns(case, repo, asked))
    features = {}
    for name, feature in case.features.items():
        values = history.get(name)
        if values is None:
            values = _column(case, name, feature, [one.published.features.get(name) for one in served])
        features[name] = values
    identity = _identity(case, served) | {"event_timestamp": asked[0].column("event_timestamp")}
    table = _table(case, identity, features, _labels(served, answers.outcomes()))
    return TrainingSet(table, len(every) - len(served), _compared(served, history))


def _with_on_demand(
    case: UseCase, served: Sequence[Served], asked: pa.Table, joined: dict[str, pa.ChunkedArray]
) -> dict[str, pa.ChunkedArray]:
    """The features out of the history, those among them that are computed from others."""
    columns = {name: column.to_pylist() for name, column in joined.items()}
    columns[AT] = [moment / MICROSECONDS for moment in asked.column("at").cast(pa.int64()).to_pylist()]
    values: dict[str, pa.ChunkedArray] = {name: joined[name] for name in joined if name in case.features}
    for view in case.on_demand_views():
        rows = _computed(view, columns, served)
        for name, feature in view.features.items():
            values[name] = _column(case, name, feature, [row.get(name) for row in rows])
    return values


def _computed(
    view: OnDemandView, columns: Mapping[str, list[Any]], served: Sequence[Served]
) -> list[dict[str, Any]]:
    """The values of an on-demand view, from the history where it has what they need."""
    evaluate = evaluation(view.steps, view.unseen)
    inputs = [*view.request, *(name for names in view.sources.values() for name in names)]
    return [
        evaluate(
            {
                name: columns[name][row] if name in columns else one.published.features.get(name)
                for name in inputs
            }
        )
        for row, one in enumerate(served)
    ]


def _compared(served: Sequence[Served], history: Mapping[str, pa.ChunkedArray]) -> Comparison:
    """Each value of the history beside the one that was published."""
    unpublished = []
    differing: dict[str, int] = {}
    unequal: set[int] = set()
    firsts: list[tuple[int, ValueDifference]] = []
    for name, column in history.items():
        published = [one.published.features.get(name) for one in served]
        if all(value is None for value in published):
            unpublished.append(name)
            continue
        values = column.to_pylist()
        rows = [row for row, (a, b) in enumerate(zip(published, values, strict=True)) if a != b]
        if rows:
            differing[name] = len(rows)
            unequal.update(rows)
            row = rows[0]
            firsts.append((row, ValueDifference(served[row].published.id, name, published[row], values[row])))
    return Comparison(
        len(served),
        len(served) * (len(history) - len(unpublished)),
        len(served) - len(unequal),
        differing,
        tuple(unpublished),
        min(firsts, key=lambda found: found[0])[1] if firsts else None,
    )


def _identity(case: UseCase, served: Sequence[Served]) -> dict[str, pa.Array]:
    """Which predictions these are."""
    columns = {
        "prediction_id": pa.array([one.published.id for one in served], pa.string()),
        "partition": pa.array([one.partition for one in served], pa.int32()),
        "offset": pa.array([one.offset for one in served], pa.int64()),
        "at": pa.array([one.published.at for one in served], STAMP_TYPE),
    }
    for name in case.key_fields:
        # a key may be a feature too, under the same name
        kind = column_type(case.task.ask, name)
        columns[f"key_{name}"] = _array(name, kind, [one.published.keys.get(name) for one in served])
    return columns


def _labels(served: Sequence[Served], outcomes: Mapping[str, Outcome]) -> dict[str, pa.Array]:
    """The outcomes of the predictions; null if none is archived."""
    answered = [outcomes.get(one.published.id) for one in served]
    return {
        "label": _array("label", None, [None if o is None else o.label for o in answered]),
        "label_status": pa.array([None if o is None else o.status for o in answered], pa.string()),
        "label_revision": pa.array([None if o is None else o.revision for o in answered], pa.int32()),
    }


def _column(case: UseCase, name: str, feature: Feature, values: list[Any]) -> pa.Array:
    """Published values of one feature as its declaration types them."""
    kind = None
    if isinstance(feature, Window):
        kind = window_type(feature)
    elif isinstance(feature, Elapsed):
        kind = pa.float64()
    elif isinstance(feature, OnDemand):
        kind = ARROW_TYPES[feature.kind]
    elif isinstance(feature, Lookup):
        kind = column_type(feature.event, feature.field)
    elif isinstance(feature, RequestField):
        kind = column_type(case.task.ask, feature.name)
    else:
        assert isinstance(feature, Derived)
    return _array(name, kind, values)


def _array(name: str, kind: pa.DataType | None, values: list[Any]) -> pa.Array:
    """A column of the type, or of the one that the values have in common."""
    if kind is None:
        kinds = {type(value) for value in values} - {type(None)}
        if kinds <= {int, float}:
            kind = pa.int64() if kinds == {int} else pa.float64()
        elif kinds == {bool}:
            kind = pa.bool_()
        elif kinds == {str}:
            kind = pa.string()
        else:
            types = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise StreamsError(f"{name!r} has values of several types ({types}): no one column holds them")
    return pa.array(values, kind)


def _table(
    case: UseCase, identity: Mapping[str, Any], features: Mapping[str, Any], labels: Mapping[str, Any]
) -> pa.Table:
    """The columns with their descriptions."""
    taken = features.keys() & (identity.keys() | labels.keys())
    if taken:
        raise StreamsError(
            f"features cannot be called {', '.join(sorted(taken))} in a training set: rename them"
        )
    table = pa.table({**identity, **features, **labels})
    fields = []
    for field in table.schema:
        feature = case.features.get(field.name)
        if feature is not None:
            field = field.with_metadata(metadata_of(feature.note))
        fields.append(field)
    return pa.Table.from_arrays(table.columns, schema=pa.schema(fields, metadata={"case": case.name}))
