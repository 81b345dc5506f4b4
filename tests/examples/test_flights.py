"""What the declaration of flights computes and how well it predicts."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from math import log1p
from typing import Any

import pytest

from driftline.examples.flights import flights, local_hour
from driftline.examples.flights.delays import flights_and_delays
from driftline.examples.flights.events import Scheduled
from driftline.examples.flights.models import apart, indicators, logistic, quantities, stepped, steps
from driftline.infra.report.run_records import RunRecords
from driftline.streams.simulation.simulate import simulate

LEAST: dict[str, Any] = {"carrier": "UA", "scheduled_2h": 9, "departed_2h": 4, "cancelled_2h": 0}


def request(at: datetime) -> Scheduled:
    return Scheduled(
        id="1",
        at=at,
        flight="UA1-EWR",
        number="UA1",
        origin="EWR",
        dest="IAH",
        carrier="UA",
        tailnum=None,
        distance=1400.0,
        duration=240.0,
    )


@pytest.mark.parametrize(("month", "hour"), [(1, 5.25), (7, 6.25)])
def test_the_hour_is_that_of_new_york(month: int, hour: float) -> None:
    assert local_hour(request(datetime(2013, month, 1, 10, 15, tzinfo=UTC))) == hour


def test_the_backlog_is_what_should_have_left() -> None:
    assert quantities(LEAST) == {"scheduled_2h": 9, "departed_2h": 4, "cancelled_2h": 0, "backlog": 5}


def test_a_planes_delay_keeps_its_sign_and_loses_its_size() -> None:
    assert quantities({**LEAST, "plane_delay": -9.0})["plane_delay"] == -log1p(9)


def test_a_flight_that_left_is_distinguished_from_one_that_has_not() -> None:
    assert indicators(LEAST) == {"carrier UA": 1.0}
    assert indicators({**LEAST, "left_early": -3.0}) == {"carrier UA": 1.0, "left": 1.0}


def test_a_flight_that_left_has_quantities_of_its_own() -> None:
    assert apart({"wind": 0.5}) == {"wind": 0.5}
    assert apart({"wind": 0.5, "left_early": -1.0}) == {
        "wind": 0.5, "left_early": -1.0, "wind, left": 0.5, "left_early, left": -1.0
    }  # fmt: skip


def test_steps_tell_hours_and_sizes_apart() -> None:
    assert steps({**LEAST, "hour": 17.9, "visibility": 12.0, "plane_delay": -100.0}) == {
        "carrier UA": 1.0, "hour 17": 1.0, "visibility 5": 1.0, "plane_delay -4": 1.0
    }  # fmt: skip
    left = steps({**LEAST, "hour": 5.0, "left_early": -4.0})
    assert left == {
        "carrier UA": 1.0,
        "left": 1.0,
        "hour 5": 1.0,
        "carrier UA, left": 1.0,
        "left_early -2": 1.0,
    }


@pytest.mark.parametrize("build", [logistic, stepped])
def test_a_model_learns_what_is_missing_and_survives_its_pickle(build: Callable[[], Any]) -> None:
    model = build()
    for step in range(50):
        late = step % 2 == 0
        model.learn_one({**LEAST, "hour": 9.5, "scheduled_2h": 20 if late else 5, "wind": 9.0}, late)
    model = pickle.loads(pickle.dumps(model))
    crowded, calm = ({**LEAST, "hour": 9.5, "scheduled_2h": n} for n in (20, 5))
    assert model.predict_proba_one(crowded)[True] > 0.5 > model.predict_proba_one(calm)[True]


def test_golden_figures_of_the_first_60_000_events() -> None:
    evidence = RunRecords()
    result = simulate(flights, limit=60_000, on_outputs=evidence.add)
    counts = {name: result[name] for name in ("predictions", "labelled", "void", "unlabelled", "pending")}
    assert counts == {
        "predictions": 18_520,
        "labelled": 18_112,
        "void": 173,
        "unlabelled": 235,
        "pending": 0,
    }
    assert result["dead_letters"] == result["duplicates"] == result["late"] == 0
    champion, prior = result["models"]["logistic"], result["models"]["prior"]
    assert champion["roc_auc"] == pytest.approx(0.80767, abs=1e-5)
    assert champion["log_loss"] == pytest.approx(0.39320, abs=1e-5)
    assert prior["log_loss"] == pytest.approx(0.49693, abs=1e-5)
    assert result["models"]["stepped"]["log_loss"] == pytest.approx(0.38339, abs=1e-5)
    (promotion,) = [change for change in evidence.changes if change.kind == "promotion"]
    assert (promotion.key, promotion.member, promotion.at.date().isoformat()) == (
        "EWR",
        "stepped",
        "2013-01-10",
    )
    served = evidence.served(flights.task)
    assert (served["n"], result["models"]["trees"]["n"]) == (18_112, 1_817)
    assert served["roc_auc"] == pytest.approx(0.80928, abs=1e-5)
    assert served["log_loss"] == pytest.approx(0.39191, abs=1e-5)


def test_a_second_task_tells_how_late_and_leaves_the_first_as_it_is() -> None:
    assert flights_and_delays.of("late").spec_hash == flights.spec_hash
    minutes = flights_and_delays.of("minutes")
    assert (minutes.name, minutes.topics().log) == ("flights-minutes", "flights.events")
    models = simulate(minutes, limit=8_000)["models"]
    assert models["linear"]["n"] == models["prior"]["n"] > 1_000
    assert models["linear"]["rmse"] < models["prior"]["rmse"]
    assert models["linear"]["coverage"] == pytest.approx(0.8, abs=0.03)
