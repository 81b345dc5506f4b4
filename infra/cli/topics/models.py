"""The models topic, and commands of an operator to the models of a case: models list, promote and so on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from driftline.infra.cli.cases import selected_case, settings
from driftline.infra.cli.console import print_json, say
from driftline.infra.cli.parameters import AsJson, Case, TopicKind
from driftline.infra.cli.topics.tail import group

KeyFile = Annotated[Path, typer.Option("--key", help="File with the operator's private key")]
Operator = Annotated[str, typer.Option("--operator", help="Name that the case declares the public key under")]
PoolOption = Annotated[str, typer.Option("--pool", help="Key of the pool meant; without it, every pool")]
Printed = Annotated[
    bool,
    typer.Option("--print", help="Print the signed command as JSON, for a gateway to relay; send nothing"),
]
MemberName = Annotated[str, typer.Argument(help="Name of the member")]

commands = group(TopicKind.MODELS, "The models topic, and commands to the models of a case.")


@commands.command()
def key(
    path: Annotated[Path, typer.Argument(help="File for the private key; it must not exist")],
    as_json: AsJson = False,
) -> None:
    """Make an operator's key pair: the private key goes to a file, the public one is for the declaration."""
    from driftline.infra.topics.operator import make_key

    public = make_key(path)
    if as_json:
        print_json({"public_key": public})
    else:
        print(public)


@commands.command("list")
def list_models(case: Case, as_json: AsJson = False) -> None:
    """The declared members, and what every pool serves according to the models topic."""
    from driftline.infra.local.bootstrap import bootstrap_of
    from driftline.infra.topics.operator import members, serving

    now, declared = settings(), selected_case(case)
    pools = serving(bootstrap_of(now), declared.topics(now.namespace).models)
    if as_json:
        print_json({"members": members(declared), "serving": pools})
        return
    for member in members(declared):
        named = ("name", "role", "kind")
        print("\t".join(str(said) if key in named else f"{key} {said}" for key, said in member.items()))
    for pool, change in pools.items():
        print(
            f"{pool or 'the only pool'}: {change['serving']} "
            f"({change['kind']} {change['member']}, {change['at']})"
        )


def _send(case: str, operator: str, key: Path, printed: bool, **said: Any) -> None:
    from driftline.infra.local.bootstrap import bootstrap_of
    from driftline.infra.topics.operator import send_command, signed_command

    now, declared = settings(), selected_case(case)
    command = signed_command(declared, operator, key, **said)
    if printed:
        print(msgspec.json.encode(command).decode())
        return
    send_command(declared, bootstrap_of(now), now.namespace, command)
    say(f"sent {command.action} as {command.id}: `driftline models tail {case}` shows its effect")


def _member_command(action: str, summary: str) -> None:
    @commands.command(action, help=summary)
    def command(
        case: Case,
        member: MemberName,
        operator: Operator,
        key: KeyFile,
        pool: PoolOption = "",
        printed: Printed = False,
    ) -> None:
        _send(case, operator, key, printed, action=action, member=member, pool=pool)


def _pool_command(action: str, summary: str) -> None:
    @commands.command(action, help=summary)
    def command(
        case: Case, operator: Operator, key: KeyFile, pool: PoolOption = "", printed: Printed = False
    ) -> None:
        _send(case, operator, key, printed, action=action, pool=pool)


_member_command("promote", "Let a member serve.")
_member_command("add", "Start a member that is in reserve, removed or in quarantine.")
_member_command("remove", "Stop a challenger.")
_pool_command("rollback", "Undo the last promotion.")
_pool_command("freeze", "Stop promotions by evidence.")
_pool_command("unfreeze", "Allow promotions by evidence again.")


@commands.command()
def budget(
    case: Case,
    operator: Operator,
    key: KeyFile,
    budget: Annotated[float | None, typer.Argument(help="Without it there is no bound")] = None,
    pool: PoolOption = "",
    printed: Printed = False,
) -> None:
    """Bound the cost of the members that do not serve."""
    _send(case, operator, key, printed, action="budget", budget=budget, pool=pool)
