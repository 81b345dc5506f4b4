"""Errors of the streams package: each says what was wrong, where, and what to do."""


class StreamsError(Exception):
    """Root of the package's errors."""


class DeclarationError(StreamsError):
    """A use case that cannot be run as it is declared."""


class Refused(StreamsError):
    """One input record that does not enter the fold; it goes to the dead-letter topic.

    `stage` names where it was refused (decode, key, time, late, features, label, ...).
    """

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.reason = reason
