"""Decides which member of a pool should serve, by evidence, with bounded rates of errors and of changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log
from typing import Annotated, Any, Literal

import msgspec

from driftline.declaration_check import ABOVE_0, AT_LEAST_0, AT_LEAST_1, Bounds, check
from driftline.online_models.errors import ModelDeclarationError
from driftline.online_models.promote.evidence import AlphaSpending, PairedTest, e_value
from driftline.online_models.tasks.baselines import RunningPrior

SCALE_LABELS = 100
"""The number of labels from which the bound of losses is estimated, if none is declared."""
SQUARES = 6.0
"""The bound of squared errors, as a multiple of their mean. Normal errors exceed it on 1.4 % of labels."""
NATS = 2.5
"""The bound of log losses, in nats above the log loss of answering with the share of the rarest label that
matters."""
MATTERS = 0.01
"""A label matters if at least this share of the prior's loss comes from it."""
LABELS_IN_BLOCK = 16
"""Labels that are added at a time before the evidence is checked. It costs a third of adding them one by
one."""
SLICE_VALUES = 1_000
"""The number of values of one slice that a comparison watches: the first ones that occur."""
NAMED_SLICES = 3
"""The number of slice values in the published evidence: the worst ones."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """When a challenger takes over from the serving member of a pool. Counts are in labels of the pool.

    Parameters
    ----------
    alpha
        Bounds the probability that a pool ever promotes a member that is not better, in (0, 1).
    margin
        The challenger's mean loss must be lower by more than this share of the serving member's.
    min_labels
        The least labels that both have answered.
    slice_margin, slice_labels
        On each value of a declared slice with `slice_labels` or more, the challenger's loss must not be
        higher by more than the share `slice_margin`, one standard error allowed.
    warm_up
        Nothing is compared on so many first labels: they show how fast members learn, not how good they get.
    cooldown
        The least labels between two promotions.
    most, per
        At most `most` promotions within `per` labels.
    window
        A comparison without a decision starts again after so many labels.
    bound
        Losses are clipped at it. None: a log loss where a label gets less than a twelfth of its share of all
        labels (a fixed bound would reward saying 0 for a rare label), another loss at 6 times its mean.

    The challenger must also have lost less than each baseline on the same labels. Comparisons start again
    after a drift and when another member serves. Corrected labels change no evidence. Raises
    ModelDeclarationError for a number out of range.

    >>> Promotion(margin=0.02, min_labels=1_000).alpha
    0.05
    """

    alpha: Annotated[float, Bounds(above=0, below=1)] = 0.05
    margin: Annotated[float, Bounds(low=0, below=1)] = 0.01
    min_labels: Annotated[int, AT_LEAST_1] = 300
    slice_margin: Annotated[float, Bounds(low=0, below=1)] = 0.1
    slice_labels: Annotated[int, AT_LEAST_1] = 200
    warm_up: Annotated[int, AT_LEAST_0] = 1_000
    cooldown: Annotated[int, AT_LEAST_0] = 500
    most: Annotated[int, AT_LEAST_1] = 5
    per: Annotated[int, AT_LEAST_1] = 20_000
    window: Annotated[int, AT_LEAST_1] = 50_000
    bound: Annotated[float, ABOVE_0] | None = None

    def __post_init__(self) -> None:
        check(self, ModelDeclarationError)


class SliceGain(msgspec.Struct, frozen=True):
    """The gain of a member on the `n` labels with one value of a slice: the serving member's mean loss, and
    by how much the other's is lower."""

    slice: str
    value: str
    n: int
    loss: float
    gain: float


class Evidence(msgspec.Struct, frozen=True):
    """The evidence of a decision. Losses are means of clipped losses over the `n` labels after offset
    `since`.

    `loss` is the loss of the serving member, `against`, and `gain` is by how much the challenger's is lower.
    `interval` is a confidence interval of the gain, with the pool's alpha, for all numbers of labels at once.
    `e_value` is the evidence that the gain exceeds the margin; it is compared with 1 / `alpha`. `alpha_spent`
    is the share of the error budget that all comparisons of the pool have used so far. `baselines` has the
    gain over each baseline, `slices` the gains on the worst slice values.
    """

    against: str
    since: int
    n: int
    loss: float
    gain: float
    interval: tuple[float, float]
    e_value: float
    alpha: float
    alpha_spent: float
    baselines: dict[str, float]
    slices: list[SliceGain]


