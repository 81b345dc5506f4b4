"""Which code epoch of a chain is read of an archive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from driftline.examples.flights import flights
from driftline.examples.payments import payments
from driftline.infra.serving.deploy import archived_places, stage_places
from driftline.infra.settings import Settings
from driftline.streams.archive.parts import Archive
from driftline.streams.archive.storage import Storage
from driftline.streams.records.outputs import Target
from tests.streams.archive.archived import append, record_of


def test_the_newest_epoch_that_is_archived_is_read_by_one_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, archive = Settings(home=tmp_path), Archive(str(tmp_path / "archive"), 10)
    case = replace(payments, partitions=2)
    places = stage_places(case, settings)
    assert places.count > 1
    assert archived_places(case, settings, archive).number == 0
    later = Target(1, 0)
    for number in (0, 3, 70):
        topic = replace(places, number=number).input(later).topic
        append(archive, topic, 0, [record_of(0, b"k", b"v")])
    other = replace(places, code="other", number=80).input(later).topic
    append(archive, other, 0, [record_of(0, b"k", b"v")])
    unfinished = replace(places, number=71).input(later).topic
    (tmp_path / "archive" / unfinished / "partition=0").mkdir(parents=True)
    read: list[str] = []
    read_of = Storage.read
    monkeypatch.setattr(Storage, "read", lambda self, name: read.append(name) or read_of(self, name))
    assert archived_places(case, settings, archive).number == 70
    assert len(read) <= 2 * places.count


def test_a_case_of_one_stage_has_no_epochs(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert archived_places(flights, settings, Archive(str(tmp_path))) == stage_places(flights, settings)
