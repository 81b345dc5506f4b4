"""A training set of a case with every kind of feature, and what the commands tell of these."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from kinds import kinds
from pyarrow import parquet
from shop import START, Asked, Product, Settled

from driftline import Event
from driftline.infra.settings import Settings
from driftline.streams.simulation.sources import with_closing_clock
from tests.commands.forked_command import completed
from tests.streams.archive.archived import archive_of

ORDERS = 300
CASES = Path(__file__).parents[2] / "cases"


def trade() -> Iterator[Event]:
    """Orders out of order by minutes, several at one moment, with products that change their weight."""
    for n in range(ORDERS):
        at = START + timedelta(minutes=n // 2 * 2 - (n % 3) * 2, microseconds=n % 5 * 1_234)
        if n % 40 == 0:
            yield Product(id=f"p{n}", at=at, product=f"p{n // 40 % 3}", weight=1.0 + n)
        yield Asked(id=f"a{n}", at=at, order=f"o{n}", shop="sw"[n % 2], amount=n % 7 / 7, product=f"p{n % 4}")
        if n % 9:
            settled = at + timedelta(minutes=3)
            yield Settled(id=f"s{n}", at=settled, order=f"o{n}", shop="sw"[n % 2], bad=n % 5 / 4)


def run(home: Path, *arguments: str) -> str:
    environment = {**os.environ, "DRIFTLINE_HOME": str(home), "PYTHONPATH": str(CASES)}
    found = completed("features", *arguments, environment=environment)
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], pa.Table, pa.Table]:
    """What the command says of the training set, the set, and the training log."""
    home = tmp_path_factory.mktemp("home")
    archive_of(
        kinds,
        with_closing_clock(kinds, trade()),
        Settings(home=home).archive_uri("kinds"),
        100,
    )
    run(home, "history", "kinds:kinds")
    report = json.loads(
        run(home, "training-set", "kinds:kinds", "--out", str(home / "set.parquet"), "--json")
    )
    run(home, "served", "kinds:kinds", "--out", str(home / "log.parquet"))
    return report, parquet.read_table(home / "set.parquet"), parquet.read_table(home / "log.parquet")


def test_every_kind_of_feature_is_in_it_as_it_was_served(made: Any) -> None:
    report, table, served = made
    assert report["rows"] == report["comparison"]["predictions"] == ORDERS
    assert report["share"] == 1.0
    assert report["comparison"]["unpublished"] == []
    assert set(kinds.features) <= set(table.column_names)
    assert table.select(served.column_names).equals(served)
    for name in kinds.features:
        there = ORDERS - table.column(name).null_count
        assert there > ORDERS / 4, name


def test_a_difference_is_reported_for_what_is_computed_at_the_read_too(made: Any) -> None:
    report, _, _ = made
    compared = report["comparison"]["values"]
    of_the_request = {"amount", "doubled"}
    assert compared == ORDERS * len(set(kinds.features) - of_the_request)


def test_the_features_are_described_for_programs_and_for_people(tmp_path: Path) -> None:
    entries = {
        entry["name"]: entry for entry in json.loads(run(tmp_path, "describe", "kinds:kinds", "--json"))
    }
    assert list(entries) == list(kinds.features)
    assert entries["mean"] | {"declared": ""} == {
        "name": "mean",
        "declared": "",
        "type": "number",
        "view": "kinds_by_shop",
        "owner": "ann",
        "tags": {"team": "risk"},
        "valid": [0, 1],
        "outside": "missing",
        "over": 3600.0,
        "ttl": 3600.0,
    }
    assert entries["grade"]["view"] == "kinds_on_demand_by_shop_of_amount"
    assert entries["grade"]["type"] == "string"
    assert "view" not in entries["amount"]
    assert entries["order_count"]["max_keys"] == 3
    text = run(tmp_path, "describe", "kinds:kinds")
    assert "What the order costs" in text
    assert "valid: 0 to 1, else missing" in text
    assert "keys: at most 3 a partition" in text
