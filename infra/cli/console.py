"""What commands print, and how they end: results on standard output, messages on standard error."""

from __future__ import annotations

import json
import sys
from typing import Any, Protocol

import typer


class CommandResult(Protocol):
    """A result with a text for people (`str`), one for programs, and an exit code."""

    @property
    def exit_code(self) -> int: ...

    def as_json(self) -> str: ...


def say(text: str) -> None:
    """Print a message on standard error."""
    print(text, file=sys.stderr)


def print_json(value: Any) -> None:
    """Print a value as one JSON object on standard output."""
    print(json.dumps(value, default=str))


def end_with(report: CommandResult, as_json: bool) -> None:
    """Print a report and end with its exit code."""
    print(report.as_json() if as_json else report)
    raise typer.Exit(report.exit_code)


def not_compared(error: Exception) -> typer.Exit:
    """Exit code 2, so that 1 means a difference and nothing else; raises `error` itself if it is a bug."""
    if not explains_itself(error):
        raise error
    say(f"driftline: {error}")
    return typer.Exit(2)


def explains_itself(error: Exception) -> bool:
    """Whether the message says enough without a traceback: our own errors, a broker out of reach, a missing
    right."""
    from driftline.errors import DriftlineError

    if isinstance(error, DriftlineError):
        return True
    if "kafka" not in sys.modules:
        return False
    from kafka.errors import (
        GroupAuthorizationFailedError,
        KafkaConnectionError,
        KafkaTimeoutError,
        RequestTimedOutError,
        TopicAuthorizationFailedError,
    )

    refused = (GroupAuthorizationFailedError, TopicAuthorizationFailedError)
    away = (KafkaConnectionError, KafkaTimeoutError, RequestTimedOutError)
    return isinstance(error, away + refused)
