"""Reactions to drift: estimators that wrap any River estimator and change it when its errors rise.

Each one watches the errors of the model it wraps, measured by asking it again just before it learns
(as River's own wrappers do; behind a label delay that is a later model than the one that answered). An
error is 0 or 1 for a class; for a number e it is |e| / (|e| + the labels' standard deviation), which has no
unit and stays below 1. Only a rise counts as a drift: a model that gets better is left alone.

They are River estimators, so they nest (`Boosted(Recurring(tree))`, each with detectors of its own), go
into pipelines and ensembles, and are what `Member` takes. `model` is what every fresh model is a copy of; it
is never learned from. Memory is that of the model times the number of models held, which each bounds.

No reaction wins everywhere: on concepts that come back a reset throws away what will be needed again, after
a change of the rule itself the old model is a burden. So they belong into one pool, to compete there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from river import base, drift

from driftline.declaration_check import AT_LEAST_0, AT_LEAST_1, Bounds, check_argument, shown
from driftline.online_models.errors import ModelDeclarationError
from driftline.online_models.members.member import accepts_weight, copied

Signal = Literal["none", "warning", "drift"]

RECENT_WEIGHT = 0.02
"""Weight of the newest error in the recent mean, which tells a rise from a fall: about 50 labels."""
JUDGED = 0.01
"""Weight of the newest error where models are compared: about 100 labels."""
_COUNT = Annotated[int, AT_LEAST_1]
_CONTEST = {
    "kept": Annotated[int, AT_LEAST_0], "least": _COUNT, "patience": _COUNT,
    "margin": Annotated[float, Bounds(-1, 1)],
}  # fmt: skip
_BOOST = {"boost": Annotated[float, AT_LEAST_1], "labels": _COUNT}


class ErrorAlarm:
    """Detectors on one stream of errors in [0, 1]: a rise is a warning, then a drift.

    `detector` is ADWIN(delta=0.001) when None. A detector with a warning zone of its own (DDM, HDDM) gives
    warnings itself; for any other, such as ADWIN, `warning` is the laxer one beside it.
    """

    def __init__(self, detector: Any, warning: Any) -> None:
        self.detector = copied(drift.ADWIN(delta=0.001) if detector is None else detector, "detector")
        self.warning = copied(warning, "warning")
        self._n = 0
        self._mean = 0.0
        self._recent = 0.0

    def update(self, error: float) -> Signal:
        """Add one error; what it reveals."""
        self._n += 1
        self._mean += (error - self._mean) / self._n
        self._recent += (error - self._recent) * max(RECENT_WEIGHT, 1.0 / self._n)
        self.detector.update(error)
        warned = getattr(self.detector, "warning_detected", False)
        if self.warning is not None:
            self.warning.update(error)
            warned = warned or self.warning.drift_detected
        if self._recent <= self._mean:
            return "none"
        if self.detector.drift_detected:
            return "drift"
        return "warning" if warned else "none"


class Errors:
    """Fading mean of a model's errors, the newest with weight `JUDGED`."""

    __slots__ = ("mean", "n")

    def __init__(self) -> None:
        self.n = 0
        self.mean = 0.0

    def update(self, error: float) -> None:
        """Add one error."""
        self.n += 1
        self.mean += (error - self.mean) * max(JUDGED, 1.0 / self.n)


class _Reaction(base.Wrapper, base.Estimator):  # type: ignore[misc]
    """What every reaction is made of: the model given, the live copy of it, and the alarm."""

    def __init__(self, model: Any, detector: Any) -> None:
        self._check_parts(model, detector)
        self.model = model
        self.detector = detector
        self._live = copied(model, type(self).__name__)
        self._alarm = self._new_alarm()
        self._is_number = isinstance(model, base.Regressor)
        self._labels = 0
        self._label_mean = 0.0
        self._label_squares = 0.0

    @property
    def _wrapped_model(self) -> Any:
        return self.model

    @property
    def _last_step(self) -> Any:
        """River asks this what kind of estimator a wrapper is: a classifier around a classifier."""
        return self.model

    def predict_one(self, x: dict[Any, Any], **kwargs: Any) -> Any:
        """What the live model says."""
        return self._live.predict_one(x, **kwargs)

    def predict_proba_one(self, x: dict[Any, Any], **kwargs: Any) -> dict[Any, float]:
        """What the live model says."""
        probabilities: dict[Any, float] = self._live.predict_proba_one(x, **kwargs)
        return probabilities

    def _check_parts(self, model: Any, *detectors: Any) -> None:
        kind = type(self).__name__
        if isinstance(model, type) or not (hasattr(model, "learn_one") and hasattr(model, "predict_one")):
            raise ModelDeclarationError(
                f"{kind}: model: expected a River classifier or regressor, not {shown(model)}"
            )
        for detector in detectors:
            parts = ("update", "drift_detected")
            if detector is not None and (
                isinstance(detector, type) or not all(hasattr(detector, part) for part in parts)
            ):
                raise ModelDeclarationError(f"{kind}: expected a River drift detector, not {shown(detector)}")

    def _check_numbers(self, hints: Mapping[str, Any]) -> None:
        for name, hint in hints.items():
            where = f"{type(self).__name__}: {name}"
            check_argument(getattr(self, name), hint, where, ModelDeclarationError)

    def _new_alarm(self) -> ErrorAlarm:
        return ErrorAlarm(self.detector, None)

    def _fresh(self) -> Any:
        return copied(self.model, type(self).__name__)

    def _learned_scale(self, y: Any) -> None:
        """Takes a label into the standard deviation of the labels (Welford 1962)."""
        if self._is_number:
            distance = y - self._label_mean
            self._labels += 1
            self._label_mean += distance / self._labels
            self._label_squares += distance * (y - self._label_mean)

    def _error(self, model: Any, x: dict[Any, Any], y: Any) -> float:
        said = model.predict_one(x)
        if not self._is_number:
            return float(said != y)
        miss = abs(y - said)
        scale = (self._label_squares / self._labels) ** 0.5 if self._labels else 0.0
        return float(miss / (miss + scale)) if miss > 0.0 else 0.0

    def _restart(self, model: Any) -> None:
        """Let `model` answer from now on; the alarm starts again with it."""
        self._live = model
        self._alarm = self._new_alarm()


