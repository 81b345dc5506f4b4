"""If only one kind of label is an event, a case with defaults learns as if each came at its deadline."""

from __future__ import annotations

from datetime import datetime

import pytest

from driftline.bench.drift.fraud import DAYS, START, chargebacks, fraud, run, settled, settlements
from driftline.online_models.drift.monitors.rare_labels import RANKING_OF_RARE

PAYMENTS = 4_000


def test_by_defaults_answers_are_those_of_labels_at_their_deadline() -> None:
    found = run(fraud(), chargebacks(PAYMENTS, 1))
    best = run(settled(), settlements(PAYMENTS, 1))
    # the two streams have other events, so that their times move on at other ones, by an event or two
    assert found.answers == pytest.approx(best.answers, abs=0.02)
    assert abs(found.figures["roc_auc"] - best.figures["roc_auc"]) <= 0.001
    assert found.figures["n"] == best.figures["n"]


@pytest.mark.soak
@pytest.mark.parametrize("payments", [200_000, 80_000])
@pytest.mark.parametrize("seed", range(3))
def test_the_change_is_detected_and_nothing_else_is_reported(seed: int, payments: int) -> None:
    found = run(fraud(), chargebacks(payments, seed))
    best = run(settled(), settlements(payments, seed))
    assert abs(found.figures["roc_auc"] - best.figures["roc_auc"]) <= 0.02
    (incident,) = found.confirmed
    assert incident["kind"] == "concept drift"
    assert incident["suspects"][0]["subject"].startswith(RANKING_OF_RARE)
    days = (datetime.fromisoformat(incident["at"]) - START).total_seconds() / 86_400
    assert DAYS / 2 + 25 <= days <= DAYS / 2 + 75
