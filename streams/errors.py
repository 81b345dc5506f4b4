"""Errors of the streams package: each says what was wrong, where, and what to do."""

from driftline.errors import DeclarationError as DeclarationError
from driftline.errors import DriftlineError

REASON_BYTES = 4096
"""Bytes of a reason in a dead letter's header."""
REPORT_ONLY = frozenset({"ahead", "range"})
"""Stages of dead letters that report a record which was accepted."""
UPGRADE = "upgrade"
"""The stage of dead letters of requests that were refused before an upgrade, and would be answered now."""


class StreamsError(DriftlineError):
    """The base class of errors about events, Kafka, the fold and its state.

    >>> from driftline import NoBroker, Refused
    >>> issubclass(NoBroker, StreamsError), issubclass(Refused, StreamsError)
    (True, True)
    """


class Undescribable(StreamsError, DeclarationError):
    """A part of a declaration whose changes could not be detected, such as an open file or a lock.

    Make it within the function that needs it. It is also a declaration error:

    >>> issubclass(Undescribable, DeclarationError)
    True
    """


class Refused(StreamsError):
    """An input record that the fold refuses. It goes to the dead-letter topic.

    `stage` is the step that refused it (decode, key, time, late, features, label, ...; docs/dead-letters.md
    lists them), and `reason` says why. A stage of `REPORT_ONLY` is a report about a record that was accepted.

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
        """The headers of its dead letter."""
        reason = self.reason.encode("utf-8", "replace")[:REASON_BYTES]
        return ("stage", self.stage.encode()), ("reason", reason)


class FoldFault(StreamsError):
    """The fold failed at a record. This is a fault of driftline: faults of the data become dead letters.

    The state is incomplete, so the partition stops at this record until the code is fixed.

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
    """Kafka refuses this client: its security settings are not those that the broker demands.

    >>> issubclass(NotLetIn, StreamsError), issubclass(NotLetIn, NoBroker)
    (True, False)
    """


class NoBroker(StreamsError):
    """The address of Kafka is not known.

    Pass `bootstrap="host:port"`, set DRIFTLINE_BOOTSTRAP, or start the local stack with `driftline up`.

    >>> from driftline import EventProducer
    >>> from driftline.examples.flights import flights
    >>> EventProducer(flights)  # without DRIFTLINE_BOOTSTRAP, where no local Kafka runs
    Traceback (most recent call last):
        ...
    driftline.streams.errors.NoBroker: ...
    """


class OtherTask(StreamsError):
    """The published predictions are of another task than the one that is declared now.

    >>> raise OtherTask("flights.predictions answers 'late', and the case declares 'delay'")
    Traceback (most recent call last):
        ...
    driftline.streams.errors.OtherTask: flights.predictions answers 'late', and the case declares 'delay'
    """


class Unauthentic(StreamsError):
    """Bytes that were not sealed with this key under this label. They are never unpickled.

    >>> from driftline.streams.checkpoints.sealing import Seal
    >>> Seal(b"k" * 32).open(b"not sealed by this key" * 9, b"label")
    Traceback (most recent call last):
        ...
    driftline.streams.errors.Unauthentic: ...
    """


class UnusableKey(StreamsError):
    """A sealing key that is malformed, or whose file others than its owner can read.

    >>> from driftline.streams.checkpoints.sealing import Seal
    >>> Seal(b"too short")
    Traceback (most recent call last):
        ...
    driftline.streams.errors.UnusableKey: ...
    """


class NoCanonicalForm(StreamsError):
    """A value in a model's or the fold's state whose hash could differ in another process.

    >>> from driftline.streams.code.state_hash import state_hash
    >>> state_hash(lambda: None)
    Traceback (most recent call last):
        ...
    driftline.streams.errors.NoCanonicalForm: ...
    """
