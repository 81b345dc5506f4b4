"""Measures of how well a detector finds known changes: MTFA, MTD, MDR and MTR.

Bifet 2017, Classifier concept drift detection and the illusion of progress: a detector that fires always, or
every few labels, can make a classifier look good. The four measures distinguish it from a real detector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from driftline.online_models.evaluation.stream import KnownChange


@dataclass(frozen=True, slots=True)
class Detection:
    """Scores of one detector.

    - `mtfa`: the mean number of labels between false alarms; None without any (`labels` is then a lower
      bound).
    - `mtd`: the mean number of labels from the start of a change to its first alarm, where the first label of
      the change counts 1; None if no change was detected.
    - `mdr`: the share of changes that were missed.
    - `mtr`: mtfa / mtd x (1 - mdr), with `labels` for mtfa if there was no false alarm; 0 if no change was
      detected.
    """

    alarms: int
    false_alarms: int
    labels: int
    mtfa: float | None
    mtd: float | None
    mdr: float
    mtr: float


def score(
    alarms: Sequence[int], changes: Sequence[KnownChange], labels: int, horizon: int = 2_000
) -> Detection:
    """Score `alarms`, given as numbers of labels, against the changes of a stream of `labels` labels.

    A change is detected by the first alarm from its start until `horizon` labels after its end, or until the
    next change. Further alarms in that time do not count: the change may continue, or the detector may report
    it again. Any other alarm is false.

    >>> change = KnownChange("abrupt", 100, 100)
    >>> score([50, 110], [change], 200).mtd
    11.0
    >>> score(range(200), [change], 200, horizon=50).mtr, score([], [change], 200).mtr
    (1.0, 0.0)
    """
    starts = [change.start for change in changes] + [labels]
    delays: list[int] = []
    covered = 0
    within = 0
    for index, change in enumerate(changes):
        end = min(change.end + horizon, starts[index + 1], labels)
        detections = [alarm for alarm in alarms if change.start <= alarm < end]
        covered += end - change.start
        within += len(detections)
        if detections:
            delays.append(detections[0] - change.start + 1)
    false = len(alarms) - within
    quiet = labels - covered  # alarms can only be false where there is no change to detect
    mtfa = quiet / false if false else None
    mtd = sum(delays) / len(delays) if delays else None
    mdr = 1.0 - len(delays) / len(changes) if changes else 0.0
    mtr = (labels if mtfa is None else mtfa) / mtd * (1.0 - mdr) if mtd else 0.0
    return Detection(len(alarms), false, labels, mtfa, mtd, mdr, mtr)


class Always:
    """A dummy detector that fires at every label."""

    drift_detected = True

    def update(self, error: float) -> None:
        """Do nothing."""


class Never:
    """A dummy detector that never fires."""

    drift_detected = False

    def update(self, error: float) -> None:
        """Do nothing."""


def detectors() -> Mapping[str, Callable[[], Any]]:
    """River's detectors for a stream of errors, and the two dummies, by name."""
    from river import drift

    return {
        "ADWIN": drift.ADWIN,
        "ADWIN 1e-5": lambda: drift.ADWIN(delta=1e-5),
        "HDDM_A": drift.binary.HDDMA,
        "HDDM_W": drift.binary.HDDMW,
        "Page-Hinkley": drift.PageHinkley,
        "DDM": drift.binary.DDM,
        "always": Always,
        "never": Never,
    }


def alarms_of(detector: Any, errors: Sequence[float]) -> list[int]:
    """The numbers of the errors at which the detector fired."""
    alarms = []
    for number, error in enumerate(errors):
        detector.update(error)
        if detector.drift_detected:
            alarms.append(number)
    return alarms


def compare(
    errors: Sequence[float], changes: Sequence[KnownChange], horizon: int = 2_000
) -> dict[str, Detection]:
    """Every detector's score on the same errors (0 or 1)."""
    return {
        name: score(alarms_of(make(), errors), changes, len(errors), horizon)
        for name, make in detectors().items()
    }
