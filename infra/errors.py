"""Errors of the infra package."""

from driftline.errors import DriftlineError


class InfraError(DriftlineError):
    """Something around us (broker, port, settings) is not as needed; the message says what to do."""
