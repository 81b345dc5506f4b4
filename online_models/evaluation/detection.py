"""How well a detector finds known changes: MTFA, MTD, MDR and MTR.

Bifet 2017, Classifier concept drift detection and the illusion of progress: a detector that fires always, or
every few labels, can make a classifier look good; the four figures tell it from one that detects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from driftline.online_models.evaluation.stream import KnownChange


@dataclass(frozen=True, slots=True)
class Detection:
    """Scores of one detector.

    `mtfa` is the mean number of labels between false alarms, None when there was none (`labels` is then a
    lower bound); `mtd` the mean number of labels from the start of a change to its first alarm, the first
    label of the change being 1, None when none was detected; `mdr` the share of changes missed; and
    `mtr` = mtfa / mtd x (1 - mdr), with `labels` for mtfa when there was no false alarm; 0 when nothing was
    found.
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
    """Score `alarms` (numbers of labels) against the changes of a stream of so many labels.

    The first alarm from a change's start until `horizon` labels after its end, or until the next change,
    detects it. Further ones in that time are neither right nor false: the change is still going on, or a
    detector may report it again. Any other alarm is false.

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
    quiet = labels - covered  # only where there is nothing to find can an alarm be false
    mtfa = quiet / false if false else None
    mtd = sum(delays) / len(delays) if delays else None
    mdr = 1.0 - len(delays) / len(changes) if changes else 0.0
    mtr = (labels if mtfa is None else mtfa) / mtd * (1.0 - mdr) if mtd else 0.0
    return Detection(len(alarms), false, labels, mtfa, mtd, mdr, mtr)


class Always:
    """The dummy that fires at every label: it misses nothing and says nothing."""

    drift_detected = True

    def update(self, error: float) -> None:
        """Nothing to do."""


class Never:
    """The dummy that never fires: no false alarm, and no other."""

    drift_detected = False

    def update(self, error: float) -> None:
        """Nothing to do."""


def detectors() -> Mapping[str, Callable[[], Any]]:
    """River's detectors on a stream of errors, and the two dummies."""
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
    """Numbers of the errors at which the detector fired."""
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
