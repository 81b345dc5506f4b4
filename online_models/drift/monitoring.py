"""What a use case declares about its monitors."""

from __future__ import annotations

from dataclasses import dataclass

from driftline.declared import check
from driftline.online_models.drift.monitors.windows import BLOCK
from driftline.online_models.errors import ModelDeclarationError


@dataclass(frozen=True, slots=True)
class Monitoring:
    """Monitors of one pool: its features, scores, labels, losses and calibration, with one alarm budget.

    `false_alarm_every` is the promise: on a stationary stream the pool confirms at most one drift in so many
    requests, all its monitors together; each has an equal share. A warning needs as much evidence as comes up
    by chance `warnings` times as often. An incident ends when nothing new was found for `cooldown` requests.
    Features in `unwatched` are not looked at; of a text feature the `categories` most frequent values are
    told apart. The estimate of performance without labels goes with every `estimate_every`th label and
    needs `estimate_labels` of them. Raises ModelDeclarationError for a number out of range.
    """

    false_alarm_every: int = 100_000
    warnings: float = 5.0
    cooldown: int = 1_024
    categories: int = 6
    unwatched: frozenset[str] = frozenset()
    estimate_every: int = 100
    estimate_labels: int = 500

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
