"""Commands of the HTTP gateway: gateway serve, gateway key."""

from __future__ import annotations

from typing import Annotated

import typer

from driftline.infra.cli.cases import selected_cases, settings
from driftline.infra.cli.console import print_json, say
from driftline.infra.cli.parameters import AsJson, MetricsAddress, listening

commands = typer.Typer(help="The HTTP gateway in front of cases.", no_args_is_help=True)


@commands.command()
def serve(
    cases: Annotated[list[str], typer.Argument(help="module:attribute of each case, or its short name")],
    host: Annotated[str, typer.Option("--host", help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="Port to listen on")] = 8080,
    most_requests: Annotated[
        int, typer.Option("--max-requests", min=1, help="Requests that are answered at once; more get 429")
    ] = 1_000,
    most_bytes: Annotated[
        int, typer.Option("--max-body", min=1, help="Bytes of a body; a larger one gets 413")
    ] = 1 << 20,
    most_streams: Annotated[
        int, typer.Option("--max-streams", min=0, help="Event streams that are open at once; more get 429")
    ] = 100,
    metrics: MetricsAddress = None,
) -> None:
    """Serve cases over HTTP until SIGTERM; /docs describes every route.

    Every request needs a key: `driftline gateway key`. Any number of gateways can serve the same cases.
    """
    from driftline.infra.gateway.middleware import Limits
    from driftline.infra.gateway.serve import run_gateway

    limits = Limits(most_requests, most_bytes, most_streams)
    run_gateway(
        [one for case in cases for one in selected_cases(case)],
        settings(),
        host,
        port,
        limits,
        listening(metrics),
    )


@commands.command()
def key(
    name: Annotated[str, typer.Argument(help="What the key is called: a service, a person")],
    scopes: Annotated[
        list[str],
        typer.Option("--scope", help="produce, read, read:values or operate; may be given several times"),
    ],
    as_json: AsJson = False,
) -> None:
    """Make a key, and print it: only its hash is kept. Gateways that run know it at once."""
    from driftline.infra.gateway.serve import keys_of

    keys = keys_of(settings())
    secret = keys.add(name, scopes)
    if as_json:
        print_json({"name": name, "key": secret, "scopes": scopes})
    else:
        print(secret)
    say(f"its hash is in {keys.path}: take it out there, and the key is worth nothing")
