"""The local Kafka and the demo: up, down, demo."""

from __future__ import annotations

from typing import Annotated

import typer

from driftline.infra.cli.cases import DEMO_CASE, path_of, selected_case, settings
from driftline.infra.cli.console import print_json, say
from driftline.infra.cli.parameters import AsJson, Limit, Partitions

commands = typer.Typer()


@commands.command()
def up(
    port: Annotated[int | None, typer.Option(help="Port of the broker (default: a free one)")] = None,
    secure: Annotated[
        bool, typer.Option("--secure", help="With TLS, a user for each role, and nothing allowed yet")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start the local Kafka, unless it runs already.

    A secured one has a file for each user, with the variables of its credentials. `driftline acl CASE --role
    ROLE --apply`, as admin, gives a role its rights.
    """
    from driftline.infra.local.kafka import LocalStack

    stack = LocalStack(settings().home, port)
    broker = stack.up(secure=secure)
    users = stack.users
    if as_json:
        print_json({"bootstrap": broker.bootstrap, "pid": broker.pid} | ({"users": users} if users else {}))
        return
    say(f"Kafka answers at {broker.bootstrap} (process {broker.pid})")
    if users:
        say(f"as admin: set -a; . {users['admin']}; set +a; and so as {', '.join(list(users)[1:])}")


@commands.command()
def down(
    wipe: Annotated[bool, typer.Option("--wipe", help="Remove its data and the checkpoints too")] = False,
) -> None:
    """Stop the local Kafka; its data stays."""
    import shutil

    from driftline.infra.local.kafka import LocalStack

    home = settings().home
    stopped = LocalStack(home).down(wipe=wipe)
    if wipe:  # they belong to the deleted topics
        shutil.rmtree(home / "checkpoints", ignore_errors=True)
    say(("Kafka stopped" if stopped else "no Kafka was running") + (", data removed" if wipe else ""))


@commands.command()
def demo(
    case: Annotated[str, typer.Argument(help="The case to show")] = DEMO_CASE,
    limit: Limit = None,
    partitions: Partitions = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete what the case's log on the local Kafka holds")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Kafka, Feast, a worker, a year of flights and a report."""
    from driftline.infra.demo.demo_run import show_case

    selected_case(case, partitions)  # tells what is wrong before anything is begun
    result = show_case(path_of(case), settings(), limit=limit, partitions=partitions, fresh=fresh)
    if as_json:
        print_json(result)
