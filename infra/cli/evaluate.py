"""Commands that evaluate models and measure speed: evaluate, bench."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from driftline.infra.cli.cases import selected_case, settings
from driftline.infra.cli.console import print_json, say
from driftline.infra.cli.parameters import AsJson, Encoding, Limit


class TaskKind(enum.StrEnum):
    """A kind of task, as the command line names it."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


Table = Annotated[
    str, typer.Argument(metavar="CASE|FILE", help="A case, or a .csv, .jsonl or .parquet file with a header")
]
LabelOption = Annotated[str | None, typer.Option("--label", help="FILE: the column to predict")]
TaskKindOption = Annotated[
    TaskKind | None, typer.Option(help="FILE: instead of the kind that the labels suggest")
]
Models = Annotated[
    str | None,
    typer.Option(help="Names of members, separated by commas, the champion first; else default ones"),
]
Delay = Annotated[int, typer.Option(min=0, help="FILE, STREAM: a label is known this many rows later")]

commands = typer.Typer()


@commands.command()
def evaluate(
    what: Table,
    label: LabelOption = None,
    task: TaskKindOption = None,
    models: Models = None,
    delay: Delay = 0,
    limit: Limit = None,
    encoding: Encoding = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with tables and curves here")] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate models and their pool on past data.

    Each row is answered, then learned from. FILE is any table: numbers, text and missing values, in the order
    in which the rows came. CASE is run over its own source, with its own pools. STREAM is one of
    docs/evaluation.md, such as rbf-recurring. Printed are the figures of every member and of what was served,
    and scores of the drift detectors where the changes of the stream are known.
    """
    from driftline.infra.offline.evaluate import stream_path
    from driftline.infra.offline.evaluation_table import print_evaluation
    from driftline.infra.report.evaluation import evaluation_page

    names = tuple(name.strip() for name in models.split(",")) if models else ()
    path = stream_path(what)
    if path is None:
        if label is not None or task is not None:
            raise typer.BadParameter(f"{what} is no file: it has a label and a task of its own")
        result = _evaluate_named(what, names, delay, limit)
    else:
        result = _evaluate_file(path, label, task, names, delay, limit, encoding)
    if html is not None:
        html.write_text(evaluation_page(result), "utf-8")
        say(f"written: {html}")
    if as_json:
        print_json(result)
    else:
        print_evaluation(result)


def _evaluate_named(what: str, models: tuple[str, ...], delay: int, limit: int | None) -> dict[str, Any]:
    """Evaluate a stream of the catalogue, or a case."""
    from driftline.infra.offline import evaluate as evaluation

    if evaluation.is_stream(what):
        return evaluation.evaluate_named(what, models=models, delay=delay, limit=limit)
    if delay:
        raise typer.BadParameter(f"{what} is a case, whose labels have delays of their own")
    return evaluation.evaluate_case(selected_case(what), limit=limit, models=models)


def _evaluate_file(
    path: Path,
    label: str | None,
    task: TaskKind | None,
    models: tuple[str, ...],
    delay: int,
    limit: int | None,
    encoding: str | None,
) -> dict[str, Any]:
    from driftline.infra.offline.evaluate import evaluate_file

    if label is None:
        raise typer.BadParameter("name the column to predict: --label COLUMN")
    kind = None if task is None else task.value
    return evaluate_file(path, label, kind=kind, models=models, delay=delay, limit=limit, encoding=encoding)


@commands.command()
def bench(
    limit: Annotated[int, typer.Option(min=1000, help="Events a run")] = 60_000, as_json: AsJson = False
) -> None:
    """Measure speed against bare River and other frameworks."""
    from driftline.bench.run import main as run

    result = run(settings(), limit=limit)
    if as_json:
        print_json(result)
