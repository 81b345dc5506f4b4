"""Training sets of flights: out of the feature history, through Feast, equal to what was served."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import yaml
from pyarrow import compute, parquet

from driftline.examples.flights import flights
from driftline.features.feast.history import HistoryError
from driftline.features.feast.registry import OnlineStoreRepo
from driftline.infra.offline.training_set import write_training_log, write_training_set
from driftline.infra.settings import Settings
from driftline.streams.archive.parts import Archive
from driftline.streams.errors import StreamsError
from driftline.streams.offline.feature_history import HistoryWriter
from driftline.streams.simulation.sources import open_source, with_closing_clock
from tests.commands.forked_command import completed
from tests.streams.archive.archived import archive_of

EVENTS = 6_000
PLAIN_FEAST = """
import json, sys
from datetime import datetime, timezone
import pandas as pd
from feast import FeatureStore

store = FeatureStore(repo_path=sys.argv[1])
asked = pd.DataFrame({"origin": ["JFK"], "event_timestamp": [datetime(2013, 1, 1, 15, tzinfo=timezone.utc)]})
found = store.get_historical_features(asked, ["flights_by_origin:departed_2h", "flights_by_origin:late_1h"])
loaded = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps([loaded, found.to_df().to_json(orient="records")]))
"""
OURS = {"driftline", "features", "infra", "online_models", "streams"}


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return completed("features", *arguments, environment=os.environ | {"DRIFTLINE_HOME": str(home)})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the archive of some thousand events, and the history that the command made of it."""
    home = tmp_path_factory.mktemp("home")
    events = with_closing_clock(flights, open_source(flights, None, EVENTS))
    archive_of(flights, events, settings_of(home).archive_uri("flights"), 1_000)
    made = run(home, "history", "flights", "--json")
    assert made.returncode == 0, made.stderr
    report = json.loads(made.stdout)
    assert report["rows"] > EVENTS - 3_500
    return home


def settings_of(home: Path) -> Settings:
    return Settings(home=home)


def repo_of(home: Path) -> OnlineStoreRepo:
    return OnlineStoreRepo(settings_of(home).features("flights"), flights.views())


def copied(home: Path, place: Path) -> Path:
    return Path(shutil.copytree(home, place / "copy"))


@pytest.fixture(scope="module")
def made(home: Path) -> dict[str, Any]:
    """What the command says of the training set of all requests."""
    found = run(home, "training-set", "flights", "--out", str(home / "all.parquet"), "--json")
    assert found.returncode == 0, found.stderr
    report: dict[str, Any] = json.loads(found.stdout)
    return report


def test_every_value_of_the_history_is_the_one_that_was_served(made: dict[str, Any]) -> None:
    assert made["rows"] > 500
    assert made["outside"] == 0
    assert made["share"] == 1.0
    comparison = made["comparison"]
    assert comparison["equal"] == comparison["predictions"] == made["rows"]
    assert comparison["differing"] == {}
    assert comparison["unpublished"] == []
    windows_and_lookups = 13
    assert comparison["values"] == windows_and_lookups * made["rows"]


def test_the_training_set_is_the_training_log_with_stamps(home: Path, made: dict[str, Any]) -> None:
    rows = write_training_log(flights, settings_of(home), None, None, home / "log.parquet")
    assert rows == made["rows"]
    trained, served = (parquet.read_table(home / name) for name in ("all.parquet", "log.parquet"))
    assert trained.select(served.column_names).equals(served)
    assert trained.schema.field("distance").metadata == {b"unit": b"miles"}
    assert trained.schema.field("departed_2h").type == pa.int64()
    assert trained.schema.field("carrier").type == pa.string()
    statuses = compute.value_counts(trained.column("label_status")).to_pylist()
    assert {found["values"]: found["counts"] for found in statuses} == made["labels"]
    labelled = trained.filter(compute.equal(trained.column("label_status"), "labelled"))
    assert labelled.column("label").null_count == 0


