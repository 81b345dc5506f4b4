"""The interface of every kind of stage; parts that a kind does not have are empty."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from driftline.features.state.online_view import RowKey, StampedRow
from driftline.features.state.windows.paged_table import PagedTables
from driftline.object_size import StateSize
from driftline.online_models.pool.pool import Pool
from driftline.streams.between.writers import Writers
from driftline.streams.fold.label_join import LabelTally
from driftline.streams.fold.learner_input import Staleness, Witness
from driftline.streams.fold.reference_spread import KnownReferences
from driftline.streams.records.outputs import Outputs
from driftline.streams.records.record import Record


class StageWork(ABC):
    """What one kind of stage does with its records."""

    @property
    @abstractmethod
    def offset(self) -> int:
        """The offset of the record at hand, -1 before the first."""

    @property
    @abstractmethod
    def watermark(self) -> float:
        """No output of the folded records is before it; `NEVER` while no time is known."""

    @property
    @abstractmethod
    def max_at(self) -> float | None:
        """Event time so far; None before there is one."""

    @abstractmethod
    def fold(self, records: Sequence[Record], out: Outputs) -> None:
        """Take records of the stage's topic in, and put out what they cause."""

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """What came of the records so far: those of `COUNT_NAMES` that this kind of stage knows."""

    @abstractmethod
    def state(self) -> Any:
        """Everything that later records depend on; nothing is copied."""

    @abstractmethod
    def restore(self, state: Any) -> None:
        """Continue from what `state` returned."""

    @property
    def open(self) -> int:
        """Predictions that wait for their label."""
        return 0

    @property
    def warming(self) -> bool:
        """Whether a warm-up is under way."""
        return False

    @property
    def window_keys(self) -> dict[str, int]:
        """How many keys the windows hold, by event and what they are by."""
        return {}

    @property
    def last_stranger(self) -> str:
        """The reason given for the last record in the wrong partition."""
        return ""

    @property
    def accepted(self) -> Mapping[str, int]:
        """Events of each type since this object was made."""
        return {}

    @property
    def labels(self) -> LabelTally:
        """What became of labels since this object was made."""
        return LabelTally()

    @property
    def staleness(self) -> Staleness | None:
        """Of the pool that answers, where replicas do."""
        return None

    def sizes(self) -> dict[str, StateSize]:
        """How many windows and predictions there are, and what each takes of memory."""
        return {}

    def every_row(self) -> Iterator[tuple[RowKey, StampedRow]]:
        """The online row of every key of the windows, as of now."""
        return iter(())

    def known_references(self) -> dict[str, KnownReferences]:
        """What is known of each kind of reference, by the kind's name."""
        return {}

    def pools(self) -> list[Pool]:
        """The pools of models, in order."""
        return []

    def pools_watched_by(self, witness: Witness | None) -> None:  # noqa: B027
        """From now on, report to a witness what the answers to requests do not show."""

    @property
    def paged(self) -> PagedTables:
        """Its windows that may be in pages."""
        return PagedTables()

    def segments(self) -> list[str]:
        """The files that a snapshot refers to."""
        return []


class LaterStage(StageWork):
    """A stage behind the log, whose time is that of the stages that write to it."""

    _writers: Writers

    @property
    def watermark(self) -> float:
        """The smallest watermark of the writers; `NEVER` until each has sent one."""
        return self._writers.watermark

    @property
    def warming(self) -> bool:
        """Whether a warm-up is under way in a stage that writes to this one."""
        return self._writers.warming

    @property
    def max_at(self) -> float | None:
        """The time that all writers have come to."""
        return self._writers.max_at
