"""Features computed from others: declared, refused, and equal wherever they are read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from kinds import kinds
from shop import START, Asked, Product, Settled, orders
from shops import by_feasts_own

from driftline import HOUR, Event, FeatureClient, count, derive, difference, field, on_demand, ratio, since
from driftline.features.errors import FeaturesError
from driftline.features.feast.registry import OnlineStoreRepo
from driftline.features.feast.repository_location import RepositoryLocation
from driftline.features.online.client import Status
from driftline.features.online.writer import RowStore
from driftline.features.state.value_lineage import EvidenceCollector
from driftline.streams.errors import DeclarationError
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.simulation.sources import LogRecord

SCRIPT = """
import sys
for name in ("driftline", "features", "streams", "kinds", "shop"):
    sys.modules[name] = None  # none of ours can be imported
import json
from feast import FeatureStore
store = FeatureStore(repo_path=sys.argv[1])
wanted = [
    f"{view.name}:{f.name}"
    for view in [*store.list_feature_views(), *store.list_on_demand_feature_views()]
    for f in view.features
    if f.name not in ("shop", "order")
]
found = store.get_online_features(features=wanted, entity_rows=[json.loads(sys.argv[2])])
print(json.dumps(found.to_dict()))
"""
NOT_STORED = {"amount", "doubled", "weight"}
"""Features of the request, and of references, that no online store has."""


def events() -> Iterator[Event]:
    """Orders of a shop, out of order by minutes, at microseconds of their own."""
    yield Product(id="p", at=START, product="p0", weight=1.5)
    for n in range(40):
        at = START + timedelta(minutes=n - (n % 3) * 2, microseconds=n * 1_234)
        yield Asked(id=f"a{n}", at=at, order=f"o{n}", shop="s", amount=n % 7 / 7, product=f"p{n % 3}")
        if n < 36:
            yield Settled(id=f"s{n}", at=at + timedelta(seconds=20), order=f"o{n}", shop="s", bad=n % 5 / 4)


REQUEST = Asked(
    id="last",
    at=START + timedelta(minutes=39, microseconds=50_000),  # nothing expires after the newest event
    order="o39",
    shop="s",
    amount=1 / 3,
    product="p0",
)


def folded() -> tuple[dict[Any, Any], dict[str, Any]]:
    """The online rows, and the features of a request that comes right after them."""
    processor = PartitionProcessor(kinds, 0, rows=True)
    codec = kinds.codec()
    records = [
        LogRecord(offset, codec.key(event), codec.encode_trusted(event))
        for offset, event in enumerate([*events(), REQUEST])
    ]
    rows = processor.step(records[:-1]).rows
    (prediction,) = processor.step(records[-1:]).predictions
    return rows, json.loads(prediction.value)["features"]


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> OnlineStoreRepo:
    place = RepositoryLocation(tmp_path_factory.mktemp("kinds") / "feast", "kinds")
    found = OnlineStoreRepo(place, kinds.views(), kinds.on_demand_views())
    found.apply()
    RowStore(found).put(folded()[0])
    return found


def test_a_request_has_every_kind_of_feature() -> None:
    assert set(folded()[1]) == set(kinds.features)


def test_a_plain_feast_script_reads_every_stored_kind_as_the_fold_did(repo: OnlineStoreRepo) -> None:
    _, served = folded()
    row = {"shop": "s", "order": "o39", "amount": REQUEST.amount, "at": REQUEST.at.timestamp()}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(by_feasts_own(repo)), json.dumps(row)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found = {name: values[0] for name, values in json.loads(ran.stdout.splitlines()[-1]).items()}
    expected = {name: value for name, value in served.items() if name not in NOT_STORED}
    assert {name: found[name] for name in expected} == expected


def test_the_client_reads_every_stored_kind_as_the_fold_did(repo: OnlineStoreRepo) -> None:
    _, served = folded()
    key = {"shop": "s", "order": "o39"}
    found: dict[str, Any] = {}
    with FeatureClient(kinds, repo.place) as client:
        for view in [*kinds.views(), *kinds.on_demand_views()]:
            row = client.get(
                view.name,
                {name: key[name] for name in view.keys},
                at=REQUEST.at,
                request={"amount": REQUEST.amount},
            )
            found |= {name: row[name] for name in view.features}
    stored = {f"{name}_at" for name in ("since_settled",)}
    assert set(found) == (set(served) - NOT_STORED) | stored
    assert {name: value for name, value in found.items() if name not in stored} == {
        name: value for name, value in served.items() if name not in NOT_STORED
    }


def test_evidence_from_all_events_gives_the_served_values() -> None:
    _, served = folded()
    log = list(events())
    collector = EvidenceCollector(kinds.features, REQUEST, REQUEST.at.timestamp())
    for offset, event in enumerate(log):
        collector.offer(offset, event, event.at.timestamp())
    found = {name: evidence.value for name, evidence in collector.collected({}).items()}
    assert found.pop("std") == pytest.approx(served.pop("std"), rel=1e-12)
    assert found == served


def test_the_registry_has_notes_and_applying_again_changes_nothing(repo: OnlineStoreRepo) -> None:
    assert {change.action for change in repo.plan()} == {"keep"}
    view = repo.store.get_feature_view("kinds_by_shop")
    fields = {field.name: field for field in view.features}
    assert fields["mean"].tags == {
        "team": "risk", "owner": "ann", "valid_min": "0", "valid_max": "1", "aggregate": "mean",
        "over_seconds": "3600",
    }  # fmt: skip
    assert view.owner == "ann, ben"
    assert fields["since_settled_at"].description == "How long nothing was settled"
    assert fields["before"].tags["ttl_seconds"] == "1800"
    changed = replace(
        kinds, features={**kinds.features, "share": ratio("sum", "count", unit="EUR", valid=(0, 10))}
    )
    other = OnlineStoreRepo(repo.place, changed.views(), changed.on_demand_views())
    assert [change.name for change in other.plan() if change.action != "keep"] == [
        "kinds_on_demand_by_shop",
        "kinds_on_demand_by_shop_of_amount",
        "kinds",
    ]


def test_the_client_says_what_an_on_demand_view_needs(repo: OnlineStoreRepo) -> None:
    with FeatureClient(kinds, repo.place) as client:
        view = "kinds_on_demand_by_shop_of_amount"
        with pytest.raises(FeaturesError, match="needs amount of the request"):
            client.get(view, {"shop": "s"})
        with pytest.raises(FeaturesError, match="keyed by shop, not by order"):
            client.get(view, {"order": "o1"}, request={"amount": 1.0})
        with pytest.raises(FeaturesError, match="no feature 'x'"):
            client.get(view, {"shop": "s"}, ["x"], request={"amount": 1.0})
        unseen = client.get(view, {"shop": "nobody"}, ["relative"], request={"amount": 1.0})
        assert unseen.features["relative"].status is Status.MISSING
        with pytest.raises(FeaturesError, match="cannot be computed: TypeError"):
            client.get(view, {"shop": "s"}, request={"amount": "much"})


def test_a_value_older_than_its_own_ttl_is_expired_before_its_row_is(repo: OnlineStoreRepo) -> None:
    with FeatureClient(kinds, repo.place) as client:
        row = client.get("kinds_by_shop", {"shop": "s"}, at=REQUEST.at + timedelta(minutes=45))
        change = client.get("kinds_on_demand_by_shop", {"shop": "s"}, at=REQUEST.at + timedelta(minutes=45))
    assert row.features["before"].status is Status.EXPIRED
    assert row.features["newest"].status is Status.PRESENT
    assert change.features["change"].status is Status.EXPIRED


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"r": ratio("amount", "x"), "amount": field("amount")}, "'amount', which is not declared before"),
        ({"r": difference("shop", "shop2")}, "needs 'shop'"),
        ({"shop": field("shop"), "r": ratio("shop", "shop")}, "'shop' is text, and a ratio is of numbers"),
        ({"d": derive(lambda r: 1.0), "r": ratio("d", "d")}, "annotate what its function returns"),
        ({"at": field("amount"), "s": since(Asked, by="shop", over=HOUR)}, "feature 'at'"),
        ({"s_at": field("amount"), "s": since(Asked, by="shop", over=HOUR)}, "feature 's_at': the store"),
    ],
)  # fmt: skip
def test_what_cannot_be_computed_is_refused_at_the_declaration(
    features: dict[str, Any], message: str
) -> None:
    with pytest.raises(DeclarationError, match=message):
        replace(kinds, features=features)


@pytest.mark.parametrize(
    ("function", "kind", "value"),
    [
        (lambda a: a / 0.25, float, 2.0),
        (lambda a: int(a * 4), int, 2),
        (lambda a: a > 0.25, bool, True),
        (lambda a: None, float, None),
        (lambda a: -0.0, float, 0.0),
    ],
)
def test_on_demand_features_are_of_their_declared_kind(function: Any, kind: type, value: Any) -> None:
    declared = replace(kinds, features={"a": field("amount"), "f": on_demand(function, of="a", kind=kind)})
    request = Asked(id="x", at=START, order="o", shop="s", amount=0.5)
    found = declared.feature_state().read(request, 0.0).get("f")
    assert repr(found) == repr(value)


def test_features_of_the_same_keys_and_fields_are_one_view_whatever_windows_they_are_of() -> None:
    declared = replace(
        orders,
        features={
            "asked": count(Asked, by="shop", over=HOUR),
            "quiet": since(Settled, by=("shop", "order"), over=HOUR),
            "pressure": ratio("asked", "quiet"),
        },
    )
    (view,) = declared.on_demand_views()
    assert list(view.features) == ["quiet", "pressure"]