@dataclass(frozen=True, slots=True)
class PromotionDecision:
    """The seat `index` takes over, or is withheld for `reason`."""

    kind: Literal["promotion", "withheld"]
    index: int
    reason: str
    evidence: Evidence


class _Tally:
    """Sums over the labels of one slice value: their number, the serving member's loss, the other's gain."""

    __slots__ = ("gain", "loss", "n")

    def __init__(self) -> None:
        self.n = 0
        self.loss = 0.0
        self.gain = 0.0


def log_loss_bound(shares: Sequence[float]) -> float:
    """The bound at which log losses are clipped, in nats, for labels with these shares.

    >>> [round(log_loss_bound([p, 1 - p]), 1) for p in (0.5, 0.2, 0.01)]
    [3.2, 4.1, 7.1]
    """
    losses = [-log(share) for share in shares]
    whole = sum([share * loss for share, loss in zip(shares, losses, strict=True)])
    return NATS + max(
        (loss for share, loss in zip(shares, losses, strict=True) if share * loss >= MATTERS * whole),
        default=0.0,
    )


class _Gain:
    """The gain over a baseline, on the labels that the baseline has answered too."""

    __slots__ = ("n", "total")

    def __init__(self) -> None:
        self.n = 0
        self.total = 0.0

    def add(self, gains: Sequence[float]) -> None:
        self.n += len(gains)
        self.total += sum(gains)

    @property
    def mean(self) -> float:
        return self.total / self.n if self.n else 0.0


_Row = tuple[Sequence[float | None], Sequence[Any]]
"""The loss of every seat on a label, and the request's slice values."""


class _Comparison:
    """The comparison of one candidate with the serving member, on the labels that both have answered."""

    __slots__ = ("baselines", "beats", "index", "since", "slices", "test", "total", "withheld_for")

    def __init__(self, index: int, test: PairedTest, since: int, beats: Sequence[int], slices: int) -> None:
        self.index = index
        self.test = test
        self.since = since
        self.total = 0.0
        self.beats = beats
        self.baselines = [_Gain() for _ in beats]
        self.slices: list[dict[Any, _Tally]] = [{} for _ in range(slices)]
        self.withheld_for: list[str] = []

    def add(self, rows: Sequence[_Row], serving: int, bound: float, margin: float) -> None:
        index = self.index
        both = [
            (s if s < bound else bound, loss if loss < bound else bound, row)
            for row in rows
            if (s := row[0][serving]) is not None and (loss := row[0][index]) is not None
        ]
        self.test.extend([s - loss for s, loss, _ in both], margin)
        self.total += sum([s for s, _, _ in both])
        for number, baseline in enumerate(self.beats):
            # a member in quarantine gives no answers, and need not be beaten
            gains = [
                (b if b < bound else bound) - loss
                for _, loss, row in both
                if (b := row[0][baseline]) is not None
            ]
            self.baselines[number].add(gains)
        for number, tallies in enumerate(self.slices):
            for s, loss, row in both:
                value = row[1][number]
                tally = tallies.get(value)
                if tally is None:
                    if len(tallies) >= SLICE_VALUES:
                        continue
                    tally = tallies[value] = _Tally()
                tally.n += 1
                tally.loss += s
                tally.gain += s - loss


class RefereeState(msgspec.Struct):
    """The changing state that decisions depend on."""

    spending: AlphaSpending
    bound: float | None
    is_frozen: bool = False
    serving: int = -1
    labels: int = 0
    offset: int = -1
    rows: list[_Row] = []
    scale: tuple[int, float] = (0, 0.0)
    total: float = 0.0
    answered: int = 0
    comparisons: list[_Comparison] = []
    moves: list[int] = []


