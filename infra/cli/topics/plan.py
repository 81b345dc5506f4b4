"""What would run a case: plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import typer

from driftline.infra.cli.cases import selected_case, settings
from driftline.infra.cli.console import print_json
from driftline.infra.cli.parameters import AsJson, Case, Partitions

if TYPE_CHECKING:
    from driftline.streams.declare.plan import Plan, Stage

commands = typer.Typer()


@commands.command()
def plan(case: Case, partitions: Partitions = None, as_json: AsJson = False) -> None:
    """The stages that a case needs, and what each computes.

    Prints the topic, key and partitions of each.

    With --partitions, those of another number of partitions than the case's.
    """
    from driftline.streams.owner.deployment import code_of

    declared = selected_case(case)
    if partitions is not None:
        declared = replace(declared, partitions=partitions)
    topics, code = declared.topics(settings().namespace), code_of(declared).short
    found = [(stage, topics.of_stage(stage.topic, code)) for stage in declared.plan.stages]
    if as_json:
        print_json(_as_object(declared.plan, found))
    else:
        print("\n".join(_lines(declared.plan, found)))


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
