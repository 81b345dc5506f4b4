"""Events to a case's log: produce."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from driftline.infra.cli.cases import declared_case, settings
from driftline.infra.cli.console import say
from driftline.infra.cli.parameters import Case, Encoding, Limit, Partitions, Source, Zone

if TYPE_CHECKING:
    from driftline.streams.clients.producer import EventProducer
    from driftline.streams.declare.events import Event
    from driftline.streams.declare.usecase import UseCase

Close = Annotated[
    bool,
    typer.Option(
        "--close",
        help="End with a clock event: requests that still wait for a label expire, and later events are late",
    ),
]
WarmUpOption = Annotated[
    bool,
    typer.Option(
        "--warm-up",
        help="SOURCE is history for the start of the log: learned from, not answered. "
        "Resumes a warm-up that was interrupted",
    ),
]
EndWarmUp = Annotated[
    bool, typer.Option("--end-warm-up", help="Send only the end of a warm-up that was interrupted")
]

commands = typer.Typer()


@commands.command()
def produce(
    case: Case,
    source: Source = None,
    limit: Limit = None,
    partitions: Partitions = None,
    close: Close = False,
    warm_up: WarmUpOption = False,
    end_warm_up: EndWarmUp = False,
    zone: Zone = None,
    encoding: Encoding = None,
) -> None:
    """Send a source's events to the case's log.

    If workers serve the case, waits until they have folded the events and reports those that they refused,
    with exit code 1. If none serves it, reports that.
    """
    from driftline.infra.local.bootstrap import bootstrap_of
    from driftline.infra.topics.administration import ensure_topics
    from driftline.infra.topics.produce_result import DeadLetters, SentOffsets
    from driftline.infra.topics.warm_up import send_end, send_history
    from driftline.streams.clients.producer import EventProducer
    from driftline.streams.simulation.sources import open_source
    from driftline.streams.simulation.tables import Reading

    now, whole = settings(), declared_case(case, partitions)
    cases, declared = whole.each(), whole.writing  # the log is written once, whatever the tasks
    _require_sense(declared, close=close, warm_up=warm_up, end_warm_up=end_warm_up)
    bootstrap, topics = bootstrap_of(now), [one.topics(now.namespace) for one in cases]
    specs = {spec.name: spec for of_task in topics for spec in of_task.all()}
    ensure_topics(bootstrap, list(specs.values()))
    dead_letters, sent = [DeadLetters(bootstrap, of_task) for of_task in topics], SentOffsets()
    log = topics[0].log
    with EventProducer(declared, bootstrap, namespace=now.namespace, on_sent=sent.add) as producer:
        if end_warm_up:
            count = send_end(producer, declared, bootstrap, log)
        else:
            events = open_source(declared, source, limit, Reading(zone, encoding))
            if warm_up:
                count = send_history(producer, declared, bootstrap, log, events)
            else:
                count = _send(producer, whole, events, close=close)
    say(f"{count:,} {'records' if warm_up or end_warm_up else 'events'} sent to {log}")
    refusals = [letters.of(sent) for letters in dead_letters]
    for one, of_task in zip(cases, refusals, strict=True):
        path = case if len(cases) == 1 else f"{case}@{one.task.name}"
        for line in of_task.lines(path):
            say(line if len(cases) == 1 else f"{one.task.name}: {line}")
    if any(of_task.refused for of_task in refusals):
        raise typer.Exit(1)


def _require_sense(case: UseCase, *, close: bool, warm_up: bool, end_warm_up: bool) -> None:
    if close and case.clock == "wall":
        raise typer.BadParameter(f"--close: {case.name} is live (clock='wall'), its time moves on by itself")
    if warm_up and end_warm_up:
        raise typer.BadParameter("--end-warm-up sends no history: give it or --warm-up, not both")


def _send(producer: EventProducer, case: UseCase, events: Iterable[Event], *, close: bool) -> int:
    """Send the events, and a clock event after them if `close`; returns how many were sent."""
    from driftline.streams.simulation.sources import with_closing_clock

    count = 0
    for event in with_closing_clock(case, events) if close else events:
        producer.send(event)
        count += 1
    return count
