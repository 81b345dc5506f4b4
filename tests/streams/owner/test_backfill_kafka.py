"""A feature that is added to a case which serves: computed from the archive and the log, joined at an offset
that is recorded, and then everywhere as if it had always been there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import shop
from kafka import KafkaAdminClient, TopicPartition

from driftline.features.online.client import FeatureClient
from driftline.infra.serving.serve import open_history
from driftline.infra.settings import Settings
from driftline.streams.archive.epochs import CodeEpoch, recorded_epochs
from driftline.streams.archive.parts import Archive
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.offline.feature_history import HistoryWriter
from driftline.streams.simulation.sources import with_closing_clock
from tests.streams.owner.upgrade.upgrade_on_kafka import UpgradeUnderLoad

PART = 250
ADDED = {"bad_2h", "worst_order"}
EVENTS = [
    shop.asked(100_000, 0, "idle"),
    shop.settled(100_000, 0.25, "idle", bad=1.0),
    *with_closing_clock(shop.orders, shop.trade(3_000)),
]
Eventually = Callable[..., Any]


def done(system: Any, *arguments: str) -> str:
    process, said = system.command(*arguments)
    assert process.wait(240) == 0, said.read_text()
    return said.read_text()


def settings_of(system: Any) -> Settings:
    return Settings(home=system.home, bootstrap=system.bootstrap, namespace=system.namespace)


def delete_what_is_archived(system: Any) -> None:
    archive = Archive(settings_of(system).archive_uri("orders"))
    topics = system.topics
    admin = KafkaAdminClient(bootstrap_servers=system.bootstrap)
    ends = {
        TopicPartition(topic, partition): archive.end(topic, partition)
        for topic in (topics.log, topics.predictions, topics.outcomes)
        for partition in range(2)
    }
    admin.delete_records({place: end for place, end in ends.items() if end})
    admin.close()
    assert any(ends.values())


@pytest.fixture
def upgraded(system_of: Callable[..., Any], eventually: Eventually) -> Any:
    """A system whose case got the features while it served, and whose log is in the archive in part."""
    system = system_of("shop:orders")
    upgrade = UpgradeUnderLoad(system, EVENTS, eventually)
    upgrade.serve(3_000)
    eventually(lambda: system.folded(upgrade.old))
    done(system, "archive", "shop:orders", "--once", "--part-size", str(PART))
    done(system, "features", "history", "shop:orders")
    delete_what_is_archived(system)
    upgrade.take_over("shop:orders_with_more", 5_000)
    eventually(lambda: system.folded(upgrade.new))
    system.stop(upgrade.new)
    return system


class Always:
    """What a run makes of the log that had the features from the start."""

    def __init__(self, system: Any) -> None:
        self.rows: dict[Any, Any] = {}
        self.features: dict[str, Any] = {}
        case = shop.orders_with_more
        with open_history(case, settings_of(system)) as history:
            self.epochs: dict[int, list[CodeEpoch]] = {
                n: recorded_epochs(history, system.topics.models, n) for n in range(case.partitions)
            }
            for number in range(case.partitions):
                processor = PartitionProcessor(case, number, rows=True)
                end = history.end(system.topics.log, number)
                for records in history.records(system.topics.log, number, 0, end):
                    out = processor.step(records)
                    self.rows |= out.rows
                    answers = [json.loads(output.value) for output in out.predictions]
                    self.features |= {each["event_id"]: each["features"] for each in answers}


def test_a_feature_that_was_added_is_everywhere_as_if_it_had_always_been_there(
    upgraded: Any, tmp_path: Path
) -> None:
    system, case = upgraded, shop.orders_with_more
    always = Always(system)

    # the online store: every row of every view, of keys that come no more too
    with FeatureClient(case, settings_of(system).features(case.name)) as client:
        views = {view.name: view for view in case.views()}
        assert {view for view, _ in always.rows} == set(views)
        for (view, key), (at, values) in always.rows.items():
            row = client.get(view, dict(zip(views[view].keys, key, strict=True)))
            assert row.event_time is not None
            assert row.event_time.timestamp() == pytest.approx(at, abs=1e-6)
            found = {name: value.value for name, value in row.features.items() if value.value is not None}
            assert found == values, (view, key)
    assert always.rows["orders_by_shop", ("idle",)][1]["bad_2h"] == 1.0

    # the joining offset is on the models topic; from there on predictions have the features, nothing twice
    joined = {number: epochs[-1].from_offset for number, epochs in always.epochs.items()}
    assert [len(epochs) for epochs in always.epochs.values()] == [2, 2]
    assert all(0 < offset < system.ends(system.topics.log)[number] for number, offset in joined.items())
    with open_history(case, settings_of(system)) as history:
        answers = [
            (number, dict(record.headers)["source"], json.loads(record.value))
            for number in range(case.partitions)
            for records in history.records(
                system.topics.predictions, number, 0, history.end(system.topics.predictions, number)
            )
            for record in records
        ]
    assert len(answers) == len({each["event_id"] for *_, each in answers}) == len(always.features)
    for number, source, each in answers:
        expected = always.features[each["event_id"]]
        if int(source.partition(b":")[0]) < joined[number]:
            expected = {name: value for name, value in expected.items() if name not in ADDED}
        assert each["features"] == expected

    # the history: written anew, the same as one that was never without
    done(system, "archive", "shop:orders_with_more", "--once")
    done(system, "features", "history", "shop:orders_with_more")
    archive = Archive(settings_of(system).archive_uri(case.name))
    for number in range(case.partitions):
        for _ in HistoryWriter(case, archive, system.topics.log, number, tmp_path / "always").write():
            pass
    history_of = settings_of(system).features(case.name).path / "data" / "history"
    assert contents(history_of) == contents(tmp_path / "always")
    assert any("bad_2h" in name or "order" in name for name, _ in contents(history_of))


def contents(folder: Path) -> list[tuple[str, bytes]]:
    return [
        (str(path.relative_to(folder)), path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


def test_each_partition_is_folded_in_a_process_of_its_own_that_ends_with_the_upgrade(
    system_of: Callable[..., Any], eventually: Eventually
) -> None:
    system = system_of("shop:orders")
    old, _ = system.command("worker", "shop:orders")
    system.produce(EVENTS)
    eventually(lambda: system.folded(old))
    new, said = system.command("upgrade", "shop:orders_with_more")
    seen: set[int] = set()

    def folding() -> bool:
        assert new.poll() is None, said.read_text()
        seen.update(_spawned_by(new.pid))
        return len(seen) >= 2

    eventually(folding)
    new.terminate()
    assert new.wait(60) == 0, said.read_text()
    eventually(lambda: not any(map(_runs, seen)))
    assert old.poll() is None


def _spawned_by(pid: int) -> Iterator[int]:
    """The processes that fold for a process."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            command_line = (path / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        if parent == pid and b"spawn_main" in command_line:
            yield int(path.name)


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
