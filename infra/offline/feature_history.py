"""Writes the feature history of a case: each partition in a process of its own."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from driftline.features.feast.registry import OnlineStoreRepo
from driftline.infra.processes.jobs import Report, in_processes
from driftline.infra.settings import Settings
from driftline.streams.archive.parts import Archive, ArchiveError
from driftline.streams.declare.usecase import UseCase, load_case


class HistoryReport(msgspec.Struct, frozen=True):
    """What was written: offsets of the log folded, rows and parts, over all partitions.

    `unarchived` are the partitions of which the archive has no part yet.
    """

    case: str
    folder: str
    offsets: int
    rows: int
    parts: int
    seconds: float
    unarchived: tuple[int, ...] = ()

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
    settings: Settings
    partition: int
    begin: int
    end: int | None
    folder: Path


def write_history(
    case_path: str, case: UseCase, settings: Settings, begin: int, end: int | None, folder: Path | None
) -> HistoryReport:
    """Write what offsets [begin, end) of the archived log caused; None is the archive's end.

    `folder` defaults to where the Feast views of the case read. Raises StreamsError where the archive does
    not have what is needed, and FeaturesError for parts that are not what was written.
    """
    started = time.perf_counter()
    archive, topic = Archive(settings.archive_uri(case.name)), case.topics(settings.namespace).log
    manifests = {number: archive.manifest(topic, number) for number in range(case.partitions)}
    archived = [number for number, manifest in manifests.items() if manifest and manifest.parts]
    if not archived:
        raise ArchiveError(
            f"{topic}: the archive at {archive.uri} has no part of it: run `driftline archive`, which writes "
            "a part when so many records of a partition are there (--part-size)"
        )
    if folder is None:
        folder = OnlineStoreRepo(settings.features(case.name), case.views()).history
    jobs = [_Job(case_path, settings, n, begin, end, folder.absolute()) for n in archived]

    def reported(job: _Job, offset: int) -> None:
        print(f"{topic}-{job.partition}: history up to {offset:,}", file=sys.stderr)

    written = asyncio.run(in_processes(_write_one, jobs, reported))
    offsets, rows, parts = (sum(counts) for counts in zip(*written, strict=True))
    return HistoryReport(
        case.name,
        str(folder),
        offsets,
        rows,
        parts,
        round(time.perf_counter() - started, 3),
        tuple(sorted(manifests.keys() - archived)),
    )


def _write_one(job: _Job, report: Report[int]) -> tuple[int, int, int]:
    from driftline.streams.offline.feature_history import HistoryProgress, HistoryWriter

    case = load_case(job.case_path)
    topic = case.topics(job.settings.namespace).log
    archive = Archive(job.settings.archive_uri(case.name))
    writer = HistoryWriter(case, archive, topic, job.partition, job.folder)
    progress = HistoryProgress(0, 0, 0)
    for progress in writer.write(job.begin, job.end):
        report(progress.offset)
    return progress
