"""Every public name does what it says: here, or in the tests of the folder that is named for it."""

from __future__ import annotations

import ast
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import till
from shop import START, Asked, Product, Settled, asked, orders, settled

import driftline as dl
import driftline.client
from driftline.features.online.client import Status
from driftline.features.state.feature_state import FeatureState

TESTS = Path(__file__).parent
KEYED: dict[str, Any] = {"by": "shop", "over": dl.HOUR}

FEATURES: dict[str, tuple[Any, float]] = {
    "count": (dl.count(Settled, **KEYED), 3), "sum": (dl.sum(Settled, "bad", **KEYED), 6.0),
    "mean": (dl.mean(Settled, "bad", **KEYED), 2.0), "min": (dl.min(Settled, "bad", **KEYED), 1.0),
    "max": (dl.max(Settled, "bad", **KEYED), 3.0), "std": (dl.std(Settled, "bad", **KEYED), (2 / 3) ** 0.5),
    "distinct": (dl.distinct(Settled, "bad", **KEYED), 3), "first": (dl.first(Settled, "bad", **KEYED), 1.0),
    "rate": (dl.rate(Settled, **KEYED), 3 / dl.HOUR), "since": (dl.since(Settled, **KEYED), 10.0),
    "last": (dl.last(Settled, "bad", by="shop", ttl=dl.HOUR), 2.0),
    "latest": (dl.latest(Settled, "bad", by="shop", ttl=dl.HOUR), 2.0),
    "lag": (dl.lag(Settled, "bad", by="shop", n=2, over=dl.HOUR), 3.0),
    # weights of 1/8, 1/4 and 1/2, as they are half as heavy every ten seconds
    "decayed": (dl.decayed(Settled, "bad", by="shop", half_life=10), (1 / 8 + 3 / 4 + 2 / 2) / (7 / 8)),
    "field": (dl.field("amount"), 5.0), "derive": (dl.derive(lambda request: request.amount + 1), 6.0),
    "lookup": (dl.lookup(Product, "weight", by="product"), 7.0),
    "ratio": (dl.ratio("sum", "count"), 2.0), "difference": (dl.difference("max", "min"), 2.0),
    "on_demand": (dl.on_demand(lambda amount: 2 * amount, of="field"), 10.0),
}  # fmt: skip

ELSEWHERE = {
    "FeatureClient": "features/online", "FeatureRow": "features/online",
    "Schema": "features/quality", "SchemaError": "features/quality",
    "Combination": "online_models/combine",
    "Monitoring": "online_models/drift", "Tolerance": "online_models/members",
    "Member": "online_models/members", "PerKey": "online_models/members",
    "Shared": "streams/fold", "Promotion": "online_models/promote",
    "Background": "online_models/members",
    "Boosted": "online_models/members",
    "Recurring": "online_models/members",
    "Reset": "online_models/members",
    "Anomaly": "streams/fold", "Binary": "online_models/tasks",
    "Decision": "online_models/tasks", "Multiclass": "online_models/drift",
    "Regression": "online_models/combine", "Label": "streams/fold",
    "LabelWarning": "streams/fold",
    "Bridge": "streams/clients", "Enrichment": "streams/clients",
    "new_command": "streams/declare", "Command": "streams/declare",
    "Clock": "streams/fold",
    "Event": "streams/declare", "UseCase": "declarations",
    "NotLetIn": "streams/connection",
    "EventProducer": "streams/clients",
    "PredictionConsumer": "streams/clients",
    "Undelivered": "streams/transport/outages",
    "load_case": "declarations",
    "NotFinite": "online_models/pool", "ModelsError": "online_models/pool",
    "FoldFault": "streams/fold", "NoCanonicalForm": "streams/code",
    "OtherTask": "streams/owner/upgrade", "Refused": "streams/clients",
    "Unauthentic": "streams/checkpoints",
    "Undescribable": "streams/code",
    "UnusableKey": "streams/checkpoints",
    "StreamsError": "streams/checkpoints",
    "FeaturesError": "features/online", "StoreUnreadable": "features/online",
    "DeclarationError": "declarations",
    "DriftlineError": "declarations",
}  # fmt: skip
HERE = {
    "DAY", "HOUR", "MINUTE", "SECOND", "WEEK", "ForeignRecord", "FeatureValue", "Reference",
    "FeatureDeclarationError", "FeatureValueError", "ModelDeclarationError", "NoBroker",
}  # fmt: skip


