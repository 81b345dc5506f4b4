"""A short run of the flights, which shows whether the README's figures and picture are of the current
code."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec

from driftline.bench.cases import FLIGHTS
from driftline.bench.log import Log
from driftline.infra.report.run import run_page
from driftline.infra.report.run_records import RunRecords
from driftline.infra.report.samples import Sample
from driftline.streams.code.fingerprint import numeric_fingerprint
from driftline.streams.declare.usecase import UseCase, load_case
from driftline.streams.simulation.simulate import Simulation, result

EVENTS = 20_000
CHUNK = 2_000
MADE = datetime(2026, 1, 1, tzinfo=UTC)


class SampleRun(msgspec.Struct, frozen=True):
    """What the first events of the flights give: the digest of their predictions and the hash of the report
    on them. Under another `arithmetic` (Python, libm, BLAS) both may be others with the same code."""

    digest: str
    report: str
    arithmetic: str


def sample_run() -> SampleRun:
    """The sample run of the code as it is."""
    case = load_case(FLIGHTS)
    simulation = Simulation(case)
    records = RunRecords()
    samples = []
    for number, (partition, chunk) in enumerate(Log.of(case, EVENTS).chunks(CHUNK)):
        records.add(partition, simulation.step(partition, chunk))
        if records.keys:
            seen = simulation.summary()
            samples.append(Sample(records.last_at, float(number), seen.counts["events"], 10**8, seen.models))
    html = run_page(case.name, _document(case, simulation, records), samples, records, made=MADE)
    here = numeric_fingerprint()
    return SampleRun(
        simulation.digests()["predictions"],
        hashlib.sha256(html.encode()).hexdigest(),
        f"{here.python}/{here.arithmetic[:8]}",
    )


def _document(case: UseCase, simulation: Simulation, records: RunRecords) -> dict[str, Any]:
    """As `demo --json` prints it, of a run that took a second."""
    document = result(case, simulation.summary(), 1.0, 1.0, simulation.digests())
    return document | {"partitions": case.partitions, "served": records.served(case.task)}
