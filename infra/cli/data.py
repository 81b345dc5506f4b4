"""Feature values as they were served: data schema, statistics, anomalies, publish."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from driftline.infra.cli.cases import path_of, selected_case, settings
from driftline.infra.cli.console import say
from driftline.infra.cli.parameters import AsJson, Case, RequestsFrom, RequestsTo, times

if TYPE_CHECKING:
    from driftline.infra.quality.statistics import DataReport
    from driftline.infra.settings import Settings
    from driftline.streams.declare.usecase import UseCase

SchemaFile = Annotated[
    Path | None,
    typer.Option(
        "--schema",
        help="The schema's file (default: CASE.schema.json beside the declaration, or in the current folder "
        "for an installed package's case)",
    ),
]
WindowFrom = Annotated[str | None, typer.Option("--from", help="Only windows from this time on (RFC 3339)")]
WindowTo = Annotated[str | None, typer.Option("--to", help="Only windows before this time")]
Skew = Annotated[
    bool, typer.Option("--skew", help="Compare with the feature history too, which must have been written")
]
Page = Annotated[Path | None, typer.Option("--html", help="Write a page with histograms here")]

commands = typer.Typer(help="Feature values as served: statistics and anomalies.", no_args_is_help=True)


@commands.command()
def schema(
    case: Case,
    start: RequestsFrom = None,
    stop: RequestsTo = None,
    window: Annotated[float, typer.Option(help="Hours in one window of statistics")] = 24.0,
    freeze: Annotated[bool, typer.Option("--freeze", help="Write it to its file, once")] = False,
    schema: SchemaFile = None,
) -> None:
    """Infer what is expected of each feature from requests that are known to be sound, and print it.

    It has types, the share that may be missing, ranges, domains and bins, as JSON. --freeze writes it to a
    file, to be read, edited and kept with the project. Drift is measured from the requests that it was
    inferred from."""
    from driftline.infra.quality import statistics as data

    declared = selected_case(case)
    inferred = data.infer_schema(declared, settings(), window * 3600.0, *times(start, stop))
    if freeze:
        path = schema or data.schema_path(path_of(case), declared)
        data.freeze_schema(inferred, path)
        say(f"written: {path}")
    else:
        sys.stdout.buffer.write(inferred.encode())


@commands.command()
def statistics(
    case: Case,
    start: WindowFrom = None,
    stop: WindowTo = None,
    schema: SchemaFile = None,
    html: Page = None,
    as_json: AsJson = False,
) -> None:
    """Statistics of every feature as it was served, and how far they are from the reference.

    Counts the predictions in the archive, and in Kafka beyond it. The statistics of an archived part are
    kept beside the archive as Parquet.
    """
    from driftline.infra.quality.statistics import statistics_text

    report = _report(_expected(case, schema), times(start, stop), html)
    print(report.as_json() if as_json else statistics_text(report))


@commands.command()
def anomalies(
    case: Case,
    start: WindowFrom = None,
    stop: WindowTo = None,
    schema: SchemaFile = None,
    skew: Skew = False,
    html: Page = None,
    as_json: AsJson = False,
) -> None:
    """Windows that are not what the schema expects: presence, type, domain, range, cardinality, drift, skew.

    Exit code 1 when there are any.
    """
    import msgspec

    from driftline.infra.quality import statistics as data

    expected, span = _expected(case, schema), times(start, stop)
    report = _report(expected, span, html)
    if skew:
        differing = data.skew_of(*expected, *span)
        report = msgspec.structs.replace(report, anomalies=(*report.anomalies, *differing))
    print(report.as_json() if as_json else data.anomalies_text(report))
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def _expected(case: str, path: Path | None) -> tuple[UseCase, Settings, Any]:
    """The case, the settings, and the frozen schema."""
    from driftline.infra.quality import statistics as data

    declared = selected_case(case)
    return declared, settings(), data.read_schema(path or data.schema_path(path_of(case), declared), declared)


def _report(expected: tuple[UseCase, Settings, Any], span: tuple[Any, Any], html: Path | None) -> DataReport:
    from driftline.infra.quality import statistics as data
    from driftline.infra.quality.statistics_page import statistics_page

    report = data.report(*expected, *span)
    if html is not None:
        html.write_text(statistics_page(report), "utf-8")
        say(f"written: {html}")
    return report


@commands.command()
def publish(
    case: Case,
    schema: SchemaFile = None,
    skew: Skew = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Continue as windows close, until SIGTERM")
    ] = False,
) -> None:
    """Write closed windows and their anomalies to the case's compacted topics; those written before stay."""
    import signal

    from driftline.infra.quality import statistics as data

    expected = _expected(case, schema)
    stopped = False

    def stop(*_: Any) -> None:
        nonlocal stopped
        stopped = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    data.publish(
        *expected,
        data.skew_of(*expected, None, None) if skew else None,
        lambda written: say(f"{written.statistics:,} windows and {written.anomalies:,} anomalies written"),
        lambda: follow and not stopped,
    )