def test_ties_have_stamps_of_their_own_not_before_their_time(home: Path, made: dict[str, Any]) -> None:
    table = parquet.read_table(home / "all.parquet").to_pandas()
    # one ahead of all others is stamped by their time, as long as they do not agree with it
    ahead = table["event_timestamp"] < table["at"]
    before = table.groupby("partition")["at"].transform(lambda at: at.cummax().shift())
    assert (table["at"][ahead] > before[ahead]).all()
    assert ahead.mean() < 0.05
    assert (table["event_timestamp"] - table["at"] < pd.Timedelta(milliseconds=10)).all()
    tied = table.duplicated(["key_origin", "at"], keep=False)
    assert tied.sum() > 100
    assert not table.duplicated(["partition", "event_timestamp"]).any()


def test_requests_are_chosen_by_their_own_time(home: Path, made: dict[str, Any]) -> None:
    bounds = "2013-01-01T15:00:00Z", "2013-01-01T18:00:00Z"
    since, until = map(datetime.fromisoformat, bounds)
    out = home / "some.parquet"
    report = write_training_set(flights, settings_of(home), since, until, out)
    every = parquet.read_table(home / "all.parquet")
    expected = every.filter((compute.field("at") >= since) & (compute.field("at") < until))
    assert 0 < report.rows == expected.num_rows < made["rows"]
    assert parquet.read_table(out).equals(expected)


def without_driftline(home: Path, place: Path) -> Path:
    """The repository as it is opened where driftline is not installed: with Feast's own stores."""
    folder = Path(shutil.copytree(repo_of(home).place.path, place / "feasts-own"))
    settings = yaml.safe_load((folder / "feature_store.yaml").read_text())
    assert settings["offline_store"] == {"type": "driftline.features.feast.offline_store.HistoryOfflineStore"}
    settings["offline_store"] = {"type": "file"}
    settings["online_store"]["type"] = "sqlite"
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(settings))
    return folder


def test_feasts_own_file_store_finds_the_same(home: Path, made: dict[str, Any], tmp_path: Path) -> None:
    ours = repo_of(home).store
    from feast import FeatureStore

    plain = FeatureStore(repo_path=str(without_driftline(home, tmp_path)))
    assert plain.config.offline_store.type == "file"
    table = parquet.read_table(home / "all.parquet").slice(0, 300).to_pandas()
    asked = table[["key_origin", "carrier", "event_timestamp"]].rename(columns={"key_origin": "origin"})
    asked = asked.drop_duplicates()
    # between the requests too, and where there is nothing yet or any more
    moved = [
        asked.assign(event_timestamp=asked["event_timestamp"] + d) for d in map(timedelta, (0, 0.01, -9, 9))
    ]
    asked = pd.concat(moved, ignore_index=True)
    asked["row"] = range(len(asked))
    wanted = [
        "flights_by_origin:departed_2h",
        "flights_by_origin:late_1h",
        "flights_by_origin_carrier:carrier_late_3h",
    ]
    found, expected = (
        store.get_historical_features(asked, wanted, full_feature_names=True).to_df().set_index("row")
        for store in (ours, plain)
    )
    names = [name.replace(":", "__") for name in wanted]
    assert list(found.index) == list(asked["row"])
    # Feast's own loses requests that are older than all rows of their key, or too new for the last one
    lost = found.drop(expected.index)
    assert lost[names].isna().any(axis=1).all()
    for name in names:
        assert 100 < found[name].notna().sum() < len(asked)
    kept = found.loc[expected.index, names].astype(float)
    pd.testing.assert_frame_equal(kept, expected[names].astype(float))
    assert len(kept) > 300


def test_a_plain_feast_script_reads_the_history_with_and_without_driftline_installed(
    home: Path, made: dict[str, Any], tmp_path: Path
) -> None:
    repo_of(home).apply()
    rows = []
    for folder in (repo_of(home).place.path, without_driftline(home, tmp_path)):
        script = [sys.executable, "-W", "ignore", "-c", PLAIN_FEAST, str(folder)]
        found = subprocess.run(script, capture_output=True, text=True, check=True, timeout=300)
        loaded, feast_row = json.loads(found.stdout.splitlines()[-1])
        rows.append(json.loads(feast_row))
    assert OURS.isdisjoint(loaded)  # the second one's
    assert rows[0] == rows[1]
    ((row,),) = rows[:1]
    assert row["departed_2h"] > 10
    assert 0 <= row["late_1h"] <= 1


