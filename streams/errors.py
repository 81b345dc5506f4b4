"""Errors of the streams package: each says what was wrong, where, and what to do."""

from driftline.errors import DeclarationError as DeclarationError
from driftline.errors import DriftlineError

REASON_BYTES = 4096
"""Bytes of a reason in a dead letter's header."""
REPORT_ONLY = frozenset({"ahead", "range"})
"""Stages of dead letters that report a record which was accepted."""


class StreamsError(DriftlineError):
    """Root of the package's errors.

    >>> from driftline import NoBroker, Refused
    >>> issubclass(NoBroker, StreamsError), issubclass(Refused, StreamsError)
    (True, True)
    """


class Undescribable(StreamsError, DeclarationError):
    """A part of a declaration of which nobody could say whether it is the same in another process.

    It is refused when a case is declared, and so is a declaration error too:

    >>> issubclass(Undescribable, DeclarationError)
    True
    """


class Refused(StreamsError):
    """One input record that does not enter the fold; it goes to the dead-letter topic.

    `stage` names where it was refused (decode, key, time, late, features, label, ...), or for one of
    `REPORT_ONLY` what is to be told of a record that was accepted.

    >>> refused = Refused("decode", "the value is no JSON")
    >>> refused.stage, str(refused)
    ('decode', 'decode: the value is no JSON')
    """

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.reason = reason

    @property
    def headers(self) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
        """What tells of it in a dead letter."""
        reason = self.reason.encode("utf-8", "replace")[:REASON_BYTES]
        return ("stage", self.stage.encode()), ("reason", reason)


class FoldFault(StreamsError):
    """The fold itself failed at a record: a fault of driftline, as one of the data would be a dead letter.

    The state is not whole any more. The partition cannot go on until the code is mended.

    >>> fault = FoldFault(0, 17, "IndexError")
    >>> fault.partition, fault.offset
    (0, 17)
    """

    def __init__(self, partition: int, offset: int, reason: str) -> None:
        super().__init__(
            f"partition {partition}, offset {offset}: the fold failed with {reason}. This is a fault of "
            "driftline; the record is not lost: the partition goes on from it once the fault is mended"
        )
        self.partition = partition
        self.offset = offset


class NotLetIn(StreamsError):
    """Kafka is there and refuses this client: its settings are not those that the broker asks for.

    >>> issubclass(NotLetIn, StreamsError), issubclass(NotLetIn, NoBroker)
    (True, False)
    """


class NoBroker(StreamsError):
    """Nobody said where Kafka is.

    >>> from driftline import EventProducer
    >>> from driftline.examples.flights import flights
    >>> EventProducer(flights)  # without DRIFTLINE_BOOTSTRAP, where no local Kafka runs
    Traceback (most recent call last):
        ...
    driftline.streams.errors.NoBroker: ...
    """


class OtherTask(StreamsError):
    """What was published answers another task than the one declared now.

    >>> raise OtherTask("flights.predictions answers 'late', and the case declares 'delay'")
    Traceback (most recent call last):
        ...
    driftline.streams.errors.OtherTask: flights.predictions answers 'late', and the case declares 'delay'
    """


class Unauthentic(StreamsError):
    """Sealed bytes that are not what this key sealed under this label: never to be unpickled.

    >>> from driftline.streams.checkpoints.sealing import Seal
    >>> Seal(b"k" * 32).open(b"not sealed by this key" * 9, b"label")
    Traceback (most recent call last):
        ...
    driftline.streams.errors.Unauthentic: ...
    """


class UnusableKey(StreamsError):
    """A sealing key that is malformed, or that others than its owner can read.

    >>> from driftline.streams.checkpoints.sealing import Seal
    >>> Seal(b"too short")
    Traceback (most recent call last):
        ...
    driftline.streams.errors.UnusableKey: ...
    """


class NoCanonicalForm(StreamsError):
    """A value in the state whose hash would not be the same in another process.

    >>> from driftline.streams.code.state_hash import state_hash
    >>> state_hash(lambda: None)
    Traceback (most recent call last):
        ...
    driftline.streams.errors.NoCanonicalForm: ...
    """
