"""What runs until SIGTERM: worker, upgrade, bridge, archive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from driftline.infra.cli.cases import path_of, selected_case, settings
from driftline.infra.cli.console import print_json, say
from driftline.infra.cli.parameters import AsJson, Case, Partitions, TopicKind

NEWLY_REFUSED = 3
"""Exit code of an upgrade whose code refuses records that the code before had accepted."""
ARCHIVED = [TopicKind.LOG, TopicKind.PREDICTIONS, TopicKind.OUTCOMES, TopicKind.MODELS]

commands = typer.Typer()


@commands.command()
def worker(
    case: Case,
    partitions: Partitions = None,
    mend_topics: Annotated[
        bool,
        typer.Option("--mend-topics", help="Give topics that others created the settings they need"),
    ] = False,
) -> None:
    """Serve a case until SIGTERM.

    Folds its log: answers requests and learns from labels.
    """
    from driftline.infra.serving.serve import run_worker

    run_worker(selected_case(case, partitions), settings(), mend_topics=mend_topics)


@commands.command()
def upgrade(
    case: Case,
    partitions: Partitions = None,
    plan: Annotated[bool, typer.Option("--plan", help="Report what would change, and end")] = False,
    accept_refused: Annotated[
        bool,
        typer.Option("--accept-refused", help="Continue without past records that only the new code refuses"),
    ] = False,
) -> None:
    """Take a case over from other code without an outage.

    Serves it until SIGTERM, as `worker` does. Before that, folds the log beside the workers that serve, each
    partition in a process of its own, and reports what would change: past records that the new code refuses,
    and predictions that it would answer otherwise. When it is close behind the workers, it fences them out,
    and they end.

    Exit code 3: the new code refuses records that the code before had accepted, such as those with a field
    that was deleted, and nothing was taken over.
    """
    from driftline.infra.serving.plan_verdict import UpgradeStopped
    from driftline.infra.serving.serve import run_worker
    from driftline.infra.serving.upgrade import planned

    declared, path = selected_case(case, partitions), path_of(case)
    if plan:
        changes = planned(path, declared, settings())
        print(changes)
        if changes.newly_refused:
            raise typer.Exit(NEWLY_REFUSED)
        return
    try:
        run_worker(declared, settings(), upgrade_path=path, accept_refused=accept_refused)
    except UpgradeStopped as error:
        say(f"driftline: {error}")
        raise typer.Exit(NEWLY_REFUSED) from None


@commands.command()
def bridge(
    bridge: Annotated[str, typer.Argument(metavar="BRIDGE", help="module:attribute of a Bridge")],
    foreign: Annotated[
        str | None, typer.Option("--from", help="host:port of the Kafka that has the topic, if another")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End where the topic ends now")] = False,
    as_json: AsJson = False,
) -> None:
    """Copy a foreign topic into a case's log, until SIGTERM.

    Its records become the case's events. Fields that the bridge declares are read from online stores on the
    way. Records that cannot be mapped go unchanged to the bridge's dead letters. Several processes share the
    topic's partitions.
    """
    from driftline.infra.serving.serve import run_bridge
    from driftline.streams.clients.bridge import load_bridge

    report = run_bridge(load_bridge(bridge), settings(), foreign, once=once)
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(report))
    else:
        say(str(report))


@commands.command()
def observe(
    folder: Annotated[Path, typer.Argument(help="Where to write them")],
) -> None:
    """Write a Grafana dashboard and Prometheus's alert rules.

    They use the metrics that workers (DRIFTLINE_METRICS) and `driftline audit --follow` serve.
    """
    from driftline.infra.observe.files import write_files

    for path in write_files(folder):
        print(path)


@commands.command()
def secrets(
    folder: Annotated[Path, typer.Argument(help="Where to write them; empty, or not there yet")],
) -> None:
    """Make the secrets of a deployment by docker-compose.yml.

    They are the key of its checkpoints, the passwords of Redis, Grafana and Kafka's users, and the
    certificates of a secured Kafka.
    """
    from driftline.infra.local.deployment_secrets import make

    for path in make(folder):
        print(path)


@commands.command()
def archive(
    case: Case,
    once: Annotated[bool, typer.Option("--once", help="Archive what is complete now, and end")] = False,
    part_size: Annotated[
        int | None, typer.Option(min=1, help="Offsets a part, for what is not archived yet (default: 50,000)")
    ] = None,
    topics: Annotated[
        list[TopicKind], typer.Option("--topic", help="Which topics; may be given several times")
    ] = ARCHIVED,
    partitions: Partitions = None,
) -> None:
    """Copy a case's topics to Parquet, until SIGTERM.

    The archive is the folder or URI in DRIFTLINE_ARCHIVE. A part holds a fixed range of offsets and is
    written once the range is complete; the newest records, too few for a part, are in Kafka only. With the
    log go the topics between stages, in a case of several.
    """
    from driftline.infra.serving.serve import run_archiver

    declared, now = selected_case(case, partitions), settings()
    named = [kind.of(declared.topics(now.namespace)) for kind in topics]
    parts = run_archiver(declared, now, named, part_size, once=once)
    say(written(parts, part_size, once=once))


def written(parts: int, part_size: int | None, *, once: bool) -> str:
    """What an archiver has done, and why that is nothing."""
    from driftline.streams.archive.parts import PART_SIZE

    if parts or not once:
        return f"{parts:,} parts written"
    return (
        f"0 parts written: a part is written once all of its {part_size or PART_SIZE:,} offsets are "
        "there, and none is complete that was not written before; --part-size, before the first part, sets it"
    )
