"""Drift: what is found and what is not, incidents, their kinds and suspects, the estimate without labels."""

from __future__ import annotations

import math
import pickle
import random
import statistics
from typing import Any

import numpy as np
import pytest

from driftline.online_models.drift import Drift, DriftManager, Monitoring, SuspectStream
from driftline.online_models.drift.alarm_budget import evidence_for
from driftline.online_models.drift.drift_report import Side
from driftline.online_models.drift.incidents import is_unit_change, kind_of_change, ranked
from driftline.online_models.drift.monitors.value_scale import Scale
from driftline.online_models.drift.monitors.windows import BLOCK, Windows
from driftline.online_models.tasks.task import Label, Multiclass, Regression
from driftline.streams.code.state_hash import state_hash
from tests.online_models.drift.stationary import DELAY, TASK, Ask, Asked, Fault, stream, watched

AT = 20_000
"""Requests before a change."""
PROMISED = Monitoring().false_alarm_every


def unit(number: int, asked: Asked, _: np.random.Generator) -> Asked:
    """From `AT` on a distance comes in kilometres instead of miles."""
    return asked._replace(x=asked.x | {"distance": asked.x["distance"] * 1.609}) if number >= AT else asked


def frozen(number: int, asked: Asked, _: np.random.Generator) -> Asked:
    return asked._replace(x=asked.x | {"wind": 11.5}) if number >= AT else asked


def missing(number: int, asked: Asked, random: np.random.Generator) -> Asked:
    if number < AT or random.random() >= 0.1:
        return asked
    return asked._replace(x={name: value for name, value in asked.x.items() if name != "amount"})


def error_jump(number: int, asked: Asked, random: np.random.Generator) -> Asked:
    """A model that is wrong in .2 of its answers, then in .4, though it says .2 all along."""
    y = bool(random.random() < 0.5)
    wrong = random.random() < (0.4 if number >= AT else 0.2)
    return Asked(asked.x, 0.8 if y != wrong else 0.2, y)


FAULTS: dict[str, tuple[Fault, tuple[str, ...], str, int]] = {
    "unit": (unit, ("feature distance",), "data break", 0),
    "frozen": (frozen, ("feature wind",), "data break", 0),
    "missing": (missing, ("feature amount",), "data break", 0),
    "error jump": (error_jump, ("loss", "calibration"), "concept drift", DELAY),
}


def found(fault: Fault, seed: int) -> tuple[list[Drift], list[Drift]]:
    """What is confirmed before the change, and after it until the incident is over."""
    drifts = [d for d in watched(Monitoring(), stream(seed, AT + 4_000, fault)) if d.severity == "drift"]
    return [d for d in drifts if d.offset < AT], [d for d in drifts if d.offset >= AT]


def detection(name: str, seeds: range) -> tuple[list[int], list[str], list[str]]:
    """Delays in events since the change could be seen, first suspects, kinds (the last reported of each)."""
    fault, _, _, seen_after = FAULTS[name]
    delays, first, kinds = [], [], []
    for seed in seeds:
        _, after = found(fault, seed)
        assert after, f"{name} was missed with seed {seed}"
        delays.append(after[0].offset - AT - seen_after)
        first.append(after[0].suspects[0].stream)
        kinds.append([d for d in after if d.incident == after[0].incident][-1].kind)
    return delays, first, kinds


@pytest.mark.parametrize("name", FAULTS)
def test_a_change_is_detected_and_its_suspect_named_first(name: str) -> None:
    delays, first, kinds = detection(name, range(2))
    assert max(delays) < 1_500
    assert set(first) <= set(FAULTS[name][1])
    assert set(kinds) == {FAULTS[name][2]}


@pytest.mark.parametrize("feature", ["queue", "distance", "step"])
@pytest.mark.parametrize("factor", [100.0, 0.01])
@pytest.mark.parametrize("at", [6_400, 6_433])
def test_a_large_change_of_unit_is_a_data_break_wherever_it_begins_and_however_slow_the_stream(
    feature: str, factor: float, at: int
) -> None:
    def scaled(number: int, asked: Asked, _: np.random.Generator) -> Asked:
        return asked._replace(x=asked.x | {feature: asked.x[feature] * factor}) if number >= at else asked

    drifts = [d for d in watched(Monitoring(), stream(1, at + 1_000, scaled)) if d.severity == "drift"]
    assert [d.incident for d in drifts if d.offset < at] == []
    assert drifts[0].offset < at + 700
    assert drifts[-1].kind == "data break"
    assert drifts[-1].suspects[0][1:3] == (f"feature {feature}", "unit")


