"""Schemas of a case's topics: schema print, schema check."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from driftline.infra.cli.cases import path_of, selected_case, settings
from driftline.infra.cli.console import not_compared, print_json
from driftline.infra.cli.parameters import AsJson, Case


class _Group(TyperGroup):
    """`schema CASE` is `schema print CASE`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            args = ["print", *args]
        return super().resolve_command(ctx, args)


commands = typer.Typer(
    help="JSON Schema of a case's topics: `schema CASE` prints it.", cls=_Group, no_args_is_help=True
)


@commands.command("print")
def print_schemas(case: Case) -> None:
    """JSON Schema of every topic of a case."""
    from driftline.streams.clients.schema import topic_schemas

    print(json.dumps(topic_schemas(selected_case(case), settings().namespace), indent=2))


@commands.command()
def check(
    case: Case,
    against: Annotated[
        str,
        typer.Option("--against", metavar="OLD", help="What `schema CASE` printed, or another CASE"),
    ],
    as_json: AsJson = False,
) -> None:
    """Report breaking changes: events of the log that the case refuses, features that readers miss.

    Exit code 1 when something breaks; 2 when they cannot be compared.
    """
    from driftline.infra.topics.schema import broken

    try:
        breaks = broken(selected_case(case), against, path_of)
    except Exception as error:
        raise not_compared(error) from None
    if as_json:
        print_json(breaks)
    else:
        for line in breaks:
            print(line)
    if breaks:
        raise typer.Exit(1)
