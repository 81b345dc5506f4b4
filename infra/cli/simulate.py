"""The fold without Kafka: simulate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from driftline.infra.cli.cases import selected_case
from driftline.infra.cli.console import print_json, say
from driftline.infra.cli.parameters import AsJson, Case, Encoding, Limit, Partitions, Source, Zone

commands = typer.Typer()


@commands.command()
def simulate(
    case: Case,
    source: Source = None,
    limit: Limit = None,
    partitions: Partitions = None,
    chunk: Annotated[int, typer.Option(min=1, help="Records a step; any number gives the same result")] = 500,
    warm_up: Annotated[
        str | None, typer.Option("--warm-up", help="A source to learn from first, without answering it")
    ] = None,
    zone: Zone = None,
    encoding: Encoding = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the predictions here: .jsonl, or .parquet with labels")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fold a file or the case's own source as a worker would.

    No Kafka is needed, and the predictions are the same.
    """
    from driftline.infra.offline.simulation_outputs import SimulatedOutputs
    from driftline.infra.report.summary import print_summary
    from driftline.streams.simulation.simulate import simulate as run
    from driftline.streams.simulation.tables import Reading

    declared = selected_case(case)
    with SimulatedOutputs(declared, out) as published:
        result = run(
            declared,
            source,
            limit=limit,
            partitions=partitions,
            chunk=chunk,
            warm_up=warm_up,
            reading=Reading(zone, encoding),
            on_outputs=published.take,
        )
    result["refused"] = published.as_json()
    if out is not None:
        say(f"written: {out}")
    if as_json:
        print_json(result)
    else:
        print_summary(result)
