"""What a request reads, and what becomes of features and models that fail."""

from __future__ import annotations

import enum
import json
import math
from typing import Any

import numpy as np
import pytest
from shop import Product, Settled, logistic

from driftline import (
    HOUR,
    Member,
    PerKey,
    Tolerance,
    UseCase,
    derive,
    latest,
    lookup,
    mean,
)
from driftline.online_models.errors import ModelsError
from driftline.streams.errors import DeclarationError
from driftline.streams.fold.intake import RETAIN_EVERY
from driftline.streams.fold.processor import PartitionProcessor
from tests.streams.fold.shop_log import Log, case, fold, refusals, unspeakable


def test_a_request_sees_what_came_before_it_and_not_itself() -> None:
    log = Log().settle(0, "x", bad=0.25).ask(10, "a").ask(20, "b").ask(90, "c")
    _, out = fold(case(), log)
    seen = [json.loads(o.value)["features"] for o in out.predictions]
    assert [x["asked_1h"] for x in seen] == [0, 1, 0]
    assert [x.get("bad_1h") for x in seen] == [0.25, 0.25, None]
    assert [x["hour"] for x in seen] == [0, 0, 1]
    assert "weight" not in seen[0]


def test_references_are_looked_up_by_the_newest() -> None:
    log = Log().event("product", -999999, "p", product="p", weight=2.0).ask(0, "a", product="p")
    _, out = fold(case(), log)
    assert json.loads(out.predictions[0].value)["features"]["weight"] == 2.0


def test_a_feature_that_raises_is_a_dead_letter_and_the_fold_goes_on() -> None:
    def fragile(event: Any) -> float:
        if event.order == "a1":
            raise ZeroDivisionError("no divisor")
        return float("nan") if event.order == "a2" else 1.0

    declared = case(features={"fragile": derive(fragile)})
    log = Log()
    for n in range(4):
        log.ask(n, f"a{n}")
    _, out = fold(declared, log)
    assert len(out.predictions) == 2
    first, second = refusals(out)
    assert first[0] == second[0] == "features"
    assert "no divisor" in first[1]
    assert "fragile" in first[1]
    assert "nan" in second[1]


class TurnsNaN:
    """An estimator whose probabilities stop being numbers."""

    def __init__(self) -> None:
        self.seen = 0

    def learn_one(self, x: dict[str, Any], y: bool) -> None:
        self.seen += 1

    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        return {True: float("nan") if self.seen >= 3 else 0.75}


def test_an_estimator_that_turns_nan_is_quarantined_and_the_next_in_line_serves() -> None:
    once = Tolerance(failures=1)
    models = PerKey(Member("nan", TurnsNaN), [Member("logistic", logistic)], tolerance=once)
    log = Log()
    for n in range(8):
        log.ask(2 * n, f"a{n}").settle(2 * n + 1, f"a{n}", bad=float(n % 2))
    _, out = fold(case(models=models), log)
    served = [json.loads(o.value)["model"]["name"] for o in out.predictions]
    assert served == ["nan"] * 3 + ["logistic"] * 5
    changes = [json.loads(o.value) for o in out.models]
    (quarantine,) = [c for c in changes if c["kind"] == "quarantine" and c["member"] == "nan"]
    assert quarantine["serving"] == "logistic"
    for output in out.predictions:
        assert all(math.isfinite(p) for p in json.loads(output.value)["probabilities"].values())


def test_a_window_without_the_partition_key_makes_a_chain_which_no_single_fold_takes() -> None:
    chain = case(partitions=2, features={"by_order": mean(Settled, "bad", by="order", over=HOUR)})
    with pytest.raises(DeclarationError, match="a chain of 3 stages"):
        PartitionProcessor(chain, 0)


