"""The declaration of a pool's drift monitors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from driftline.declaration_check import MaybeSeconds, check
from driftline.online_models.drift.monitors.calendar_features import QUARTER
from driftline.online_models.drift.monitors.windows import BLOCK
from driftline.online_models.errors import ModelDeclarationError

LONGEST_SEASON = 28 * 86_400
"""Seconds of a season: each quarter of an hour of it is kept, for each monitor."""


@dataclass(frozen=True, slots=True)
class Monitoring:
    """Monitors of one pool: its features, scores, labels, losses and calibration, with one alarm budget.

    `false_alarm_every` is the promise: on a stationary stream the pool confirms at most one drift in so many
    requests, all its monitors together; each has an equal share. A warning needs less evidence: as much as
    occurs by chance `warnings` times as often. An incident ends after `cooldown` requests without a new
    alarm. Features in `unwatched` are not watched; of a text feature the `categories` most frequent values
    are distinguished. The estimate of performance without labels goes with every `estimate_every`th label and
    needs `estimate_labels` of them.

    With a `season` (`DAY`, `WEEK`: whole quarters of an hour up to four weeks), everything is compared with
    the same phase of the seasons before, in event time: for streams that follow the hour or the weekday so
    much that they raise incidents. It costs one season, at first and after each alarm of a monitor, in which
    only missing values, values far beyond those so far, and late labels are reported.

    Raises ModelDeclarationError for a number out of range.

    With fewer false alarms allowed, a change must be clearer to be reported:

    >>> Monitoring(false_alarm_every=1_000_000, unwatched=frozenset({"carrier"})).false_alarm_every
    1000000
    """

    false_alarm_every: int = 100_000
    warnings: float = 5.0
    cooldown: int = 1_024
    categories: int = 6
    unwatched: frozenset[str] = frozenset()
    estimate_every: int = 100
    estimate_labels: int = 500
    season: MaybeSeconds = field(default=cast(Any, None), kw_only=True)

    def __post_init__(self) -> None:
        check(self, ModelDeclarationError)
        least = {
            "false_alarm_every": (self.false_alarm_every, 1_000),
            "warnings": (self.warnings, 1),
            "cooldown": (self.cooldown, BLOCK),
            "categories": (self.categories, 1),
            "estimate_every": (self.estimate_every, 1),
            "estimate_labels": (self.estimate_labels, 1),
        }
        for name, (value, bound) in least.items():
            if not value >= bound:
                raise ModelDeclarationError(f"Monitoring: {name} must be {bound} or more, not {value!r}")
        season = self.season
        if season is not None and (season % QUARTER or not 4 * QUARTER <= season <= LONGEST_SEASON):
            raise ModelDeclarationError(
                "Monitoring: season must be whole quarters of an hour, from an hour to 28 days, "
                f"not {season!r} seconds: DAY or WEEK as a rule"
            )