@pytest.mark.soak
@pytest.mark.parametrize("name", FAULTS)
def test_no_change_is_missed_in_twenty_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    delays, first, kinds = detection(name, range(20))
    with capsys.disabled():
        print(
            f"\n{name}: median delay {statistics.median(delays):,.0f} events (worst {max(delays):,}); "
            f"first suspect {set(first)}; kind {set(kinds)}"
        )
    assert set(first) <= set(FAULTS[name][1])


def confirmed_on_stationary(seeds: range, count: int) -> int:
    drifts = (d for seed in seeds for d in watched(Monitoring(), stream(seed, count)))
    return len({(d.incident, d.offset) for d in drifts if d.severity == "drift"})


def test_a_stream_that_does_not_change_keeps_the_promise() -> None:
    assert confirmed_on_stationary(range(100, 102), 50_000) <= 1


@pytest.mark.soak
def test_the_promised_time_between_false_alarms_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    runs, count = 20, 200_000
    alarms = confirmed_on_stationary(range(runs), count)
    with capsys.disabled():
        measured = runs * count / max(alarms, 1)
        print(
            f"\n{alarms} false alarms in {runs} x {count:,}: one in {measured:,.0f} ({PROMISED:,} promised)"
        )
    assert alarms <= runs * count / PROMISED


def test_one_incident_tells_of_many_alarms_and_ends_after_the_cooldown() -> None:
    def everything(number: int, asked: Asked, _: np.random.Generator) -> Asked:
        if number < AT:
            return asked
        shifted = {n: v + 5 if v.__class__ is float else v for n, v in asked.x.items() if n != "cancelled"}
        return Asked(asked.x | shifted, 0.9, not asked.y)

    drifts = [d for d in watched(Monitoring(), stream(4, AT + 6_000, everything)) if d.offset >= AT]
    incidents = {d.incident for d in drifts}
    assert len(incidents) == 1
    assert drifts[-1].severity == "recovered"
    assert len(drifts) <= 5
    assert len(drifts[-1].suspects) > 5
    assert drifts[-1].budget.requests - drifts[0].budget.requests >= Monitoring().cooldown


def test_labels_have_the_position_of_their_requests_and_their_own() -> None:
    drifts = [d for d in found(error_jump, 4)[1] if d.labels is not None]
    drift = drifts[0]
    assert drift.labels is not None
    assert drift.labels.last_offset == drift.offset
    assert drift.predictions.last_offset == drift.offset - DELAY
    assert drift.predictions.first_offset == drift.labels.first_offset - DELAY


def test_what_needs_no_label_is_reported_first() -> None:
    drifts = found(unit, 5)[1]
    assert drifts[0].labels is None


def test_a_manager_goes_on_the_same_from_a_snapshot() -> None:
    requests = list(stream(6, 4_000))
    drifts: list[list[Drift]] = []
    hashes = []
    for cut in (4_000, 1_234):
        manager = DriftManager(Monitoring(), TASK, ["m"])
        seen: list[Drift] = []
        for offset, (x, p, y) in enumerate(requests):
            if offset == cut:
                kept = pickle.loads(pickle.dumps(manager.snapshot()))
                manager = DriftManager(Monitoring(), TASK, ["m"])
                manager.restore(kept)
            shift = {"wind": x["wind"] + 9} if offset > 3_000 else {}
            seen += manager.observe(x | shift, p, float(offset), offset)
            seen += manager.learn(y, p, TASK.loss(y, p), (None,), 0.0, offset, float(offset), offset, (p,))
        drifts.append(seen)
        hashes.append(state_hash(manager.snapshot()))
    assert drifts[0]
    assert drifts[0] == drifts[1]
    assert hashes[0] == hashes[1]


