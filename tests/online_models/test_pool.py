"""Pools: independence of members, baselines, quarantine, drift, weights, determinism."""

from __future__ import annotations

import math
import pickle
import random
import subprocess
import sys
from typing import Any

import pytest

from online_models.errors import ModelsError
from online_models.member import Member, PerKey
from online_models.pool import Pool, merged_report
from online_models.task import Binary, Label, Regression


class Ask:
    pass


def itself(event: Any) -> Any:
    return event


LABEL = Label(Ask, on="id", value=itself, wait=1.0)
TASK = Binary("b", ask=Ask, label=LABEL)


def logistic() -> Any:
    from river import linear_model, preprocessing

    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


def stream(n: int, flip: int | None = None, seed: int = 7) -> list[tuple[dict[str, float], bool]]:
    rng = random.Random(seed)
    found = []
    for i in range(n):
        x = {"a": rng.gauss(0, 1), "b": rng.gauss(0, 1)}
        y = x["a"] + 0.3 * rng.gauss(0, 1) > 0
        found.append((x, y != (flip is not None and i >= flip)))
    return found


def run(pool: Pool, examples: list[tuple[dict[str, float], bool]]) -> list[Any]:
    """(output, serving, kinds of changes, subjects of drifts) of each example."""
    seen = []
    for offset, (x, y) in enumerate(examples):
        drifts = list(pool.observe(x, float(offset), offset))
        forecast, changes = pool.predict(x)
        learned = pool.learn(x, y, forecast, float(offset), offset, f"id-{offset}")
        seen.append(
            (
                forecast.output,
                forecast.serving,
                [c.kind for c in (*changes, *learned.changes)],
                [d.subject for d in (*drifts, *learned.drifts)],
            )
        )
    return seen


def test_the_champion_learns_the_frozen_stops_and_the_prior_stays_behind() -> None:
    pool = Pool(TASK, PerKey(Member("lr", logistic), frozen_after=300), "k", 0)
    seen = run(pool, stream(4000, flip=1500))
    report = merged_report([pool])
    assert report["lr"]["role"] == "champion"
    assert report["lr"]["log_loss"] < report["frozen"]["log_loss"]
    assert report["lr"]["fading"]["roc_auc"] > 0.9 > 0.5 > report["frozen"]["fading"]["roc_auc"]
    assert ["frozen"] in [kinds for _, _, kinds, _ in seen]
    assert any("loss" in subjects for _, _, _, subjects in seen)


def test_a_version_is_the_last_label_learned_from() -> None:
    pool = Pool(TASK, PerKey(Member("lr", logistic)), "k", 3)
    assert pool.predict({"a": 1.0})[0].version == "lr@3:-1"
    run(pool, stream(5))
    forecast, _ = pool.predict({"a": 1.0})
    assert (forecast.version, forecast.learned_through) == ("lr@3:4", 4)


class RaisesAt:
    def __init__(self, call: int) -> None:
        self.left = call

    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        self.left -= 1
        if self.left <= 0:
            raise RuntimeError("out of order")

    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        return {True: 0.5}


def raises_at_five() -> RaisesAt:
    return RaisesAt(5)


def test_a_member_that_raises_is_quarantined_with_its_reason_and_the_others_go_on() -> None:
    pool = Pool(TASK, PerKey(Member("bad", raises_at_five), challengers=[Member("lr", logistic)]), "k", 0)
    seen = run(pool, stream(20))
    assert [serving for _, serving, _, _ in seen] == ["bad"] * 5 + ["lr"] * 15
    assert sum(kinds.count("quarantine") for _, _, kinds, _ in seen) == 2  # the frozen copy fails too
    report = merged_report([pool])
    assert report["bad"]["live"] is False
    assert report["lr"]["n"] == 20


def test_when_all_members_fail_the_prior_answers() -> None:
    pool = Pool(TASK, PerKey(Member("bad", raises_at_five), baselines=False), "k", 0)
    seen = run(pool, stream(20))
    assert {serving for _, serving, _, _ in seen[5:]} == {"prior"}
    assert all(0 < output < 1 for output, _, _, _ in seen)


def test_members_built_from_one_object_share_nothing() -> None:
    shared = logistic()
    models = PerKey(
        Member("one", lambda: shared), challengers=[Member("two", lambda: shared)], baselines=False
    )
    pool = Pool(TASK, models, "k", 0)
    forecasts = []
    for offset, (x, y) in enumerate(stream(50)):
        forecast, _ = pool.predict(x)
        forecasts.append(forecast.outputs)
        pool.learn(x, y, forecast, 0.0, offset, str(offset))
    assert all(one == two for one, two in forecasts)
    assert shared.predict_proba_one({"a": 1.0})[True] == 0.5


