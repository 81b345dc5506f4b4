"""The newest records of a case's topics: predictions tail, outcomes tail and so on."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from driftline.infra.cli.cases import selected_case, settings
from driftline.infra.cli.console import print_json
from driftline.infra.cli.parameters import AsJson, Case, TopicKind

READ_ONLY = [
    kind for kind in TopicKind if kind not in (TopicKind.LOG, TopicKind.MODELS, TopicKind.DEAD_LETTERS)
]
"""Topics whose group of commands has `tail` only; for the log there is `replay`."""


def group(kind: TopicKind, summary: str | None = None) -> typer.Typer:
    """The group of commands of a topic, with `tail` in it; `summary` is its help."""
    commands = typer.Typer(help=summary or f"The {kind.value} topic.", no_args_is_help=True)

    @commands.callback()
    def of() -> None: ...  # makes it a group although it has one command

    @commands.command()
    def tail(
        case: Case,
        max_records: Annotated[int, typer.Option("--max", min=1, help="How many of the newest")] = 10,
        as_json: AsJson = False,
    ) -> None:
        """The newest records."""
        from driftline.infra.local.bootstrap import bootstrap_of
        from driftline.infra.topics.tail import newest_records

        now = settings()
        topics = selected_case(case).topics(now.namespace)
        records = newest_records(bootstrap_of(now), kind.of(topics), max_records)
        if as_json:
            print_json(records)
        else:
            for record in records:
                print(json.dumps(record))

    return commands
