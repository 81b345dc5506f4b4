"""The features of a case: features get, describe, plan, apply, history, training-set, served."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from driftline.infra.cli.cases import path_of, selected_case, settings
from driftline.infra.cli.console import end_with, print_json, say
from driftline.infra.cli.parameters import AsJson, Case, OffsetTo, Partitions, RequestsFrom, RequestsTo, times

if TYPE_CHECKING:
    from driftline.features.feast.registry import OnlineStoreRepo

ParquetFile = Annotated[Path, typer.Option("--out", help="The Parquet file to write")]

commands = typer.Typer(help="The features: online, their history, training sets.", no_args_is_help=True)


@commands.command()
def get(
    case: Case,
    view: Annotated[str, typer.Argument(help="Name of the feature view")],
    keys: Annotated[list[str], typer.Argument(help="key=value ...")],
    as_json: AsJson = False,
) -> None:
    """The newest online feature values of one key."""
    wrong = [pair for pair in keys if "=" not in pair]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is not of the form key=value")
    import msgspec

    from driftline.features.online.client import FeatureClient
    from driftline.infra.report.figures import lasting

    declared = selected_case(case)
    with FeatureClient(declared, settings().features(declared.name)) as client:
        row = client.get(view, dict(pair.split("=", 1) for pair in keys))
    if as_json:
        print_json(msgspec.to_builtins(row))
        return
    for name, value in row.features.items():
        cells = [name, "" if value.value is None else str(value.value), value.status]
        print("\t".join([*cells, *([] if value.age is None else [f"{lasting(value.age)} old"])]))


@commands.command()
def describe(case: Case, as_json: AsJson = False) -> None:
    """What the features of a case are: how each is computed, its unit, valid range, owner, and its view."""
    from driftline.features.declare.feature_descriptions import catalogue

    declared = selected_case(case)
    _print_each(
        catalogue(declared.features, declared.task.ask, declared.views(), declared.on_demand_views()), as_json
    )


@commands.command()
def plan(case: Case, as_json: AsJson = False) -> None:
    """What `apply` would do to the feature registry: each object with create, change or keep."""
    _print_each(_repo(case).plan(), as_json)


@commands.command()
def apply(case: Case, as_json: AsJson = False) -> None:
    """Register a case's features with Feast, as every worker does at its start; nothing is deleted."""
    _print_each(_repo(case).apply(), as_json)


def _repo(case: str) -> OnlineStoreRepo:
    from driftline.features.feast.registry import OnlineStoreRepo

    declared = selected_case(case)
    return OnlineStoreRepo(settings().features(declared.name), declared.views(), declared.on_demand_views())


def _print_each(entries: list[Any], as_json: bool) -> None:
    import msgspec

    if as_json:
        print_json(msgspec.to_builtins(entries))
    else:
        for entry in entries:
            print(entry)


@commands.command()
def history(
    case: Case,
    start: Annotated[
        int, typer.Option("--from", min=0, help="Write the rows caused from this offset of the log on")
    ] = 0,
    stop: OffsetTo = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to (default: where Feast's views read it)")
    ] = None,
    partitions: Partitions = None,
    as_json: AsJson = False,
) -> None:
    """Write the rows of the feature views, as they changed, from the archived log.

    Folds the archive from its start with the features' own code, every partition in a process of its own,
    and writes Parquet parts by fixed ranges of the log's offsets. Existing parts stay, missing ones are
    added, those of other code are written again. Joins need the rows before the first request too: leave out
    --from unless they are not needed.
    """
    from driftline.infra.offline.feature_history import write_history

    declared = selected_case(case, partitions)
    report = write_history(path_of(case), declared, settings(), start, stop, out)
    print(report.as_json() if as_json else report)


@commands.command("training-set")
def training_set(
    case: Case,
    out: ParquetFile,
    start: RequestsFrom = None,
    stop: RequestsTo = None,
    partitions: Partitions = None,
    as_json: AsJson = False,
) -> None:
    """Features from the history, as of each archived prediction's request, with its label.

    Joined by Feast's get_historical_features and compared, value by value, with what the predictions
    published. Exit code 1 when one differs; the file is written all the same. 2 when nothing was compared.
    """
    from driftline.infra.offline.training_set import write_training_set

    declared = selected_case(case, partitions)
    end_with(write_training_set(declared, settings(), *times(start, stop), out), as_json)


@commands.command()
def served(
    case: Case,
    out: ParquetFile,
    start: RequestsFrom = None,
    stop: RequestsTo = None,
    partitions: Partitions = None,
) -> None:
    """The training log: features as they were served, from the archived predictions, with their labels."""
    from driftline.infra.offline.training_set import write_training_log

    declared = selected_case(case, partitions)
    rows = write_training_log(declared, settings(), *times(start, stop), out)
    say(f"{rows:,} predictions written to {out}")
