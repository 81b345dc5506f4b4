"""What would run a case: plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from driftline.infra.cli.cases import selected_cases, settings
from driftline.infra.cli.console import print_json
from driftline.infra.cli.parameters import AsJson, Case, Partitions

if TYPE_CHECKING:
    from driftline.object_size import StateSize
    from driftline.streams.declare.plan import Plan, Stage

commands = typer.Typer()


@commands.command()
def plan(
    case: Case,
    partitions: Partitions = None,
    measure: Annotated[
        int, typer.Option(min=0, help="Fold so many events of the case's source, and measure their state")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """The stages that a case needs, and what each computes.

    Prints the topic, key and partitions of each stage, for each task if there are several. --partitions plans
    for another number of partitions than the case's. --measure adds what a key takes with its window, and
    a prediction that waits: in memory, and on disk where the worker's `memory` is limited.
    """
    from driftline.streams.owner.deployment import code_of
    from driftline.streams.simulation.state_sizes import measured_sizes

    objects: dict[str, dict[str, object]] = {}
    lines: list[str] = []
    for declared in selected_cases(case, partitions):
        topics, code = declared.topics(settings().namespace), code_of(declared).short
        found = [(stage, topics.of_stage(stage.topic, code)) for stage in declared.plan.stages]
        sizes = measured_sizes(declared, measure) if measure else {}
        sized = {name: _size_of(size) for name, size in sizes.items()}
        objects[declared.task.name] = _as_object(declared.plan, found) | {"sizes": sized}
        lines += [f"task {declared.task.name}, answers in {topics.predictions}:"]
        lines += _lines(declared.plan, found)
        lines += [_size_line(name, size) for name, size in sizes.items() if size.held]
        lines.append("")
    if as_json:
        print_json(objects if len(objects) > 1 else next(iter(objects.values())))
    else:
        # one task is what the case is about, and goes without saying
        print("\n".join(lines[:-1] if len(objects) > 1 else lines[1:-1]))


def _size_of(size: StateSize) -> dict[str, float]:
    return {"count": size.held, "bytes_each": size.bytes_each, "disk_bytes_each": size.disk_bytes_each}


def _size_line(name: str, size: StateSize) -> str:
    on_disk = f", {size.disk_bytes_each:,.0f} on disk" if size.disk_bytes_each else ""
    return f"{size.bytes_each:,.0f} bytes{on_disk}: {name} ({size.held:,})"


def _as_object(plan: Plan, found: Sequence[tuple[Stage, str]]) -> dict[str, object]:
    stages = [asdict(stage) | {"topic": topic} for stage, topic in found]
    return {
        "case": plan.case,
        "partitions": plan.partitions,
        "stages": stages,
        "entries": dict(plan.entries),
        "request_hops": plan.request_hops,
        "label_hops": plan.label_hops,
    }


def _lines(plan: Plan, found: Sequence[tuple[Stage, str]]) -> list[str]:
    lines = []
    for number, (stage, topic) in enumerate(found, 1):
        key = "no key" if stage.key is None else f"by {stage.key}"
        count = f"{stage.partitions} partition{'s' * (stage.partitions > 1)}"
        lines.append(f"{number}. {topic} ({key}, {count})")
        lines += [f"     {what}" for what in stage.computes]
    lines.append("")
    for tag, entry in plan.entries.items():
        lines.append(f"{tag}: {'to every partition' if entry is None else f'written by {entry}'}")
    lines.append(f"topics on the way: {plan.request_hops} of a request, {plan.label_hops} of a label")
    return lines