def test_a_pool_goes_on_the_same_after_a_pickle() -> None:
    examples = stream(1200)
    whole = Pool(TASK, PerKey(Member("lr", logistic), frozen_after=100), "k", 0)
    half = Pool(TASK, PerKey(Member("lr", logistic), frozen_after=100), "k", 0)
    expected = run(whole, examples)
    found = run(half, examples[:600])
    half = pickle.loads(pickle.dumps(half))
    rest = []
    for offset, (x, y) in enumerate(examples[600:], 600):
        drifts = list(half.observe(x, float(offset), offset))
        forecast, changes = half.predict(x)
        learned = half.learn(x, y, forecast, float(offset), offset, f"id-{offset}")
        kinds = [c.kind for c in (*changes, *learned.changes)]
        rest.append(
            (forecast.output, forecast.serving, kinds, [d.subject for d in (*drifts, *learned.drifts)])
        )
    assert found + rest == expected


def test_class_weight_moves_the_answer_and_needs_an_estimator_that_takes_it() -> None:
    rare = [(x, y and i % 10 == 0) for i, (x, y) in enumerate(stream(2000))]
    plain = Pool(TASK, PerKey(Member("lr", logistic)), "k", 0)
    heavy = Pool(TASK, PerKey(Member("lr", logistic, class_weight={True: 10.0})), "k", 0)
    run(plain, rare)
    run(heavy, rare)
    x = {"a": 0.5, "b": 0.0}
    assert heavy.predict(x)[0].output > plain.predict(x)[0].output + 0.1
    with pytest.raises(ModelsError, match="class_weight"):
        Pool(TASK, PerKey(Member("bad", raises_at_five, class_weight={True: 2.0})), "k", 0)


def test_sampling_is_corrected_for_the_prior() -> None:
    examples = stream(20_000)
    noise = random.Random(1)
    rare = [({"c": noise.gauss(0, 1)}, noise.random() < 0.05) for _ in examples]
    pool = Pool(TASK, PerKey(Member("lr", logistic, sampling={False: 0.1})), "k", 0)
    run(pool, rare)
    served = [pool.predict({"c": noise.gauss(0, 1)})[0].output for _ in range(200)]
    assert math.isclose(sum(served) / len(served), 0.05, abs_tol=0.02)


def test_a_changed_feature_is_found_with_its_levels() -> None:
    pool = Pool(TASK, PerKey(Member("lr", logistic)), "k", 0)
    rng = random.Random(2)
    found = []
    for offset in range(4000):
        x = {"a": rng.gauss(0 if offset < 2000 else 2, 1), "text": "t", "flag": True}
        found += pool.observe(x, float(offset), offset)
    (mean,) = [d for d in found if d.subject == "feature a: mean"]
    # ADWIN cuts at a boundary of its buckets, so a few values may lie on the wrong side
    assert mean.before.mean < 0.8
    assert mean.after.mean > 1.8
    assert 2000 <= mean.offset < 2600
    assert mean.before.count + mean.after.count <= 4000


def test_stationary_features_raise_no_alarm() -> None:
    pool = Pool(TASK, PerKey(Member("lr", logistic)), "k", 0)
    rng = random.Random(4)
    found = []
    for offset in range(50_000):
        found += pool.observe({"a": rng.gauss(0, 1), "b": rng.random()}, float(offset), offset)
    assert found == []


def test_regression_fits_the_same_pool() -> None:
    def linear() -> Any:
        from river import linear_model, preprocessing

        return preprocessing.StandardScaler() | linear_model.LinearRegression()

    pool = Pool(Regression("r", ask=Ask, label=LABEL), PerKey(Member("lin", linear), frozen_after=5), "k", 0)
    for offset, (x, _) in enumerate(stream(500)):
        forecast, _ = pool.predict(x)
        pool.learn(x, 3 * x["a"], forecast, 0.0, offset, str(offset))
    report = merged_report([pool])
    assert report["lin"]["fading"]["rmse"] < report["prior"]["fading"]["rmse"]


HASHED = """
from tests_pool import run, stream, logistic, TASK, Pool, PerKey, Member
print(run(Pool(TASK, PerKey(Member("lr", logistic), frozen_after=100), "k", 0), stream(600)))
"""


def test_the_hash_seed_changes_nothing() -> None:
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('tests_pool', {__file__!r})\n"
        "module = importlib.util.module_from_spec(spec); sys.modules['tests_pool'] = module\n"
        "spec.loader.exec_module(module)\n" + HASHED
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
