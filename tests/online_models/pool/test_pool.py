"""Pools: independence of members, baselines, quarantine, drift, weights, determinism."""

from __future__ import annotations

import io
import math
import pickle
import random
import subprocess
import sys
from typing import Any

import pytest
from tasks import LABEL, TASK, Ask

from driftline.online_models.drift import Monitoring
from driftline.online_models.errors import ModelsError, NotFinite
from driftline.online_models.members.failures import Tolerance
from driftline.online_models.members.member import Member, PerKey
from driftline.online_models.pool.pool import Pool
from driftline.online_models.pool.report import merged_report
from driftline.online_models.tasks.task import (
    UNLABELLED,
    Anomaly,
    Binary,
    Decision,
    Label,
    Multiclass,
    Regression,
)

ONCE = Tolerance(failures=1)
"""One failure puts a member in quarantine."""


def logistic() -> Any:
    from river import linear_model, preprocessing

    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


def stream(n: int, flip: int | None = None, seed: int = 7) -> list[tuple[dict[str, float], bool]]:
    rng = random.Random(seed)
    found: list[Any] = []
    for i in range(n):
        x = {"a": rng.gauss(0, 1), "b": rng.gauss(0, 1)}
        y = x["a"] + 0.3 * rng.gauss(0, 1) > 0
        found.append((x, y != (flip is not None and i >= flip)))
    return found


def run(pool: Pool, examples: list[tuple[dict[str, float], bool]]) -> list[Any]:
    """(output, serving, kinds of changes, subjects of drifts) of each example."""
    seen = []
    for offset, (x, y) in enumerate(examples):
        forecast, changes = pool.predict(x)
        drifts = list(pool.observe(x, forecast, float(offset), offset))
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
    assert any("loss: mean" in subjects or "calibration: mean" in subjects for _, _, _, subjects in seen)


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
    models = PerKey(Member("bad", raises_at_five), challengers=[Member("lr", logistic)], tolerance=ONCE)
    pool = Pool(TASK, models, "k", 0)
    seen = run(pool, stream(20))
    assert [serving for _, serving, _, _ in seen] == ["bad"] * 5 + ["lr"] * 15
    assert sum(kinds.count("quarantine") for _, _, kinds, _ in seen) == 1
    report = merged_report([pool])
    assert report["bad"]["live"] is False
    assert report["lr"]["n"] == 20


class TurnsNaN(RaisesAt):
    """A model whose answers are NaN once it has learned so many labels."""

    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        self.left -= 1

    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        return {True: 0.5 if self.left > 0 else math.nan}


def test_a_member_that_turns_nan_is_quarantined_before_it_is_put_out() -> None:
    bad = Member("bad", lambda: TurnsNaN(3))
    models = PerKey(bad, challengers=[Member("lr", logistic)], baselines=False, tolerance=ONCE)
    pool = Pool(TASK, models, "k", 2)
    seen = run(pool, stream(3))
    forecast, (change,) = pool.predict({"a": 1.0})
    assert [serving for _, serving, _, _ in seen] == ["bad"] * 3
    assert (change.kind, change.member, change.stage) == ("quarantine", "bad", "predict")
    assert change.reason == (
        "NotFinite: p(True) is nan (failures: 1 in 1 requests; it comes back after 1,000 more)"
    )
    assert (forecast.serving, forecast.version, forecast.outputs[0]) == ("lr", "lr@2:2", None)
    assert not pool.predict({"a": 1.0})[1]


class Complains(RaisesAt):
    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        raise RuntimeError(f"not this: {object()!r}" + "!" * 10_000)


def test_a_reason_is_short_and_has_no_memory_address_in_it() -> None:
    pool = Pool(TASK, PerKey(Member("bad", lambda: Complains(0)), baselines=False), "k", 0)
    (change,) = pool.learn({}, True, pool.predict({})[0], 0.0, 0, "id").changes
    assert change.reason.startswith("RuntimeError: not this: <object object at 0x...>!")
    assert len(change.reason) == 500


def test_what_the_frozen_baseline_serves_is_named_after_its_last_label() -> None:
    models = PerKey(Member("bad", raises_at_five), frozen_after=3, tolerance=ONCE)
    pool = Pool(TASK, models, "k", 0)
    run(pool, stream(9))
    forecast, _ = pool.predict({"a": 1.0})
    assert (forecast.serving, forecast.version, forecast.learned_through) == ("frozen", "frozen@0:2", 2)


