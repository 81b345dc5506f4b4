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
    """The drift monitors of a pool: of its features, scores, labels, losses and calibration.

    Parameters
    ----------
    false_alarm_every
        The alarm budget: on a stationary stream, all monitors of the pool together confirm at most one drift
        in so many requests. Each monitor has an equal share.
    warnings
        A warning needs less evidence than a drift: as much as occurs by chance `warnings` times as often.
    cooldown
        An incident ends after so many requests without a new alarm.
    categories
        The number of values of a text feature that are distinguished: the most frequent ones.
    unwatched
        The names of features without monitors.
    estimate_every, estimate_labels
        The estimate of performance without labels is published with every `estimate_every`th label, once
        there are `estimate_labels` of them.
    season
        `DAY`, `WEEK`, or another multiple of 15 minutes from an hour to 28 days, in seconds or as a
        timedelta. Everything is then compared with the same phase of earlier seasons, in event time. Use it
        for streams that raise incidents because they depend on the hour or the weekday. In the first season,
        and in one season after each alarm of a monitor, only missing values, values far beyond all earlier
        ones, and late labels are reported.

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
