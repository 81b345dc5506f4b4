"""Which member of a pool should serve: decided by evidence, with a bounded rate of errors and of changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite, log
from typing import Any, Literal

import msgspec

from driftline.declaration_check import check
from driftline.online_models.errors import ModelDeclarationError
from driftline.online_models.promote.evidence import AlphaSpending, PairedTest, e_value
from driftline.online_models.tasks.baselines import RunningPrior

SCALE_LABELS = 100
"""Labels from which the bound of losses is taken where none is declared."""
SQUARES = 6.0
"""The bound of squared errors, as a multiple of their mean: a normal error exceeds it in 1.4 % of labels."""
NATS = 2.5
"""The bound of log losses, beyond that of the share of the rarest label that matters."""
MATTERS = 0.01
"""A label matters when the prior loses at least this share of its loss on it."""
LABELS_IN_BLOCK = 16
"""Labels taken in at a time, after which the evidence is looked at: a third of the cost of one at a time."""
SLICE_VALUES = 1_000
"""Values of one slice that a comparison watches: those that come first."""
NAMED_SLICES = 3
"""The worst slice values that evidence names."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """When another member takes over from the one that serves.

    A challenger must be proven to lose less, by more than the share `margin` of what the serving one
    loses, on at least `min_labels` labels that both have answered; must have lost less than each baseline
    on the same labels; and its gain, less one standard error, must not be a loss of more than the share
    `slice_margin` on any declared slice value with `slice_labels` labels or more. `alpha` bounds the
    probability that a pool ever promotes what is not better, whatever makes comparisons start again:
    drift, another member serving, or `window` labels without a decision.

    In a pool's first `warm_up` labels nothing is compared: how fast a member learns from nothing is not how
    good it will be. No promotion follows within `cooldown` labels of another, and within `per` labels there
    are at most `most`. Losses are clipped at `bound`, by default log loss where a label is given less than
    a twelfth of its share of all labels (a fixed bound would reward saying 0 for what is rare), and other
    losses at 6 times the serving member's mean. Corrected labels change no evidence.
    Raises ModelDeclarationError for a number out of range.

    >>> Promotion(margin=0.02, min_labels=1_000).alpha
    0.05
    """

    alpha: float = 0.05
    margin: float = 0.01
    min_labels: int = 300
    slice_margin: float = 0.1
    slice_labels: int = 200
    warm_up: int = 1_000
    cooldown: int = 500
    most: int = 5
    per: int = 20_000
    window: int = 50_000
    bound: float | None = None

    def __post_init__(self) -> None:
        check(self, ModelDeclarationError)
        if not 0 < self.alpha < 1:
            raise ModelDeclarationError(f"Promotion(alpha={self.alpha!r}): it must be in (0, 1)")
        for name in ("margin", "slice_margin"):
            if not 0 <= getattr(self, name) < 1:
                raise ModelDeclarationError(
                    f"Promotion({name}={getattr(self, name)!r}): a share must be in [0, 1)"
                )
        for name in ("min_labels", "slice_labels", "most", "per", "window"):
            if getattr(self, name) < 1:
                raise ModelDeclarationError(
                    f"Promotion({name}={getattr(self, name)!r}): it must be 1 or more"
                )
        for name in ("cooldown", "warm_up"):
            if getattr(self, name) < 0:
                raise ModelDeclarationError(
                    f"Promotion({name}={getattr(self, name)!r}): it must be 0 labels or more"
                )
        if self.bound is not None and not (isfinite(self.bound) and self.bound > 0):
            raise ModelDeclarationError(f"Promotion(bound={self.bound!r}): it must be a finite loss above 0")


class SliceGain(msgspec.Struct, frozen=True):
    """What a member gained over `n` labels with one value of a slice: mean loss of the serving member,
    and how much less the other's is."""

    slice: str
    value: str
    n: int
    loss: float
    gain: float