def test_comparisons_of_losses_start_again_when_losses_changed_and_only_then() -> None:
    for fault, restarts in ((unit, 0), (error_jump, 1)):
        manager = DriftManager(Monitoring(), TASK, ["m"])
        for offset, (x, p, y) in enumerate(stream(7, AT + 1_500, fault)):
            manager.observe(x, p, float(offset), offset)
            manager.learn(y, p, TASK.loss(y, p), (None,), 0.0, offset, float(offset), offset, (p,))
        assert manager.restarts == restarts
        assert manager.state in ("drift", "recovered")


def test_the_estimate_follows_the_inputs_before_labels_come_and_is_withheld_when_labels_deny_it() -> None:
    manager = DriftManager(Monitoring(), TASK, ["m"])
    assert manager.estimate().withheld
    generator = random.Random(1)

    def ask(offset: int, logit: float) -> tuple[float, float, bool]:
        truth = 1 / (1 + math.exp(-logit))
        said = 1 / (1 + math.exp(-2 * logit))  # over-confident: what it says is not what it is worth
        manager.observe({}, said, float(offset), offset)
        return truth, said, generator.random() < truth

    def labelled(offset: int, said: float, y: bool) -> None:
        manager.learn(y, said, TASK.loss(y, said), (None,), 0.0, offset, float(offset), offset, (said,))

    for offset in range(8_000):
        _, said, y = ask(offset, generator.gauss(0, 1))
        labelled(offset, said, y)
    surer = [ask(offset, generator.choice((-1, 1)) * 2.0) for offset in range(8_000, 8_512)]
    estimate = manager.estimate()
    real = statistics.fmean(
        -(p * math.log(said) + (1 - p) * math.log(1 - said)) for p, said, _ in surer[-BLOCK * 4 :]
    )
    assert estimate.loss == pytest.approx(real, abs=0.06)
    assert estimate.accuracy == pytest.approx(0.88, abs=0.04)
    for offset in range(8_512, 11_000):
        _, said, y = ask(offset, generator.gauss(0, 1))
        labelled(offset, said, not y)
        if manager.estimate().withheld.startswith("concept drift"):
            break
    else:
        pytest.fail("the estimate was never withheld")


class Asking(Ask):
    """A request of another type, for tasks that are declared beside the first."""


def test_numbers_and_classes_are_watched_too() -> None:
    label = Label(Ask, on="id", value=lambda event: event, wait=1.0)
    generator = random.Random(8)
    number = DriftManager(Monitoring(), Regression("r", ask=Ask, label=label), ["m"])
    classes = DriftManager(Monitoring(), Multiclass("c", ask=Ask, label=label), ["m"])
    drifts: dict[str, list[Drift]] = {"number": [], "classes": []}
    for offset in range(9_000):
        late = offset >= 6_000
        value = 1e6 * generator.gauss(0, 3 if late else 1)
        number.observe({"a": 1.0}, 0.0, 0.0, offset)
        drifts["number"] += number.learn(value, 0.0, value**2, (None,), 0.0, offset, 0.0, offset, (0.0,))
        y = "abc"[min(int(generator.random() * (5 if late else 3)), 2)]
        output = {"a": 0.34, "b": 0.33, "c": 0.33}
        classes.observe({"a": "x"}, output, 0.0, offset)
        drifts["classes"] += classes.learn(y, output, 1.1, (None,), 0.0, offset, 0.0, offset, (output,))
    assert [d.offset >= 6_000 for d in drifts["number"]] == [True] * len(drifts["number"])
    assert drifts["number"][0].subject == "loss: mean"
    assert drifts["number"][0].before.mean == pytest.approx(1e12, rel=0.2)
    confirmed = [d for d in drifts["classes"] if d.severity == "drift"]
    assert {suspect.change for suspect in confirmed[-1].suspects} >= {"labels"}


def test_values_that_are_no_finite_numbers_count_as_missing() -> None:
    manager = DriftManager(Monitoring(), TASK, ["m"])
    odd = (math.nan, math.inf, -math.inf, 1e200, 10**400, "text", None)
    generator = random.Random(9)
    drifts: list[Drift] = []
    for offset in range(12_000):
        value = odd[offset % 7] if offset >= 8_000 and offset % 3 else generator.gauss(0, 1)
        x: dict[str, Any] = {"a": value, "tiny": generator.random() * 1e-170, "list": [1], "same": 5}
        drifts += manager.observe(x, 0.5, 0.0, offset)
    confirmed = [d for d in drifts if d.severity == "drift"]
    assert confirmed[0].offset > 8_000
    assert confirmed[-1].suspects[0].subject == "feature a: missing rate"


