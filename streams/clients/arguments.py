"""Checks the arguments of the clients of Kafka before anything is connected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driftline.declaration_check import check_argument, check_keywords
from driftline.streams.errors import DeclarationError


def check_client(
    client: str,
    arguments: Mapping[str, tuple[Any, Any]],
    settings: Mapping[str, Any],
    kafka: type,
    own: Mapping[str, str],
) -> None:
    """Check a client's arguments (name -> value, expected type) and the settings for Kafka's client. `own`
    are those of Kafka's settings that the client sets itself, with what to do instead. Raises
    DeclarationError for the first wrong one.
    """
    for name, (value, hint) in arguments.items():
        check_argument(value, hint, f"{client}: {name}", DeclarationError)
    for name in settings:
        if name in own:
            raise DeclarationError(f"{client} sets {name!r} itself: {own[name]}")
    known = {*arguments, *kafka.DEFAULT_CONFIG} - set(own)  # type: ignore[attr-defined]
    check_keywords(settings, sorted(known), client, DeclarationError)
