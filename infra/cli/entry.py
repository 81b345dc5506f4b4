"""The application: its commands in the order of its help, and what an error or Ctrl-C ends with."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from driftline.infra.cli import (
    config,
    data,
    evaluate,
    features,
    gateway,
    local,
    proof,
    service,
    simulate,
    status,
)
from driftline.infra.cli.cases import settings
from driftline.infra.cli.console import explains_itself, say
from driftline.infra.cli.topics import acl, dead_letters, models, plan, produce, schema, tail
from driftline.logs import leave_out_chatter

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C has ended."""

app = typer.Typer(
    name="driftline",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"driftline {version('driftline')}")
        raise typer.Exit


@app.callback()
def driftline(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version", callback=_print_version, is_eager=True)
    ] = False,
    flags: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting, before those of other places"),
    ] = None,
) -> None:
    """Online machine learning on event streams: Kafka in, Feast features, River models, predictions out."""
    if flags:
        from driftline.setting_sources import set_by_flags

        set_by_flags(flags)


for module in (local, status, service, produce, simulate, evaluate, plan, proof, acl):
    app.add_typer(module.commands)
app.add_typer(features.commands, name="features")
app.add_typer(data.commands, name="data")
app.add_typer(gateway.commands, name="gateway")
app.add_typer(schema.commands, name="schema")
app.add_typer(models.commands, name="models")
app.add_typer(dead_letters.commands, name="dead-letters")
app.add_typer(config.commands, name="config")
for kind in tail.READ_ONLY:
    app.add_typer(tail.group(kind), name=kind.value)


def main() -> None:
    """Entry point; an error whose message says enough is one line and exit code 1, without a traceback."""
    from driftline.streams.code.hash_seed import pin

    pin()
    leave_out_chatter()
    try:
        app()
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            from driftline.infra.local.interruption import still_running

            for line in still_running(settings()):
                say(line)
        raise
    except Exception as error:
        if not explains_itself(error):
            raise
        say(f"driftline: {error}")
        sys.exit(1)