def test_every_public_name_has_a_test() -> None:
    assert set(dl.__all__) == {*FEATURES, *ELSEWHERE, *HERE}
    assert set(driftline.client.__all__) <= set(dl.__all__)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_tests_of_a_name_use_it(name: str) -> None:
    trees = [ast.parse(file.read_text()) for file in (TESTS / ELSEWHERE[name]).glob("test_*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    used |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert name in used


def read(features: dict[str, Any]) -> dict[str, Any]:
    """What a request reads half a minute after the start, when a shop has settled three orders."""
    state = FeatureState(features, Asked)
    product = Product(id="p", at=START, product="p", weight=7.0)
    state.update(product, product.at.timestamp())
    for second, bad in ((0, 1.0), (10, 3.0), (20, 2.0)):
        event = settled(second, second / 60, bad=bad)
        state.update(event, event.at.timestamp())
    request = asked(1, 0.5, amount=5.0, product="p")
    return state.read(request, request.at.timestamp())


@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_is_what_its_name_says(name: str) -> None:
    values = read({known: feature for known, (feature, _) in FEATURES.items()})
    assert values[name] == pytest.approx(FEATURES[name][1], rel=1e-12)


def test_lengths_of_time_are_seconds() -> None:
    assert (dl.SECOND, dl.MINUTE, dl.HOUR) == (1, 60, 3600)
    assert (24 * dl.HOUR, timedelta(weeks=1).total_seconds()) == (dl.DAY, dl.WEEK)


def test_a_foreign_record_is_known_by_its_place_and_read_as_json() -> None:
    record = dl.ForeignRecord("pos", "a-topic", 3, 7, 1_000, b"k", json.dumps({"n": 1}).encode(), ())
    assert (record.id, record.at.timestamp(), record.json()) == ("a-topic:3:7", 1.0, {"n": 1})
    assert till.till.topic == "pos"


def test_a_feature_that_raises_says_which_and_why() -> None:
    with pytest.raises(dl.FeatureValueError, match="feature 'odd': its function raised"):
        read({"odd": dl.derive(lambda request: 1 / 0)})


def test_a_reference_has_no_key_as_every_partition_gets_it() -> None:
    product = Product(id="p", at=START, product="p", weight=7.0)
    assert isinstance(product, dl.Reference)
    assert orders.codec().key(product) is None
    assert orders.codec().key(asked(1, 0)) == b"s"


def test_a_row_gives_values_and_their_state() -> None:
    value = dl.FeatureValue(2.0, Status.PRESENT, START, 1.5)
    row = dl.FeatureRow("orders_by_shop", {"shop": "s"}, START, 1.5, {"bad_1h": value})
    assert (row["bad_1h"], row.features["bad_1h"].age) == (2.0, 1.5)


def test_a_wrong_declaration_is_an_error_of_its_package() -> None:
    with pytest.raises(dl.FeatureDeclarationError, match="over: it must be above 0, not -1"):
        dl.mean(Settled, "bad", by="shop", over=-1)
    with pytest.raises(dl.ModelDeclarationError, match="build: expected a function, not 'logistic'"):
        dl.Member("logistic", "logistic")  # type: ignore[arg-type]


def test_without_a_broker_clients_say_where_one_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIFTLINE_HOME", str(tmp_path))
    monkeypatch.delenv("DRIFTLINE_BOOTSTRAP", raising=False)
    with pytest.raises(dl.NoBroker, match="run `driftline up`"):
        dl.EventProducer(orders)
