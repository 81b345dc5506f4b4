"""Runs the demo: worker and producer are processes of their own, and the results are read back from
topics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rich.console import Console

from driftline.infra.demo.preparation import alone, prepared
from driftline.infra.demo.processes import process, ready
from driftline.infra.demo.progress import view
from driftline.infra.demo.topics import read_back
from driftline.infra.demo.watch import Watch
from driftline.infra.errors import InfraError
from driftline.infra.processes.slot import status_path
from driftline.infra.report import run as report
from driftline.infra.report import summary
from driftline.infra.report.run_records import RunRecords
from driftline.infra.settings import Settings
from driftline.streams.declare.usecase import UseCase, load_case
from driftline.streams.fold.label_join import LabelTally
from driftline.streams.fold.processor import Summary
from driftline.streams.simulation.simulate import result


def show_case(
    case_path: str,
    settings: Settings,
    *,
    limit: int | None = None,
    partitions: int | None = None,
    fresh: bool = False,
) -> dict[str, Any]:
    """Run the case over its own source (`limit` events of it); returns what `demo --json` prints.

    The case's topics on the local broker are created again, where they hold records only if `fresh` says that
    these may go; on a broker named in the settings nothing is deleted, and the demo uses a namespace of its
    own. Progress goes to standard error. Raises InfraError when a log is in the way, another demo of the case
    runs, or worker or producer fail.
    """
    with alone(load_case(case_path), settings):
        return _run(case_path, settings, limit=limit, partitions=partitions, fresh=fresh)


def _run(
    case_path: str, settings: Settings, *, limit: int | None, partitions: int | None, fresh: bool
) -> dict[str, Any]:
    console = Console(stderr=True)
    case = load_case(case_path)
    if partitions is not None:
        case = replace(case, partitions=partitions)
    if case.source is None:
        raise InfraError(f"{case.name} declares no source: the demo has nothing to stream")
    if case.log_of:
        raise InfraError(
            f"{case.name} reads the log of {case.log_of}, which the demo would begin anew for one task: run "
            "driftline up, a worker for each task, and produce"
        )
    settings = prepared(case, settings, console, fresh)
    topics = case.topics(settings.namespace)
    options = [] if partitions is None else ["--partitions", str(partitions)]
    with process("worker", ["driftline", "worker", case_path, *options], settings) as worker:
        before = ready(worker, status_path(settings, case.name))
        feed = ["driftline.infra.demo.feed", case_path, *options]
        if limit is not None:
            feed += ["--limit", str(limit)]
        with process("producer", feed, settings) as producer, view(case.name, console) as shown:
            outcome = Watch(case, settings, worker, producer, before).until_folded(shown)
            shown.note("Everything is folded. Reading the topics back ...")
            worker.stop()
    predictions = outcome.status["counts"]["predictions"]
    evidence, digests = read_back(str(settings.bootstrap), case, topics, predictions)
    totals = Summary(
        outcome.status["counts"], LabelTally(**outcome.status["labels"]), outcome.status["models"]
    )
    document = result(case, totals, outcome.seconds, outcome.cpu_seconds, digests)
    page = settings.home / "reports" / f"{case.name}.html"
    document |= {
        "partitions": case.partitions,
        "served": evidence.served(case.task),
        "report": str(page),
    }
    samples = [evidence.dated(sample) for sample in outcome.samples]
    report.write_report(page, case.name, document, samples, evidence, description=case.description)
    summary.print_summary(document)
    _print_next(console, case_path, case, document, evidence)
    return document


def _print_next(
    console: Console, case_path: str, case: UseCase, document: dict[str, Any], evidence: RunRecords
) -> None:
    """Where the report is, and commands that show what the run has published."""
    commands = [
        f"driftline predictions tail {case_path} --max 5",
        f"driftline drift tail {case_path} --max 5",
    ]
    known = evidence.keys
    shown = next((each for each in case.views() if known.keys() >= set(each.keys)), None)
    if shown is not None:
        keys = " ".join(f"{name}={known[name]}" for name in shown.keys)
        commands.append(f"driftline features get {case_path} {shown.name} {keys}")
    lines = [
        f"report {document['report']}",
        "",
        "Kafka still runs (`driftline down` stops it). To try next:",
        *(f"  {command}" for command in commands),
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
