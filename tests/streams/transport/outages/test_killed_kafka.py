"""Archiver and worker killed while they write: parts and store are those of a run without the kills."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import shop

from driftline.features.feast.repository_location import RepositoryLocation
from driftline.features.online.client import FeatureClient
from driftline.streams.archive.archiver import Archiver
from driftline.streams.archive.parts import Archive
from driftline.streams.simulation.sources import with_closing_clock
from tests.commands.forked_command import Command

PART = 100
KILLS = 4
EVENTS = list(with_closing_clock(shop.orders, shop.trade(2_500)))
Eventually = Callable[..., Any]


def archiver(system: Any) -> Command:
    process, _ = system.command("archive", "shop:orders", "--part-size", str(PART))
    return process


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in {".parquet", ".json"}
    }


def complete(folder: Path, system: Any) -> bool:
    """Whether every whole range of every archived topic is in the archive."""
    archive, topics = Archive(str(folder)), system.topics
    return all(
        archive.end(topic, number) == end // PART * PART
        for topic in (topics.log, topics.predictions, topics.outcomes)
        for number, end in system.ends(topic).items()
        if end >= PART
    )


@pytest.mark.soak
def test_parts_and_store_are_those_of_a_run_without_the_kills(
    system_of: Callable[..., Any], eventually: Eventually, tmp_path: Path
) -> None:
    system = system_of("shop:orders")
    folder = system.home / "archive" / f"{system.namespace}.orders"
    topics = [getattr(system.topics, kind) for kind in ("log", "predictions", "outcomes", "models")]
    writing = lambda: len(list(folder.rglob("*.parquet")))  # noqa: E731
    step = len(EVENTS) // KILLS
    for kill in range(KILLS):
        worker, archiving = system.start(), archiver(system)
        parts = writing()
        answered = sum(system.ends(system.topics.predictions).values())
        system.produce(EVENTS[kill * step : (kill + 1) * step])
        eventually(lambda parts=parts: writing() > parts)
        archiving.kill()
        eventually(lambda n=answered: sum(system.ends(system.topics.predictions).values()) > n)
        worker.kill()
        assert (archiving.wait(), worker.wait()) == (-9, -9)
    system.produce(EVENTS[KILLS * step :])
    worker, archiving = system.start(), archiver(system)
    eventually(lambda: system.folded(worker))
    system.stop(worker)
    eventually(lambda: complete(folder, system))
    system.stop(archiving)

    Archiver(Archive(str(tmp_path / "without"), PART), system.bootstrap, topics, "without").once()
    assert files(folder) == files(tmp_path / "without")

    rows = {key: row for _, out in system.refolded(rows=True) for key, row in out.rows.items()}
    place = RepositoryLocation.of("orders", system.home, system.namespace, "sqlite", None)
    with FeatureClient(system.case, place) as client:
        for (view, key), (at, values) in rows.items():
            row = client.get(view, {"shop": key[0]})
            found = {name: value.value for name, value in row.features.items() if value.value is not None}
            assert (row.event_time and row.event_time.timestamp(), found) == (at, values)
    assert len(rows) == 2
