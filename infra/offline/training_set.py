"""Writes training sets and training logs of a case from its archive and feature history."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import msgspec
import pyarrow as pa
from pyarrow import compute, parquet

from driftline.atomic_file import replacing
from driftline.features.feast.registry import OnlineStoreRepo
from driftline.infra.serving.deploy import archived_places
from driftline.infra.settings import Settings
from driftline.streams.archive.parts import Archive
from driftline.streams.declare.usecase import UseCase
from driftline.streams.offline.training_set import ArchivedAnswers, Comparison, training_log, training_set


class TrainingSetReport(msgspec.Struct, frozen=True):
    """The result: what was written, and how the history compares with the published predictions.

    `rows` by `labels` (status, or "none" where no outcome is archived); `outside` counts predictions whose
    request is not in the history; `share` is the share of `rows` whose features all are equal.
    """

    case: str
    out: str
    rows: int
    labels: dict[str, int]
    outside: int
    share: float | None
    comparison: Comparison
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 when all that was compared is equal, 1 at a difference, 2 when nothing was compared."""
        if self.comparison.first is not None:
            return 1
        return 0 if self.comparison.values else 2

    def as_json(self) -> str:
        """One JSON object."""
        return msgspec.json.encode(self).decode()

    def __str__(self) -> str:
        """Lines for people."""
        comparison = self.comparison
        labels = ", ".join(f"{count:,} {status}" for status, count in self.labels.items())
        lines = [f"{self.case}: {self.rows:,} rows ({labels}) in {self.seconds:.1f} s, written to {self.out}"]
        if self.share is None or not comparison.values:
            lines.append("nothing could be compared")
        else:
            lines.append(
                f"history = published for {self.share:.4%} of the predictions ({comparison.equal:,} of "
                f"{comparison.predictions:,}; {comparison.values:,} values compared)"
            )
        lines += [f"{name}: {count:,} differ" for name, count in comparison.differing.items()]
        if comparison.unpublished:
            lines.append(f"not compared, as no prediction has them: {', '.join(comparison.unpublished)}")
        if comparison.first is not None:
            first = comparison.first
            lines.append(
                f"first difference: {first.feature} of {first.prediction_id}: published {first.published}, "
                f"history {first.history}"
            )
        if self.outside:
            lines.append(
                f"{self.outside:,} archived predictions left out: their requests are not in the history "
                "(newer than its end, or refused when folded by this code)"
            )
        return "\n".join(lines)


def write_training_set(
    case: UseCase, settings: Settings, since: datetime | None, until: datetime | None, out: Path
) -> TrainingSetReport:
    """Write the training set of requests in [since, until) by their own time to a Parquet file."""
    started = time.perf_counter()
    repo = OnlineStoreRepo(settings.features(case.name), case.views(), case.on_demand_views())
    repo.apply()
    training = training_set(case, _answers(case, settings, since, until), repo)
    write_table(training.table, out)
    return TrainingSetReport(
        case.name,
        str(out),
        training.table.num_rows,
        _counted(training.table.column("label_status")),
        training.outside,
        training.comparison.share,
        training.comparison,
        round(time.perf_counter() - started, 3),
    )


def write_training_log(
    case: UseCase, settings: Settings, since: datetime | None, until: datetime | None, out: Path
) -> int:
    """Write the features as served of requests in [since, until) to a Parquet file; returns its rows."""
    table = training_log(case, _answers(case, settings, since, until))
    write_table(table, out)
    return int(table.num_rows)


def _answers(
    case: UseCase, settings: Settings, since: datetime | None, until: datetime | None
) -> ArchivedAnswers:
    archive = Archive(settings.archive_uri(case.name))
    return ArchivedAnswers(archive, archived_places(case, settings, archive), since, until)


def _counted(statuses: pa.ChunkedArray) -> dict[str, int]:
    counts = compute.value_counts(statuses.fill_null("none")).to_pylist()
    return {count["values"]: count["counts"] for count in counts}


def write_table(table: pa.Table, out: Path) -> None:
    """Write a table to a Parquet file: the whole file or none."""
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, compression="zstd")
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as file:
        file.write(sink.getvalue())
