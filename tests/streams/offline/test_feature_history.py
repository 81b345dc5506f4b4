"""The feature history: parts of fixed ranges, the same whoever writes them, and refused when they are not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import shop
from pyarrow import parquet

from driftline import HOUR, count, lookup, mean
from driftline.features.feast.history import Dataset, HistoryError
from driftline.streams.archive.parts import Archive, ArchiveError
from driftline.streams.archive.storage import Storage
from driftline.streams.errors import StreamsError
from driftline.streams.offline.feature_history import MERGED, HistoryWriter
from tests.streams.archive.archived import append, archive_of, logs_of, record_of

SIZE = 10
LOG = shop.orders.topics().log
case = replace(
    shop.orders,
    events=[shop.Asked, shop.Settled, shop.Product],
    features={
        "bad_1h": mean(shop.Settled, "bad", by="shop", over=HOUR, unit="share", description="Bad orders"),
        "asked_1h": count(shop.Asked, by="shop", over=HOUR),
        "order_bad": mean(shop.Settled, "bad", by=("shop", "order"), over=HOUR),
        "weight": lookup(shop.Product, "weight", by="product", unit="kg"),
    },
)


def events() -> Iterator[Any]:
    yield shop.Product(id="p", at=shop.START, product="pen", weight=0.25)
    for event in shop.trade(200):
        yield (
            shop.asked(int(event.order[1:]), 0, event.shop, id=event.id, at=event.at, product="pen")
            if isinstance(event, shop.Asked)
            else event
        )


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return archive_of(case, events(), str(tmp_path_factory.mktemp("archive")), SIZE)


def write(archive: Archive, folder: Path, begin: int = 0, end: int | None = None, **changes: Any) -> int:
    """Write the history of every partition; returns how many parts that were."""
    parts = 0
    for partition in range(case.partitions):
        writer = HistoryWriter(replace(case, **changes), archive, LOG, partition, folder)
        progress = [found.parts for found in writer.write(begin, end)]
        parts += progress[-1] if progress else 0
    return parts


@pytest.fixture(scope="module")
def history(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("history")
    assert write(archive, folder) > 0
    return folder


@pytest.fixture
def own(history: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(history, tmp_path / "history"))


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def rows(folder: Path, dataset: str) -> pa.Table:
    found = Dataset(folder / dataset)
    return pa.concat_tables([found.read(m, part) for m in found.manifests() for part in m.parts])


def test_parts_written_twice_are_the_same_and_what_is_there_is_left(
    archive: Archive, history: Path, tmp_path: Path
) -> None:
    write(archive, tmp_path)
    assert files(tmp_path) == files(history)
    assert write(archive, tmp_path) == 0
    assert files(tmp_path) == files(history)


def test_small_parts_become_one_when_they_fill_a_range(history: Path, archive: Archive) -> None:
    for manifest in Dataset(history / "orders_by_shop").manifests():
        ranges = [(part.first, part.end) for part in manifest.parts]
        whole = manifest.end // (SIZE * MERGED)
        assert ranges[:whole] == [(n * SIZE * MERGED, (n + 1) * SIZE * MERGED) for n in range(whole)]
        assert all(end - first == SIZE for first, end in ranges[whole:])
        assert manifest.end == archive.end(LOG, manifest.partition)
    assert any(m.end >= SIZE * MERGED for m in Dataset(history / "orders_by_shop").manifests())


def test_a_history_written_in_stretches_is_that_of_one_run(
    archive: Archive, history: Path, tmp_path: Path
) -> None:
    for end in range(35, 1000, 130):
        write(archive, tmp_path, end=end)
    assert files(tmp_path) == files(history)


class Killed(BaseException):
    """The process is no more."""


def test_killed_at_any_write_and_started_again_it_is_that_of_one_run(
    archive: Archive, history: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = 0
    done = {name: getattr(Storage, name) for name in ("write", "remove")}

    def dying(name: str) -> Any:
        def effect(*arguments: Any) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            done[name](*arguments)

        return effect

    for name in done:
        monkeypatch.setattr(Storage, name, dying(name))
    deaths = 0
    while True:
        left = 1 + deaths % 5
        try:
            for _ in HistoryWriter(case, archive, LOG, 0, tmp_path).write():
                pass
            break
        except Killed:
            deaths += 1
    assert deaths > 30
    expected = {n: c for n, c in files(history).items() if Path(n).name.startswith(("0-", "_partition-0"))}
    assert files(tmp_path) == expected


def test_rows_say_when_they_hold_and_what_caused_them(history: Path) -> None:
    table = rows(history, "orders_by_shop")
    assert table.schema.names == ["shop", "event_timestamp", "created", "offset", "bad_1h", "asked_1h"]
    assert table.schema.field("bad_1h").metadata == {b"unit": b"share", b"description": b"Bad orders"}
    assert table.schema.field("asked_1h").type == pa.int64()
    for row in table.slice(0, 50).to_pylist():
        assert row["created"].timestamp() == 1_700_000_000 + row["offset"]
    part = next(iter(sorted((history / "orders_by_shop").glob("*.parquet"))))
    metadata = parquet.read_schema(part).metadata
    assert metadata[b"topic"] == LOG.encode()
    assert (metadata[b"dataset"], metadata[b"partition"]) == (b"orders_by_shop", b"0")
    assert parquet.ParquetFile(part).metadata.row_group(0).column(0).compression == "ZSTD"


def test_requests_have_the_keys_of_every_view_and_what_was_looked_up(history: Path) -> None:
    table = rows(history, "orders_requests")
    assert table.num_rows == 200
    assert table.schema.names == ["shop", "order", "event_timestamp", "created", "offset", "at", "weight"]
    assert set(table.column("weight").to_pylist()) == {0.25}


def test_a_history_may_begin_later_and_be_started_again_from_before(
    archive: Archive, history: Path, tmp_path: Path
) -> None:
    write(archive, tmp_path, begin=57)
    late = Dataset(tmp_path / "orders_by_shop").manifests()
    assert {m.begin for m in late} == {50}
    expected = [r for r in rows(history, "orders_by_shop").to_pylist() if r["offset"] >= 50]
    assert rows(tmp_path, "orders_by_shop").to_pylist() == expected
    write(archive, tmp_path)
    assert files(tmp_path) == files(history)


def test_a_feature_declared_again_has_the_history_written_again(archive: Archive, own: Path) -> None:
    features = {**case.features, "bad_2h": mean(shop.Settled, "bad", by="shop", over=2 * HOUR + 7)}
    before = rows(own, "orders_by_shop")
    write(archive, own, features=features)
    after = rows(own, "orders_by_shop")
    assert after.column("bad_2h").null_count < after.num_rows
    assert after.num_rows > before.num_rows  # what falls out of the new window is a change too


def some_part(folder: Path) -> Path:
    return sorted((folder / "orders_by_shop").glob("1-*.parquet"))[0]


def test_a_changed_torn_or_missing_part_is_refused_by_name(own: Path) -> None:
    part = some_part(own)
    whole = part.read_bytes()
    for broken in (whole[:-9], whole[:100] + bytes([whole[100] ^ 1]) + whole[101:], b""):
        part.write_bytes(broken)
        with pytest.raises(
            HistoryError, match=rf"{part}: the part is torn or was changed: {len(broken)} bytes"
        ):
            rows(own, "orders_by_shop")
    part.unlink()
    with pytest.raises(HistoryError, match=f"{part}: the manifest names this part, but it is not there"):
        rows(own, "orders_by_shop")


def test_a_foreign_part_or_manifest_is_refused_by_name(own: Path) -> None:
    folder = own / "orders_by_shop"
    for name in ("7-000000000000-000000000010.parquet", "mine.parquet"):
        shutil.copy(some_part(own), folder / name)
        with pytest.raises(HistoryError, match=f"{name} is no part of this history"):
            rows(own, "orders_by_shop")
        (folder / name).unlink()
    shutil.copy(own / "orders_by_shop_order" / "_partition-0.json", folder / "_partition-0.json")
    with pytest.raises(HistoryError, match="the manifest of orders_by_shop_order, partition 0: it was moved"):
        rows(own, "orders_by_shop")
    (folder / "_partition-0.json").write_text("{}")
    with pytest.raises(HistoryError, match="is no manifest of a feature history"):
        rows(own, "orders_by_shop")


def test_an_archive_without_the_logs_start_or_of_another_topic_is_refused(own: Path, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="has nothing of it: run `driftline archive` first"):
        write(Archive(str(tmp_path / "none")), own)
    log = [record_of(r.offset, r.key, r.value) for r in logs_of(case, events())[0]]
    other = Archive(str(tmp_path / "other"), SIZE)
    manifest = other.continued(LOG, 0, "another topic")
    other.append(manifest, 0, log[:SIZE])
    with pytest.raises(StreamsError, match="remove the folder, and the history is written again"):
        write(other, own)
    later = Archive(str(tmp_path / "later"), SIZE)
    later.append(later.continued(LOG, 0, f"id-of-{LOG}"), SIZE, log[SIZE : 2 * SIZE])
    with pytest.raises(
        ArchiveError, match=f"begins at offset {SIZE}; features are folded from the log's start"
    ):
        write(later, own)
    short = Archive(str(tmp_path / "short"), SIZE)
    append(short, LOG, 0, log[:SIZE])
    with pytest.raises(StreamsError, match="restore the archive, or remove the folder"):
        write(short, own)