def test_features_that_are_not_to_be_watched_are_not() -> None:
    manager = DriftManager(Monitoring(unwatched=frozenset({"a"})), TASK, ["m"])
    drifts: list[Drift] = []
    for offset in range(8_000):
        drifts += manager.observe({"a": float(offset), "b": "x"}, 0.5 + (offset % 7) / 100, 0.0, offset)
    assert drifts == []


def test_more_monitors_need_more_evidence_each() -> None:
    assert evidence_for(1e3) < evidence_for(1e5) < evidence_for(1e7) < evidence_for(1e12)


def test_a_column_added_or_restarted_has_its_own_history() -> None:
    generator = np.random.default_rng(10)
    windows = Windows()
    windows.insert([0])
    alarms = []
    for number in range(400):
        if number == 100:
            windows.insert([0])
        values = generator.normal(0, 0.1, windows.columns)
        values[-1] += 0.5 * (number >= 300)
        block = np.stack([values, values**2 + 0.3, values, np.ones(len(values))])
        for exceedance in windows.update(block, 8.0):
            alarms.append((number, exceedance.column))
            windows.restart(exceedance.column)
    assert [column for _, column in alarms] == [1]
    assert 300 <= alarms[0][0] < 310


def test_a_scale_is_of_the_middle_half_and_survives_constants() -> None:
    assert Scale.of([1.0, 2.0, 3.0, 4.0, 1e30]).width == pytest.approx(3.0)
    for sample in ([0.0] * 9, [5.0] * 9, [0.0] * 8 + [1.0]):
        scale = Scale.of(sample)
        assert scale.width > 0
        assert abs(scale.offset) < 1


def suspect(subject: str, change: Any, evidence: float) -> SuspectStream:
    return SuspectStream(subject, subject.split(":")[0], change, evidence, Side(0.0, 1), Side(1.0, 1))


def test_a_broken_feature_goes_before_what_it_causes_and_evidence_decides_the_rest() -> None:
    loss, score = suspect("loss: mean", "loss", 90.0), suspect("score: mean", "mean", 80.0)
    broken, moved = (
        suspect("feature a: missing", "missing rate", 9.0),
        suspect("feature b: mean", "mean", 50.0),
    )
    other = suspect("feature c: spread", "spread", 20.0)
    assert ranked([loss, score, other, moved, broken]) == (broken, moved, other, loss, score)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ([("feature a: frozen", "frozen value"), ("loss: mean", "loss")], "data break"),
        ([("feature a: mean", "mean"), ("score: mean", "mean")], "covariate drift"),
        ([("feature a: mean", "mean"), ("label: mean", "labels")], "covariate drift"),
        ([("loss: mean", "loss")], "concept drift"),
        ([("label: mean", "labels"), ("calibration: mean", "calibration")], "concept drift"),
        (
            [("score: mean", "mean"), ("label: mean", "labels"), ("calibration: mean", "calibration")],
            "label shift",
        ),
        ([("label: mean", "labels")], "label shift"),
    ],
)
def test_the_kind_follows_from_what_moved_together(changes: list[tuple[str, Any]], kind: str) -> None:
    assert kind_of_change([suspect(subject, change, 9.0) for subject, change in changes]) == kind


def test_a_unit_changes_mean_and_deviation_by_one_factor() -> None:
    assert is_unit_change((10.0, 3.0), (16.1, 4.8))
    assert not is_unit_change((10.0, 3.0), (20.0, 3.0))
    assert not is_unit_change((10.0, 3.0), (10.0, 9.0))
    assert is_unit_change((10.0, 3.0), (-10.4, 3.1))  # a flipped sign
    assert not is_unit_change((10.0, 3.0), (0.0, 3.0))
    assert is_unit_change((0.0, 1.0), (0.0, 1.6))
    assert not is_unit_change((0.0, 1.0), (0.0, 1.1))
    assert not is_unit_change((0.0, 1.0), (2.0, 1.6))
    assert is_unit_change((0.0, 1.0), (0.1, 100.0))