class Referee:
    """Compares the candidates of one pool with the serving member. Seats are given by their numbers.

    `baselines` are the seats to be beaten, `slices` the names of the declared slices. Results are
    deterministic: they depend only on the order of calls and their arguments.
    """

    def __init__(
        self,
        rules: Promotion,
        kind: str,
        names: Sequence[str],
        baselines: Sequence[int],
        slices: Sequence[str],
    ) -> None:
        self._rules = rules
        self._names = names
        self._baselines = baselines
        self._slices = slices
        self._has_shares = kind in ("binary", "multiclass")
        self.state = RefereeState(AlphaSpending(rules.alpha), rules.bound)

    def begin(self, serving: int, candidates: Sequence[int]) -> None:
        """Start new comparisons of these candidates with the serving seat."""
        self.state.serving = serving
        self.state.rows = []
        self.state.bound = self._rules.bound
        self.state.scale = (0, 0.0)
        self.state.total = 0.0
        self.state.answered = 0
        share = self.state.spending.next() / len(candidates) if candidates else 0.0
        self.state.comparisons = [self._comparison(index, share) for index in candidates]

    def _comparison(self, index: int, alpha: float) -> _Comparison:
        test = PairedTest(self.state.bound or 0.0, alpha)
        return _Comparison(index, test, self.state.offset, self._baselines, len(self._slices))

    def _begin_again(self) -> None:
        """Start the current comparisons again, from the next label."""
        self.state.comparisons = [self._comparison(c.index, c.test.alpha) for c in self.state.comparisons]

    def drop(self, index: int) -> None:
        """Remove a candidate."""
        self.state.comparisons = [c for c in self.state.comparisons if c.index != index]

    def admit(self, index: int) -> None:
        """Add a candidate, from the next label on."""
        comparison = self._comparison(index, self.state.spending.next())
        self.state.comparisons = [*self.state.comparisons, comparison]

    def moved(self) -> None:
        """Start the cooldown: another member serves now, by evidence or by an operator."""
        self.state.moves = [*self.state.moves, self.state.labels][-self._rules.most :]

    def judge(
        self, losses: Sequence[float | None], values: Sequence[Any], offset: int, prior: RunningPrior
    ) -> Sequence[PromotionDecision]:
        """Add the losses of all seats on one label (None: no answer), with the request's slice values.
        Returns the decisions to publish, a promotion last. `prior` has learned all labels so far."""
        self.state.labels += 1
        self.state.offset = offset
        if self.state.labels <= self._rules.warm_up:
            if self.state.labels == self._rules.warm_up:
                self._begin_again()
            return ()
        if not self.state.comparisons:
            return ()
        rows = self.state.rows
        rows.append((losses, values))
        if len(rows) < LABELS_IN_BLOCK:
            return ()
        self.state.rows = []
        serving = [loss for row in rows if (loss := row[0][self.state.serving]) is not None]
        if self.state.bound is None:
            self.state.bound = self._measured(serving, prior)
            if self.state.bound is not None:  # labels from which it was estimated are not compared
                self._begin_again()
            return ()
        self._add(rows, self.state.bound, serving)
        return self._look()

    def _measured(self, losses: Sequence[float], prior: RunningPrior) -> float | None:
        """The bound of losses, once there are enough labels to estimate it."""
        if self._has_shares:
            return log_loss_bound(prior.shares()) if prior.n >= SCALE_LABELS else None
        count, total = self.state.scale
        count, total = count + len(losses), total + sum(losses)
        self.state.scale = (count, total)
        return (SQUARES * total / count or 1.0) if count >= SCALE_LABELS else None

    def _add(self, rows: Sequence[_Row], bound: float, serving: Sequence[float]) -> None:
        # from the labels before these: a margin must not depend on the differences that it applies to
        margin = self._rules.margin * self.state.total / self.state.answered if self.state.answered else 0.0
        for comparison in self.state.comparisons:
            comparison.add(rows, self.state.serving, bound, margin)
        self.state.total += sum([loss if loss < bound else bound for loss in serving])
        self.state.answered += len(serving)

    def _look(self) -> Sequence[PromotionDecision]:
        rules = self._rules
        ready = [c for c in self.state.comparisons if c.test.n >= rules.min_labels and c.test.is_proven]
        decisions: list[PromotionDecision] = []
        for comparison in sorted(ready, key=lambda c: -c.test.gain):
            obstacle = self._obstacle(comparison)
            if obstacle is None:
                return [*decisions, self._promotion(comparison)]
            kind, reason = obstacle
            if kind not in comparison.withheld_for:
                comparison.withheld_for.append(kind)
                decisions.append(
                    PromotionDecision("withheld", comparison.index, reason, self._evidence(comparison))
                )
        if any(c.test.n >= rules.window for c in self.state.comparisons):
            self.state.comparisons = [
                c if c.test.n < rules.window else self._comparison(c.index, self.state.spending.next())
                for c in self.state.comparisons
            ]
        return decisions

    def _promotion(self, comparison: _Comparison) -> PromotionDecision:
        evidence = self._evidence(comparison)
        against, test = evidence.against, comparison.test
        reason = (
            f"loses {evidence.gain:.4g} less than {against}, which loses {evidence.loss:.4g}, over {test.n} "
            f"labels: evidence {evidence.e_value:.4g} of {1 / test.alpha:.4g} needed"
        )
        return PromotionDecision("promotion", comparison.index, reason, evidence)

    def _obstacle(self, comparison: _Comparison) -> tuple[str, str] | None:
        """What keeps a proven candidate from serving, as its kind and the reason; None if nothing does."""
        checks: tuple[tuple[str, Callable[[_Comparison], str | None]], ...] = (
            ("baseline", self._unbeaten),
            ("slice", self._worse_slice),
            ("frozen", lambda _: "promotions are frozen" if self.state.is_frozen else None),
            ("hysteresis", lambda _: self._too_soon()),
        )
        for kind, asked in checks:
            reason = asked(comparison)
            if reason is not None:
                return kind, reason
        return None

    def _unbeaten(self, comparison: _Comparison) -> str | None:
        for index, gain in zip(self._baselines, comparison.baselines, strict=True):
            if gain.mean < 0.0:
                name = self._names[index]
                return f"loses {-gain.mean:.4g} more than the baseline {name} over {gain.n} labels"
        return None

    def _worse_slice(self, comparison: _Comparison) -> str | None:
        worst: tuple[float, str] | None = None
        for name, value, tally in self._watched(comparison):
            error = comparison.test.deviation / tally.n**0.5
            loss, gain = tally.loss / tally.n, tally.gain / tally.n
            beyond = gain - error + self._rules.slice_margin * loss
            if beyond < 0.0 and (worst is None or beyond < worst[0]):
                against = self._names[self.state.serving]
                reason = (
                    f"gains {gain:.4g} give or take {error:.2g} on {against}, which loses {loss:.4g}, where "
                    f"{name} is {value!r}, over {tally.n} labels"
                )
                worst = beyond, reason
        return None if worst is None else worst[1]

    def _watched(self, comparison: _Comparison) -> Iterator[tuple[str, Any, _Tally]]:
        """The slice values with enough labels to be judged."""
        for name, tallies in zip(self._slices, comparison.slices, strict=True):
            for value, tally in tallies.items():
                if tally.n >= self._rules.slice_labels:
                    yield name, value, tally

    def _too_soon(self) -> str | None:
        rules = self._rules
        moves = self.state.moves
        if moves and self.state.labels - moves[-1] < rules.cooldown:
            return f"{self.state.labels - moves[-1]} labels since the last change are within the cooldown"
        if len(moves) == rules.most and self.state.labels - moves[0] < rules.per:
            return f"there were {rules.most} changes in the last {self.state.labels - moves[0]} labels"
        return None

    def _evidence(self, comparison: _Comparison) -> Evidence:
        test, n = comparison.test, comparison.test.n
        return Evidence(
            against=self._names[self.state.serving],
            since=comparison.since,
            n=n,
            loss=comparison.total / n,
            gain=test.gain,
            interval=test.interval(self._rules.alpha),
            e_value=e_value(test.evidence),
            alpha=test.alpha,
            alpha_spent=self.state.spending.spent,
            baselines=self._over_baselines(comparison),
            slices=self._worst_slices(comparison),
        )

    def _over_baselines(self, comparison: _Comparison) -> dict[str, float]:
        gains = zip(self._baselines, comparison.baselines, strict=True)
        return {self._names[index]: gain.mean for index, gain in gains}

    def _worst_slices(self, comparison: _Comparison) -> list[SliceGain]:
        slices = [
            SliceGain(name, str(value), tally.n, tally.loss / tally.n, tally.gain / tally.n)
            for name, value, tally in self._watched(comparison)
        ]
        return sorted(slices, key=lambda entry: entry.gain)[:NAMED_SLICES]
