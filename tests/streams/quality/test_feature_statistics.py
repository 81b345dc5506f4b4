"""Statistics out of the predictions topic: functions of the log alone, judged window by window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
import shop
from pyarrow import parquet

from driftline import HOUR
from driftline.features.quality.feature_schema import FeatureSchema, Schema
from driftline.features.quality.schema_inference import infer
from driftline.streams.archive.parts import Archive
from driftline.streams.archive.storage import Storage
from driftline.streams.declare.events import Event
from driftline.streams.errors import DeclarationError
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.quality.feature_statistics import (
    Counted,
    PartitionStatistics,
    count_windows,
    predictions_of,
)
from driftline.streams.quality.judgement import judge, watched
from driftline.streams.quality.publisher import records_of
from driftline.streams.quality.skew import skew
from driftline.streams.simulation.sources import LogRecord
from tests.streams.archive.archived import archive_of

case = shop.orders
TOPIC = case.topics().predictions
ORDERS, REFERENCE = 3_600, 2_400
"""An order a minute: sixty hours, of which forty are the reference."""


def trade(shift: float = 1.0) -> Iterator[Event]:
    """Orders that are all of a kind; those after the reference are larger by a factor."""
    for event in shop.trade(ORDERS):
        order = int(event.order[1:])  # type: ignore[attr-defined]
        if isinstance(event, shop.Asked) and order >= REFERENCE:
            yield msgspec.structs.replace(event, amount=event.amount * shift)
        else:
            yield event


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return archive_of(case, trade(), str(tmp_path_factory.mktemp("archive")), 250)


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return archive_of(case, trade(4.0), str(tmp_path_factory.mktemp("shifted")), 1_000)


def records(archive: Archive, partition: int) -> list[Any]:
    chunks = archive.read(TOPIC, partition, 0, archive.end(TOPIC, partition))
    return [record for chunk in chunks for record in chunk]


@pytest.fixture(scope="module")
def schema(archive: Archive) -> Schema:
    requests = [
        (published.at.timestamp(), published.features)
        for partition in range(case.partitions)
        for _, published in predictions_of(records(archive, partition), TOPIC)
        if published.at < shop.START.replace(day=2, hour=16)
    ]
    found = infer(case.name, case.features, requests, HOUR)
    assert found.reference.requests == REFERENCE
    return found


def counting(schema: Schema, archive: Archive, partition: int = 0, folder: Any = None) -> PartitionStatistics:
    storage = Storage(str(folder or archive.uri))
    return PartitionStatistics(schema, archive, storage, TOPIC, partition, None)


def test_windows_do_not_depend_on_how_the_topic_is_cut(schema: Schema, archive: Archive) -> None:
    every = records(archive, 0)
    whole = count_windows(schema, every, TOPIC)
    for cut in (1, 7, 1_000):
        again = Counted()
        for first in range(0, len(every), cut):
            again.add(count_windows(schema, every[first : first + cut], TOPIC))
        assert again.windows == whole.windows
        assert again.newest == whole.newest
    assert counting(schema, archive).counted().windows == whole.windows
    assert sum(window.requests for window in whole.windows.values()) == len(every)


def test_parts_are_kept_and_have_the_same_bytes_whoever_writes_them(
    schema: Schema, archive: Archive, tmp_path: Path
) -> None:
    first, second = counting(schema, archive, 0, tmp_path / "a"), counting(schema, archive, 0, tmp_path / "b")
    windows = first.counted().windows
    assert second.counted().windows == windows
    assert first.written == second.written > 3
    files = sorted((tmp_path / "a").rglob("*.parquet"))
    assert [f.read_bytes() for f in files] == [
        f.read_bytes() for f in sorted((tmp_path / "b").rglob("*.parquet"))
    ]
    again = counting(schema, archive, 0, tmp_path / "a")
    assert again.counted().windows == windows
    assert again.written == 0
    table = parquet.read_table(files[0])
    assert table.column("feature").unique().to_pylist() == list(case.features)
    assert table.schema.field("window").type == pa.timestamp("us", tz="UTC")


def test_a_torn_part_and_one_of_another_schema_are_counted_again(
    schema: Schema, archive: Archive, tmp_path: Path
) -> None:
    windows = counting(schema, archive, 0, tmp_path).counted().windows
    files = sorted(tmp_path.rglob("*.parquet"))
    whole = files[1].read_bytes()
    files[1].write_bytes(whole[: len(whole) // 2])
    again = counting(schema, archive, 0, tmp_path)
    assert again.counted().windows == windows
    assert again.written == 1
    assert files[1].read_bytes() == whole
    other = msgspec.structs.replace(schema, window=2 * HOUR)
    anew = counting(other, archive, 0, tmp_path)
    assert len(anew.counted().windows) == -(-len(windows) // 2)
    assert anew.written == len(files)


def test_a_window_is_closed_once_no_request_can_join_it(schema: Schema, archive: Archive) -> None:
    counted = counting(schema, archive).counted()
    closed = counted.closed(HOUR, 0.0)
    assert len(counted.windows) - len(closed) == 1
    assert list(closed) == sorted(closed)
    assert len(counted.closed(HOUR, 2 * HOUR)) == len(closed) - 2


def test_clean_data_has_no_anomalies(schema: Schema, archive: Archive) -> None:
    for partition in range(case.partitions):
        closed = counting(schema, archive, partition).counted().closed(HOUR, 0.0)
        judged = judge(case, schema, partition, closed)
        assert [one.anomalies for one in judged] == [()] * len(closed)
        summary = judged[-1].statistics.features["amount"]
        assert summary.distance is not None
        assert set(summary.distance.bounds) == {"psi", "js", "ks"}
        assert judged[0].statistics.features["amount"].distance is None


def test_a_shift_is_reported_in_every_window_after_it(schema: Schema, shifted: Archive) -> None:
    amount = msgspec.structs.replace(schema.features["amount"], high=100.0)
    wide = msgspec.structs.replace(schema, features={**schema.features, "amount": amount})
    judged = judge(case, wide, 0, counting(wide, shifted).counted().closed(HOUR, 0.0))
    found = [one.statistics.at for one in judged if one.anomalies]
    after = [one.statistics.at for one in judged if one.statistics.at >= schema.reference.end]
    assert found == after
    assert {(a.feature, a.kind) for one in judged for a in one.anomalies} == {("amount", "drift")}


def test_drift_is_alarmed_of_features_that_monitors_watch(schema: Schema) -> None:
    unwatched = replace(case.models.monitoring, unwatched=frozenset({"amount"}))  # type: ignore[type-var]
    quiet = replace(case, models=replace(case.models, monitoring=unwatched))
    assert watched(case, schema) == list(case.features)
    assert watched(quiet, schema) == ["bad_1h", "asked_1h"]
    assert watched(replace(case, models=replace(case.models, monitoring=None)), schema) == []


def test_what_is_published_never_changes_as_the_log_grows(schema: Schema, shifted: Archive) -> None:
    every = records(shifted, 0)
    published: dict[bytes, bytes] = {}
    for until in (500, 1_800, len(every)):
        closed = count_windows(schema, every[:until], TOPIC).closed(HOUR, 0.0)
        statistics, anomalies = records_of(judge(case, schema, 0, closed))
        assert published.items() <= {**statistics, **anomalies}.items()
        published |= {**statistics, **anomalies}
    assert len(statistics) == len(closed) > 50
    assert anomalies


def test_skew_names_the_values_that_differ(schema: Schema) -> None:
    ids, at = ["a", "b", "c"], [shop.START] * 3
    common = {"prediction_id": ids, "partition": [0, 0, 1], "at": pa.array(at, pa.timestamp("us", tz="UTC"))}
    online = pa.table({**common, "amount": [1.0, 2.0, 3.0], "asked_1h": [1, 2, None]})
    offline = pa.table({**common, "amount": [1.0, 2.5, 3.0], "asked_1h": [1, 2, None]}).slice(0, 2)
    (found,) = skew(case, schema, online, offline)
    assert (found.feature, found.kind, found.partition, found.count, found.requests) == (
        "amount",
        "skew",
        0,
        1,
        2,
    )
    assert (found.expected, found.found) == ("as served: 2.0", "by the history: 2.5")
    assert skew(case, schema, online, online) == []


def test_a_request_that_the_schema_refuses_is_a_dead_letter() -> None:
    domain = FeatureSchema("text", 0.0, domain=("pen",), severity={"domain": "refuse", "presence": "refuse"})
    strict = replace(
        case,
        partitions=1,
        features={**case.features, "product": shop.field("product")},
        refusals=Schema("orders", HOUR, None, {"product": domain}).refusals,  # type: ignore[arg-type]
    )
    asked = [
        shop.asked(1, 0, product="pen"),
        shop.asked(2, 1, product="ink"),
        shop.asked(3, 2),
        shop.asked(4, 3, product="pen"),
    ]
    codec = strict.codec()
    log = [LogRecord(n, codec.key(event), codec.encode(event)) for n, event in enumerate(asked)]
    out = PartitionProcessor(strict, 0).step(log)
    assert len(out.predictions) == 2
    assert [(o.offset, dict(o.headers)["stage"]) for o in out.dead_letters] == [
        (1, b"schema"),
        (2, b"schema"),
    ]
    assert [dict(o.headers)["reason"].decode() for o in out.dead_letters] == [
        "product: domain: found 'ink', which is none of the 1 known values",
        "product: presence: it may not be missing",
    ]
    # a request that was refused has happened for nobody: windows do not count it
    assert msgspec.json.decode(out.predictions[1].value)["features"]["asked_1h"] == 1


def test_refusals_of_what_is_no_feature_are_refused() -> None:
    wrong = Schema("orders", HOUR, None, {"size": FeatureSchema("text", 0.0, severity={"type": "refuse"})})  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match="'size', which is not a feature"):
        replace(case, refusals=wrong.refusals)
