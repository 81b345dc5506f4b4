"""What would run a case: plan."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from driftline.infra.cli.cases import selected_case, settings
from driftline.infra.cli.console import print_json
from driftline.infra.cli.parameters import AsJson, Case, Partitions

if TYPE_CHECKING:
    from driftline.streams.declare.topics import Topics
    from driftline.streams.plan.stage import Plan

commands = typer.Typer()


@commands.command()
def plan(case: Case, partitions: Partitions = None, as_json: AsJson = False) -> None:
    """The stages that a case needs, and what each computes.

    Prints the topic, key and partitions of each.

    With --partitions, those of another number of partitions than the case's. Workers run one stage;
    `driftline simulate` folds several.
    """
    from driftline.streams.plan.planner import plan_of

    declared = selected_case(case)
    found = plan_of(declared, partitions)
    topics = declared.topics(settings().namespace)
    if as_json:
        print_json(_as_object(found, topics))
    else:
        print("\n".join(_lines(found, topics)))


def _as_object(plan: Plan, topics: Topics) -> dict[str, object]:
    stages = [asdict(stage) | {"topic": topics.of_stage(stage.topic)} for stage in plan.stages]
    return {
        "case": plan.case,
        "partitions": plan.partitions,
        "stages": stages,
        "entries": dict(plan.entries),
        "request_hops": plan.request_hops,
        "label_hops": plan.label_hops,
        "runs": plan.is_runnable,
        "verdict": plan.verdict,
    }


def _lines(plan: Plan, topics: Topics) -> list[str]:
    lines = []
    for number, stage in enumerate(plan.stages, 1):
        key = "no key" if stage.key is None else f"by {stage.key}"
        count = f"{stage.partitions} partition{'s' * (stage.partitions > 1)}"
        lines.append(f"{number}. {topics.of_stage(stage.topic)} ({key}, {count})")
        lines += [f"     {what}" for what in stage.computes]
    lines.append("")
    for tag, entry in plan.entries.items():
        lines.append(f"{tag}: {'to every partition' if entry is None else f'written by {entry}'}")
    lines.append(f"topics on the way: {plan.request_hops} of a request, {plan.label_hops} of a label")
    lines.append(plan.verdict)
    return lines