def test_a_probability_out_of_bounds_by_rounding_is_clipped_and_any_other_refused() -> None:
    class Says:
        def __init__(self, p: float) -> None:
            self.p = p

        def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
            return {True: self.p}

    assert TASK.predict(Says(1 + 2e-16), {}) == 1.0
    assert TASK.predict(Says(-1e-17), {}) == 0.0
    for p in (1.1, -0.1, math.nan, math.inf):
        with pytest.raises(NotFinite):
            TASK.predict(Says(p), {})
        with pytest.raises(NotFinite):
            Multiclass("m", ask=Ask, label=LABEL).predict(Says(p), {})


class Unpicklable(RaisesAt):
    """Can be pickled at birth, but no more once it has learned."""

    def __init__(self) -> None:
        super().__init__(10_000)

    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        self.open = lambda: y


def test_a_champion_that_cannot_be_copied_when_it_is_to_be_frozen_goes_on_without_the_baseline() -> None:
    pool = Pool(TASK, PerKey(Member("odd", Unpicklable), frozen_after=3), "k", 0)
    seen = run(pool, stream(10))
    assert [kinds for _, _, kinds, _ in seen if kinds] == [["quarantine"]]
    assert {serving for _, serving, _, _ in seen} == {"odd"}
    assert merged_report([pool])["frozen"]["n"] == 3


def test_the_frozen_baseline_is_what_an_estimator_of_its_own_would_be() -> None:
    examples = stream(600)
    pool = Pool(TASK, PerKey(Member("lr", logistic), frozen_after=200), "k", 0)
    alone = Member("lr", logistic).born()
    for offset, (x, y) in enumerate(examples):
        forecast, _ = pool.predict(x)
        assert forecast.outputs[1] == TASK.predict(alone, x)
        pool.learn(x, y, forecast, 0.0, offset, str(offset))
        if offset < 200:
            alone.learn_one(x, y)


def test_when_all_members_fail_the_prior_answers() -> None:
    pool = Pool(TASK, PerKey(Member("bad", raises_at_five), baselines=False, tolerance=ONCE), "k", 0)
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


def renamed() -> Any:
    """River's Renamer changes the features that it is given."""
    from river import compose

    return compose.Renamer({"a": "renamed"}) | logistic()


def test_a_member_that_changes_the_features_it_is_given_changes_them_for_itself_alone() -> None:
    scope = PerKey(Member("renamed", renamed), challengers=[Member("logistic", logistic)])
    pool = Pool(TASK, scope, "k", 0)
    alone = Pool(TASK, PerKey(Member("logistic", logistic)), "k", 0)
    for offset, (x, y) in enumerate(stream(200)):
        given = dict(x)
        forecast, _ = pool.predict(x)
        expected, _ = alone.predict(given)
        assert forecast.outputs[1] == expected.outputs[0]
        pool.learn(x, y, forecast, float(offset), offset, str(offset))
        alone.learn(given, y, expected, float(offset), offset, str(offset))
        assert x == given


class RenamesAndScores:
    """An anomaly detector that changes the features that it is given."""

    def learn_one(self, x: dict[str, float]) -> None:
        x["renamed"] = x.pop("a")

    def score_one(self, x: dict[str, float]) -> float:
        x["renamed"] = x.pop("a")
        return 0.5


@pytest.mark.parametrize("label", [None, LABEL])
def test_a_detector_that_changes_the_features_it_is_given_changes_them_for_itself_alone(
    label: Label[Any] | None,
) -> None:
    task = Anomaly("odd", ask=Ask, label=label) if label else Anomaly("odd", ask=Ask, wait=1.0)
    pool = Pool(task, PerKey(Member("renames", RenamesAndScores)), "k", 0)
    for offset, (x, _) in enumerate(stream(20)):
        given = dict(x)
        forecast, _ = pool.predict(x)
        if label:
            pool.learn(x, False, forecast, float(offset), offset, str(offset))
        else:
            pool.absorb(x, forecast, offset)
        assert x == given
        assert forecast.serving == "renames" or offset == 0


