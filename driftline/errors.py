"""The root of every error that driftline raises. Each package below has a branch of its own.

This module and `driftline.declared` import nothing of driftline, so that every layer may use them.
"""


class DriftlineError(Exception):
    """What driftline refuses or cannot do; the message says what was wrong, where, and what to do."""


class DeclarationError(DriftlineError):
    """A declaration that cannot be run as it is."""
