"""The commands `driftline config`: what the settings are."""

from __future__ import annotations

import typer

from driftline.infra.cli.console import print_json, say
from driftline.infra.cli.parameters import AsJson

commands = typer.Typer(help="The settings: their values, and where each comes from.", no_args_is_help=True)


@commands.callback()
def _group() -> None:
    """Settings of this folder and environment."""


@commands.command()
def show(as_json: AsJson = False) -> None:
    """Print every setting and where it comes from; what may be secret is masked.

    Flags (`driftline --set NAME=VALUE`) come before the environment (DRIFTLINE_NAME), that before
    ./driftline.toml, that before [tool.driftline] of ./pyproject.toml.
    """
    from dataclasses import asdict

    from driftline.setting_sources import explained, unknown_variables

    known, unknown = explained(), unknown_variables()
    if as_json:
        print_json({"settings": [asdict(one) for one in known], "unknown_variables": unknown})
        return
    width = max(len(one.name) for one in known)
    for one in known:
        print(f"{one.name:{width}}  {'-' if one.value is None else one.value or repr('')}  ({one.source})")
    for variable in unknown:
        say(f"{variable} is no setting: it has no effect")
