"""What the log proves: replay, audit, check, lineage."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from driftline.infra.cli.cases import only_case, path_of, selected_case, settings
from driftline.infra.cli.console import end_with, not_compared, say
from driftline.infra.cli.parameters import (
    AsJson,
    Case,
    OffsetTo,
    Partition,
    Partitions,
    Source,
    TopicKind,
    listening,
    require_partition,
)

if TYPE_CHECKING:
    from driftline.streams.archive.parts import ArchivedRecord
    from driftline.streams.declare.usecase import UseCase

BOUND = (
    "Where to begin in every partition: an offset, or an RFC 3339 time. A time is the broker's append time, "
    "and is looked up in Kafka only: one before Kafka's first record means that record"
)

commands = typer.Typer()


@commands.command()
def replay(
    case: Case,
    topic: Annotated[TopicKind, typer.Option(help="Which topic")] = TopicKind.LOG,
    partition: Partition = None,
    start: Annotated[str | None, typer.Option("--from", help=BOUND)] = None,
    stop: Annotated[str | None, typer.Option("--to", help="End before this offset or time")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a record")] = False,
    values: Annotated[
        bool, typer.Option("--values", help="The log's events alone, for: driftline simulate CASE -")
    ] = False,
    stage: Annotated[
        str | None,
        typer.Option(help="Instead: the topic of this stage behind the log, as `driftline plan` names it"),
    ] = None,
    partitions: Partitions = None,
) -> None:
    """Print the records of a topic, archived ones too.

    What Kafka no longer holds comes from the archive.
    """
    from driftline.infra.proof import replay as printing
    from driftline.infra.serving.deploy import stage_places
    from driftline.infra.serving.serve import open_history
    from driftline.streams.records.outputs import Target

    if values and (as_json or topic is not TopicKind.LOG or stage is not None):
        raise typer.BadParameter(
            "--values prints the log's events: it goes with none of --json, --topic and --stage"
        )
    try:
        begin, end = (None if text is None else printing.bound(text) for text in (start, stop))
    except ValueError as error:
        raise typer.BadParameter(f"neither an offset nor an RFC 3339 time: {error}") from None
    declared, now = selected_case(case, partitions), settings()
    topics, places = declared.topics(now.namespace), None
    name, count = topic.of(topics), topic.partitions(topics)
    if stage is not None:
        number = _number_of(declared, stage)
        with open_history(declared, now) as history:
            places = stage_places(declared, now, history)
        name, count = places.input(Target(number, 0)).topic, places.partitions(number)
    require_partition(partition, name, count)
    numbers = range(count) if partition is None else (partition,)
    with open_history(declared, now) as history:
        stretches = {n: printing.stretch(history, name, n, begin, end) for n in numbers}
        if values:
            _print_values(declared, stretches)
        else:
            for line in printing.printed(stretches, places, as_json=as_json):
                sys.stdout.buffer.write(line)


def _number_of(case: UseCase, stage: str) -> int:
    """The number of a stage behind the log; raises BadParameter for any other name."""
    behind = [one.topic for one in case.plan.stages[1:]]
    if stage not in behind:
        known = f"there are {', '.join(behind)}" if behind else "one stage is all"
        raise typer.BadParameter(f"{case.name} has no stage {stage!r} behind the log: {known}")
    return behind.index(stage) + 1


def _print_values(case: UseCase, stretches: Mapping[int, Iterator[ArchivedRecord]]) -> None:
    from driftline.infra.proof.replay import as_recorded, as_source

    refused = 0

    def count(*_: Any) -> None:
        nonlocal refused
        refused += 1

    lines_of = as_recorded if case.is_live else as_source
    for line in lines_of(stretches, case.codec(), count):
        sys.stdout.buffer.write(line + b"\n")
    if refused:
        say(f"{refused:,} records that are no events of {case.name} were left out")


@commands.command()
def audit(
    case: Case,
    partition: Partition = None,
    start: Annotated[
        int, typer.Option("--from", min=0, help="Compare what records from this offset of the log on caused")
    ] = 0,
    stop: OffsetTo = None,
    prediction: Annotated[
        str | None, typer.Option(help="Compare only the prediction with this id, and its outcomes")
    ] = None,
    partitions: Partitions = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Audit beside the workers until SIGTERM, report differences")
    ] = False,
    metrics: Annotated[
        str | None, typer.Option("--metrics", help="--follow: host:port to serve Prometheus's metrics at")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare what is published with the log, byte by byte.

    Folds the log from its start again, out of Kafka and the archive, and compares each output with the
    published record: key, value, headers. What other code or other arithmetic published is not compared:
    it is counted as unchecked, with the reason.

    Exit code 0: everything compared is equal. 1: a difference, reported with its place and field, or records
    in partitions of the log that the case does not declare. 2: nothing could be compared, or a part of the
    log is missing; with --follow also when it cannot continue.
    """
    from driftline.infra.proof.audit import audit as run
    from driftline.streams.proof.audit import AuditedRange

    if follow:
        if partition is not None or start or stop is not None or prediction is not None or as_json:
            raise typer.BadParameter(
                "--follow audits all of a case: it takes --partitions and --metrics alone"
            )
        _follow(selected_case(case, partitions), metrics)
        return
    if metrics is not None:
        raise typer.BadParameter("--metrics goes with --follow")
    try:
        declared = selected_case(case, partitions)
        require_partition(partition, declared.name, declared.partitions)
        selection = AuditedRange(start, stop, prediction)
        report = run(path_of(case), declared, settings(), partition, selection, say)
    except Exception as error:
        raise not_compared(error) from None
    end_with(report, as_json)


