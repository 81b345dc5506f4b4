"""Writes the feature history of a case: each partition in a process of its own."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from driftline.features.feast.registry import OnlineStoreRepo
from driftline.infra.errors import InfraError
from driftline.infra.processes.jobs import Report, in_processes
from driftline.infra.serving.deploy import archived_places
from driftline.infra.settings import Settings
from driftline.streams.archive.parts import Archive, ArchiveError
from driftline.streams.declare.usecase import UseCase, load_case
from driftline.streams.offline.feature_history import stages_with_history
from driftline.streams.records.ports import Place


class HistoryReport(msgspec.Struct, frozen=True):
    """What was written: offsets of the log folded, rows and parts, over all partitions of all stages.

    `unarchived` are the partitions of which the archive has no part yet: those of the log by their number,
    others with their stage before it (`by-merchant/3`).
    """

    case: str
    folder: str
    offsets: int
    rows: int
    parts: int
    seconds: float
    unarchived: tuple[int | str, ...] = ()

    def as_json(self) -> str:
        """One JSON object."""
        return msgspec.json.encode(self).decode()

    def __str__(self) -> str:
        """A line for people."""
        if not self.parts:
            said = f"{self.case}: all that is asked for is in {self.folder} already"
        else:
            said = (
                f"{self.case}: {self.rows:,} rows in {self.parts:,} parts of {self.offsets:,} offsets folded "
                f"in {self.seconds:.1f} s, to {self.folder}"
            )
        if self.unarchived:
            said += (
                f"\nnothing of partition {', '.join(map(str, self.unarchived))}: the archive has no part of "
                "it yet, as its records do not fill one (driftline archive --part-size)"
            )
        return said


class _Job(NamedTuple):
    """The history of one partition, as its process gets it."""

    case_path: str
    partitions: int
    settings: Settings
    place: Place
    stage: int
    begin: int
    end: int | None
    folder: Path

    @property
    def partition(self) -> int:
        """Its number in its stage."""
        return self.place.partition


def write_history(
    case_path: str, case: UseCase, settings: Settings, begin: int, end: int | None, folder: Path | None
) -> HistoryReport:
    """Write what offsets [begin, end) of the archived log caused; None is the archive's end.

    `folder` defaults to where the Feast views of the case read. Raises StreamsError where the archive does
    not have what is needed, and FeaturesError for parts that are not what was written.
    """
    started = time.perf_counter()
    if case.plan.is_chain and (begin or end is not None):
        raise InfraError(
            f"{case.name} has {len(case.plan.stages)} stages, and an offset is of one of them: leave out "
            "--from and --to"
        )
    archive = Archive(settings.archive_uri(case.name))
    places = archived_places(case, settings, archive)
    targets = [target for stage in stages_with_history(case) for target in places.targets_of(stage)]
    archived = [target for target in targets if archive.end(*places.input(target))]
    if not archived:
        raise ArchiveError(
            f"{places.topics.log}: the archive at {archive.uri} has no part of it: run `driftline archive`, "
            "which writes a part when so many records of a partition are there (--part-size)"
        )
    if folder is None:
        folder = OnlineStoreRepo(settings.features(case.name), case.views()).history
    folder = folder.absolute()
    jobs = [
        _Job(case_path, case.partitions, settings, places.input(one), one.stage, begin, end, folder)
        for one in archived
    ]
    written = asyncio.run(in_processes(_write_one, jobs, _tell))
    offsets, rows, parts = (sum(counts) for counts in zip(*written, strict=True))
    seconds = round(time.perf_counter() - started, 3)
    left = [target for target in targets if target not in archived]
    unarchived = tuple(places.name(one) if one.stage else one.partition for one in left)
    return HistoryReport(case.name, str(folder), offsets, rows, parts, seconds, unarchived)


def _tell(job: _Job, offset: int) -> None:
    print(f"{job.place}: history up to {offset:,}", file=sys.stderr)


def _write_one(job: _Job, report: Report[int]) -> tuple[int, int, int]:
    from driftline.streams.offline.feature_history import HistoryProgress, HistoryWriter

    case = replace(load_case(job.case_path), partitions=job.partitions)
    archive = Archive(job.settings.archive_uri(case.name))
    writer = HistoryWriter(case, archive, *job.place, job.folder, job.stage)
    progress = HistoryProgress(0, 0, 0)
    for progress in writer.write(job.begin, job.end):
        report(progress.offset)
    return progress
