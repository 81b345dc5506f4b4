"""Errors of the infra package."""


class InfraError(Exception):
    """Something around us (broker, port, settings) is not as needed; the message says what to do."""