class Tone(enum.StrEnum):
    HIGH = "high"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (lambda e: float("inf"), "inf is not a finite number"),
        (lambda e: 10**400, "1000"),
        (lambda e: [1.0], "a list is not"),
        (lambda e: object(), "a object is not"),
        (lambda e: "\ud800", "is not a finite number, text"),
        (lambda e: np.array([1.0, 2.0]), "a ndarray is not"),
        (lambda e: np.float64("nan"), "nan is not a finite number"),
        (unspeakable, "its function raised Unspeakable"),
        (lambda e: e.nothing, "AttributeError"),
    ],
)
def test_values_that_are_no_features_are_dead_letters(value: Any, reason: str) -> None:
    log = Log().ask(0, "a").settle(1, "a").ask(2, "b")
    _, out = fold(case(features={"wrong": derive(value)}), log)
    assert [stage for stage, _ in refusals(out)] == ["features", "features"]
    assert reason in refusals(out)[0][1]
    assert "'wrong'" in refusals(out)[0][1]
    window = {"wrong": mean(Settled, value, by="shop", over=HOUR)}
    _, out = fold(case(features=window), log)
    assert [stage for stage, _ in refusals(out)] == ["features"]
    assert len(out.predictions) == 2
    assert fold(case(features=window), log)[1].dead_letters == out.dead_letters


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float64(1.5), 1.5),
        (np.float32(1.5), 1.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (Tone.HIGH, "high"),
        (None, None),
    ],
)
def test_numbers_of_numpy_and_enumerations_are_features(value: Any, plain: Any) -> None:
    _, out = fold(case(features={"f": derive(lambda e: value)}), Log().ask(0, "a"))
    assert json.loads(out.predictions[0].value)["features"].get("f") == plain
    assert refusals(out) == []


def test_text_in_a_window_is_a_dead_letter_and_refused_where_it_is_declared() -> None:
    features = {"tone": mean(Settled, lambda e: "high", by="shop", over=HOUR)}
    _, out = fold(case(features=features), Log().settle(0, "a").ask(1, "a"))
    assert refusals(out)[0][0] == "features"
    assert "windows hold numbers" in refusals(out)[0][1]
    with pytest.raises(DeclarationError, match=r"'order'.*Settled\.order is no int, float or bool"):
        case(features={"order": latest(Settled, "order", by="shop", ttl=HOUR)})


def test_a_member_that_cannot_be_made_is_reported_before_the_first_record() -> None:
    models = PerKey(champion=Member("broken", lambda: 1 / 0))
    with pytest.raises(ModelsError, match="'broken' cannot be made: ZeroDivisionError"):
        PartitionProcessor(case(models=models), 0)


def weights(declared: UseCase, log: Log) -> list[float | None]:
    _, out = fold(declared, log)
    return [json.loads(o.value)["features"].get("weight") for o in out.predictions]


def test_a_lookup_is_as_of_the_requests_time_whatever_is_known_of_other_times() -> None:
    day = 24 * 60.0
    log = Log().clock(0).event("product", 0, "p", product="p", weight=1.0)
    log.event("product", day, "p", product="p", weight=2.0)  # valid from tomorrow
    log.ask(1, "a", product="p").ask(day - 1, "b", product="p").ask(day, "c", product="p")
    log.event("product", 2 * day, "p", product="p", weight=3.0)
    log.event("product", 40_000_000, "p", product="p", weight=9.0)  # 2099: refused
    log.ask(2 * day + 1, "d", product="p")
    declared = case(max_jump=7 * day * 60)
    assert weights(declared, log) == [1.0, 1.0, 2.0, 3.0]
    assert [stage for stage, _ in refusals(fold(declared, log)[1])] == ["time"]


def test_a_reference_that_is_too_old_hides_nothing_and_is_let_go() -> None:
    declared = case(features={"weight": lookup(Product, "weight", by="product", ttl=HOUR)})
    log = Log().clock(0)
    for n in range(10 * RETAIN_EVERY):
        log.event("product", n, f"p{n}", product=f"p{n}", weight=float(n)).ask(
            n, f"a{n}", product=f"p{n - 60}"
        )
    processor, out = fold(declared, log)
    found = [json.loads(o.value)["features"].get("weight") for o in out.predictions]
    assert found[60:] == [float(n) for n in range(10 * RETAIN_EVERY - 60)]
    (references,) = processor.intake.state().features.references
    assert len(references.known) <= 60 + 2 * RETAIN_EVERY
