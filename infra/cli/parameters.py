"""Arguments and options that several commands share."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from driftline.streams.declare.topics import Topics

Case = Annotated[str, typer.Argument(help="module:attribute, or a name from [tool.driftline.cases]")]
Source = Annotated[
    str | None,
    typer.Argument(help="module:function, a .jsonl, .csv, .tsv or .parquet file, or - for JSON lines"),
]
Zone = Annotated[
    str | None, typer.Option("--zone", help="SOURCE: time zone of times without one, such as Europe/Paris")
]
Encoding = Annotated[
    str | None, typer.Option("--encoding", help="SOURCE: of delimited text, where it is not detected")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output")]
MetricsAddress = Annotated[
    str | None, typer.Option("--metrics", help="host:port to serve Prometheus's metrics at")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most this many events")]
Partitions = Annotated[int | None, typer.Option("--partitions", min=1, help="Instead of the case's own")]
Partition = Annotated[int | None, typer.Option(min=0, help="Only this partition")]
OffsetTo = Annotated[int | None, typer.Option("--to", min=0, help="End before this offset")]
RequestsFrom = Annotated[
    str | None,
    typer.Option("--from", help="Only requests from this time on (their own time: RFC 3339 with a zone)"),
]
RequestsTo = Annotated[str | None, typer.Option("--to", help="Only requests before this time")]


class TopicKind(enum.StrEnum):
    """A topic of a case, as the command line names it."""

    LOG = "log"
    PREDICTIONS = "predictions"
    OUTCOMES = "outcomes"
    DRIFT = "drift"
    MODELS = "models"
    DEAD_LETTERS = "dead-letters"
    STATISTICS = "statistics"
    ANOMALIES = "anomalies"

    def of(self, topics: Topics) -> str:
        """The topic's name."""
        return str(getattr(topics, self.name.lower()))

    def partitions(self, topics: Topics) -> int:
        """How many partitions the topic has."""
        if self is TopicKind.LOG:
            return topics.partitions
        if self is TopicKind.DEAD_LETTERS:
            return topics.refusing
        by_label = self in (TopicKind.OUTCOMES, TopicKind.DRIFT, TopicKind.MODELS)
        return topics.learning if by_label else topics.predicting


def require_partition(partition: int | None, name: str, partitions: int) -> None:
    """Raises BadParameter for a partition that the case `name` does not have."""
    if partition is not None and partition >= partitions:
        raise typer.BadParameter(f"{name} has partitions 0 to {partitions - 1}")


def times(start: str | None, stop: str | None) -> tuple[datetime | None, datetime | None]:
    """Two RFC 3339 times with their zone, None where none is given; raises BadParameter."""
    return _time(start), _time(stop)


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"no RFC 3339 time: {error}") from None
    if moment.tzinfo is None:
        raise typer.BadParameter(f"{text!r} has no zone: write {text}Z for UTC")
    return moment


def listening(metrics: str | None) -> tuple[str, int] | None:
    """Host and port of a `MetricsAddress`; raises BadParameter."""
    from driftline.settings import listening_address

    try:
        return None if metrics is None else listening_address(metrics)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--metrics") from None