def test_a_value_that_was_published_otherwise_is_reported(
    home: Path, made: dict[str, Any], tmp_path: Path
) -> None:
    changed = replace(
        flights,
        features={**flights.features, "departed_2h": replace(flights.features["departed_2h"], over=3_600.0)},
    )
    copy = copied(home, tmp_path)
    events = with_closing_clock(changed, open_source(changed, None, EVENTS))
    shutil.rmtree(copy / "archive")
    archive_of(changed, events, settings_of(copy).archive_uri("flights"), 1_000)
    report = write_training_set(flights, settings_of(copy), None, None, copy / "out.parquet")
    assert report.exit_code == 1
    assert report.share is not None
    assert 0 < report.share < 1
    assert set(report.comparison.differing) == {"departed_2h"}
    first = report.comparison.first
    assert first is not None
    assert first.feature == "departed_2h"
    assert first.history > first.published
    assert f"departed_2h: {report.comparison.differing['departed_2h']:,} differ" in str(report)


def test_a_broken_part_stops_the_command_with_its_name(home: Path, tmp_path: Path) -> None:
    copy = copied(home, tmp_path)
    folder = repo_of(copy).history / "flights_by_origin_carrier"
    part = sorted(folder.glob("0-*.parquet"))[3]
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(HistoryError, match=f"{part}: the part is torn or was changed"):
        write_training_set(flights, settings_of(copy), None, None, copy / "out.parquet")
    assert not (copy / "out.parquet").exists()


def test_without_a_history_it_says_what_to_do(home: Path, tmp_path: Path) -> None:
    copy = copied(home, tmp_path)
    shutil.rmtree(repo_of(copy).history)
    with pytest.raises(StreamsError, match="run `driftline features history` first"):
        write_training_set(flights, settings_of(copy), None, None, copy / "out.parquet")


def test_predictions_beyond_the_history_are_left_out_and_counted(
    home: Path, made: dict[str, Any], tmp_path: Path
) -> None:
    copy = copied(home, tmp_path)
    shutil.rmtree(repo_of(copy).history)
    archive = Archive(settings_of(copy).archive_uri("flights"))
    for partition in range(flights.partitions):
        log = "flights.events"
        writer = HistoryWriter(flights, archive, log, partition, repo_of(copy).history)
        assert list(writer.write(end=archive.end(log, partition) - 1_000))
    report = write_training_set(flights, settings_of(copy), None, None, copy / "out.parquet")
    assert report.outside > 0
    assert report.rows + report.outside == made["rows"]
    assert report.share == 1.0
    assert f"{report.outside:,} archived predictions left out" in str(report)


def test_a_partition_without_a_part_is_reported_and_the_others_are_written(
    home: Path, tmp_path: Path
) -> None:
    lacking = copied(home, tmp_path)
    archive = Path(settings_of(lacking).archive_uri("flights"))
    shutil.rmtree(archive / "flights.events" / "partition=1")
    shutil.rmtree(lacking / "feast" / "flights" / "data")
    made = run(lacking, "history", "flights")
    assert made.returncode == 0, made.stderr
    assert "nothing of partition 1: the archive has no part of it yet" in made.stdout
    found = run(lacking, "training-set", "flights", "--out", str(tmp_path / "some.parquet"))
    assert found.returncode == 0, found.stderr
    assert "archived predictions left out" in found.stdout
    shutil.rmtree(archive / "flights.events")
    made = run(lacking, "history", "flights")
    assert made.returncode == 1
    assert made.stderr.startswith("driftline: flights.events: the archive at ")
    shutil.rmtree(archive / "flights.predictions")
    found = run(lacking, "training-set", "flights", "--out", str(tmp_path / "none.parquet"))
    assert found.returncode == 1
    assert "no prediction is archived" in found.stderr


def test_a_time_without_a_zone_is_refused(tmp_path: Path) -> None:
    found = run(tmp_path, "served", "flights", "--out", "x.parquet", "--from", "2013-01-01")
    assert found.returncode == 2
    assert "has no zone" in found.stderr