def _teach(model: Any, x: dict[Any, Any], y: Any, w: float) -> None:
    if w == 1.0:
        model.learn_one(x, y)
    else:
        model.learn_one(x, y, w=w)


class Reset(_Reaction):
    """Replaces the model by a new one at a drift.

    The plain reaction of Gama et al. 2004, Learning with drift detection. Best where nothing of the old
    concept holds in the new one and few labels teach it.

    Parameters
    ----------
    model
        A River classifier or regressor.
    detector
        A River drift detector; ADWIN(delta=0.001) when None.

    >>> from river import tree
    >>> model = Reset(tree.HoeffdingTreeClassifier())
    >>> for i in range(2000):
    ...     model.learn_one({"a": i % 2}, (i % 2 == 1) != (i >= 1000))
    >>> model.resets, model.predict_one({"a": 1})
    (1, False)
    """

    def __init__(self, model: Any, detector: Any = None) -> None:
        super().__init__(model, detector)
        self.resets = 0

    def learn_one(self, x: dict[Any, Any], y: Any, w: float = 1.0) -> None:
        """Watch, then learn."""
        self._learned_scale(y)
        if self._alarm.update(self._error(self._live, x, y)) == "drift":
            self.resets += 1
            self._restart(self._fresh())
        _teach(self._live, x, y, w)


class _Rival:
    """A model that may take over, and how it has done since the contest began."""

    def __init__(self, model: Any, learns: bool) -> None:
        self.model = model
        self.learns = learns
        self.errors = Errors()


class _Contest:
    """From a warning on: the live model's errors beside those of its rivals on the same labels."""

    def __init__(self, rivals: list[_Rival], before: Any) -> None:
        self.rivals = rivals
        self.before = before
        self.live = Errors()
        self.drifted = False
        self.labels = 0

    def better(self, least: int, margin: float) -> _Rival | None:
        """The rival of least error when it undercuts the live model's by more than the margin."""
        if self.live.n < least:
            return None
        best = min(self.rivals, key=lambda rival: rival.errors.mean)
        return best if best.errors.mean + margin < self.live.mean else None


