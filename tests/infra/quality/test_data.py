"""Statistics of the flights' features on the command line, over an archive and through Kafka."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import shop

from driftline.examples.flights import flights
from driftline.features.quality.feature_schema import Schema
from driftline.infra.settings import Settings
from driftline.streams.clients.schema import topic_schemas
from driftline.streams.records.messages import DataAnomaly, DataStatistics
from driftline.streams.simulation.sources import open_source
from tests.commands.forked_command import completed
from tests.streams.archive.archived import archive_of
from tests.streams.clients.readers import violations

EVENTS = 12_000
UNTIL = "2013-01-03T05:00:00Z"


def run(home: Path, *arguments: str, group: str = "data") -> subprocess.CompletedProcess[str]:
    return completed(group, *arguments, environment=os.environ | {"DRIFTLINE_HOME": str(home)})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the archive of some days of flights, and the schema of the first of them."""
    home = tmp_path_factory.mktemp("home")
    uri = Settings(home=home).archive_uri("flights")
    archive_of(flights, open_source(flights, None, EVENTS), uri, 500)
    options = ("--schema", str(home / "schema.json"), "--to", UNTIL, "--window", "2")
    made = run(home, "schema", "flights", "--freeze", *options)
    assert made.returncode == 0, made.stderr
    content = json.loads((home / "schema.json").read_text())
    assert "YV" not in content["features"]["carrier"]["domain"]
    content["features"]["carrier"]["domain"].append("YV")  # one of few flights, first seen on the third day
    (home / "edited.json").write_text(json.dumps(content))
    return home


def schema_of(home: Path) -> tuple[str, str]:
    return "--schema", str(home / "edited.json")


def test_a_schema_is_printed_or_frozen_once(home: Path) -> None:
    shown = run(home, "schema", "flights", "--to", UNTIL, "--window", "2")
    assert shown.returncode == 0
    assert shown.stdout == (home / "schema.json").read_text()
    again = run(home, "schema", "flights", "--freeze", *schema_of(home))
    assert again.returncode == 1
    assert "edited.json is there: edit it, or remove it" in again.stderr
    frozen = Schema.read(home / "schema.json")
    assert list(frozen.features) == list(flights.features)
    assert frozen.features["carrier"].type == "text"
    assert frozen.features["departed_2h"].type == "whole"
    assert frozen.features["distance"].missing == 0.0


def test_without_a_schema_the_way_to_one_is_reported(home: Path, tmp_path: Path) -> None:
    found = run(home, "statistics", "flights", "--schema", str(tmp_path / "none.json"))
    assert found.returncode == 1
    assert "`driftline data schema CASE --freeze`" in found.stderr


def test_statistics_of_every_feature(home: Path) -> None:
    found = run(home, "statistics", "flights", *schema_of(home), "--json", "--html", str(home / "data.html"))
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout)
    assert report["reference"]["requests"] > 1_000
    assert report["current"]["requests"] > 500
    distance = report["current"]["features"]["distance"]
    assert distance["missing"] == 0
    assert distance["minimum"] <= distance["quantiles"]["0.5"] <= distance["maximum"]
    assert report["distances"]["carrier"]["ks"] is None
    page = (home / "data.html").read_text()
    assert page.count("<svg") == len(flights.features)
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    text = run(home, "statistics", "flights", *schema_of(home))
    assert text.returncode == 0
    assert text.stdout.splitlines()[1].startswith("feature")
    parts = list(home.rglob("flights.predictions.statistics/partition=*/*.parquet"))
    assert len(parts) >= 3


def test_clean_flights_have_no_anomalies(home: Path) -> None:
    found = run(home, "anomalies", "flights", *schema_of(home), "--json")
    assert json.loads(found.stdout)["anomalies"] == []
    assert found.returncode == 0


def test_what_a_stricter_schema_does_not_expect_is_an_anomaly(home: Path) -> None:
    content = json.loads((home / "edited.json").read_text())
    content["features"]["carrier"]["domain"].remove("UA")
    content["features"]["wind"]["high"] = 1.0
    (home / "strict.json").write_text(json.dumps(content))
    found = run(home, "anomalies", "flights", "--schema", str(home / "strict.json"))
    assert found.returncode == 1
    assert "carrier: domain" in found.stdout
    assert "'UA'" in found.stdout
    assert "wind: range" in found.stdout


def test_what_was_served_is_what_the_history_gives(home: Path) -> None:
    made = run(home, "history", "flights", group="features")
    assert made.returncode == 0, made.stderr
    found = run(home, "anomalies", "flights", *schema_of(home), "--skew", "--json")
    assert json.loads(found.stdout)["anomalies"] == []
    assert found.returncode == 0


@pytest.mark.integration
def data_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "driftline", "data", *arguments]


def assert_published(system: Any, requests: int) -> None:
    """Windows of so many requests are published, and anomalies of one range, as their schemas have them."""
    records = system.read(system.topics.statistics)
    windows = [msgspec.json.decode(record.value, type=DataStatistics) for record in records]
    assert sum(window.requests for window in windows) == requests
    assert {record.key.decode() for record in records} == {window.at.isoformat() for window in windows}
    anomalies = [msgspec.json.decode(r.value, type=DataAnomaly) for r in system.read(system.topics.anomalies)]
    assert {(found.feature, found.kind) for found in anomalies} == {("amount", "range")}
    for topic in (system.topics.statistics, system.topics.anomalies):
        values = [record.value for record in system.read(topic)]
        assert violations(topic_schemas(system.case, system.namespace)[topic], values) == []


def test_windows_and_anomalies_are_published_once(system_of: Any, eventually: Any) -> None:
    system = system_of("shop:orders")
    system.produce(shop.trade(300))
    worker = system.start()
    eventually(lambda: system.folded(worker))
    schema = system.home / "schema.json"

    def command(*arguments: str) -> list[str]:
        return data_command(*arguments, "shop:orders", "--schema", str(schema))

    def data(*arguments: str) -> str:
        made = subprocess.run(
            command(*arguments),
            env=system.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert made.returncode == 0, made.stderr
        return made.stderr

    data("schema", "--window", "1", "--freeze")
    content = json.loads(schema.read_text())
    content["features"]["amount"]["high"] = 3.0
    schema.write_text(json.dumps(content))
    follower = subprocess.Popen(command("publish", "--follow"), env=system.environment)
    try:
        eventually(lambda: len(system.read(system.topics.anomalies)) == 8)
        # the same orders again are dropped, and those of the sixth hour close the fifth
        system.produce(shop.trade(310))
        eventually(lambda: len(system.read(system.topics.anomalies)) == 10)
        follower.send_signal(signal.SIGTERM)
        assert follower.wait(60) == 0
    finally:
        follower.kill()
        follower.wait()
    system.stop(worker)
    assert "0 windows and 0 anomalies written" in data("publish")
    assert_published(system, 300)
    content["features"]["amount"]["high"] = 300.0
    schema.write_text(json.dumps(content))
    assert "10 windows and 10 anomalies written" in data("publish")
    newest = {(r.partition, r.key): r.value for r in system.read(system.topics.anomalies)}
    assert set(newest.values()) == {None}
