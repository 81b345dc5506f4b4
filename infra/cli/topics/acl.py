"""The command `driftline acl`: what each role has to be allowed on a secured Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from driftline.infra.cli.cases import selected_case, settings
from driftline.infra.cli.console import print_json, say
from driftline.infra.cli.parameters import AsJson, Case
from driftline.streams.connection.roles import Role

if TYPE_CHECKING:
    from driftline.infra.topics.rights import Right

commands = typer.Typer()


@commands.command()
def acl(
    case: Case,
    role: Annotated[Role, typer.Option("--role", help="Who is to be allowed what it needs")],
    principal: Annotated[
        str | None, typer.Option("--principal", help="Kafka's name for it (default: User:ROLE)")
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", help="The consumer's group, where it commits in one")
    ] = None,
    bridge: Annotated[str | None, typer.Option("--bridge", help="Name of the bridge")] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Allow it now, as the user that the settings name")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the least rights of a role for a case.

    They are calls of kafka-acls, or JSON.

    Only the worker may write predictions and the fold's other outputs.
    """
    from driftline.infra.local.bootstrap import bootstrap_of
    from driftline.infra.topics.rights import acl_commands as calls
    from driftline.infra.topics.rights import rights

    if (role is Role.BRIDGE) != (bridge is not None):
        raise typer.BadParameter("--role bridge and --bridge NAME go together")
    if group is not None and role is not Role.CONSUMER:
        raise typer.BadParameter("--group is the consumer's")
    now = settings()
    name = principal or f"User:{role}"
    found = rights(role, selected_case(case).topics(now.namespace), group=group, bridge=bridge)
    if apply:
        from driftline.infra.topics.acls import allow

        allow(bootstrap_of(now), name, found)
        say(f"{name} has {len(found)} rights")
    elif as_json:
        print_json([_as_json(one, name) for one in found])
    else:
        print("\n".join(calls(found, name, now.bootstrap or "BOOTSTRAP")))


def _as_json(right: Right, principal: str) -> dict[str, str]:
    return {
        "principal": principal,
        "host": "*",
        "resource_type": right.resource_type,
        "pattern_type": right.pattern_type,
        "name": right.name,
        "operation": right.operation,
        "permission": "Allow",
    }