class Recurring(_Reaction):
    """Keeps the models of earlier regimes and takes up again the one that fits, or a fresh one.

    At a warning the live model is put aside as it then was, a fresh one begins to learn, and both it and
    the kept ones are compared with the live model on the labels that follow. Once a drift is confirmed, the
    best of them takes over if it errs less. Follows Goncalves and Barros 2013, RCD: a recurring concept
    drift framework, and Anderson et al. 2016, Recurring concept meta-learning for evolving data streams;
    the comparison is by error on recent labels, not by a test on features, since that is what matters.

    Parameters
    ----------
    model
        A River classifier or regressor.
    detector, warning
        River drift detectors: ADWIN(delta=0.001) and ADWIN(delta=0.01) when None, as in Gomes et al. 2017,
        Adaptive random forests for evolving data stream classification, section 2.2.
    kept
        Models of earlier regimes kept at most; the one that has not served for longest goes first.
    least
        Labels before a comparison counts.
    patience
        Labels after a warning, or after a drift, for which the contest goes on undecided.
    margin
        By how much the error rate must be lower to take over; -1 lets a rival take over in any case.

    >>> from river import tree
    >>> model = Recurring(tree.HoeffdingTreeClassifier())
    >>> for i in range(6000):
    ...     model.learn_one({"a": i % 2}, (i % 2 == 1) != (2000 <= i < 4000))
    >>> model.fresh, model.reused
    (1, 1)
    """

    def __init__(
        self,
        model: Any,
        detector: Any = None,
        warning: Any = None,
        kept: int = 5,
        least: int = 50,
        patience: int = 1000,
        margin: float = 0.0,
    ) -> None:
        self._check_parts(model, detector, warning)
        self.warning = warning
        super().__init__(model, detector)
        self.kept = kept
        self.least = least
        self.patience = patience
        self.margin = margin
        self._check_numbers(_CONTEST)
        self.fresh = 0
        self.reused = 0
        self._earlier: list[Any] = []  # oldest first
        self._contest: _Contest | None = None

    def _new_alarm(self) -> ErrorAlarm:
        return ErrorAlarm(self.detector, drift.ADWIN(delta=0.01) if self.warning is None else self.warning)

    def learn_one(self, x: dict[Any, Any], y: Any, w: float = 1.0) -> None:
        """Watch, compare while there is a contest, then learn."""
        self._learned_scale(y)
        error = self._error(self._live, x, y)
        signal = self._alarm.update(error)
        if signal != "none":
            self._warned(drifted=signal == "drift")
        contest = self._contest
        if contest is not None:
            self._compare(contest, error, x, y)
            if self._contest is not None:
                for rival in contest.rivals:
                    if rival.learns:
                        _teach(rival.model, x, y, w)
        _teach(self._live, x, y, w)

    def _warned(self, drifted: bool) -> None:
        contest = self._contest
        if contest is None:
            rivals = [_Rival(self._fresh(), learns=True)]
            rivals += [_Rival(model, learns=False) for model in self._earlier]
            before = copied(self._live, type(self).__name__) if self.kept else None
            contest = self._contest = _Contest(rivals, before)
        if drifted and not contest.drifted:
            contest.drifted = True
            contest.labels = 0

    def _compare(self, contest: _Contest, error: float, x: dict[Any, Any], y: Any) -> None:
        contest.labels += 1
        contest.live.update(error)
        for rival in contest.rivals:
            rival.errors.update(self._error(rival.model, x, y))
        if contest.drifted:
            winner = contest.better(self.least, self.margin)
            if winner is not None:
                self._take_over(winner, contest)
                return
        if contest.labels >= self.patience:
            self._contest = None

    def _take_over(self, winner: _Rival, contest: _Contest) -> None:
        if winner.learns:
            self.fresh += 1
        else:
            self.reused += 1
            self._earlier = [model for model in self._earlier if model is not winner.model]
        if self.kept:
            self._earlier = [*self._earlier, contest.before][-self.kept :]
        self._contest = None
        self._restart(winner.model)


class Background(Recurring):
    """Trains a fresh model from a warning on, which takes over at a drift if it errs less.

    The background learner of Gomes et al. 2017, Adaptive random forests for evolving data stream
    classification, with a gate: it must be better. It keeps no earlier model.

    Parameters are those of `Recurring`, without `kept`; a margin of -1 is the original without the gate.

    >>> from river import tree
    >>> model = Background(tree.HoeffdingTreeClassifier())
    >>> for i in range(2000):
    ...     model.learn_one({"a": i % 2}, (i % 2 == 1) != (i >= 1000))
    >>> model.fresh, model.predict_one({"a": 1})
    (1, False)
    """

    def __init__(
        self,
        model: Any,
        detector: Any = None,
        warning: Any = None,
        least: int = 50,
        patience: int = 1000,
        margin: float = 0.0,
    ) -> None:
        super().__init__(model, detector, warning, 0, least, patience, margin)


class Boosted(_Reaction):
    """Learns faster for a while after a drift: each label counts `boost` times, falling back to once.

    For a model that learns by gradient steps that is a higher learning rate; for one that counts, such as
    a tree or naive Bayes, it is faster forgetting, as what came before weighs less by that factor. After
    Kuncheva and Plumpton 2008, Adaptive learning rate for online linear discriminant classifiers: the rate
    rises with the evidence of change.

    Parameters
    ----------
    model
        A River classifier or regressor. Where it does not take a weight, a label is learned several times.
    detector
        A River drift detector; ADWIN(delta=0.001) when None.
    boost
        The weight right after a drift.
    labels
        Labels over which it falls back to 1, in a straight line.

    >>> from river import linear_model
    >>> model = Boosted(linear_model.LogisticRegression())
    >>> for i in range(2000):
    ...     model.learn_one({"a": i % 2}, (i % 2 == 1) != (i >= 1000))
    >>> model.boosts > 0, model.predict_one({"a": 1})
    (True, False)
    """

    def __init__(self, model: Any, detector: Any = None, boost: float = 8.0, labels: int = 500) -> None:
        super().__init__(model, detector)
        self.boost = boost
        self.labels = labels
        self._check_numbers(_BOOST)
        self.boosts = 0
        self._left = 0
        self._weighs = accepts_weight(model)

    def learn_one(self, x: dict[Any, Any], y: Any, w: float = 1.0) -> None:
        """Watch, then learn with the weight of the moment."""
        self._learned_scale(y)
        if self._alarm.update(self._error(self._live, x, y)) == "drift":
            self.boosts += 1
            self._left = self.labels
        if not self._left:
            _teach(self._live, x, y, w)
            return
        factor = 1.0 + (self.boost - 1.0) * self._left / self.labels
        self._left -= 1
        if self._weighs:
            _teach(self._live, x, y, w * factor)
        else:
            for _ in range(round(factor)):
                _teach(self._live, x, y, w)