class Evidence(msgspec.Struct, frozen=True):
    """What a decision rests on. Losses are means, clipped, over the `n` labels after offset `since`.

    `gain` is by how much less than `against`, whose loss is `loss`, the member loses; `interval` holds the
    expected gain with probability 1 - alpha of the pool, for all numbers of labels at once; `e_value` is
    the evidence that the gain exceeds the margin, to be compared with 1 / `alpha`; `alpha_spent` is what
    all comparisons of the pool so far have spent. `baselines` are gains over those; `slices` the worst.
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
    """Seat `index` takes over, or would have but for the `reason`."""

    kind: Literal["promotion", "withheld"]
    index: int
    reason: str
    evidence: Evidence


class _Tally:
    """Labels of one slice value: their number, what the serving member lost, what the other gained."""

    __slots__ = ("gain", "loss", "n")

    def __init__(self) -> None:
        self.n = 0
        self.loss = 0.0
        self.gain = 0.0


def log_loss_bound(shares: Sequence[float]) -> float:
    """Nats beyond which a log loss does not count, for labels with these shares.

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
    """The gain over a baseline, on the labels that it has answered too."""

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
"""What every seat lost on a label, and the request's slice values."""


class _Comparison:
    """One candidate beside the serving member, on the labels that both have answered."""

    __slots__ = ("baselines", "beats", "index", "since", "slices", "test", "told", "total")

    def __init__(self, index: int, test: PairedTest, since: int, beats: Sequence[int], slices: int) -> None:
        self.index = index
        self.test = test
        self.since = since
        self.total = 0.0
        self.beats = beats
        self.baselines = [_Gain() for _ in beats]
        self.slices: list[dict[Any, _Tally]] = [{} for _ in range(slices)]
        self.told: list[str] = []

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
            # one that is quarantined gives no answer, and need not be beaten
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
    """All that decisions depend on and that changes."""

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
    """Compares the candidates of one pool with the member that serves; seats are known by their numbers.

    `baselines` are the seats to be beaten, `slices` the names of the declared slices. Deterministic: it
    depends on the order of calls and their arguments only.
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
        """Compare these candidates with the one that serves from here on, forgetting what was."""
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
        """The comparisons there are, from the labels that come next."""
        self.state.comparisons = [self._comparison(c.index, c.test.alpha) for c in self.state.comparisons]

    def drop(self, index: int) -> None:
        """This candidate is none any more."""
        self.state.comparisons = [c for c in self.state.comparisons if c.index != index]

    def admit(self, index: int) -> None:
        """Compare this candidate too, from here on."""
        comparison = self._comparison(index, self.state.spending.next())
        self.state.comparisons = [*self.state.comparisons, comparison]

    def moved(self) -> None:
        """Another member serves now, by evidence or by an operator: the cooldown begins."""
        self.state.moves = [*self.state.moves, self.state.labels][-self._rules.most :]

    def judge(
        self, losses: Sequence[float | None], values: Sequence[Any], offset: int, prior: RunningPrior
    ) -> Sequence[PromotionDecision]:
        """Take in what every seat lost on one label (None: it did not answer), with the request's slice
        values; returns what is to be told, a promotion last. `prior` has learned all labels so far."""
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
            if self.state.bound is not None:  # the labels it is taken from are not compared
                self._begin_again()
            return ()
        self._add(rows, self.state.bound, serving)
        return self._look()

    def _measured(self, losses: Sequence[float], prior: RunningPrior) -> float | None:
        """The bound of losses, once there are enough labels to take it from."""
        if self._has_shares:
            return log_loss_bound(prior.shares()) if prior.n >= SCALE_LABELS else None
        count, total = self.state.scale
        count, total = count + len(losses), total + sum(losses)
        self.state.scale = (count, total)
        return (SQUARES * total / count or 1.0) if count >= SCALE_LABELS else None

    def _add(self, rows: Sequence[_Row], bound: float, serving: Sequence[float]) -> None:
        # of the labels before these: what a margin is must not depend on the differences it is for
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
            if kind not in comparison.told:
                comparison.told.append(kind)
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
        """What keeps a proven candidate from serving: its kind and the reason; None for nothing."""
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
        """Slice values with enough labels to judge by."""
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