def _follow(case: UseCase, metrics: str | None) -> None:
    import signal
    import threading

    from driftline import logs
    from driftline.infra.proof.follow import follow

    address = listening(metrics)
    logs.begin(case=case.name)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        differences = follow(case, settings(), address, stop)
    except Exception as error:
        raise not_compared(error) from None
    if differences:
        raise typer.Exit(1)


@commands.command()
def check(
    case: Case,
    source: Source = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Fold this many of the first events")] = 5_000,
    partitions: Partitions = None,
    as_json: AsJson = False,
) -> None:
    """Check that a case is deterministic, and report what is not.

    Folds a sample twice, the second time in other chunks, and with a restart in the middle from what a
    checkpoint holds. Where outputs or states differ, reports the first difference, its likely cause (the
    clock, random numbers, addresses of objects, state outside of the fold), and the functions of the
    declaration to look at. What only another hash seed changes is a hint: all folds have the same one.
    No Kafka is needed.

    Exit code 0: everything is equal. 1: a difference. 2: nothing could be compared.
    """
    from driftline.infra.proof.check import check_repeatable

    try:
        report = check_repeatable(path_of(case), selected_case(case, partitions), source, limit, say)
    except Exception as error:
        raise not_compared(error) from None
    end_with(report, as_json)


@commands.command()
def lineage(
    prediction: Annotated[str, typer.Argument(help="The prediction's id: event id, colon, task name")],
    case: Annotated[
        str | None, typer.Argument(help="As elsewhere; may be left out where only one case is known")
    ] = None,
    events: Annotated[int, typer.Option(min=0, help="List this many events behind each value")] = 5,
    partitions: Partitions = None,
    as_json: AsJson = False,
) -> None:
    """Show the lineage of a prediction, back to the events.

    Prints its request, features and the events behind them, model, code and outcome. Each feature value is
    computed again from the events behind it, apart from the fold. Exit code 1 when one is not what was used,
    or when there is no such prediction.

    Of a case of several stages: its record in the topic of each, with the features that are read there; the
    offsets of events are those of that topic.
    """
    from driftline.infra.proof.lineage import as_text
    from driftline.infra.serving.serve import open_history
    from driftline.streams.archive.log_reader import SHORT_SILENCE
    from driftline.streams.owner.deployment import code_of
    from driftline.streams.proof.lineage import lineage as trace

    declared, now = selected_case(only_case() if case is None else case, partitions), settings()
    with open_history(declared, now, SHORT_SILENCE) as history:
        topics, code = declared.topics(now.namespace), code_of(declared)
        found = trace(history, declared, topics, code, prediction, events)
    print(found.as_json() if as_json else as_text(found))
    if not found.agrees:
        raise typer.Exit(1)