def test_a_pool_goes_on_the_same_after_a_pickle() -> None:
    examples = stream(1200)
    whole = Pool(TASK, PerKey(Member("lr", logistic), frozen_after=100), "k", 0)
    half = Pool(TASK, PerKey(Member("lr", logistic), frozen_after=100), "k", 0)
    expected = run(whole, examples)
    found = run(half, examples[:600])
    half = pickle.loads(pickle.dumps(half))
    rest = []
    for offset, (x, y) in enumerate(examples[600:], 600):
        forecast, changes = half.predict(x)
        drifts = list(half.observe(x, forecast, float(offset), offset))
        learned = half.learn(x, y, forecast, float(offset), offset, f"id-{offset}")
        kinds = [c.kind for c in (*changes, *learned.changes)]
        rest.append(
            (forecast.output, forecast.serving, kinds, [d.subject for d in (*drifts, *learned.drifts)])
        )
    assert found + rest == expected


def test_a_pool_is_pickled_apart_from_the_declaration_whose_lambdas_cannot_be() -> None:
    task = Binary(
        "b", ask=Ask, label=Label(Ask, on="id", value=lambda e: e, wait=1.0), decision=Decision(1.0, 3.0)
    )
    models = PerKey(Member("lr", lambda: logistic()), frozen_after=100)
    declared: dict[str, Any] = {"task": task, "models": models, "lr": models.champion}

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> str | None:
            return next((name for name, declaration in declared.items() if obj is declaration), None)

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, pid: str) -> Any:
            return declared[pid]

    examples = stream(400)
    pool = Pool(task, models, "k", 0)
    run(pool, examples[:200])
    kept = io.BytesIO()
    Pickler(kept, protocol=5).dump(pool)
    kept.seek(0)
    again = Unpickler(kept).load()
    assert run(again, examples[200:]) == run(pool, examples[200:])
    assert merged_report([again]) == merged_report([pool])


def test_the_unlabelled_mark_is_itself_after_a_pickle() -> None:
    assert pickle.loads(pickle.dumps(LABEL)).at_expiry is UNLABELLED


def test_a_corrected_label_amends_the_metrics_and_teaches_nothing() -> None:
    examples = stream(300)
    models = PerKey(Member("lr", logistic), challengers=[Member("bad", raises_at_five)], tolerance=ONCE)
    pool = Pool(TASK, models, "k", 0)
    forecasts = []
    for offset, (x, y) in enumerate(examples):
        forecasts.append(pool.predict(x)[0])
        pool.learn(x, y, forecasts[-1], 0.0, offset, str(offset))
    before = pool.predict({"a": 1.0})[0].outputs
    right = {name: entry["accuracy"] * entry["n"] for name, entry in merged_report([pool]).items()}
    for forecast, (_, y) in zip(forecasts, examples, strict=True):
        pool.revise(y, not y, forecast)
    after = merged_report([pool])
    assert pool.predict({"a": 1.0})[0].outputs == before
    for name, entry in after.items():
        assert math.isclose(entry["accuracy"] * entry["n"], entry["n"] - right[name])
    assert after["bad"]["n"] == 5


def test_numbers_out_of_range_are_refused_when_declared() -> None:
    for declare in (
        lambda: Member("m", logistic, class_weight={True: math.nan}),
        lambda: Member("m", logistic, class_weight={True: -1.0}),
        lambda: Member("m", logistic, sampling={False: 0.0}),
        lambda: PerKey(Member("m", logistic), frozen_after=0),
        lambda: Monitoring(false_alarm_every=0),
    ):
        with pytest.raises(ModelsError):
            declare()
    with pytest.raises(ModelsError, match="no label of a binary task"):
        Pool(TASK, PerKey(Member("m", logistic, sampling={"False": 0.1})), "k", 0)
    with pytest.raises(ModelsError, match="regression"):
        Pool(
            Regression("r", ask=Ask, label=LABEL), PerKey(Member("m", logistic, sampling={True: 0.1})), "k", 0
        )


def test_sampling_of_several_classes_is_corrected_for_their_prior() -> None:
    member = Member("m", logistic, sampling={"a": 0.1, "b": 0.5})
    # of 100 a, 20 b, 20 c there were 10, 10, 20 learned: the estimator says 1/4, 1/4, 1/2
    corrected = member.corrected({"a": 0.25, "b": 0.25, "c": 0.5})
    assert all(math.isclose(corrected[label], p) for label, p in {"a": 5 / 7, "b": 1 / 7, "c": 1 / 7}.items())
    kept = sum(member.learns("a", f"flight-{number}:late") for number in range(20_000))
    assert abs(kept / 20_000 - 0.1) < 0.01


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
